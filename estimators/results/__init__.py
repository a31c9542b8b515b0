"""What a fit gives back; start with ``fit_result.py``."""
