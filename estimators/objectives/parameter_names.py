"""Names of parameters as users read them, from their names in the module."""

__all__ = ["entry_name", "is_logarithm", "reading_order"]

_PREFIXES = (
    ("gate.score.", "gate_"),
    ("gate.temperature.", ""),
    ("experts.predictor.slope", "slope"),
    ("experts.predictor.intercept", "intercept"),
    ("experts.predictor.", "experts.predictor."),
    ("experts.", ""),
)
_ORDER = ("gate.score.weight", "gate.score.center", "gate.score.bias", "gate.", "experts.predictor.", "experts.")
_BY_COVARIATE = ("gate_weight", "gate_center", "slope")


def reading_order(name: str) -> int:
    """Where a parameter stands in a table: the gate's weights, its biases, the experts' means, their scales.

    Example:
        >>> sorted(["experts.log_std", "gate.score.bias", "gate.score.weight"], key=reading_order)
        ['gate.score.weight', 'gate.score.bias', 'experts.log_std']
    """
    return next((place for place, prefix in enumerate(_ORDER) if name.startswith(prefix)), len(_ORDER))


def is_logarithm(name: str) -> bool:
    """Whether users read the exponential of a parameter: a scale, positive by construction.

    Example:
        >>> is_logarithm("experts.log_std"), is_logarithm("experts.predictor.module.log_gain")
        (True, False)
    """
    return name.rpartition(".")[2].startswith("log_") and not name.startswith("experts.predictor.")


def entry_name(name: str, index: tuple[int, ...] = ()) -> str:
    """The name of an entry of a parameter; columns of covariates are x0, x1, ...

    Example:
        >>> entry_name("gate.score.weight", (1, 0)), entry_name("experts.log_std", (0,))
        ('gate_weight[1,x0]', 'std[0]')
        >>> entry_name("gate.temperature.log_temperature"), entry_name("experts.predictor.module.0.weight", (3, 1))
        ('temperature', 'experts.predictor.module.0.weight[3,1]')
    """
    old, new = next((pair for pair in _PREFIXES if name.startswith(pair[0])), ("", ""))
    label = new + name.removeprefix(old)
    if is_logarithm(name):
        head, dot, last = label.rpartition(".")
        label = head + dot + last.removeprefix("log_")
    if not index:
        return label
    places = [str(place) for place in index]
    if label in _BY_COVARIATE and len(places) > 1:
        places[-1] = f"x{places[-1]}"
    return f"{label}[{','.join(places)}]"
