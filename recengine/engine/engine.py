"""Engine: the one object that an application holds."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recengine.data import Interactions
from recengine.engine import bundle
from recengine.engine.build import first_state
from recengine.engine.changes import Changes
from recengine.engine.contents import Contents
from recengine.engine.encoder import Encoder
from recengine.engine.ranker import Ranker
from recengine.engine.requests import Requests
from recengine.engine.sources import FactorModel
from recengine.engine.state import State
from recengine.storage import EventLog

_engines: weakref.WeakSet[Engine]


class Engine(Requests, Contents, Changes):
    """Recommend, rank, search and learn from events; made by `build` or `load`.

    Notes
    -----
    Answers are exact: the best k by score, ties by ordinal (the order of first insert), with the
    same bits for any batch. Fewer than k left: id −1 (None for str ids), score −inf at the end.

    A score is that of the one weighted source (factors: inner product; content: cosine;
    popularity: number of users who have the item), or with several weighted sources the sum of
    weight times score, to which a source that does not know the user or the item adds nothing. In
    an engine with a ranker it is the ranker's, for the candidates that those sources found.
    A user whom no weighted source knows is unknown: ``on_unknown="popular"`` answers with what
    most users have.

    All methods may be called from any thread. A request answers from the state that was current
    when it began; `observe`, `add_items` and `remove_items` wait for each other, never for
    readers, and are seen by every request that begins after they returned. `publish_items` works
    beside all of them and changes the state at its end. A forked child has a copy of its own that
    it may read and change, or only read where the engine has a log.

    With a log, a change is written to it before it is known, and one that has returned is not
    lost: `load` with the log makes the same engine, bit by bit, from the last file and the changes
    since, each applied once. What `publish_items` solved is kept by `save` alone; after a restart
    the next publication solves those items again. One engine writes a log; its file names the log
    and how far it got.

    An engine is pickled as the path and digest of its file, so that workers map one file: `save`
    it first, and again after a change.
    """

    def __init__(
        self,
        state: State,
        origin: tuple[Path, str] | None = None,
        publish_every: int | None = None,
    ) -> None:
        self._state = self._latest = state
        self._log: EventLog | None = None
        self._saved = None if origin is None else (state, *origin)
        self._writer, self._showing = threading.Lock(), threading.Lock()
        self._begin_publications(publish_every)
        _engines.add(self)

    @classmethod
    def build(
        cls,
        inter: Interactions,
        model: FactorModel | None = None,
        content: Any = None,
        encoder: Encoder | None = None,
        *,
        users: Any = None,
        items: Any = None,
        weights: Mapping[str, float] | None = None,
        ranker: Ranker | None = None,
        pooling: str = "mean",
        publish_every: int | None = None,
        log: EventLog | None = None,
        after: int | None = None,
    ) -> Engine:
        """Make an engine.

        Parameters
        ----------
        inter : Interactions
            Who had what: the catalogue, the users, their histories, popularity. Weights >= 0;
            several events of a pair are added up, zeros are no events.
        model : ALS or BPR, optional
            Fitted on `inter` or on a split of it (the same id maps).
        content : array_like (n_items, dim), optional
            Vectors in the order of ``inter.items.ids``. Read-only float32 is borrowed.
        encoder : TextEncoder, optional
            What made `content`; needed by `search` and by texts in `add_items`. Any object with
            `dim`, `digest`, `encode` and `encode_query` serves.
        users, items : pandas, polars or Arrow frame, or mapping of columns, optional
            Attributes, numbers or str, beside a column ``user_id`` or ``item_id``; rows of ids
            that `inter` lacks are left out.
        weights : mapping of {"model", "content", "popularity"} to float, optional
            How much each source counts, >= 0; one that is not named has 0. When omitted: the
            model alone, else content alone, else popularity alone.
        ranker : OnnxRanker, optional
            The last stage of `recommend`, `recommend_for`, `rank` and `search`: it scores what they
            found anew, by attributes of `items` and `users`, the request's ``context`` (in `search`
            the text is its ``query``) and ``candidate.score``. Any object with `n_candidates`,
            `columns`, `digest` and `score` serves.
        pooling : {"mean", "attention", "interests"}
            What content makes of a user's history, all of it from unit vectors and weights: their
            mean; their mean by attention, in which items like the user's last one count up to e^5
            times as much (`recengine.pool_history`); or up to 4 groups of like items
            (`recengine.interests`), whose best score counts, merged exactly.
        publish_every : int, optional
            Call `publish_items` after so many events, in the thread that observed the last one.
        log : EventLog, optional
            Where changes are written from now on; the caller closes it. Those that it holds
            already are applied.
        after : int, optional
            The number of the last record of `log` that `inter` holds already; none of them when
            omitted. Training on the events of a log needs it, or they count twice.

        Returns
        -------
        Engine

        Raises
        ------
        ValueError, TypeError
            Parts that do not fit together, wrong shapes or dtypes, negative weights.
        LogError, UnknownItemError
            As of `load`.

        Notes
        -----
        O(n_events + n_items dim). The factors and histories are shared with `model` and `inter`.
        """
        parts = inter, model, content, encoder, users, items, weights, ranker, pooling
        engine = cls(first_state(*parts), publish_every=publish_every)
        engine._attach(log, after)
        return engine

    def _attach(self, log: EventLog | None, after: int | None) -> None:
        if log is not None:
            self._follow(log, after)
        elif after is not None:
            raise ValueError(f"after must be None without a log, got {after}")

    # --- files ----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the engine to one file, complete or not at all.

        Everything is kept, what was observed too; encoder and ranker by reference (paths and
        digests).
        Saving runs beside requests and changes and writes the state of the moment it began.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        int
            The number of the last record of the log that the file holds; 0 without a log.
            ``log.truncate(before=engine.save(path))`` lets go of what is no longer needed.

        Raises
        ------
        OSError
            From the system; the file at `path` is then as it was.
        """
        state = self._state
        if self._log is not None:  # a file must not know more than the log
            self._log.writer.flush(state.sequence)
        digest = bundle.save(path, state)
        self._saved = (state, Path(path).absolute(), digest)
        return state.sequence

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        encoder: Encoder | None = None,
        ranker: Ranker | None = None,
        *,
        publish_every: int | None = None,
        log: EventLog | None = None,
        after: int | None = None,
    ) -> Engine:
        """Open a saved engine; its arrays stay in the file, mapped read-only.

        Parameters
        ----------
        path : path-like
        encoder : TextEncoder, optional
            The encoder to use; its digest must be that of the saved one. When omitted the saved
            reference is opened when a text first comes.
        ranker : OnnxRanker, optional
            Likewise; when omitted the saved reference is opened by the first request.
        publish_every : int, optional
            As in `build`; it is not saved.
        log : EventLog, optional
            Where changes are written from now on; the caller closes it. Those since the file was
            written are applied, each once.
        after : int, optional
            The number of the last record of `log` that the file holds; what the file says when
            omitted (none where it was saved without a log).

        Returns
        -------
        Engine
            Its answers have the bits of those of the engine that was saved, or with a log, of the
            one that last wrote it.

        Raises
        ------
        BundleError
            The file is damaged, foreign or of another version. Nothing in it is ever executed.
        ValueError
            `encoder` or `ranker` is another one than the saved, `log` another than the one the
            file knows, or it ends before the file does.
        LogError
            The log is damaged, or was truncated beyond what the file holds.
        UnknownItemError
            An event of the log is about an item that neither the file nor a change in the log
            knows: whoever wrote it was not this engine.
        FileNotFoundError
            There is no such file.

        Notes
        -----
        Every byte is read once to verify its digest; neither Numba nor SciPy is imported. Events
        of a log are applied in order, their users' factors solved once.
        """
        state, digest = bundle.load(path, encoder, ranker)
        engine = cls(state, (Path(path).absolute(), digest), publish_every)
        engine._attach(log, after)
        return engine

    def __reduce__(self) -> tuple[Any, tuple[Path, str, int | None]]:
        if self._saved is None or self._saved[0] is not self._state:
            raise TypeError(
                "an engine is pickled as the path of its file: save it first, and after each change"
            )
        return _reopened, (*self._saved[1:], self._every)


def _reopened(path: Path, digest: str, publish_every: int | None) -> Engine:
    """Return the engine of a file that was verified before, if it is still that file."""
    state, _ = bundle.load(path, digest=digest)
    return Engine(state, (path, digest), publish_every)


_engines = weakref.WeakSet()


def _renew_locks() -> None:
    """Give a forked child free locks: the thread that held one was left behind."""
    for engine in list(_engines):
        engine._writer, engine._showing = threading.Lock(), threading.Lock()
        engine._publishing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
