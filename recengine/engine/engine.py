"""Engine: the one object that an application holds."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recengine._validation import as_real
from recengine.data import Interactions
from recengine.engine import bundle
from recengine.engine.attributes import read_columns
from recengine.engine.build import first_state
from recengine.engine.contents import Contents
from recengine.engine.encoder import Encoder
from recengine.engine.identity import as_id_list
from recengine.engine.publications import Publications
from recengine.engine.ranker import Ranker
from recengine.engine.requests import Requests
from recengine.engine.sources import FactorModel
from recengine.engine.state import State
from recengine.engine.update import new_vectors, observed, with_items, without_items

_LEAST, _MOST = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)
_engines: weakref.WeakSet[Engine]


class Engine(Requests, Contents, Publications):
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
    it may read and change.

    An engine is pickled as the path and digest of its file, so that workers map one file: `save`
    it first, and again after a change.
    """

    def __init__(
        self,
        state: State,
        origin: tuple[Path, str] | None = None,
        publish_every: int | None = None,
    ) -> None:
        self._state = state
        self._saved = None if origin is None else (state, *origin)
        self._writer = threading.Lock()
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
    ) -> Engine:
        """Make an engine.

        Parameters
        ----------
        inter : Interactions
            Who had what: the catalogue, the users, their histories, popularity. Weights >= 0;
            several events of a pair are added up, zeros are no events.
        model : ALS, optional
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

        Returns
        -------
        Engine

        Raises
        ------
        ValueError, TypeError
            Parts that do not fit together, wrong shapes or dtypes, negative weights.

        Notes
        -----
        O(n_events + n_items dim). The factors and histories are shared with `model` and `inter`.
        """
        parts = inter, model, content, encoder, users, items, weights, ranker, pooling
        return cls(first_state(*parts), publish_every=publish_every)

    # --- changes --------------------------------------------------------------------------------

    def observe(self, user_id: Any, item_id: Any, weight: float = 1.0) -> None:
        """Learn that a user chose an item; the next request knows it.

        The item counts as seen, the user's factors are solved anew from the whole history, and
        the item's popularity grows if the user did not have it. An unknown user becomes known. The
        item's factors learn of it by `publish_items`.

        Parameters
        ----------
        user_id : int or str
        item_id : int or str
        weight : float
            Strength, > 0; added to what the user already gave the item.

        Raises
        ------
        UnknownItemError
            The item is not in the catalogue: `add_items` first.
        ValueError, TypeError
            Wrong arguments; nothing has changed then.

        Notes
        -----
        O(factors² n + factors³) for a history of n items, beside copies of the history, of
        4,096 counts and of a 1,024th of the users observed so far.
        """
        strength = as_real("weight", weight, minimum=0, exclusive=True)
        if not _LEAST <= strength <= _MOST:
            raise ValueError(f"weight must fit float32, got {strength:g}")
        with self._writer:
            state = self._state
            ordinal, user = state.catalogue.ordinal("item_id", item_id), state.user(user_id)
            self._state = observed(state, user, ordinal, strength)
            is_due = self._note(user, ordinal)
        if is_due:
            self._publish_unless_busy()

    def add_items(
        self,
        ids: Any,
        texts: Sequence[str] | None = None,
        vectors: Any = None,
        items: Any = None,
    ) -> None:
        """Add items, or replace the content and attributes of known ones.

        A new item has no factors until it was observed and `publish_items` was called: `search` and
        `similar_items` find it at once, `recommend` and `rank` only where content (or popularity)
        has a weight above 0. A removed item that is added again has its old ordinal and factors.

        Parameters
        ----------
        ids : array_like (n,), integers or str
            Distinct.
        texts : sequence of str (n,), optional
            Encoded into content vectors by the engine's encoder.
        vectors : array_like (n, dim), optional
            Content vectors themselves. An engine with content needs texts or vectors, one
            without content takes neither.
        items : frame or mapping of columns, optional
            Attributes with a column ``item_id``; what an added item lacks is missing (None, NaN).

        Raises
        ------
        ValueError, TypeError
            Wrong arguments; nothing has changed then.

        Notes
        -----
        O(n_items dim): the indexes are copied. Add many at once.
        """
        state = self._state
        names = as_id_list("ids", ids, state.catalogue.is_str)
        if len(set(names.tolist())) != len(names):
            raise ValueError("ids must not repeat an id")
        columns = {} if items is None else read_columns("items", items, "item_id", names)
        table = new_vectors(state, len(names), texts, vectors)
        if not len(names):
            return
        with self._writer:
            as_id_list("ids", names, self._state.catalogue.is_str)
            self._state = with_items(self._state, names, table, columns)

    def remove_items(self, ids: Any) -> None:
        """Remove items: no answer that begins after this holds them.

        Users who had them keep that as part of their taste.

        Parameters
        ----------
        ids : array_like (n,)
            Each in the catalogue; may repeat.

        Raises
        ------
        UnknownItemError
            An item is not in the catalogue; nothing has changed then.

        Notes
        -----
        O(n_items).
        """
        with self._writer:
            ordinals = self._state.catalogue.known_ordinals("ids", ids, ordered=False)
            if len(ordinals):
                self._state = without_items(self._state, np.unique(ordinals))

    # --- files ----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the engine to one file, complete or not at all.

        Everything is kept, what was observed too; encoder and ranker by reference (paths and
        digests).
        Saving runs beside requests and changes and writes the state of the moment it began.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        OSError
            From the system; the file at `path` is then as it was.
        """
        state = self._state
        digest = bundle.save(path, state)
        self._saved = (state, Path(path).absolute(), digest)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        encoder: Encoder | None = None,
        ranker: Ranker | None = None,
        *,
        publish_every: int | None = None,
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

        Returns
        -------
        Engine
            Its answers have the bits of those of the engine that was saved.

        Raises
        ------
        BundleError
            The file is damaged, foreign or of another version. Nothing in it is ever executed.
        ValueError
            `encoder` or `ranker` is another one than the saved.
        FileNotFoundError
            There is no such file.

        Notes
        -----
        Every byte is read once to verify its digest; neither Numba nor SciPy is imported.
        """
        state, digest = bundle.load(path, encoder, ranker)
        return cls(state, (Path(path).absolute(), digest), publish_every)

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
        engine._writer, engine._publishing = threading.Lock(), threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)
