"""What holds for a computation, and for what overrides it."""

import inspect
from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

PartT = TypeVar("PartT")

__all__ = ["forget_statements", "has_form"]


def has_form(part: object, kind: type[PartT], *methods: str) -> TypeGuard[PartT]:
    """Whether ``part`` computes what ``kind`` does: it is one, and no subclass overrides how.

    A closed form belongs to the class that declared it. A subclass that changes nothing of the computation has it too;
    one that overrides a method of ``kind.computed_by`` has not, nor has an object with such a method of its own.

    Args:
        part: any object.
        kind: the class that declared the closed form.
        *methods: names of the methods that make up the computation; those in ``kind.computed_by`` if none is given.

    Example:
        >>> from mixkit.experts import GaussianExperts
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> class Renamed(GaussianExperts):
        ...     pass
        >>> class Cauchy(GaussianExperts):
        ...     def log_density(self, y, eta, *constants):
        ...         return -(((y - eta) / constants[0].exp()) ** 2).log1p() - constants[0] - 1.1447298858494002
        >>> [has_form(kind(ConstantPredictor(1)), GaussianExperts) for kind in (Renamed, Cauchy)]
        [True, False]
    """
    if not isinstance(part, kind):
        return False
    names = methods or kind.computed_by  # type: ignore[attr-defined]
    return all(
        name not in vars(part) and inspect.getattr_static(type(part), name) is inspect.getattr_static(kind, name)
        for name in names
    )


def forget_statements(cls: type, computed_by: tuple[str, ...], statements: Mapping[str, Any]) -> None:
    """Put back to their defaults the statements that a class inherits about a computation which it overrides.

    A class says in attributes what holds for its computation, that it is homogeneous for example. A subclass that
    overrides one of the methods ``computed_by`` has to say so anew.

    Args:
        cls: a new subclass.
        computed_by: methods that make up the computation.
        statements: names of the attributes, and what holds where nothing is said.
    """
    own = vars(cls)
    if any(name in own for name in computed_by):
        for name, default in statements.items():
            if name not in own:
                setattr(cls, name, default)
