"""What a fitted model says of given covariates and responses, whichever way it was fitted."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_integer
from mixkit.mixture import ExpertMixture, MixtureOfExperts
from mixkit.residuals import quantile_residuals

from ..data.columns import ordered_covariates, renamed, with_names
from ..data.dataset import check_constant_within, gate_columns
from ..data.tensors import numeric_tensor
from ..data.unit_posterior import draw, log_joint, unit_log_responsibilities
from ..data.units import Units, group_labels, taken_group_column

__all__ = ["FittedMixture", "Recipe"]


class Recipe(Protocol):
    """How a fit by formula encodes frames (:class:`estimators.formula.recipe.Recipe`)."""

    @property
    def text(self) -> str:
        """The formula in words."""

    def reads(self, data: Any) -> bool:
        """Whether something is a frame that can be encoded."""

    def covariates(self, data: Any) -> np.ndarray:
        """The columns ``(n, d)`` of a frame."""


class FittedMixture:
    """A result that holds a model, and the names that the covariates had when it was fitted.

    Attributes:
        model: the fitted model, float64.
        param_names: names of the free parameters ``(P,)``.
        warnings: what a reader should know, in words.
        feature_names: names of the covariates ``(d,)``; None where they had none.

    Example:
        >>> import torch
        >>> from estimators import EM
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_faithful
        >>> x, y = load_faithful()
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(softmax_gate(1, 2, generator=g), linear_gaussian_experts(1, 2, generator=g))
        >>> result = EM(random_state=0, n_init=2).fit(model, x, y)
        >>> result.predict([[70.0]]).shape, result.responsibilities(x, y).shape
        ((1,), (272, 2))
        >>> residuals = result.residuals(x, y)
        >>> abs(float(residuals.mean())) < 0.1, abs(float(residuals.std()) - 1) < 0.1
        (True, True)
    """

    model: MixtureOfExperts
    param_names: list[str]
    warnings: list[str]
    feature_names: list[str] | None
    _num_features: int | None
    _recipe: Recipe | None = None

    def rename_features(self, names: Sequence[str]) -> None:
        """Put the covariates' names in place of x0, x1, ..., or of the names before, in names and ``warnings``.

        Raises:
            ValueError: if there is not one name for each covariate.
        """
        old, names = self.feature_names, [str(name) for name in names]
        if self._num_features not in (None, len(names)):
            raise ValueError(f"names must be {self._num_features}, one for each covariate, got {names}")

        def put(text: str) -> str:
            return with_names(text, names) if old is None else renamed(text, old, names)

        self.param_names, self.warnings = [put(n) for n in self.param_names], [put(text) for text in self.warnings]
        self.feature_names = names

    def predict(self, x: Any) -> np.ndarray:
        """Conditional means at ``x (n, d)``: ``(n,)``, or ``(n, p)`` of a vector response.

        Args:
            x: an array, tensor or frame. The columns of a frame go by their names if the fit was to a frame too.

        Raises:
            TypeError: if ``x`` is not numeric.
            ValueError: if it is not ``(n, d)`` and finite, or a frame of other columns than those of the fit.
        """
        with torch.no_grad():
            return self._law(self.covariates(x)).mean.numpy(force=True)

    def responsibilities(self, x: Any, y: Any, *, groups: Any = None) -> np.ndarray:
        """Posterior probability of each expert given x and y, ``(n, k)``.

        Args:
            x: covariates ``(n, d)``, as for :meth:`predict`.
            y: responses ``(n,)`` or ``(n, p)``.
            groups: labels ``(n,)`` of groups of rows that share an expert, or the name of a column of the frame ``x``.
                Each row then has the posterior of its group, given the responses of all its rows. None for rows that
                have each an expert of its own, whatever the fit.

        Raises:
            TypeError: if an argument is not numeric.
            ValueError: as for :meth:`predict`, if ``y`` has another shape or cannot be a response, or if a column that
                the gate reads varies within a group.
        """
        x, groups = taken_group_column(x, groups)
        points = self.covariates(x)
        with torch.no_grad():
            law = self._law(points)
            response = self._response(points, y, law)
            if groups is None:
                return law.log_responsibilities(response).exp().numpy(force=True)
            units = self._units(points, groups)
            posterior = unit_log_responsibilities(log_joint(law, response, units)).exp()
            return units.on_rows(posterior.mT).mT.numpy(force=True)

    def _units(self, points: Tensor, groups: Any) -> Units:
        codes, labels = group_labels("groups", groups)
        if len(codes) != len(points):
            raise ValueError(f"groups must have one label for each of the {len(points)} rows of x, got {len(codes)}")
        units = Units(torch.as_tensor(codes).to(points.device))
        columns = gate_columns(self.model, points.shape[1])
        check_constant_within(points.unsqueeze(0), units, columns, self.feature_names, labels)
        return units

    def predict_proba(self, x: Any, y: Any = None, *, groups: Any = None) -> np.ndarray:
        """Probability of each expert ``(n, k)``: the gate's weights at x, or given y too the posterior.

        Args:
            x: covariates ``(n, d)``, as for :meth:`predict`.
            y: responses ``(n,)`` or ``(n, p)``, for :meth:`responsibilities`; None for the prior.
            groups: of rows that share an expert, as for :meth:`responsibilities`.

        Raises:
            TypeError: if an argument is not numeric.
            ValueError: as for :meth:`responsibilities`.
        """
        if y is not None:
            return self.responsibilities(x, y, groups=groups)
        x, _ = taken_group_column(x, groups)
        return self._law(self.covariates(x)).log_weights.exp().numpy(force=True)

    def classify(self, x: Any, y: Any = None, *, groups: Any = None) -> np.ndarray:
        """The likeliest expert of each row, ``(n,)``, from 0 to k - 1; the first of several. As :meth:`predict_proba`.

        Without y it is the expert of the largest gate weight: what the model expects before it sees a response.
        """
        return self.predict_proba(x, y, groups=groups).argmax(-1)

    def simulate(
        self,
        x: Any,
        *,
        num_replicates: int | None = None,
        random_state: int | torch.Generator | None = None,
        groups: Any = None,
    ) -> np.ndarray:
        """Responses drawn from the fitted model at each row of x, ``(n,)`` or ``(n, p)``.

        The parameters are taken as known.

        Args:
            x: covariates ``(n, d)``, as for :meth:`predict`.
            num_replicates: how many draws for each row, as a leading dimension; None for one without it.
            random_state: seed, or a ``torch.Generator``, which moves on; None for other draws at every call.
            groups: labels of rows that share an expert, as for :meth:`responsibilities`; None for one for each row.

        Raises:
            TypeError: if ``x`` is not numeric, or ``random_state`` something else.
            ValueError: as for :meth:`predict`, or for ``num_replicates`` below 1.
        """
        shape = () if num_replicates is None else (check_integer("num_replicates", num_replicates, low=1),)
        x, groups = taken_group_column(x, groups)
        points = self.covariates(x)
        units = None if groups is None else self._units(points, groups)
        return draw(self._law(points), units, shape, _generator(random_state)).numpy(force=True)

    def residuals(self, x: Any, y: Any, *, random_state: int | None = None) -> np.ndarray:
        """Quantile residuals ``(n,)``, standard normal if the model is true (see ``mixkit/residuals.py``).

        Args:
            x: covariates ``(n, d)``, as for :meth:`predict`.
            y: responses ``(n,)``.
            random_state: seed of the draws that spread counts, and whatever else has a positive probability.

        Raises:
            TypeError: if an argument is not numeric.
            ValueError: as for :meth:`responsibilities`; for vector responses; without a seed where there must be one.
        """
        points = self.covariates(x)
        law = self._law(points)
        response = self._response(points, y, law)
        if random_state is None and not law.event_shape and bool(law.has_atom(response).any()):
            raise ValueError("random_state must be a seed for responses of positive probability (counts), got None")
        generator = None if random_state is None else torch.Generator().manual_seed(random_state)
        return quantile_residuals(self.model, points, response, generator=generator).numpy(force=True)

    @property
    def formula(self) -> str | None:
        """The formula of the fit, in words; None of other fits."""
        return None if self._recipe is None else self._recipe.text

    def covariates(self, x: Any) -> Tensor:
        """Checked covariates ``(n, d)``, float64, on the model's device; see :meth:`predict`.

        Of a fit by formula ``x`` is a frame with the columns of its terms, or the ``(n, d)`` encoded columns.
        """
        if self._recipe is not None and self._recipe.reads(x):
            points = numeric_tensor("x", self._recipe.covariates(x))
        else:
            points = ordered_covariates(x, self.feature_names)
        if points.ndim != 2 or self._num_features not in (None, points.shape[1]):
            expected = "d" if self._num_features is None else self._num_features
            raise ValueError(f"x must have shape (n, {expected}), got {tuple(points.shape)}")
        return points.to(next(self.model.parameters()).device)

    def _law(self, points: Tensor) -> ExpertMixture:
        with torch.no_grad():
            return self.model(points)

    def _response(self, points: Tensor, y: Any, law: ExpertMixture) -> Tensor:
        response = numeric_tensor("y", y).to(next(self.model.parameters()).device)
        shape = tuple(law.batch_shape + law.event_shape)
        if tuple(response.shape) != shape:
            raise ValueError(f"y must have shape {shape}, a response for each row of x, got {tuple(response.shape)}")
        self.model.experts.check_rows(points, response)
        return response


def _generator(random_state: Any) -> torch.Generator:
    if isinstance(random_state, torch.Generator):
        return random_state
    if random_state is None:
        fresh = torch.Generator()
        fresh.seed()
        return fresh
    return torch.Generator().manual_seed(check_integer("random_state", random_state, low=0))
