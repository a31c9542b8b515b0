"""One drafted tree as plain lists: what is left of it when it is walked node by node."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OneTree:
    """A drafted tree; row 0 is the root.

    Attributes:
        tokens: Token of each row ``1..n``; that of the root means nothing.
        parents: Row of each row's parent.
        leader: First row that holds the prefix of each row.
        children: Rows below each row, ascending. Where copies of one prefix are merged, their first row has them all.

    Example:
        >>> tree = OneTree.of([7, 7, 5, 5], [0, 0, 1, 2], [True] * 4)
        >>> tree.leader, tree.children[1], tree.num_competing(2)
        ([0, 1, 1, 3, 3], [3, 4], 2)
    """

    tokens: list[int]
    parents: list[int]
    leader: list[int]
    children: list[list[int]]

    @classmethod
    def of(cls, tokens: list[int], parents: list[int], real: list[bool], *, merges: bool = True) -> "OneTree":
        """A tree of tokens ``(n,)``, parents' rows ``(n,)``, and what is no padding; copies merge or stay apart."""
        leader = [0]
        first: dict[tuple[int, int], int] = {}
        children: list[list[int]] = [[] for _ in range(len(tokens) + 1)]
        for row, (token, parent, is_real) in enumerate(zip(tokens, parents, real, strict=True), start=1):
            if not is_real:
                leader.append(row)
                continue
            above = leader[parent]
            children[above if merges else parent].append(row)
            leader.append(first.setdefault((above, token), row))
        return cls([0, *tokens], [0, *parents], leader, children)

    @classmethod
    def of_chains(cls, drafts: list[list[int]], lengths: list[int], *, merges: bool = True) -> "OneTree":
        """A tree of drafts ``(m, t)``: draft ``j``'s token ``i`` is row ``1 + j t + i``."""
        size = len(drafts[0])
        places = [(place, length) for length in lengths for place in range(size)]
        parents = [row if place else 0 for row, (place, _) in enumerate(places)]
        real = [place < length for place, length in places]
        return cls.of([token for draft in drafts for token in draft], parents, real, merges=merges)

    def num_competing(self, row: int) -> int:
        """Number of drafts that go on from the prefix of a row, from its copies too."""
        first = self.leader[row]
        return sum(len(below) for at, below in enumerate(self.children) if below and self.leader[at] == first)

    def path(self, row: int) -> list[int]:
        """Rows from a child of the root down to ``row``."""
        found = []
        while row:
            found.append(row)
            row = self.parents[row]
        return found[::-1]
