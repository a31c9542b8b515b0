"""Acceptance against the number of drafts, every rule beside the optimum."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from .bounds import optimal_acceptance

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class KnownAcceptance(Protocol):
    """A rule whose acceptance at one node is known exactly, as that of most verifiers here is."""

    def acceptance(self, target: Tensor, drafts: Tensor) -> Tensor:
        """Acceptance ``(r,)`` from probabilities ``(r, v)`` and ``(r, m, v)``."""


def acceptance_curves(
    target: Tensor, draft: Tensor, rules: Mapping[str, KnownAcceptance], num_drafts: Iterable[int] = range(1, 9)
) -> dict[str, Tensor]:
    """Mean acceptance of each rule, and the optimum, for each number of identical drafts.

    Args:
        target: Target probabilities of nodes ``(r, v)``.
        draft: Draft probabilities of nodes ``(r, v)``.
        rules: Rules by name.
        num_drafts: Numbers of drafts.

    Returns:
        Acceptance averaged over nodes ``(len(num_drafts),)``, by name; the optimum's name is "optimum".

    Example:
        >>> import torch
        >>> from samplers import RecursiveRejection
        >>> laws = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
        >>> acceptance_curves(*laws, {"recursive": RecursiveRejection()}, [1, 2])
        {'optimum': tensor([0.6000, 0.6900]), 'recursive': tensor([0.6000, 0.6400])}
    """
    counts = list(num_drafts)
    curves = {"optimum": torch.stack([optimal_acceptance(target, draft, m).mean() for m in counts])}
    for name, rule in rules.items():
        values = [rule.acceptance(target, draft[:, None].expand(-1, m, -1)).mean() for m in counts]
        curves[name] = torch.stack(values)
    return {name: curve.to(target.dtype) for name, curve in curves.items()}


def plot_acceptance(
    target: Tensor,
    draft: Tensor,
    rules: Mapping[str, KnownAcceptance],
    num_drafts: Iterable[int] = range(1, 9),
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw `acceptance_curves`; the optimum is the thick line that nothing crosses, and names stand at the line ends.

    Args:
        target: Target probabilities of nodes ``(r, v)``.
        draft: Draft probabilities of nodes ``(r, v)``.
        rules: Rules by name.
        num_drafts: Numbers of drafts.
        ax: Axes to draw on; a new figure's by default.
    """
    import matplotlib.pyplot as plt  # an extra

    counts = list(num_drafts)
    curves = acceptance_curves(target, draft, rules, counts)
    ax = plt.subplots(figsize=(7.5, 4.8), layout="constrained")[1] if ax is None else ax
    ax.plot(counts, curves["optimum"], color="0.75", linewidth=7, solid_capstyle="round", zorder=1)
    for place, name in enumerate(rules):
        ax.plot(counts, curves[name], marker="o", markersize=4, color=f"C{place}", zorder=2)
    _label_ends(ax, counts[-1], {name: float(curve[-1]) for name, curve in curves.items()}, list(rules))
    ax.set_xlabel("drafts")
    ax.set_ylabel("probability that a draft is accepted")
    ax.set_xticks(counts)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _label_ends(ax: "Axes", x: float, ends: dict[str, float], rules: list[str]) -> None:
    """Write each name beside its line's end, pushed apart where lines meet."""
    low, high = ax.get_ylim()
    gap, last = 0.045 * (high - low), torch.inf
    for name, y in sorted(ends.items(), key=lambda item: (-item[1], item[0])):
        last = min(y, last - gap)
        color = f"C{rules.index(name)}" if name in rules else "0.5"
        ax.annotate("", (x, y), xytext=(1.03 * x, last), arrowprops={"arrowstyle": "-", "color": color, "lw": 0.8})
        ax.text(1.035 * x, last, f"{name}  {y:.3f}", color=color, va="center")
