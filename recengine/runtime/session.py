"""`Session`: one ONNX graph on one device, checked at the door, safe to fork and to pickle."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine._validation import as_count, as_real
from recengine.runtime._bound import calls_of
from recengine.runtime._calls import Calls, Feeds
from recengine.runtime._create import create, parse_device
from recengine.runtime.cutting import cut_at, taken
from recengine.runtime.files import Built, check_digest, source_digest
from recengine.runtime.options import as_options
from recengine.runtime.placed import Placed
from recengine.runtime.placement import Placement, placement_of
from recengine.runtime.ports import Port, check_placed, described_ports, fitted

T = TypeVar("T")
# What onnxruntime raises for arrays that do not fit the graph or each other.
_REFUSALS = ("InvalidArgument", "Fail", "RuntimeException")


def open_session(
    path: str | os.PathLike[str] | Built,
    device: str = "cpu",
    num_threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    output: str | None = None,
) -> Session:
    """Open an ONNX graph on a device.

    Parameters
    ----------
    path : path or Built
        An ``.onnx`` file. Weights kept in files beside it are read, but not part of the digest.
        Or a graph that this process made.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        "cuda" is given wholly or refused; "auto" falls to the CPU and says so.
    num_threads : int, optional
        Threads inside one operator; what this process may use (affinity and quota) when omitted.
    options : mapping of str to value, optional
        By the names of `recengine.runtime.RuntimeOptions`: arena, shrink, spinning,
        inter_op_threads, gpu_memory_limit, cuda_graph, tensorrt.
    output : str, optional
        One output of the graph, or any tensor inside it: only what leads to it is opened and run,
        and only the inputs it needs remain. Cutting needs the package `onnx`; without it, an
        output of the graph is still given, after a run of the whole.

    Returns
    -------
    Session

    Raises
    ------
    DeviceError
        If the device cannot be given, with the reason and the fix; or if two onnxruntime wheels
        are installed.
    BundleError
        If the file is damaged or no ONNX model, or its weights lie outside of its folder.
    ValueError, TypeError
        If an option or `output` is unknown or unfit; the message lists those there are.
    FileNotFoundError, ImportError
        If there is no such file; if onnxruntime is not installed, or not `onnx`, which cuts.
    """
    return Session(path, device, num_threads, options, output)


class Session:
    """One ONNX graph, opened on one device; see `open_session` for the arguments.

    Attributes
    ----------
    path : Path
        Absolute; of a graph that this process made, its name.
    device : str
        Where it runs: "cpu" or "cuda:N".
    reason : str
        Why there: "asked for", or what kept ``device="auto"`` from the GPU.
    digest : str
        SHA-256 of the file, hexadecimal; of the whole one, also where it is cut.
    output : str or None
        Where it is cut.
    num_threads : int
    options : RuntimeOptions
    inputs, outputs : tuple of Port
    metadata : mapping of str to str
        What the model's ``metadata_props`` say.

    Notes
    -----
    `run` may be called from many threads at once; they share the session's threads.
    After fork the child opens the graph anew at its first `run` (CUDA refuses this once the parent
    has used it: there, start workers by "spawn"). A pickle holds path, digest, device, thread
    count, options and the name of the output; unpickling opens the file at that path, and refuses
    it if the digest differs. A graph is cut anew from its file wherever it is opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Built,
        device: str = "cpu",
        num_threads: int | None = None,
        options: Mapping[str, Any] | None = None,
        output: str | None = None,
        *,
        digest: str | None = None,
    ) -> None:
        self.options = as_options(options, parse_device(device)[0])
        self._source = path if isinstance(path, Built) else Path(path).absolute()
        self.path = Path(str(self._source))
        if isinstance(self._source, Path) and not self.path.is_file():
            raise FileNotFoundError(f"path must be an ONNX file, there is none at {self.path}")
        if output is not None and not isinstance(output, str):
            raise TypeError(f"output must be a str, got {type(output).__name__}")
        self.output = output
        self._asked = (device, num_threads, None if options is None else dict(options), output)
        self.num_threads = _thread_count(num_threads)
        self.digest = source_digest(self._source)
        check_digest(self.path, self.digest if digest is None else digest, self.digest)
        self._reopening = threading.Lock()
        self._open()

    def _open(self) -> None:
        source = self._source if self.output is None else cut_at(self._source, self.output)
        made = create(source, self._asked[0], self.num_threads, self.options)
        self._native, self.device, self.reason = made.session, made.device, made.reason
        self.inputs, outputs = _ports(self.path, made.session)
        self._names = {port.name for port in self.inputs}
        self.outputs = taken(self.path, outputs, self.output)
        self.metadata = _metadata(self.path, made.session)
        self._calls = calls_of(made, self.options, self.inputs, self.outputs)
        self._warm = False
        self._pid = os.getpid()  # last: it is what tells other threads that all is ready
        _open_sessions.add(self)

    @property
    def placement(self) -> Placement:
        """Which provider runs how many nodes of each operator: provider -> operator -> count.

        On "cuda" no node stands on the CPU: such a session is not given.
        """
        self._here()
        return placement_of(self._native)

    @property
    def ready(self) -> bool:
        """Whether `warm_up` has been done in this process."""
        return self._warm and self._pid == os.getpid()

    def warm_up(self, requests: Iterable[Mapping[str, Any]]) -> None:
        """Run requests and drop their results, so that later ones of their shapes do not stall.

        The first run of a shape makes memory grow (and on a GPU chooses algorithms, allocates
        buffers and, with the option cuda_graph, records the graph).

        Parameters
        ----------
        requests : iterable of mappings
            Feeds as of `run`: one for each bucket, the largest first, or requests on record.

        Raises
        ------
        ValueError, TypeError
            As `run`; also if there are no requests.
        """
        calls, n_runs = self._here(), 0
        for feeds in requests:
            arrays = self._checked_arrays(feeds)
            self._naming(arrays, partial(calls.warm, arrays))
            n_runs += 1
        if not n_runs:
            raise ValueError("requests must not be empty")
        self._warm = True

    def run(self, feeds: Mapping[str, Any], timeout: float | None = None) -> list[NDArray[Any]]:
        """Run the graph once.

        Parameters
        ----------
        feeds : mapping of str to array
            One array for each of `inputs`, or what `place` made of it. A dtype is converted only
            where no value can change (and float64 to float32, the usual case of NumPy's default).
        timeout : float, optional
            Seconds, > 0. onnxruntime ends the run at the first node boundary after them. The call
            does not wait for that: it returns in time, whatever the node, unless earlier runs say
            that the whole run takes 20 ms at most.

        Returns
        -------
        list of ndarray
            One for each of `outputs`.

        Raises
        ------
        ValueError, TypeError
            If names, shapes or dtypes do not fit, naming the inputs the model has.
        DeadlineError
            If `timeout` ran out. Other runs go on, and the session stays usable; the node that was
            running may take a CPU until it is through. A short run that is through before it
            noticed returns its results.
        """
        if timeout is not None:
            timeout = as_real("timeout", timeout, minimum=0.0, exclusive=True)
        calls = self._here()
        if any(isinstance(given, Placed) for given in feeds.values()):
            mixed = self._checked(feeds)
            return self._naming(mixed, partial(calls.run_placed, mixed, self.device, timeout))
        arrays = self._checked_arrays(feeds)
        return self._naming(arrays, partial(calls.run, arrays, timeout))

    def place(self, array: Any) -> Placed:
        """Lay an array where this session runs, for `feeds` of many runs.

        Parameters
        ----------
        array : ndarray
            C-contiguous, of a dtype that a graph takes. On the CPU nothing is copied: its memory is
            read by every run and must stay as it is.

        Returns
        -------
        Placed

        Raises
        ------
        ValueError
            Under the option cuda_graph, whose runs read buffers of their own; or if the array is
            not contiguous.
        """
        if self.options.cuda_graph:
            raise ValueError("options['cuda_graph'] must not be set where arrays are placed")
        if not array.flags.c_contiguous:
            raise ValueError("array must be C-contiguous, got one that is not")
        calls = self._here()
        kind, index = ("cpu", 0) if self.device == "cpu" else parse_device(self.device)
        return Placed(calls.ort, array, (kind, index), self.device)

    def _naming(self, arrays: Mapping[str, NDArray[Any] | Placed], call: Callable[[], T]) -> T:
        """Call, turning onnxruntime's refusal of arrays into a ValueError naming their shapes."""
        try:
            return call()
        except Exception as error:  # its exceptions have no common root
            if type(error).__name__ not in _REFUSALS:
                raise
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise ValueError(
                f"{self.path.name} cannot run on {shapes}: {str(error).strip()}"
            ) from error

    def _checked_arrays(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        self._check_names(feeds)
        return {port.name: fitted(port, feeds[port.name]) for port in self.inputs}

    def _checked(self, feeds: Mapping[str, Any]) -> Feeds:
        self._check_names(feeds)
        return {
            port.name: check_placed(port, given)
            if isinstance(given := feeds[port.name], Placed)
            else fitted(port, given)
            for port in self.inputs
        }

    def _check_names(self, feeds: Mapping[str, Any]) -> None:
        names = self._names
        if feeds.keys() != names:
            wrong = sorted(set(feeds) - names, key=str)
            what = f"unknown {wrong}" if wrong else f"missing {sorted(names - set(feeds))}"
            raise ValueError(
                f"feeds must name the inputs of {self.path.name}, {what}; "
                f"it has: {'; '.join(map(str, self.inputs))}"
            )

    def _here(self) -> Calls:
        """Return the calls of this process's native session, opened anew after a fork."""
        if self._pid != os.getpid():
            with self._reopening:
                if self._pid != os.getpid():
                    check_digest(self.path, self.digest, source_digest(self._source))
                    self._open()
        return self._calls

    def __reduce__(self) -> tuple[Any, ...]:
        source = self._source if isinstance(self._source, Built) else str(self._source)
        return _reopened, (source, *self._asked, self.digest)

    def __repr__(self) -> str:
        return f"Session({str(self.path)!r}, device={self.device!r})"


def _ports(path: Path, native: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    try:
        return described_ports(native.get_inputs()), described_ports(native.get_outputs())
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} names an input or output in no Unicode") from error


def _metadata(path: Path, native: Any) -> Mapping[str, str]:
    try:
        return MappingProxyType(dict(native.get_modelmeta().custom_metadata_map))
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} has metadata in no Unicode") from error


def _reopened(path: str | Built, *asked: Any) -> Session:
    *given, digest = asked
    return Session(path, *given, digest=digest)


_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """Keep the parent's native sessions from being destroyed in a forked child.

    Their destructor joins threads that exist only in the parent, which crashes the child (seen
    with onnxruntime 1.31). One reference too many leaks them there on purpose, bound buffers too;
    their memory is shared with the parent, copy on write.
    """
    for session in list(_open_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session._calls))
        session._reopening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _thread_count(num_threads: int | None) -> int:
    if num_threads is not None:
        return as_count("num_threads", num_threads, minimum=1)
    from recengine import _native

    return _native.num_cpus()
