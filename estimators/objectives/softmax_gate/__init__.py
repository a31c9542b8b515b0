"""Models with linear predictors: exact derivatives by matrix products."""
