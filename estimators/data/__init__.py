"""Data in any container, as tensors with names; start with ``dataset.py``."""
