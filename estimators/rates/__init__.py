"""Simulation studies of convergence rates: design, run, resume, slopes, laws, tables, pictures, reports."""

from ..replication.sqlite_file import ResultsFileError, StudyMismatchError
from .candidate import Candidate
from .config import read_study
from .covariates import Covariates, GridCovariates, NormalCovariates, UniformCovariates
from .laws import (
    LAWS,
    LawFit,
    LogarithmicLaw,
    PiecewisePowerLaw,
    PowerLaw,
    PowerLawWithLog,
    RateLaw,
    compare_laws,
    required_size,
)
from .losses import (
    BlockLoss,
    DensityLoss,
    ExactLoss,
    Fitted,
    Loss,
    OverspecifiedLoss,
    TemperatureLoss,
)
from .replicates import Row, Task, draw_data
from .results import StudyResults
from .slopes import Slope, Verdict, fit_slope, judge, median, required_sample_size, trimmed_mean
from .starts import BatchedStart, DataDriven, NearTruth, Oracle, Problem, StartPolicy
from .study import RateStudy
from .theory import DeclaredRate, declared_rates

__all__ = [
    "LAWS",
    "BatchedStart",
    "BlockLoss",
    "Candidate",
    "Covariates",
    "DataDriven",
    "DeclaredRate",
    "DensityLoss",
    "ExactLoss",
    "Fitted",
    "GridCovariates",
    "LawFit",
    "LogarithmicLaw",
    "Loss",
    "NearTruth",
    "NormalCovariates",
    "Oracle",
    "OverspecifiedLoss",
    "PiecewisePowerLaw",
    "PowerLaw",
    "PowerLawWithLog",
    "Problem",
    "RateLaw",
    "RateStudy",
    "ResultsFileError",
    "Row",
    "Slope",
    "StartPolicy",
    "StudyMismatchError",
    "StudyResults",
    "Task",
    "TemperatureLoss",
    "UniformCovariates",
    "Verdict",
    "compare_laws",
    "declared_rates",
    "draw_data",
    "fit_slope",
    "judge",
    "median",
    "read_study",
    "required_sample_size",
    "required_size",
    "trimmed_mean",
]
