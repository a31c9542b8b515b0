"""Models with linear predictors: exact derivatives by matrix products; start with ``objective.py``."""
