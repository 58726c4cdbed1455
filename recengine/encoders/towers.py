"""`TwoTower`: a tower for users and one for items that were trained together, or none."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from recengine._errors import BundleError
from recengine._types import Float32Array
from recengine.encoders.arrays import OnnxEncoder
from recengine.encoders.sequence import SequenceEncoder
from recengine.encoders.text import TextEncoder
from recengine.runtime import Session, check_digest

KEY = "recengine.tower"  # of metadata_props
TOLD = ("role", "pair", "partner")
Tower = OnnxEncoder | SequenceEncoder | TextEncoder


class TwoTower:
    """A user tower and an item tower whose vectors lie in one space.

    Parameters
    ----------
    user, item : SequenceEncoder, OnnxEncoder or TextEncoder
        The opened graphs; vectors of one dim.
    digests : (str, str), optional
        The SHA-256 that the two files must have, as `digests` told them when the pair was tested.

    Attributes
    ----------
    user, item : SequenceEncoder, OnnxEncoder or TextEncoder

    Raises
    ------
    BundleError
        If the two do not belong together: a digest is another one, a graph names another pair or
        partner, or stands in the other's role; or if nothing says that they do.
    ValueError
        If their vectors differ in dim, or a graph hides it.
    TypeError
        If a tower is none of these encoders.

    Notes
    -----
    Vectors of two trainings have nothing in common, even from the same code and data: their
    products are noise that no shape check finds. So the graphs say in their ``metadata_props``
    who they are: under ``recengine.tower`` a JSON object with any of ``role``, "user" or "item";
    ``pair``, a tag that the training gave both; ``partner``, the SHA-256 of the other file. A tag
    must be in both and the same. Without a tag or partner, `digests` must be given.
    Immutable; may be used from many threads; travels by pickle as its encoders do.

    Examples
    --------
    >>> towers = TwoTower(SequenceEncoder("user.onnx"), OnnxEncoder("item.onnx"))  # doctest: +SKIP
    >>> index = FlatIndex(towers.encode_items(features), metric="dot")  # doctest: +SKIP
    >>> index.search(towers.encode_users(histories), k=10)  # doctest: +SKIP
    """

    def __init__(self, user: Tower, item: Tower, digests: tuple[str, str] | None = None) -> None:
        self.user, self.item = user, item
        sessions = _session("user", user), _session("item", item)
        self._digests = sessions[0].digest, sessions[1].digest
        if digests is not None:
            if isinstance(digests, str) or len(digests) != 2:
                raise ValueError(f"digests must be two, of user and item, got {digests!r}")
            for session, digest in zip(sessions, digests, strict=True):
                check_digest(session.path, digest, session.digest)
        if not _says_so(*sessions) and digests is None:
            raise BundleError(
                f"nothing says that {sessions[0].path} and {sessions[1].path} belong together: "
                f"export them with a pair under {KEY}, or give digests={self._digests}"
            )
        for name, tower in (("user", user), ("item", item)):
            if tower.dim is None:
                raise ValueError(f"{name} must tell its dim: its graph hides the output's shape")
        if user.dim != item.dim:
            raise ValueError(f"item must have user's dim, {user.dim}, got {item.dim}")
        self._dim: int = user.dim or 0

    @property
    def dim(self) -> int:
        """Length of a vector, of either tower."""
        return self._dim

    @property
    def digests(self) -> tuple[str, str]:
        """SHA-256 of the files of (user, item), hexadecimal: what names this pair."""
        return self._digests

    @property
    def digest(self) -> str:
        """SHA-256 over all that makes the vectors of both."""
        made_of = json.dumps([self.user.digest, self.item.digest])
        return hashlib.sha256(made_of.encode()).hexdigest()

    def encode_users(self, users: Any, batch_size: int | None = None) -> Float32Array:
        """Encode users.

        Parameters
        ----------
        users : iterable or mapping
            What `user.encode` takes: histories, or named arrays.
        batch_size : int, optional
            As of `user.encode`, which has a default of its own.

        Returns
        -------
        ndarray (n, dim), float32
        """
        return self.user.encode(users, **_given(batch_size))

    def encode_items(self, items: Any, batch_size: int | None = None) -> Float32Array:
        """Encode items.

        Parameters
        ----------
        items : iterable or mapping
            What `item.encode` takes: named arrays, or texts.
        batch_size : int, optional
            As of `item.encode`, which has a default of its own.

        Returns
        -------
        ndarray (n, dim), float32
        """
        return self.item.encode(items, **_given(batch_size))

    def __reduce__(self) -> tuple[Any, ...]:
        return TwoTower, (self.user, self.item, self._digests)

    def __repr__(self) -> str:
        return f"TwoTower({self.user!r}, {self.item!r})"


def _given(batch_size: int | None) -> dict[str, Any]:
    return {} if batch_size is None else {"batch_size": batch_size}


def _session(name: str, tower: Any) -> Session:
    if not isinstance(tower, Tower):
        kinds = "SequenceEncoder, OnnxEncoder or TextEncoder"
        raise TypeError(f"{name} must be a {kinds}, got {type(tower).__name__}")
    session: Session = tower._session
    return session


def _says_so(user: Session, item: Session) -> bool:
    """Tell whether the graphs name each other, refusing those that name somebody else."""
    told = _told(user, "user"), _told(item, "item")
    pairs = [each.get("pair") for each in told]
    if pairs[0] != pairs[1]:
        raise BundleError(
            f"{user.path} and {item.path} must be of one pair, got {pairs[0]!r} and {pairs[1]!r}"
        )
    for session, partner, each in ((user, item, told[0]), (item, user, told[1])):
        if each.get("partner", partner.digest) != partner.digest:
            raise BundleError(
                f"{session.path} belongs to the tower of SHA-256 {each['partner']}, "
                f"{partner.path} is {partner.digest}"
            )
    return pairs[0] is not None or any("partner" in each for each in told)


def _told(session: Session, role: str) -> dict[str, str]:
    written = session.metadata.get(KEY, "{}")
    try:
        told = json.loads(written)
    except ValueError as error:
        raise BundleError(f"{session.path} says {KEY} in no JSON: {error}") from error
    if not isinstance(told, dict) or not all(isinstance(each, str) for each in told.values()):
        raise BundleError(f"{session.path} must say {KEY} as a JSON object of str, got {written}")
    if unknown := sorted(set(told) - {*TOLD}):
        raise BundleError(
            f"{session.path} says {unknown[0]} under {KEY}; known are {', '.join(TOLD)}"
        )
    if told.get("role", role) != role:
        raise BundleError(f"{role} must be a {role} tower: {session.path} says {told['role']!r}")
    return told
