"""Climbs of an objective: EM, Newton's method and L-BFGS; start with ``objective.py``, what they ask of one."""
