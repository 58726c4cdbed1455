"""Vectors of several modalities (text, image, sound, ...) as one vector an item, gaps and all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Float64Array
from recengine._validation import as_count, as_matrix, as_real, check_finite
from recengine.encoders.arrays import OnnxEncoder

Bools = NDArray[np.bool_]


def fuse_weighted(
    parts: Mapping[str, Any],
    weights: Mapping[str, float],
    present: Mapping[str, Any] | None = None,
) -> Float32Array:
    """Return the weighted mean of unit vectors that lie in one space.

    Row i is Σ_m w_m v_m/|v_m| / Σ_m w_m over the modalities m that item i has: its dot with a unit
    vector q is the weighted mean of the cosines of q with the item's modalities.

    Parameters
    ----------
    parts : mapping of str to array_like (n, dim)
        One matrix a modality, of one dim: encoders that share a space (see `SharedSpace`).
    weights : mapping of str to float
        > 0, one for each of `parts`.
    present : mapping of str to array_like (n,) of bool, optional
        Which items have the modality; all of them where it is not named. What stands in a row that
        is not there is not read.

    Returns
    -------
    ndarray (n, dim), float32
        Not of length 1. A row of zeros, whose every score is 0, for an item that has nothing.

    Raises
    ------
    ValueError, TypeError
        Wrong names, shapes or dtypes; NaN or infinity in a row that is there.

    Notes
    -----
    A vector of zeros counts as there, with all its cosines 0. Float64, rounded once. O(n dim) a
    modality. Safe to call from several threads. Checked against
    ``tests/encoders/test_fusion.py``.
    """
    units, there = _as_parts(parts, present)
    shares = _as_weights(weights, list(units))
    if len({unit.shape[1] for unit in units.values()}) > 1:
        raise ValueError(f"parts must have one dim, got {_dims(units)}: concatenate those")
    total = sum(shares[name] * there[name] for name in units)
    fused = sum(shares[name] * units[name] for name in units)
    return _divided(np.asarray(fused), np.asarray(total)).astype(np.float32)


class ConcatFusion:
    """Modalities side by side, so that one inner product is the weighted mean of their cosines.

    Parameters
    ----------
    dims : mapping of str to int
        Length of the vectors of each modality, in the order in which they are laid.
    weights : mapping of str to float
        > 0, one for each of `dims`; scaled so that they add up to 1.

    Attributes
    ----------
    dims : dict of str to int
    weights : dict of str to float
        They add up to 1.
    dim : int
        Length of a fused vector.

    Raises
    ------
    ValueError, TypeError
        No modality, other names in the two mappings, a weight that is not > 0.

    Notes
    -----
    An item x that has the modalities X is laid as w_m x_m/|x_m| / Σ_{X} w for m in X, a query q
    that has the modalities Q as q_m/|q_m| for m in Q, and 0 elsewhere. Their dot is
    Σ_{m in Q and X} w_m cos_m / Σ_{m in X} w_m: for a query with every modality the weighted mean
    of the cosines over what the item has, weights renormalised, so an item is not punished for
    what is missing. A query with fewer modalities scores the others as cosine 0; for queries that
    never have them, make a fusion of the ones they have. Index the items with ``metric="dot"``.
    Immutable; safe to use from several threads.

    Examples
    --------
    >>> fusion = ConcatFusion({"text": 384, "image": 1280}, {"text": 2, "image": 1})
    >>> fusion.dim
    1664
    """

    def __init__(self, dims: Mapping[str, int], weights: Mapping[str, float]) -> None:
        if not dims:
            raise ValueError("dims must name at least one modality, got none")
        self.dims = {name: as_count(f"dims[{name!r}]", dim, minimum=1)
                     for name, dim in dims.items()}  # fmt: skip
        given = _as_weights(weights, list(self.dims))
        total = sum(given.values())
        self.weights = {name: weight / total for name, weight in given.items()}
        self.dim = sum(self.dims.values())

    def items(
        self, parts: Mapping[str, Any], present: Mapping[str, Any] | None = None
    ) -> Float32Array:
        """Return items for an index with ``metric="dot"``.

        Parameters
        ----------
        parts : mapping of str to array_like (n, dims[name])
            One matrix a modality; one that is not named is missing for all.
        present : mapping of str to array_like (n,) of bool, optional
            Which items have the modality; all of them where it is not named. What stands in a row
            that is not there is not read.

        Returns
        -------
        ndarray (n, dim), float32
            A row of zeros for an item that has nothing: it scores 0.
        """
        units, there = self._units(parts, present)
        total = np.asarray(sum(self.weights[name] * there[name] for name in units))
        return self._laid({
            name: _divided(self.weights[name] * unit, total) for name, unit in units.items()
        })  # fmt: skip

    def queries(
        self, parts: Mapping[str, Any], present: Mapping[str, Any] | None = None
    ) -> Float32Array:
        """Return queries.

        Parameters
        ----------
        parts : mapping of str to array_like (n, dims[name])
        present : mapping of str to array_like (n,) of bool, optional
            As of `items`.

        Returns
        -------
        ndarray (n, dim), float32
            A row of zeros, to which every item scores 0, for a query that has nothing.
        """
        return self._laid(self._units(parts, present)[0])

    def _units(
        self, parts: Mapping[str, Any], present: Mapping[str, Any] | None
    ) -> tuple[dict[str, Float64Array], dict[str, Bools]]:
        if unknown := sorted(set(parts) - set(self.dims)):
            raise ValueError(f"parts must name {', '.join(self.dims)}, got {unknown[0]!r}")
        units, there = _as_parts(parts, present)
        if wrong := [name for name, unit in units.items() if unit.shape[1] != self.dims[name]]:
            dim, name = self.dims[wrong[0]], wrong[0]
            raise ValueError(f"parts[{name!r}] must have dim {dim}, got {units[name].shape[1]}")
        return units, there

    def _laid(self, blocks: Mapping[str, Float64Array]) -> Float32Array:
        n_rows = len(next(iter(blocks.values())))
        laid, start = np.zeros((n_rows, self.dim), np.float32), 0
        for name, dim in self.dims.items():
            if name in blocks:
                laid[:, start : start + dim] = blocks[name]
            start += dim
        return laid


class OnnxFusion:
    """A trained head: a graph from the vectors of the modalities to one vector.

    Parameters
    ----------
    path : path
        An ``.onnx`` graph. Its inputs are the modalities by name, float (n, dim), and where it has
        one, `mask`; its output is (n, dim) and real.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        "cuda" is given wholly or refused with the reason; "auto" may fall to the CPU and says so.
    mask : str
        The input that tells what is there: (n, n_modalities), 1 or 0, columns in the order of the
        graph's other inputs. A graph without it cannot be told, so a gap is refused.
    output : str, optional
        The output to take; the first one when omitted.
    normalize : bool
        Scale each vector to length 1.
    num_threads : int, optional
        Threads inside one operator; what this process may use when omitted.

    Attributes
    ----------
    modalities : tuple of str

    Raises
    ------
    DeviceError, BundleError, FileNotFoundError, ImportError
        As `recengine.runtime.open_session`.
    ValueError
        If the graph has no modality, or no such output.

    Notes
    -----
    Immutable; may be used from many threads. Fork and pickle are safe, as of `OnnxEncoder`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "cpu",
        *,
        mask: str = "mask",
        output: str | None = None,
        normalize: bool = True,
        num_threads: int | None = None,
    ) -> None:
        self._graph = OnnxEncoder(
            path, device, output=output, normalize=normalize, num_threads=num_threads
        )
        self._dims = {port.name: port.shape[-1] if port.shape else None
                      for port in self._graph.inputs if port.name != mask}  # fmt: skip
        self._mask = mask if len(self._dims) < len(self._graph.inputs) else None
        self.modalities = tuple(self._dims)
        if not self.modalities:
            raise ValueError(f"path must take modalities beside {mask!r}, it takes none")

    @property
    def digest(self) -> str:
        """SHA-256 of the model file."""
        return self._graph.digest

    @property
    def dim(self) -> int | None:
        """Length of a vector; None where only a run can tell."""
        return self._graph.dim

    def fuse(
        self,
        parts: Mapping[str, Any],
        present: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
    ) -> Float32Array:
        """Fuse rows of vectors.

        Parameters
        ----------
        parts : mapping of str to array_like (n, dim of the input)
            One matrix a modality, as its encoder gives it; one that is not named is missing for
            all.
        present : mapping of str to array_like (n,) of bool, optional
            Which items have the modality; all of them where it is not named. What stands in a row
            that is not there is not read: the graph gets zeros.
        batch_size : int, optional
            Rows a run, 64 when omitted; see `OnnxEncoder.encode`.

        Returns
        -------
        ndarray (n, dim), float32
            A row of zeros for an item that has nothing, which the graph is not asked about.

        Raises
        ------
        ValueError
            Other names; a gap, where the graph has no mask; NaN or infinity in or out.
        """
        if unknown := sorted(set(parts) - set(self.modalities)):
            raise ValueError(f"parts must name {', '.join(self.modalities)}, got {unknown[0]!r}")
        rows, there = _rows(parts, present)
        n_rows = len(next(iter(rows.values())))
        mask = np.zeros((n_rows, len(self.modalities)), np.float32)
        feeds: dict[str, NDArray[Any]] = {}
        for column, name in enumerate(self.modalities):
            if name in rows:
                feeds[name], mask[:, column] = rows[name], there[name]
            else:
                feeds[name] = np.zeros((n_rows, self._dim_of(name)), np.float32)
        if self._mask is None and not mask.all():
            row, column = np.argwhere(mask == 0)[0]
            raise ValueError(
                f"parts must have every modality, since the graph takes no mask: "
                f"{self.modalities[column]!r} is missing in row {row}"
            )
        if self._mask is not None:
            feeds[self._mask] = mask
        asked: Bools = np.asarray(mask.any(axis=1))
        if self.dim is None and not asked.any():
            raise ValueError("parts must have at least one row: the graph hides its dim")
        found = self._graph.encode(self._typed(feeds, asked), batch_size)
        fused = np.zeros((n_rows, found.shape[1]), np.float32)
        fused[asked] = found
        return fused

    def _typed(self, feeds: Mapping[str, NDArray[Any]], asked: Bools) -> dict[str, NDArray[Any]]:
        """Return the rows to ask about in the dtypes that the graph takes."""
        dtypes = {port.name: port.dtype or np.float32 for port in self._graph.inputs}
        return {name: array[asked].astype(dtypes[name]) for name, array in feeds.items()}

    def _dim_of(self, name: str) -> int:
        dim = self._dims[name]
        if not isinstance(dim, int):
            raise ValueError(f"parts must name {name!r}: the graph hides its dim")
        return dim


def _rows(
    parts: Mapping[str, Any], present: Mapping[str, Any] | None
) -> tuple[dict[str, Float32Array], dict[str, Bools]]:
    """Return (rows with zeros where they are missing, where they are there)."""
    if not isinstance(parts, Mapping) or not parts:
        raise TypeError("parts must be a mapping of modalities to matrices, at least one")
    masks = {} if present is None else dict(present)
    if unknown := sorted(set(masks) - set(parts)):
        raise ValueError(f"present must name modalities of parts, got {unknown[0]!r}")
    rows: dict[str, Float32Array] = {}
    there: dict[str, Bools] = {}
    for name, part in parts.items():
        array = np.asarray(part)
        if array.ndim != 2:
            raise ValueError(f"parts[{name!r}] must be (n, dim), got shape {array.shape}")
        mask = np.asarray(masks.get(name, np.ones(len(array), np.bool_)))
        if mask.dtype != np.bool_ or mask.shape != (len(array),):
            raise ValueError(
                f"present[{name!r}] must be bool of shape ({len(array)},), got {mask.dtype} of "
                f"{mask.shape}"
            )
        rows[name] = np.zeros(array.shape, np.float32)
        rows[name][mask] = as_matrix(f"parts[{name!r}]", array[mask])
        there[name] = mask
    if len({len(array) for array in rows.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in rows.items())
        raise ValueError(f"parts must have the same number of rows, got {shapes}")
    return rows, there


def _as_parts(
    parts: Mapping[str, Any], present: Mapping[str, Any] | None
) -> tuple[dict[str, Float64Array], dict[str, Bools]]:
    """Return (unit vectors, zeros where there is nothing; where they are there)."""
    rows, there = _rows(parts, present)
    units = {}
    for name, array in rows.items():
        wide = array.astype(np.float64)
        norms = np.sqrt(np.square(wide).sum(axis=1, keepdims=True))
        units[name] = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    return units, there


def _as_weights(weights: Mapping[str, float], names: list[str]) -> dict[str, float]:
    if set(weights) != set(names):
        raise ValueError(f"weights must name {', '.join(names)}, got {', '.join(weights)}")
    return {
        name: as_real(f"weights[{name!r}]", weights[name], minimum=0.0, exclusive=True)
        for name in names
    }


def _divided(rows: Float64Array, totals: NDArray[Any]) -> Float64Array:
    found: Float64Array = np.divide(
        rows, totals[:, None], out=np.zeros_like(rows), where=totals[:, None] > 0
    )
    return check_finite("parts", found.astype(np.float32)).astype(np.float64)


def _dims(units: Mapping[str, Float64Array]) -> str:
    return ", ".join(f"{name} {unit.shape[1]}" for name, unit in units.items())
