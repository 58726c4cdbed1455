"""What an engine is asked: every method reads the state once and answers from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recengine._types import TopK
from recengine._validation import as_vector
from recengine.engine import answers
from recengine.engine.filters import ItemFilter, as_filters
from recengine.engine.profiles import Profile, saturated
from recengine.engine.request import Request
from recengine.engine.state import State
from recengine.retrieval import Predicate


class Requests:
    """The requests of an `Engine`."""

    _state: State

    def recommend(
        self,
        user_id: Any,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        allow: Any = None,
        deny: Any = None,
        where: Predicate | None = None,
        filter: ItemFilter | None = None,
        on_unknown: str = "popular",
        timeout: float | None = None,
        trace: bool = False,
        context: Mapping[str, Any] | None = None,
    ) -> TopK:
        """Return the best k items for a user, or for each of many.

        Parameters
        ----------
        user_id : int or str, or array_like (n,) of them
            Many users are answered by one batched search; each row has the bits of its single
            request.
        k : int
            How many, >= 0; may exceed the number of items by up to 2²⁰.
        exclude_seen : bool
            Leave out what the user has had.
        allow, deny : array_like of item ids, optional
            Only these, not these; for all users alike. Deny wins; unknown ids are ignored.
        where : predicate, optional
            Only items whose attributes match; made by `recengine.where`.
        filter : ItemFilter, optional
            Prepared by `filter` of this engine. An item must pass all filters that are given.
        on_unknown : {"popular", "raise"}
            What to do for a user whom no weighted source knows.
        timeout : float, optional
            Seconds, > 0. When they have passed the answer is the best of what was scanned, with
            ``partial`` set.
        trace : bool
            Fill ``trace`` with ``{"ms", "stages": [{"stage", "ms", counts...}]}``.
        context : mapping of str to value, optional
            Facts about the moment, for the engine's ranker: those that it reads, no others.

        Returns
        -------
        TopK
            ids and scores (k,), or (n, k) for many users; `ordinals` likewise.

        Raises
        ------
        UnknownUserError
            Under ``on_unknown="raise"``; the message names the users.
        ValueError, TypeError
            Wrong arguments, ids of another kind (int for str).

        Notes
        -----
        One weighted source: one exact search over its items. Several: as long as it takes to
        certify the best k of the sum, at worst every item scored. With a ranker that is done for
        its `n_candidates` (k, if that is more), then it scores them, user by user: the answer is
        its order and its scores. Where the timeout passes before it is through with a user, his
        answer is that of retrieval, scores too, and ``partial`` is set.
        """
        state = self._state
        request = Request(timeout, trace, context, state.ranker.context)
        filters = as_filters(self, state, exclude_seen, allow, deny, where, filter)
        return answers.for_users(state, user_id, k, filters, on_unknown, request)

    def recommend_for(
        self,
        history: Any,
        k: int = 10,
        *,
        weights: Any = None,
        exclude_seen: bool = True,
        allow: Any = None,
        deny: Any = None,
        where: Predicate | None = None,
        filter: ItemFilter | None = None,
        timeout: float | None = None,
        trace: bool = False,
        context: Mapping[str, Any] | None = None,
    ) -> TopK:
        """Return the best k items for somebody who is known by a history only.

        Parameters
        ----------
        history : array_like (n,) of item ids
            May repeat; the newest last. The model folds them in; content makes of them what the
            engine's `pooling` says. Where no weighted source knows any of them (an empty history,
            say) the answer is what is popular.
        k, exclude_seen, allow, deny, where, filter, timeout, trace, context
            As in `recommend`; "seen" is the history.
        weights : array_like (n,), optional
            Strength of each, > 0; 1 when omitted. Those of a repeated item are added up.

        Returns
        -------
        TopK
            ids and scores (k,).

        Raises
        ------
        UnknownItemError
            An item is not in the catalogue; the message names it.
        ValueError, TypeError
            Wrong arguments.
        """
        state = self._state
        request = Request(timeout, trace, context, state.ranker.context)
        filters = as_filters(self, state, exclude_seen, allow, deny, where, filter)
        with request.stage("fold_in") as counts:
            profile = state.fold(_profile(state, history, weights))
            counts["items"] = len(profile.seen)
        return answers.for_profile(state, profile, k, filters, request)

    def rank(
        self,
        user_id: Any,
        candidate_ids: Any,
        k: int | None = None,
        *,
        on_unknown: str = "popular",
        timeout: float | None = None,
        trace: bool = False,
        context: Mapping[str, Any] | None = None,
    ) -> TopK:
        """Order what another system retrieved for a user.

        Parameters
        ----------
        user_id : int or str
        candidate_ids : array_like (n,) of item ids
            Taken as a set. Seen items are ranked like others. Items that are not in the catalogue,
            or of which no weighted source knows anything, cannot be scored: they are left out and
            the tail is padding.
        k : int, optional
            How many, >= 0; as many as there are candidates when omitted.
        on_unknown, trace, context
            As in `recommend`.
        timeout : float, optional
            Seconds, > 0. Ranking has no partial answer.

        Returns
        -------
        TopK
            ids and scores (k,), the scores with the bits that `recommend` gives them. With a ranker
            it scores all candidates, and in a float graph a score differs by rounding with them.

        Raises
        ------
        DeadlineError
            The timeout had passed before ranking began, or while a ranker was at it.
        UnknownUserError, ValueError, TypeError
            As in `recommend`.
        """
        state = self._state
        request = Request(timeout, trace, context, state.ranker.context)
        return answers.for_candidates(state, user_id, candidate_ids, k, on_unknown, request)

    def search(
        self,
        text: str,
        k: int = 10,
        *,
        allow: Any = None,
        deny: Any = None,
        where: Predicate | None = None,
        filter: ItemFilter | None = None,
        timeout: float | None = None,
        trace: bool = False,
        context: Mapping[str, Any] | None = None,
    ) -> TopK:
        """Return the k items whose content is nearest to a free text, by cosine.

        With a ranker its `n_candidates` nearest are found, and the answer is its order of them; the
        text is the column ``query`` of its context.

        Parameters
        ----------
        text : str
            What somebody looks for; the encoder adds its query prompt.
        k, allow, deny, where, filter, timeout, trace, context
            As in `recommend`.

        Returns
        -------
        TopK
            ids and scores (k,).

        Raises
        ------
        ValueError
            The engine has no content or no encoder, or it cannot be opened from a bundle.
        DeadlineError
            The timeout passed while the text was encoded, which has no partial answer.
        """
        state = self._state
        request = Request(timeout, trace, context, state.ranker.context)
        filters = as_filters(self, state, False, allow, deny, where, filter)
        return answers.for_text(state, text, k, filters, request)

    def similar_items(
        self,
        item_id: Any,
        k: int = 10,
        *,
        source: str | None = None,
        allow: Any = None,
        deny: Any = None,
        where: Predicate | None = None,
        filter: ItemFilter | None = None,
        timeout: float | None = None,
        trace: bool = False,
        context: Mapping[str, Any] | None = None,
    ) -> TopK:
        """Return the k items most like an item, without itself, by the cosine of their vectors.

        Parameters
        ----------
        item_id : int or str, or array_like (n,) of them
        source : {"model", "content"}, optional
            Whose vectors to compare. When omitted, for each item the source of the highest weight
            in which it has a vector: an item without factors is compared by content.
        k, allow, deny, where, filter, timeout, trace
            As in `recommend`.
        context : None
            No ranker is asked here, so there is nobody to read it.

        Returns
        -------
        TopK
            ids and scores (k,), or (n, k).

        Raises
        ------
        UnknownItemError
            An item is not in the catalogue, or has no vector in the source.
        """
        request, state = Request(timeout, trace, context), self._state
        filters = as_filters(self, state, False, allow, deny, where, filter)
        return answers.for_items(state, item_id, k, source, filters, request)

    def filter(self, allow: Any = None, deny: Any = None, where: Any = None) -> ItemFilter:
        """Prepare a filter for many requests.

        Parameters
        ----------
        allow, deny : array_like of item ids, optional
            Only these, not these; deny wins. Ids that are not in the catalogue may come later.
        where : predicate, optional
            Only items whose attributes match; made by `recengine.where`.

        Returns
        -------
        ItemFilter
            For ``filter=`` of this engine's requests. It follows `add_items` and `remove_items`.

        Raises
        ------
        ValueError, TypeError
            Nothing given, an attribute or operator that there is not, ids of the other kind.

        Notes
        -----
        O(n_items + ids) here and after a change of items, and once for each source when it is
        first asked; then O(n_items / 64) a request. The filter keeps the engine in memory.
        """
        return ItemFilter(self, allow, deny, where)


def _profile(state: State, history: Any, weights: Any) -> Profile:
    """Return the profile of a history: distinct ordinals ascending, weights added up."""
    ordered = weights is not None or (state.content is not None and state.content.asks_for_order)
    ordinals = state.catalogue.known_ordinals("history", history, ordered=ordered)
    strengths = np.ones(len(ordinals), np.float32)
    if weights is not None:
        strengths = as_vector("weights", weights, len(ordinals))
        if len(strengths) and strengths.min() <= 0:
            raise ValueError(f"weights must be > 0, got {strengths.min()}")
    seen, places = np.unique(ordinals, return_inverse=True)
    last = int(ordinals[-1]) if len(ordinals) else -1
    return Profile(seen, saturated(np.bincount(places, strengths, len(seen))), last=last)
