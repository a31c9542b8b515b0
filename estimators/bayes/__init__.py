"""Bayesian mixtures of experts: priors, approximations, Monte Carlo, predictions; start with ``model.py``."""

from .chi_square import fit_chi_square
from .importance import ImportanceSample, ImportanceWarning
from .laplace import LaplaceApproximation, laplace
from .model import BayesianMixtureOfExperts
from .nuts import fit_nuts
from .posterior import DivergenceWarning, Posterior
from .predictive import Waic
from .priors import default_priors
from .svi import fit_svi

__all__ = [
    "BayesianMixtureOfExperts",
    "DivergenceWarning",
    "ImportanceSample",
    "ImportanceWarning",
    "LaplaceApproximation",
    "Posterior",
    "Waic",
    "default_priors",
    "fit_chi_square",
    "fit_nuts",
    "fit_svi",
    "laplace",
]
