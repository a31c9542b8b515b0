"""The search for the best maximum: starts, climbs, moves; start with ``estimator.py``."""
