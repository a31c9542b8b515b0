"""How a mixture of experts is learned: EM, maximum likelihood, standard errors, the scikit-learn face."""

from .classifier import MixtureOfExpertsClassifier
from .covariance import SingularInformationWarning
from .data import CollinearityWarning
from .em import EM
from .estimator import Estimator
from .initialization import Given, KMeansX, KMeansXY, LocalLines, MoveAtom, RandomPartition, SplitAtom, Start
from .mle import MLE
from .rates import RateStudy
from .regressor import MixtureOfExpertsRegressor
from .result import FitBatch, FitResult
from .selection import Dendrogram, ExpertSelection, mixing_dendrogram, select_experts
from .streaming import StochasticEM
from .voronoi import exact_loss, overspecified_loss, voronoi_loss

__all__ = [
    "EM",
    "MLE",
    "CollinearityWarning",
    "Dendrogram",
    "Estimator",
    "ExpertSelection",
    "FitBatch",
    "FitResult",
    "Given",
    "KMeansX",
    "KMeansXY",
    "LocalLines",
    "MixtureOfExpertsClassifier",
    "MixtureOfExpertsRegressor",
    "MoveAtom",
    "RandomPartition",
    "RateStudy",
    "SingularInformationWarning",
    "SplitAtom",
    "Start",
    "StochasticEM",
    "exact_loss",
    "mixing_dendrogram",
    "overspecified_loss",
    "select_experts",
    "voronoi_loss",
]
