"""A concept bottleneck: classify through a few named concepts, chosen anew for each input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._validation import can_read_values, check_finite, check_integer, check_last_dim, check_tensor
from ..gates.selections import top_k_mask
from ..numerics.precision import narrow, widest_dtype
from ..numerics.randomness import Randomness, as_generator
from .subsets import RelaxedSubset, SubsetSampler

__all__ = ["ConceptBottleneck", "ConceptReport"]


@dataclass(frozen=True)
class ConceptReport:
    """What a bottleneck chose for each of ``n`` inputs; ``print`` it.

    Attributes:
        predicted: most probable class, ``(n,)``.
        probability: of that class, ``(n,)``.
        concepts: the concepts chosen, ``(n, num_selected)``, the one that speaks most for the class first.
        activations: of those concepts, ``(n, num_selected)``.
        contributions: what each adds to the class's logit, ``(n, num_selected)``.
        concept_names: one for each concept.
        class_names: one for each class.
    """

    predicted: Tensor
    probability: Tensor
    concepts: Tensor
    activations: Tensor
    contributions: Tensor
    concept_names: tuple[str, ...]
    class_names: tuple[str, ...]

    def __str__(self) -> str:
        """One paragraph for each input."""
        return "\n".join(self._paragraph(row) for row in range(len(self.predicted)))

    def _paragraph(self, row: int) -> str:
        name = self.class_names[int(self.predicted[row])]
        lines = [f"{row}: {name} (probability {float(self.probability[row]):.3f})"]
        for concept, activation, added in zip(
            self.concepts[row].tolist(), self.activations[row].tolist(), self.contributions[row].tolist(), strict=True
        ):
            lines.append(f"    {added:+7.3f}  {self.concept_names[concept]} (activation {activation:.3f})")
        return "\n".join(lines)


class ConceptBottleneck(nn.Module):
    r"""Concept bottleneck layer with a sparse straight-through choice (Gumbel variant; arXiv:2404.03323).

    Similarities ``s`` of an input with named concepts (image and text embeddings of CLIP, say) become activations
    ``a = W s``, of which ``num_selected`` are kept and read by a linear head:

        logits = H (mask * a),     mask ~ Gumbel top-k on |a| in training, the top-k of |a| in evaluation.

    The mask is hard in both modes; its gradient is that of the relaxed choice, so ``W`` learns which concepts to show.
    A concept speaks by its absence too: what is ranked is the size of an activation, and one below zero keeps its sign.

    ``W`` is a diagonal of positive numbers, so that an activation is the concept it is named after, larger or smaller.
    The paper has a square ``W`` (``mixing=True`` here, which starts as the identity): it may clean noisy similarities,
    and may as well turn an activation into another quantity than its name says. Then nothing but a loss on
    ``alignment`` ties them. The paper makes its activations sparse by a loss on Gumbel-softmax samples; here the choice
    itself is: exactly ``num_selected`` for every input.

    Parameters are ``log_scale (num_concepts,)``, the logarithm of the diagonal of ``W``, or with ``mixing``
    ``bottleneck``, ``W`` itself, and ``head`` (``H (num_classes, num_concepts)``).

    Args:
        num_concepts: named concepts.
        num_classes: classes, at least 2.
        num_selected: concepts kept for each input, from 1 to ``num_concepts``.
        concept_names: one for each concept; "concept 0", ... unless given.
        class_names: one for each class; "class 0", ... unless given.
        mixing: whether ``W`` is a free square matrix.
        sampler: draws the mask in training; unless told ``RelaxedSubset(0.5, hard=True)``, straight-through Gumbel
            top-k.
        generator: source of the head's first weights.
        dtype: of the parameters.
        device: of the parameters.

    Example:
        >>> layer = ConceptBottleneck(3, 2, 1, concept_names=["striped", "spotted", "plain"],
        ...                           class_names=["zebra", "horse"], generator=torch.Generator().manual_seed(0))
        >>> layer.head.data = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
        >>> print(layer.eval().report(torch.tensor([[0.9, 0.1, 0.2]])))
        0: zebra (probability 0.858)
             +1.800  striped (activation 0.900)
    """

    log_scale: nn.Parameter | None
    bottleneck: nn.Parameter | None

    def __init__(
        self,
        num_concepts: int,
        num_classes: int,
        num_selected: int,
        *,
        concept_names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        mixing: bool = False,
        sampler: SubsetSampler | None = None,
        generator: Randomness = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.num_concepts = check_integer("num_concepts", num_concepts, low=1)
        self.num_classes = check_integer("num_classes", num_classes, low=2)
        self.num_selected = check_integer("num_selected", num_selected, low=1, high=num_concepts)
        self.concept_names = _names("concept", concept_names, num_concepts)
        self.class_names = _names("class", class_names, num_classes)
        self.sampler = sampler or RelaxedSubset(0.5, hard=True)
        self.register_parameter("log_scale", None)
        self.register_parameter("bottleneck", None)
        if mixing:
            self.bottleneck = nn.Parameter(torch.eye(num_concepts, dtype=dtype, device=device))
        else:
            self.log_scale = nn.Parameter(torch.zeros(num_concepts, dtype=dtype, device=device))
        source = as_generator(generator, device)
        noise = torch.randn(num_classes, num_concepts, generator=source, dtype=dtype, device=device)
        self.head = nn.Parameter(noise / num_selected**0.5)

    def forward(self, similarities: Tensor, generator: Randomness = None) -> Tensor:
        """Class logits ``(*batch, num_classes)`` of ``similarities (*batch, num_concepts)``."""
        return self.shown(similarities, generator) @ self.head.T

    def shown(self, similarities: Tensor, generator: Randomness = None) -> Tensor:
        """What the head reads, ``(*batch, num_concepts)``: the activations chosen, and 0 for the others."""
        activations = self.activations(similarities)
        if self.training:
            return activations * self.sampler(activations.abs(), self.num_selected, generator)
        return activations * top_k_mask(activations.abs(), self.num_selected).to(activations.dtype)

    def activations(self, similarities: Tensor) -> Tensor:
        """``W s``, before any choice, ``(*batch, num_concepts)``."""
        check_tensor("similarities", similarities)
        check_last_dim("similarities", similarities, self.num_concepts, "concepts")
        if can_read_values(similarities):
            check_finite("similarities", similarities)
        if self.bottleneck is not None:
            return similarities @ self.bottleneck.T
        return similarities if self.log_scale is None else similarities * self.log_scale.exp()

    def alignment(self, similarities: Tensor) -> Tensor:
        """Mean correlation, over ``n`` rows, of each activation with the concept it is named after; in [-1, 1].

        A free ``W`` (``mixing=True``) may turn an activation into another quantity than its name says. Adding a
        multiple of ``1 - alignment`` to the loss holds the names true, as the similarity loss of the paper does. A
        concept that is constant over the rows counts 0. In float32 at least, and summed in float64.
        """
        activations = self.activations(similarities)
        if activations.ndim != 2:
            raise ValueError(f"similarities must have shape (n, num_concepts), got {tuple(similarities.shape)}")
        wide = [values.to(widest_dtype(values)) for values in (activations, similarities)]
        centered = [values - values.mean(0) for values in wide]
        size = centered[0].square().sum(0) * centered[1].square().sum(0)
        product = (centered[0] * centered[1]).sum(0)
        mean = torch.where(size > 0, product * torch.where(size > 0, size, 1).rsqrt(), 0).mean()
        return narrow(mean, activations)

    @torch.no_grad()
    def report(self, similarities: Tensor) -> ConceptReport:
        """The concepts chosen for each row of ``similarities (n, num_concepts)``, without noise, and what they add."""
        if similarities.ndim != 2:
            raise ValueError(f"similarities must have shape (n, num_concepts), got {tuple(similarities.shape)}")
        activations = self.activations(similarities)
        mask = top_k_mask(activations.abs(), self.num_selected)
        probability, predicted = torch.softmax((activations * mask.to(activations.dtype)) @ self.head.T, dim=-1).max(-1)
        contributions = (activations * self.head[predicted]).masked_fill(~mask, -torch.inf)
        added, concepts = contributions.topk(self.num_selected, dim=-1)
        return ConceptReport(
            predicted=predicted,
            probability=probability,
            concepts=concepts,
            activations=activations.gather(-1, concepts),
            contributions=added,
            concept_names=self.concept_names,
            class_names=self.class_names,
        )

    @torch.no_grad()
    def choice_frequency(self, similarities: Tensor) -> Tensor:
        """Share of the inputs predicted to be of a class for which each concept was chosen.

        Shape ``(num_classes, num_concepts)``, in float32 at least; rows sum to ``num_selected``, or are NaN for a class
        never predicted.
        """
        chosen = self.report(similarities)
        cells = chosen.predicted.unsqueeze(-1) * self.num_concepts + chosen.concepts
        counts = torch.bincount(cells.flatten(), minlength=self.num_classes * self.num_concepts)
        of_class = torch.bincount(chosen.predicted, minlength=self.num_classes).unsqueeze(-1)
        share = counts.reshape(self.num_classes, -1).to(widest_dtype(similarities)) / of_class
        return narrow(share, similarities)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"num_concepts={self.num_concepts}, num_classes={self.num_classes}, num_selected={self.num_selected}"


def _names(kind: str, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{kind} {i}" for i in range(count))
    if len(names) != count:
        raise ValueError(f"{kind}_names must have {count} names, got {len(names)}")
    return tuple(str(name) for name in names)
