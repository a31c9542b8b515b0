"""One drafted tree as plain lists: what is left of it when it is walked node by node."""

from dataclasses import dataclass, field


@dataclass
class OneTree:
    """A drafted tree whose copies of one prefix are merged; row 0 is the root.

    Attributes:
        tokens: Token of each row ``1..n``; that of the root means nothing.
        parents: Row of each row's parent.
        leader: First row that holds the prefix of each row.
        children: For each leader, the rows whose parents hold its prefix, ascending.

    Example:
        >>> tree = OneTree.of([7, 7, 5, 5], [0, 0, 1, 2], 4)
        >>> tree.leader, tree.children[1], tree.distinct(1)
        ([0, 1, 1, 3, 3], [3, 4], [3])
    """

    tokens: list[int]
    parents: list[int]
    leader: list[int]
    children: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, tokens: list[int], parents: list[int], size: int, *, merges: bool = True) -> "OneTree":
        """Merge the first ``size`` nodes, of tokens ``(n,)`` and parents' rows ``(n,)``, or leave copies apart."""
        leader = [0]
        first: dict[tuple[int, int], int] = {}
        children: list[list[int]] = [[] for _ in range(len(tokens) + 1)]
        for row, (token, parent) in enumerate(zip(tokens[:size], parents[:size], strict=True), start=1):
            above = leader[parent]
            children[above].append(row)
            leader.append(first.setdefault((above, token), row) if merges else row)
        return cls([0, *tokens], [0, *parents], leader, children)

    @classmethod
    def of_chains(cls, drafts: list[list[int]], lengths: list[int], *, merges: bool = True) -> "OneTree":
        """Merge drafts ``(m, t)``: draft ``j``'s token ``i`` is row ``1 + j t + i``."""
        leader = [0]
        first: dict[tuple[int, int], int] = {}
        size = len(drafts[0])
        children: list[list[int]] = [[] for _ in range(len(drafts) * size + 1)]
        parents = [0]
        for draft, length in zip(drafts, lengths, strict=True):
            above = 0
            for place, token in enumerate(draft):
                row = len(leader)
                parents.append(row - 1 if place else 0)
                if place >= length:
                    leader.append(row)
                    continue
                children[above].append(row)
                above = first.setdefault((above, token), row) if merges else row
                leader.append(above)
        return cls([0, *(token for draft in drafts for token in draft)], parents, leader, children)

    def distinct(self, row: int) -> list[int]:
        """Rows of the distinct children of a leader, ascending."""
        return [child for child in self.children[row] if self.leader[child] == child]

    def path(self, row: int) -> list[int]:
        """Rows from a child of the root down to ``row``."""
        found = []
        while row:
            found.append(row)
            row = self.parents[row]
        return found[::-1]
