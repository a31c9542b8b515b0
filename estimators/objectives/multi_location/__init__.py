"""Experts of several linear locations, or of several families: exact derivatives by matrix products."""
