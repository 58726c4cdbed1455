"""What every model of this room shares: one fit, shown, saved and read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from recengine._errors import NotFittedError

F = TypeVar("F")


class Learned(Generic[F]):
    """A model whose fit is one read-only object, replaced as a whole.

    A model says what `_settings` it saves, and how an `F` becomes arrays and JSON and back.
    """

    _settings: ClassVar[tuple[str, ...]]  # attributes that `__init__` takes and `state` keeps
    _later: ClassVar[tuple[str, ...]] = ()  # those that older states lack: None there
    _shown: ClassVar[tuple[str, ...]]  # those that `repr` shows
    _arrays: ClassVar[tuple[str, ...]] = ()  # what else `from_state` must be given
    _facts: ClassVar[tuple[str, ...]] = ()  # and in its JSON
    _fitted: F | None = None

    def _require(self) -> F:
        if self._fitted is None:
            name = type(self).__name__
            raise NotFittedError(f"this {name} is not fitted: call fit(interactions) first")
        return self._fitted

    def _shape(self, fitted: F) -> tuple[int, int]:
        """Return (n_users, n_items)."""
        raise NotImplementedError

    def _saved(self, fitted: F) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (arrays, JSON beside the settings) of `state`."""
        raise NotImplementedError

    def _restored(self, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> F:
        """Return what `_saved` described, checked; nothing that it needs is missing."""
        raise NotImplementedError

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in self._shown}
        given = ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
            for name, value in values.items()
        )
        size = "not fitted"
        if self._fitted is not None:
            size = "{} users, {} items".format(*self._shape(self._fitted))
        return f"{type(self).__name__}({given}) <{size}>"

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (arrays, meta): plain numeric arrays and a JSON object, for `from_state`.

        `num_threads` and a Generator given as `random_state` belong to the process and are left
        out.
        """
        arrays, facts = self._saved(self._require())
        return arrays, self._described() | facts

    def _described(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return {name: _plain(getattr(self, name)) for name in self._settings}

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> Self:
        """Return the model that `state` described; read-only arrays (mmapped ones) are borrowed.

        Parameters
        ----------
        arrays, meta : mappings
            The two parts that `state` returned.

        Raises
        ------
        ValueError
            A part is missing, or the parts do not fit together.
        """
        check_parts("arrays", arrays, cls._arrays)
        meta = {**dict.fromkeys(cls._later), **meta}
        check_parts("meta", meta, (*cls._settings, *cls._facts))
        model = cls(**{name: meta[name] for name in cls._settings})
        model._fitted = model._restored(arrays, meta)
        return model


def check_parts(name: str, part: Mapping[str, Any], needed: tuple[str, ...]) -> None:
    """Refuse a saved model that lacks one of its arrays or settings."""
    missing = [key for key in needed if key not in part]
    if missing:
        raise ValueError(f"{name} must hold {', '.join(missing)}")


def _plain(setting: Any) -> Any:
    """Return a setting as JSON has it; a Generator is None there."""
    if isinstance(setting, np.random.Generator):
        return None
    whole = hasattr(setting, "__index__") and not isinstance(setting, bool)
    return int(setting) if whole else setting
