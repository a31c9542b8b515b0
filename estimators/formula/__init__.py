"""Models written as formulas; start with ``fit.py``. Needs the extra ``formula``."""
