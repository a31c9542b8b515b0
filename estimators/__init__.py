"""How a mixture of experts is learned: EM, maximum likelihood, standard errors, the scikit-learn face."""

from .data.collinearity import CollinearityWarning
from .em import EM
from .formula.fit import fit_formula
from .inference.comparison import compare
from .mle import MLE
from .model_selection import Dendrogram, ExpertSelection, mixing_dendrogram, select_experts
from .rates import RateStudy
from .results.fit_batch import FitBatch, NoFiniteStartWarning
from .results.fit_result import FitResult
from .scikit_learn.classifier import MixtureOfExpertsClassifier
from .scikit_learn.formula_columns import FormulaColumns
from .scikit_learn.regressor import MixtureOfExpertsRegressor
from .search.estimator import Estimator
from .search.starts import (
    GivenResponsibilities,
    KMeansX,
    KMeansXY,
    LocalLines,
    MoveAtom,
    RandomPartition,
    SplitAtom,
    Start,
)
from .statistics.covariance import SingularInformationWarning
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
    "FormulaColumns",
    "GivenResponsibilities",
    "KMeansX",
    "KMeansXY",
    "LocalLines",
    "MixtureOfExpertsClassifier",
    "MixtureOfExpertsRegressor",
    "MoveAtom",
    "NoFiniteStartWarning",
    "RandomPartition",
    "RateStudy",
    "SingularInformationWarning",
    "SplitAtom",
    "Start",
    "StochasticEM",
    "compare",
    "exact_loss",
    "fit_formula",
    "mixing_dendrogram",
    "overspecified_loss",
    "select_experts",
    "voronoi_loss",
]
