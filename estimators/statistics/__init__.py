"""Covariances of estimates and Wald intervals; start with ``covariance.py``."""
