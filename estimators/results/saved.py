"""Results in files, without their data and estimators."""

import os
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any, Self

from mixkit.mixture import MixtureOfExperts

from ..storage.archive import read_archive, write_archive
from ..storage.codec import NotStorableError
from .maximum import COVARIANCES, Maximum

__all__ = ["Saved"]

_KIND = "fit"
_OF_DATA = ("_estimator", "_fitted_rows", "_num_given")  # mean nothing without the observations


class Saved:
    """The part of a result that can be written to a file and read again."""

    model: MixtureOfExperts
    effective_df: Any
    _maximum: Maximum | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to a file of numbers and words, an npz with JSON: nothing in it can be run.

        Read again it predicts, summarizes, and has the same standard errors, of every type that the data allowed when
        it was saved. The observations and the estimator are not in it; what needs them raises ``DataRemovedError``.
        Modules that are neither this library's nor of ``torch.nn`` are not in it either: such a model has its
        parameters there, and :meth:`load` wants a model of its form.

        Args:
            path: of the file, which is replaced if it exists.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        values |= dict.fromkeys(_OF_DATA) | {
            "_maximum": _without_data(self._maximum),
            "_effective_df": self.effective_df,
        }
        try:
            write_archive(path, _KIND, values)
        except NotStorableError:
            write_archive(path, _KIND, values | {"model": dict(self.model.state_dict())})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: MixtureOfExperts | None = None) -> Self:
        """Read a result that :meth:`save` wrote.

        Args:
            path: of the file.
            model: of the same form as the one that was fitted; needed only for one with modules of a user's own.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it is damaged, no result, of a later version, or needs a ``model``, or one of another form.
        """
        values = read_archive(path, _KIND)
        names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(values, dict) or set(values) - names:
            raise ValueError(f"path must be a file of a {cls.__name__}, got one with {sorted(set(values) - names)}")
        if not isinstance(values["model"], MixtureOfExperts):
            values["model"] = _with_parameters(model, values["model"])
        return cls(**values)


def _without_data(maximum: Maximum | None) -> Maximum | None:
    """The maximum with all the covariances that its data allow, and without them."""
    if maximum is None:
        return None
    known = {}
    for name in COVARIANCES:
        try:
            known[name] = maximum.covariance(name)
        except ValueError:  # the data are gone
            continue
    return replace(maximum, _objective=None, _covariances=known)


def _with_parameters(model: MixtureOfExperts | None, parameters: Any) -> MixtureOfExperts:
    if model is None:
        raise ValueError(
            "model must be given, one of the form that was fitted: it has modules whose code is in no file"
        )
    filled = deepcopy(model).double().eval()
    try:
        filled.load_state_dict(parameters)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"model must be of the form that was fitted, got another: {error}") from error
    return filled
