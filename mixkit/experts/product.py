"""Experts of several responses at once, of different families, independent given the expert."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from .._validation import check_integer, check_last_dim
from ..distributions.independent_responses import IndependentResponses
from ..parameters import ParameterRecord
from .base import Experts, linear_locations
from .binomial import BinomialExperts
from .families import family
from .several_families import SeveralFamilies

__all__ = ["MultivariateBinaryExperts", "ProductExperts"]


class ProductExperts(SeveralFamilies):
    r"""A vector of responses, independent given the expert: :math:`f_j(y \mid x) = \prod_i f_{ij}(y_i \mid x)`.

    Expert j is expert j of every family. One latent membership explains several outcomes, a measurement and a count for
    example.

    Args:
        families: experts of scalar responses, all of one number k, in the order of the coordinates of y; a mapping
            gives the responses names, by which results call their parameters, else they are y0, y1, ...

    Raises:
        TypeError: if one is no family of experts.
        ValueError: if there is none, or they differ in their numbers of experts or in what they know of x.

    Source: latent class regression with mixed outcomes: Grün and Leisch (2008), Journal of Statistical Software 28(4),
    section 4.

    Example:
        >>> import torch
        >>> from mixkit.experts import family_by_name
        >>> draw = torch.Generator().manual_seed(0)
        >>> parts = {"weight": "gaussian", "visits": "poisson"}
        >>> experts = ProductExperts({name: family_by_name(word, 1, 2, generator=draw) for name, word in parts.items()})
        >>> experts(torch.zeros(5, 1)).batch_shape, experts(torch.zeros(5, 1)).event_shape
        (torch.Size([5, 2]), torch.Size([2]))
    """

    def __init__(self, families: Sequence[Experts] | Mapping[str, Experts]) -> None:
        named = families if isinstance(families, Mapping) else {f"y{i}": part for i, part in enumerate(families)}
        super().__init__(named.values())
        sizes = [part.num_experts for part in named.values()]
        if len(set(sizes)) > 1:
            raise ValueError(f"families must have one number of experts, got {sizes}")
        self.response_names = tuple(str(name) for name in named)
        self.num_experts = sizes[0]

    def forward(self, x: Tensor) -> IndependentResponses:
        """Distributions of batch shape ``(*batch, n, k)`` and event shape ``(p,)``."""
        laws = [part(rows) for part, rows in zip(self._parts(), self._rows(x), strict=True)]
        return IndependentResponses(laws, validate_args=False)

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """A record, its block called by the response too."""
        place = next((i for i in range(len(self.families)) if record.family == f"families.{i}"), None)
        if place is None:
            return super().adapt_record(record)
        return replace(record, block=f"{self.response_names[place]}.{record.block}")

    def response_of(self, part: nn.Module, y: Tensor) -> Tensor:
        """The response ``(..., n)`` of one of the families, of ``y (..., n, p)``."""
        place = next((i for i, own in enumerate(self.families) if own is part), None)
        return y if place is None else y[..., place]

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y (..., p)`` if every family takes its coordinate, else raise."""
        check_last_dim("y", super().check_response(y), len(self.families), "responses")
        for part, own in zip(self._parts(), y.unbind(-1), strict=True):
            part.check_response(own)
        return y

    def check_rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``y (..., n, p)`` if every family takes its coordinate at x, else raise."""
        self.check_response(y)
        for part, rows, own in zip(self._parts(), self._rows(x), y.unbind(-1), strict=True):
            part.check_rows(rows, own)
        return y

    def extra_repr(self) -> str:
        """The sizes shown by ``repr``."""
        return f"num_experts={self.num_experts}, response_names={self.response_names}"


@family("multivariate_binary")
class MultivariateBinaryExperts(ProductExperts):
    r"""Several binary responses, independent given the expert, each a logistic regression: latent class analysis.

    Args:
        families: one :class:`~mixkit.experts.BinomialExperts` for each response (see :class:`ProductExperts`).

    Source: Goodman (1974), Exploratory latent structure analysis using both identifiable and unidentifiable models,
    Biometrika 61, 215-231.

    Example:
        >>> import torch
        >>> draw = torch.Generator().manual_seed(0)
        >>> experts = MultivariateBinaryExperts.linear(0, 2, response_dim=4, generator=draw)
        >>> experts(torch.zeros(5, 1)).mean.shape
        torch.Size([5, 2, 4])
    """

    needed_options = ("response_dim",)

    @classmethod
    def linear(cls, num_features: int, num_experts: int, **options: Any) -> "MultivariateBinaryExperts":
        """Experts of ``response_dim`` binary responses, log-odds linear in the covariates."""
        count = check_integer("response_dim", options.pop("response_dim", None), low=1)
        made = [linear_locations(num_features, num_experts, None, options) for _ in range(count)]
        return cls([BinomialExperts(predictor, **own) for predictor, own in made])

    @classmethod
    def options_of(cls, response: Tensor) -> dict[str, Any]:
        """The dimension of the response."""
        return {"response_dim": response.shape[-1]}
