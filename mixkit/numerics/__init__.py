"""How numbers are added up, drawn and kept; begin with ``precision``."""
