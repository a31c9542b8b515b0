"""Sample sites: a prior of the shape of its parameter, on the parameter itself or on its exponential."""

import copy
from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import Distribution, Transform, biject_to
from torch.distributions.transforms import ExpTransform

from mixkit.parameters import Exp, ParameterRecord

from .priors import Prior
from .truncated import on_positive

__all__ = ["as_site", "check_kind", "override", "real_transform"]


def check_kind(name: str, value: Any, kind: type, hint: str = "") -> None:
    """Raise ``TypeError`` unless ``value`` is of a class; ``hint`` says how to come by one."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}{hint and f' ({hint})'}, got {type(value).__name__}")


def as_site(name: str, law: Any, shape: torch.Size) -> Distribution:
    """``law`` expanded to a parameter of ``shape``, all of whose dimensions are then event dimensions.

    Raises:
        TypeError: if ``law`` is no distribution.
        ValueError: if its shapes do not broadcast to ``shape``.

    Example:
        >>> import torch
        >>> import pyro.distributions as dist
        >>> as_site("slope", dist.Normal(0.0, 1.0), torch.Size([2, 3])).event_shape
        torch.Size([2, 3])
    """
    if not isinstance(law, Distribution):
        raise TypeError(f"the prior of {name} must be a torch or Pyro distribution, got {type(law).__name__}")
    batch = shape[: len(shape) - len(law.event_shape)]
    try:
        wide = law if law.batch_shape == batch else law.expand(batch)
        fits = wide.batch_shape + wide.event_shape == shape
    except (RuntimeError, ValueError):
        fits = False
    if not fits:
        shapes = f"batch shape {tuple(law.batch_shape)} and event shape {tuple(law.event_shape)}"
        raise ValueError(f"the prior of {name} must broadcast to the parameter's shape {tuple(shape)}, got {shapes}")
    wide = _unchecked(wide)
    return dist.Independent(wide, len(batch), validate_args=False) if batch else wide


def _unchecked(law: Any) -> Any:
    """A copy that does not look at values, which would stop :func:`torch.vmap`."""
    law = copy.copy(law)
    law._validate_args = False
    if hasattr(law, "base_dist"):
        law.base_dist = _unchecked(law.base_dist)
    return law


def real_transform(law: Distribution) -> Transform | None:
    """The map from the real line to the support of a site; None for the identity."""
    support = law.support
    inner = getattr(support, "base_constraint", support)
    return None if inner is torch.distributions.constraints.real else biject_to(support)


def override(
    defaults: Mapping[str, Prior], given: Mapping[str, Prior], records: Mapping[str, ParameterRecord]
) -> dict[str, Prior]:
    """The defaults, those of a name in ``given`` replaced.

    A name may be shortened from the left (``slope`` for ``experts.predictor.slope``). Its last part may be what users
    call the exponential of a logarithm (``std`` for ``experts.log_std``): the distribution is then that of it, given
    that it is positive.

    Raises:
        TypeError: if a prior is neither a distribution nor a function.
        ValueError: if a name belongs to no parameter, or to several.
    """
    priors = dict(defaults)
    for name, law in given.items():
        full, is_log = _resolve(name, {own: records[own] for own in defaults})
        if isinstance(law, Distribution):
            priors[full] = _of_logarithm(full, law) if is_log else law
        elif is_log or not callable(law):
            raise TypeError(f"the prior of {full} must be a torch or Pyro distribution, got {type(law).__name__}")
        else:
            priors[full] = law
    return priors


def _of_logarithm(name: str, law: Distribution) -> Distribution:
    """The distribution of a parameter whose exponential has the distribution ``law``, given that it is positive."""
    return dist.TransformedDistribution(on_positive(name, law), [ExpTransform().inv])


def _resolve(name: str, options: Mapping[str, ParameterRecord]) -> tuple[str, bool]:
    """The parameter that a name means, and whether it means the exponential."""
    users = {_as_users_say(record): own for own, record in options.items() if _is_logarithm(record)}
    for known, is_log in ({own: own for own in options}, False), (users, True):
        found = [own for said, own in known.items() if f".{said}".endswith(f".{name}")]
        if len(found) == 1:
            return found[0], is_log
        if len(found) > 1:
            raise ValueError(f"priors must name one parameter each, got {name!r}, which may be any of {found}")
    raise ValueError(f"priors must name parameters of the model, {list(options)}, got {name!r}")


def _as_users_say(record: ParameterRecord) -> str:
    return f"{record.parent}.{record.block}"


def _is_logarithm(record: ParameterRecord) -> bool:
    return record.transform == Exp()
