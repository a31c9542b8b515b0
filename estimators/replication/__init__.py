"""Many fits on many processes, kept in a file that a kill leaves whole; start with ``experiment.py``."""
