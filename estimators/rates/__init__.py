"""Simulation studies of convergence rates, their slopes, tables and reports; start with ``study.py``."""

from ..replication.record_store import ResultsFileError, StudyMismatchError
from .candidate import Candidate
from .config import read_study
from .covariates import Covariates, GridCovariates, NormalCovariates, UniformCovariates
from .design import StudyDesign, Task
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
from .replicates import Row, draw_data
from .results import StudyResults
from .slopes import Slope, Verdict, fit_slope, judge, median, required_sample_size, trimmed_mean
from .starts import BatchedStart, DataDriven, NearTruth, Oracle, Problem, StartPolicy
from .study import RateStudy
from .theory import TheoreticalRate, theoretical_rates

__all__ = [
    "LAWS",
    "BatchedStart",
    "BlockLoss",
    "Candidate",
    "Covariates",
    "DataDriven",
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
    "StudyDesign",
    "StudyMismatchError",
    "StudyResults",
    "Task",
    "TemperatureLoss",
    "TheoreticalRate",
    "UniformCovariates",
    "Verdict",
    "compare_laws",
    "draw_data",
    "fit_slope",
    "judge",
    "median",
    "read_study",
    "required_sample_size",
    "required_size",
    "theoretical_rates",
    "trimmed_mean",
]
