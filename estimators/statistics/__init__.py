"""Covariances of estimates and Wald intervals."""
