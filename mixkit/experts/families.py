"""Families by name: one table, to which every family adds itself where it is defined."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from .base import Experts

__all__ = ["family", "family_by_name", "family_names", "family_of"]

FamilyT = TypeVar("FamilyT", bound=type[Experts])

_FAMILIES: dict[str, type[Experts]] = {}


def family(name: str) -> Callable[[FamilyT], FamilyT]:
    """Enter a family of experts under a name; its ``linear`` builds one of linear locations.

    Raises:
        ValueError: if another class has the name.

    Example:
        >>> from mixkit.experts import GaussianExperts
        >>> @family("my_gaussian")
        ... class MyExperts(GaussianExperts):
        ...     pass
        >>> type(family_by_name("my_gaussian", 2, 3)).__name__
        'MyExperts'
    """

    def enter(kind: FamilyT) -> FamilyT:
        known = _FAMILIES.get(name, kind)
        if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
            raise ValueError(f"name must be free, got {name!r}, which is that of {known.__qualname__}")
        _FAMILIES[name] = kind
        return kind

    return enter


def family_names(*, with_options: bool = True) -> tuple[str, ...]:
    """The names that :func:`family_by_name` knows; of families that need no options if they cannot be given.

    Example:
        >>> "poisson" in family_names(), "categorical" in family_names(with_options=False)
        (True, False)
    """
    return tuple(name for name, kind in _FAMILIES.items() if with_options or not kind.needed_options)


def family_of(name: str) -> type[Experts]:
    """The class of a name.

    Raises:
        TypeError: if the name is no string.
        ValueError: if there is none of that name.

    Example:
        >>> family_of("poisson").__name__
        'PoissonExperts'
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {type(name).__name__}")
    if name not in _FAMILIES:
        raise ValueError(f"name must be one of {sorted(_FAMILIES)}, got {name!r}")
    return _FAMILIES[name]


def family_by_name(
    name: str, num_features: int, num_experts: int, *, response: Tensor | None = None, **options: Any
) -> Experts:
    """The experts that a word names, with linear locations, or constant ones for no features.

    Args:
        name: one of :func:`family_names`.
        num_features: number of covariates ``d``, without offset and numbers of trials; 0 for constant locations.
        num_experts: number of experts ``k``.
        response: ``(n,)`` or ``(n, p)``, from which options follow that are not given: the number of classes.
        **options: the family's own, and ``offset``, ``batch_shape``, ``dtype``, ``device``, ``generator``, those of
            :class:`~mixkit.experts.predictors.LinearPredictor`.

    Raises:
        TypeError: if an option is needed and neither given nor told by the response.
        ValueError: if there is no such family, or an option is out of its range.

    Example:
        >>> import torch
        >>> family_by_name("poisson", 2, 3, offset=True).known_columns
        ('offset',)
        >>> family_by_name("categorical", 2, 3, response=torch.tensor([0.0, 2.0, 1.0])).num_classes
        3
    """
    kind = family_of(name)
    if response is not None:
        options = kind.options_of(response) | options
    missing = [option for option in kind.needed_options if option not in options]
    if missing:
        raise TypeError(f"{', '.join(missing)} must be given for the family {name!r}")
    return kind.linear(num_features, num_experts, **options)
