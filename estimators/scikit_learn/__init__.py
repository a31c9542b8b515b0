"""The estimators as scikit-learn ones; start with ``base.py``."""
