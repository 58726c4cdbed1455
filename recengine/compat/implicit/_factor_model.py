"""What implicit's factor models share: factors, requests over them, and files."""

from __future__ import annotations

from inspect import signature
from typing import Any, Self

import numpy as np

from recengine._errors import DeviceError, NotFittedError
from recengine._native import num_cpus
from recengine._types import Float32Array, Int32Array
from recengine._validation import as_count
from recengine.compat.implicit._options import read_npz, write_npz
from recengine.compat.implicit._side import Answer, Side, as_rows, deprecated


class FactorModel:
    """Two matrices of factors, and exact requests over them.

    Attributes
    ----------
    user_factors : ndarray (n_users, dim), float32, or None before `fit`
    item_factors : ndarray (n_items, dim), float32, or None before `fit`
        Read-only, C-contiguous. Another array may be assigned, of any number of rows.
    num_threads : int
        Threads of `fit` and of requests for several ids; 0: what this process may use.

    Notes
    -----
    The first request that needs an index of one side builds it, O(n dim); it goes when the factors
    of that side change. Requests may come from any number of threads.
    """

    _SAVED: tuple[str, ...] = ()

    def __init__(self, num_threads: int) -> None:
        self.num_threads = as_count("num_threads", num_threads)
        self._user: Side | None = None
        self._item: Side | None = None

    # --- factors --------------------------------------------------------------------------------

    @property
    def user_factors(self) -> Float32Array | None:
        """Factors of the users, read-only, or None before `fit`."""
        return None if self._user is None else self._user.factors

    @user_factors.setter
    def user_factors(self, value: Any) -> None:
        self._user = None if value is None else Side("user", value)

    @property
    def item_factors(self) -> Float32Array | None:
        """Factors of the items, read-only, or None before `fit`."""
        return None if self._item is None else self._item.factors

    @item_factors.setter
    def item_factors(self, value: Any) -> None:
        self._item = None if value is None else Side("item", value)

    def _side(self, name: str) -> Side:
        side = self._user if name == "user" else self._item
        if side is None:
            model = type(self).__name__
            raise NotFittedError(f"this {model} has no {name}_factors: call fit(user_items) first")
        return side

    @property
    def user_norms(self) -> Float32Array:
        """Norms of the users' factors, 1e-10 where 0, (n_users,) float32."""
        return self._side("user").norms

    @property
    def item_norms(self) -> Float32Array:
        """Norms of the items' factors, 1e-10 where 0, (n_items,) float32."""
        return self._side("item").norms

    def _threads(self) -> int:
        return self.num_threads or num_cpus()

    # --- requests -------------------------------------------------------------------------------

    def recommend(
        self,
        userid: Any,
        user_items: Any,
        N: int = 10,
        filter_already_liked_items: bool = True,
        filter_items: Any = None,
        recalculate_user: bool = False,
        items: Any = None,
    ) -> Answer:
        """Return the best items of one user or of several.

        Parameters
        ----------
        userid : int or array_like (n,), int
        user_items : sparse (n, n_items)
            A row for each of `userid`: what is filtered, and what `recalculate_user` starts from.
            May be None where neither is asked for.
        N : int
            How many, >= 0; at most as many as `items`.
        filter_already_liked_items : bool
            Leave out what stands in `user_items`.
        filter_items : array_like, optional
            Items that nobody gets.
        recalculate_user : bool
            Use factors that `recalculate_user` gives, not the trained ones.
        items : array_like, optional
            Rank these alone.

        Returns
        -------
        ids : ndarray (N,) or (n, N), int32
        scores : ndarray of the same shape, float32
            Best first, equal scores by id; the tail is id −1 with score −inf.

        Raises
        ------
        IndexError
            An id of `userid` or `items` that is not in the model.
        ValueError
            `user_items` is not sparse or has another number of rows, or both `items` and
            `filter_items` are given.
        NotFittedError
            There are no factors yet.
        """
        side = self._side("item")
        likes = None
        if filter_already_liked_items or recalculate_user:
            likes = as_rows("user_items", user_items, userid, len(side))
        return side.best(
            "dot",
            self.recalculate_user(userid, likes)
            if recalculate_user
            else self._side("user").at(userid),
            N,
            exclude=likes if filter_already_liked_items else None,
            deny=filter_items,
            only=items,
            num_threads=self._threads(),
        )

    def recommend_all(
        self,
        user_items: Any,
        N: int = 10,
        recalculate_user: bool = False,
        filter_already_liked_items: bool = True,
        filter_items: Any = None,
        users_items_offset: int = 0,
    ) -> Int32Array:
        """Return the ids of `recommend` for every row of `user_items`; deprecated there.

        Row i belongs to user ``users_items_offset + i``.
        """
        deprecated("recommend_all", "recommend with an array of userids")
        users = np.arange(user_items.shape[0]) + users_items_offset
        ids, _ = self.recommend(
            users, user_items, N, filter_already_liked_items, filter_items, recalculate_user
        )
        return ids

    def rank_items(
        self, userid: Any, user_items: Any, selected_items: Any, recalculate_user: bool = False
    ) -> Answer:
        """Return the ten best of `selected_items`; deprecated there: `recommend` has `items`."""
        deprecated("rank_items", "recommend with the 'items' parameter")
        return self.recommend(
            userid,
            user_items,
            filter_already_liked_items=False,
            recalculate_user=recalculate_user,
            items=selected_items,
        )

    def similar_items(
        self,
        itemid: Any,
        N: int = 10,
        recalculate_item: bool = False,
        item_users: Any = None,
        filter_items: Any = None,
        items: Any = None,
    ) -> Answer:
        """Return the items of the largest cosine with one item or several, itself included.

        Parameters
        ----------
        itemid : int or array_like (n,), int
        N : int
        recalculate_item : bool
            Use factors that `recalculate_item` gives for `item_users`, not the trained ones.
        item_users : sparse (n, n_users), optional
        filter_items, items : array_like, optional
            As in `recommend`.

        Returns
        -------
        ids, scores
            As in `recommend`; scores are cosines, 0 with a zero vector.
        """
        side = self._side("item")
        queries = self.recalculate_item(itemid, item_users) if recalculate_item else side.at(itemid)
        threads = self._threads()
        return side.best("cosine", queries, N, deny=filter_items, only=items, num_threads=threads)

    def similar_users(
        self,
        userid: Any,
        N: int = 10,
        filter_users: Any = None,
        users: Any = None,
    ) -> Answer:
        """Return the users of the largest cosine with one user or several, itself included."""
        side, threads = self._side("user"), self._threads()
        queries = side.at(userid)
        return side.best("cosine", queries, N, deny=filter_users, only=users, num_threads=threads)

    def recalculate_user(self, userid: Any, user_items: Any) -> Float32Array:
        """Raise NotImplementedError: only some models can."""
        raise NotImplementedError(f"{type(self).__name__} has no recalculate_user")

    def recalculate_item(self, itemid: Any, item_users: Any) -> Float32Array:
        """Raise NotImplementedError: only some models can."""
        raise NotImplementedError(f"{type(self).__name__} has no recalculate_item")

    # --- devices and files ----------------------------------------------------------------------

    def to_gpu(self) -> Self:
        """Raise DeviceError: factors are trained on the CPU."""
        raise DeviceError(f"{type(self).__name__} has no GPU version; DeviceIndex searches on one")

    def to_cpu(self) -> Self:
        """Return this model: it is on the CPU."""
        return self

    def save(self, fileobj_or_path: Any) -> None:
        """Write the model as implicit does, an .npz that `load` of either library reads."""
        write_npz(fileobj_or_path, {name: getattr(self, name) for name in self._SAVED})

    @classmethod
    def load(cls, fileobj_or_path: Any) -> Self:
        """Return the model of a file that `save` of either library wrote; runs nothing in it."""
        values = read_npz(fileobj_or_path, cls._SAVED)
        taken = signature(cls).parameters
        model = cls(**{name: value for name, value in values.items() if name in taken})
        for name in values.keys() - taken:
            setattr(model, name, values[name])
        return model
