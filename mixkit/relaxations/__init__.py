"""Differentiable stand-ins for discrete choices."""
