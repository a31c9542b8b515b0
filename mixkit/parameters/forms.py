"""What holds for a computation, and for what overrides it."""

import inspect
from typing import Any, ClassVar, TypeGuard, TypeVar

PartT = TypeVar("PartT")

__all__ = ["Computation", "has_form"]


class Computation:
    """A part that says in attributes what holds for what it computes, that it is homogeneous for example.

    A subclass that overrides one of the methods ``computed_by`` has to say so anew: what it does not say itself is as
    in the class that lists the ``statements``, where nothing is claimed.

    Attributes:
        computed_by: methods that make up the computation.
        statements: names of the attributes that hold for it alone.

    Example:
        >>> class Function(Computation):
        ...     computed_by, statements = ("value",), ("is_even",)
        ...     is_even = False
        >>> class Square(Function):
        ...     is_even = True
        ...     def value(self, x):
        ...         return x * x
        >>> class Cube(Square):
        ...     def value(self, x):
        ...         return x * x * x
        >>> Square.is_even, Cube.is_even
        (True, False)
    """

    computed_by: ClassVar[tuple[str, ...]] = ()
    statements: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if not any(name in own for name in cls.computed_by):
            return
        base = next(part for part in cls.__mro__ if "statements" in vars(part))
        for name in cls.statements:
            if name not in own:
                setattr(cls, name, getattr(base, name))


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
