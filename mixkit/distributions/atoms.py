"""Where a distribution has atoms: values of positive probability."""

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["has_atom"]


def has_atom(law: Distribution, value: Tensor) -> Tensor:
    """Whether a scalar distribution may give ``value`` a positive probability; boolean, shaped as its density there.

    A distribution says so itself in a method ``has_atom(value)``, as those of this package do that mix atoms with a
    density. Where it has none, all values are atoms if its support is discrete, and none is if it is continuous.

    Example:
        >>> import torch
        >>> from mixkit.distributions import Normal, Poisson, ZeroInflatedLogNormal
        >>> one, value = torch.ones(()), torch.tensor([0.0, 2.0])
        >>> [has_atom(law, value).tolist() for law in (Normal(one, one), Poisson(one))]
        [[False, False], [True, True]]
        >>> has_atom(ZeroInflatedLogNormal(one, one, one), value)
        tensor([ True, False])
    """
    own = getattr(law, "has_atom", None)
    if own is not None:
        return own(value)
    shape = torch.broadcast_shapes(value.shape, law.batch_shape)
    return torch.full(shape, bool(getattr(law.support, "is_discrete", False)), device=value.device)
