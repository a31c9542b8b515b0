"""What a mixture of experts is: gates, experts, the conditional distribution, the mixing measure."""

from ._version import __version__

__all__ = ["__version__"]
