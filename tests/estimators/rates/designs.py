"""Small studies that several test files run."""

import torch

from estimators import EM
from estimators.rates import Candidate, ExactLoss, Oracle, OverspecifiedLoss, RateStudy, UniformCovariates
from mixkit import MixingMeasure

DTYPE = torch.float64


def easy_truth() -> MixingMeasure:
    """Two lines that few observations tell apart."""
    values = ([0.3, 0.0], [[4.0], [0.0]], [[2.0], [-2.0]], [0.0, 1.5], [0.1, 0.2])
    return MixingMeasure(*(torch.tensor(value, dtype=DTYPE) for value in values))


def small_study(**changes) -> RateStudy:
    settings = {
        "truth": easy_truth(),
        "covariates": UniformCovariates(),
        "estimator": EM(),
        "losses": [ExactLoss()],
        "sample_sizes": [60, 120],
        "num_replicates": 3,
        "seed": 1,
        "start": Oracle(),
        "batch_size": 1,
    }
    return RateStudy(**(settings | changes))


def two_candidates() -> dict[str, Candidate]:
    return {"exact": Candidate(EM()), "stopped": Candidate(EM(finish=False, em_iter=2, em_tol=1e-6))}


def compared_study(**changes) -> RateStudy:
    return small_study(estimator=two_candidates(), losses=[ExactLoss(), OverspecifiedLoss()], **changes)
