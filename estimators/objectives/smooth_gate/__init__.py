"""Any smooth gate before experts with linear predictors; start with ``objective.py``."""
