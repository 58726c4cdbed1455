"""Where an encoder or a ranker runs, when it is ready, and how it is found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from recengine.encoders.reference import Reference
from recengine.encoders.running import Running
from recengine.runtime import Session


class OnGraph:
    """Where a graph runs and whether it is ready: for all that hold a session."""

    _session: Session

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda:N"."""
        return self._session.device

    @property
    def reason(self) -> str:
        """Why it runs there."""
        return self._session.reason

    @property
    def ready(self) -> bool:
        """Whether `warm_up` has been done in this process."""
        return self._session.ready

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._session.path)!r}, device={self.device!r})"


class Referred(OnGraph):
    """What is found again by paths, digests and options."""

    _reference: Reference

    @property
    def digest(self) -> str:
        """SHA-256 over everything that makes its answers: files, ids and options."""
        return self._reference.digest

    def reference(self) -> dict[str, Any]:
        """Return what finds this again, as JSON values: paths, digests and options.

        Device, threads and runtime are not in it: they belong to the machine.
        """
        return self._reference.to_json()


class GraphEncoder(Referred):
    """What encoders of texts, images and sounds have in common; made by them alone.

    A kind opens its graph in `_set_up`, which sets `_session` (of the graph that makes the
    vectors), `_dim`, `_reference` and `_running`.
    """

    _reference_type: ClassVar[type[Reference]]
    _dim: int
    _running: Running

    @classmethod
    def _made(cls, *parts: Any) -> Self:
        encoder = cls.__new__(cls)
        encoder._set_up(*parts)
        return encoder

    def _set_up(self, *parts: Any) -> None:
        raise NotImplementedError

    @classmethod
    def _found(cls, reference: Any, running: Running, *more: Any) -> Self:
        """Open the files of a reference that was read, under what was asked of the machine."""
        raise NotImplementedError

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @classmethod
    def from_reference(
        cls,
        reference: Mapping[str, Any],
        device: str = "cpu",
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open the encoder that `reference` describes.

        Parameters
        ----------
        reference : mapping
            From `reference`. Where its paths are gone and it came from a fetched name, the files
            are fetched by that name.
        device, num_threads, runtime
            As of the class.

        Returns
        -------
        encoder
            With the same `digest`.

        Raises
        ------
        BundleError
            If a file is not the one that was referred to, or the reference is damaged.
        FileNotFoundError, FetchError
            If a file is gone, and cannot be fetched.
        """
        found = cls._reference_type.from_json(reference)
        return cls._found(found, Running(device, num_threads, runtime))

    def __reduce__(self) -> tuple[Any, ...]:
        device, num_threads, runtime, _ = self._running
        return type(self).from_reference, (self.reference(), device, num_threads, runtime)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, dim={self.dim})"
