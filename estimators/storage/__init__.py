"""Values in files that hold numbers and words, nothing that could be run; start with ``codec.py``."""
