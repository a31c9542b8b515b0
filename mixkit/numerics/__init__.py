"""How numbers are added up, drawn and kept; start with ``precision.py``."""
