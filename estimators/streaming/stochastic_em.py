"""Maximum likelihood in one pass over data of any length."""

from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm

from mixkit._validation import check_integer, check_positive
from mixkit.mixture import MixtureOfExperts

from ..em import EM
from ..optimizers.objective import SAFEGUARD_VARIANCE
from ..search.estimator import Estimator
from .result import StreamResult
from .stream import Stream, StreamSettings

__all__ = ["StochasticEM"]

_ROWS_PER_PARAMETER = 20
_FEWEST_ROWS, _MOST_ROWS = 10_000, 20_000


class StochasticEM:
    r"""EM on a stream of rows: one pass, memory that does not grow, and the accuracy of a fit to all of them.

    The first rows are fitted by many starts; each later block of ``batch_size`` rows moves the estimate by a step of
    size :math:`(t_0 + t)^{-a}`. Models with a softmax gate and linear predictors (the fast family of
    :class:`~estimators.em.EM`) average the sufficient statistics of EM, and finish, block by block, at the maximum of
    the sum of the quadratic expansions of the log-likelihood along the way, whose curvature gives standard errors. All
    other models step along the gradient, scaled by the information at the start, and report the iterates' average.

    Rows should come in random order: a stream sorted by x shows one expert after the other. Parameters live on the
    device of the model, to which rows are moved.

    Args:
        batch_size: rows of a block.
        start_rows: rows fitted at first, all at once; None for 20 a parameter, from 10,000 to 20,000. A stream cannot
            leave a poor local maximum of its start, and of few rows the highest maximum may be one.
        n_init: starts of that fit, the best of which streams.
        power: a, the decay of the steps, in (0.5, 1).
        finish: whether models of the fast family take the second-order step; if not, they too report the average of
            EM's iterates.
        variance_floor: least variance of an expert, as a share of that of y in the first rows; None for 1e-6.
        starter: estimator of the first rows; None for :class:`~estimators.em.EM` with ``n_init`` and ``random_state``.
            Of its settings only those of the start matter: a penalty it has is not applied to later rows.
        random_state: seed of that estimator. Nothing else is random.
        progress: whether to show a bar.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Cappe and Moulines (2009), JRSS B 71, 593-613; Polyak and Juditsky (1992), SIAM J. Control Optim. 30,
        838-855; Luo and Song (2020), JRSS B 82, 69-97.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.rand(4000, 1, generator=generator)
        >>> is_first = torch.rand(4000, generator=generator) < torch.sigmoid(5 - 10 * x[:, 0])
        >>> y = torch.where(is_first, 1 + x[:, 0], 3 - 2 * x[:, 0]) + 0.1 * torch.randn(4000, generator=generator)
        >>> gate = softmax_gate(1, 2, generator=generator)
        >>> model = MixtureOfExperts(gate, linear_gaussian_experts(1, 2, generator=generator))
        >>> batches = zip(x.split(500), y.split(500))
        >>> result = StochasticEM(batch_size=200, start_rows=500, random_state=0).fit(model, batches)
        >>> result, sorted(result.model.experts.predictor.slope.detach().flatten().round().tolist())
        (StreamResult(k=2, nobs=4000, num_blocks=18), [-2.0, 1.0])
    """

    def __init__(
        self,
        *,
        batch_size: int = 2000,
        start_rows: int | None = None,
        n_init: int = 10,
        power: float = 0.6,
        finish: bool = True,
        variance_floor: float | None = None,
        starter: Estimator | None = None,
        random_state: int | None = None,
        progress: bool = False,
    ) -> None:
        self.batch_size = check_integer("batch_size", batch_size, low=1)
        self.start_rows = None if start_rows is None else check_integer("start_rows", start_rows, low=2)
        self.n_init = check_integer("n_init", n_init, low=1)
        self.power = float(power)
        if not 0.5 < self.power < 1.0:
            raise ValueError(f"power must be strictly between 0.5 and 1, got {power}")
        self.finish = finish
        floor = SAFEGUARD_VARIANCE if variance_floor is None else variance_floor
        self.variance_floor = float(check_positive("variance_floor", floor))
        self._starter = starter
        self.random_state = random_state
        self.progress = progress

    def stream(self, model: MixtureOfExperts) -> Stream:
        """A fit of ``model`` to rows that come by and by, through :meth:`Stream.partial_fit`."""
        settings = StreamSettings(
            starter=self._starter or self._default_starter(),
            start_rows=self.start_rows or _rows_of_start(model),
            batch_size=self.batch_size,
            power=self.power,
            finish=self.finish,
            variance_floor=self.variance_floor,
        )
        return Stream(settings, model)

    def _default_starter(self) -> Estimator:
        return EM(n_init=self.n_init, random_state=self.random_state, variance_floor=self.variance_floor)

    def fit(self, model: MixtureOfExperts, batches: Iterable[Any]) -> StreamResult:
        """Fit a copy of ``model`` to all rows of an iterable.

        Args:
            model: gives the form.
            batches: of ``(x, y)`` or ``(x, y, sample_weight)``; arrays or tensors of any length, such as
                :func:`~estimators.streaming.array_batches`, :func:`~estimators.streaming.read_batches` or a torch
                ``DataLoader`` give.

        Raises:
            TypeError: if an argument is not numeric; the message begins with the batch, counted from 0.
            ValueError: for NaN, infinities, wrong shapes (the message begins with the batch), or no rows.

        Warns:
            IllDeterminedStartWarning: as :meth:`Stream.partial_fit`.
            SingularInformationWarning: as :meth:`Stream.result`.
        """
        stream = self.stream(model)
        with tqdm(disable=not self.progress, unit="row", unit_scale=True, desc="StochasticEM") as bar:
            for index, batch in enumerate(batches):
                before = stream.nobs
                _take_in(stream, index, batch)
                bar.update(stream.nobs - before)
        return stream.result()


def _rows_of_start(model: MixtureOfExperts) -> int:
    """Rows fitted at first, by the number of parameters."""
    num_params = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return min(max(_ROWS_PER_PARAMETER * num_params, _FEWEST_ROWS), _MOST_ROWS)


def _take_in(stream: Stream, index: int, batch: Any) -> None:
    """``partial_fit``, with the batch named where it is refused."""
    try:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            kind = type(batch).__name__
            raise ValueError(f"a batch must be (x, y) or (x, y, sample_weight), got a {kind}{size}")
        stream.partial_fit(*batch)
    except TypeError as error:
        raise TypeError(f"batch {index}: {error}") from error
    except ValueError as error:
        raise ValueError(f"batch {index}: {error}") from error
