"""scikit-learn's ``GaussianMixture``: the case of constant gates and constant means."""

import time
import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from .numpy_em import Array
from .trace import Trace

__all__ = ["fit"]


def fit(y: Array, resp: Array, trace: Trace, *, max_iter: int, tol: float) -> GaussianMixture:
    """EM from the moments of responsibilities ``(n, k)``; records are spread evenly over its iterations."""
    share = resp.sum(0)
    means = resp.T @ y / share
    variance = (resp * (y[:, None] - means) ** 2).sum(0) / share
    mixture = GaussianMixture(
        resp.shape[1],
        covariance_type="diag",
        tol=tol / len(y),
        reg_covar=0.0,
        max_iter=max_iter,
        weights_init=share / share.sum(),
        means_init=means[:, None],
        precisions_init=1.0 / variance[:, None],
        random_state=0,
    )
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(y[:, None])
    spent = time.process_time() - started
    trace.values = [bound * len(y) for bound in mixture.lower_bounds_]
    trace.seconds = [spent * (i + 1) / len(trace.values) for i in range(len(trace.values))]
    return mixture
