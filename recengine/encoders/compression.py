"""`compress`: a smaller model, measured against the original before it is written."""

from __future__ import annotations

import gzip
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recengine._errors import LossError
from recengine._types import Float32Array, Float64Array
from recengine._validation import as_choice, as_count, as_real
from recengine.encoders.compared import Probe, probe_of
from recengine.runtime import METHODS, shrink
from recengine.storage.atomic import replacing

N_TIMED = 8  # samples that are timed, one at a time
N_ROUNDS = 5


@dataclass(frozen=True)
class Compression:
    """What a smaller model costs and gives, on samples that calibrated nothing.

    Attributes
    ----------
    method : str
    n_samples : int
        Samples it was measured on.
    loss : float
        1 - `recall`: what ``max_loss`` bounds.
    recall : float
        Mean share of the `k` nearest other samples, by cosine, that stay the nearest; one as near
        as the k-th counts.
    spearman : float
        Rank correlation of the cosines of all pairs of samples, as of an STS test whose gold
        scores are the original's.
    cosine, worst_cosine : float
        Of a sample's vector to its original one: mean and least.
    bytes, gzip_bytes : (int, int)
        File size of original and result, and after gzip -1.
    seconds : (float, float)
        Median time of one sample alone, of original and result, measured in turns.
    k : int
    """

    method: str
    n_samples: int
    recall: float
    spearman: float
    cosine: float
    worst_cosine: float
    bytes: tuple[int, int]
    gzip_bytes: tuple[int, int]
    seconds: tuple[float, float]
    k: int

    @property
    def loss(self) -> float:
        """1 - recall."""
        return 1.0 - self.recall


def compress(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    samples: Sequence[str] | Mapping[str, Any] | Any,
    method: str = "row-int8",
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    max_loss: float = 0.1,
    sparsity: float = 0.5,
    k: int = 10,
    num_threads: int = 1,
) -> Compression:
    """Write a smaller model, unless it loses too much.

    Parameters
    ----------
    model : path
        An ``.onnx`` file of float weights.
    out : path
        Where the result goes: written aside and renamed, and not at all if it loses too much.
    samples : sequence of str, mapping of str to array, or array
        What users send: texts, with a `tokenizer`; else rows of the graph's inputs. Every other
        one calibrates (static-int8 alone needs that), the rest measure.
    method : {"row-int8", "dynamic-int8", "static-int8", "float16", "pruned"}
        int8 weights, with scales of the activations taken at run time from each row (for
        transformers; a vector depends on no batch mates) or from a whole run (as onnxruntime's own
        tool does, LSTM too; encoders then run rows one by one), or from the samples (for
        convolutions too); float16 weights and arithmetic (for a GPU: a CPU computes it in float32,
        after casts); or the smallest weights set to 0.
    tokenizer : path, optional
        ``tokenizer.json`` of a text model; what stands beside it about pooling, length and prompts
        is followed, as by `TextEncoder.open`.
    max_loss : float
        The most `Compression.loss` that is written, 0 … 1.
    sparsity : float
        The share of each weight that "pruned" sets to 0.
    k : int
        Neighbours compared.
    num_threads : int
        Threads while measuring.

    Returns
    -------
    Compression

    Raises
    ------
    LossError
        If it loses more than `max_loss` (its `report` is the `Compression`), or gives NaN or
        infinity; `out` is as it was.
    ValueError, TypeError
        If an argument is unfit, samples are too few (2 k + 4), or the graph has nothing that the
        method changes.
    BundleError, FileNotFoundError, ImportError
        As `recengine.runtime.open_session`; ImportError also without `onnx`.

    Notes
    -----
    Pruned weights are stored as densely as before, and onnxruntime has no kernels that skip zeros:
    the file and the time stay the same, and only what compresses it further (gzip, a container
    registry) gets smaller. Int8 is measured on this machine: on a CPU without VNNI its sums may
    saturate, so compress where you serve.
    """
    as_choice("method", method, METHODS)
    max_loss, sparsity = _as_share("max_loss", max_loss), _as_share("sparsity", sparsity)
    k = as_count("k", k, minimum=1)
    source, target = Path(model).absolute(), Path(out).absolute()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"out must lie in a folder that exists, got {str(out)!r}")
    before = probe_of(source, samples, tokenizer, num_threads)
    calibrating, measuring = np.arange(0, before.n_samples, 2), np.arange(1, before.n_samples, 2)
    if len(measuring) < k + 2:
        raise ValueError(f"samples must be >= 2 k + 4, {2 * k + 4}, got {before.n_samples}")
    with tempfile.TemporaryDirectory(prefix="recengine-") as folder:
        made = Path(folder) / "made.onnx"
        feeds = before.feeds(calibrating) if method == "static-int8" else ()
        shrink(source, made, method, feeds=feeds, sparsity=sparsity)
        after = probe_of(made, samples, tokenizer, num_threads)
        report = _compared(method, (before, after), (source, made), measuring, k)
        if not report.loss <= max_loss:
            raise LossError(
                f"{method} loses {report.loss:.3f} of the {k} nearest neighbours, more than "
                f"max_loss={max_loss:g} (mean cosine {report.cosine:.4f}); nothing was written",
                report,
            )
        with made.open("rb") as content, replacing(target) as stream:
            shutil.copyfileobj(content, stream)
    return report


def _compared(
    method: str,
    probes: tuple[Probe, Probe],
    files: tuple[Path, Path],
    rows: Any,
    k: int,
) -> Compression:
    one, two = (_unit(probe.vectors(rows)) for probe in probes)
    if one.shape != two.shape or not np.isfinite(two).all():
        raise LossError(f"{method} gives NaN, infinity or other shapes; nothing was written", None)
    same, cosines = (one * two).sum(axis=1), (one @ one.T, two @ two.T)
    sizes = [(path.stat().st_size, len(gzip.compress(path.read_bytes(), 1))) for path in files]
    return Compression(
        method=method,
        n_samples=len(rows),
        recall=_recall(*cosines, k),
        spearman=_spearman(*cosines),
        cosine=float(same.mean()),
        worst_cosine=float(same.min()),
        bytes=(sizes[0][0], sizes[1][0]),
        gzip_bytes=(sizes[0][1], sizes[1][1]),
        seconds=_timed([probe.one for probe in probes], [int(row) for row in rows[:N_TIMED]]),
        k=k,
    )


def _as_share(name: str, value: float) -> float:
    value = as_real(name, value, minimum=0.0)
    if value > 1.0:
        raise ValueError(f"{name} must be <= 1, got {value!r}")
    return value


def _unit(vectors: Float32Array) -> Float64Array:
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Float64Array = wide / np.where(norms == 0, 1.0, norms)
    return unit


def _recall(one: Float64Array, two: Float64Array, k: int) -> float:
    """Return the mean share of two's k nearest that are among one's; equally near ones count."""
    shares = []
    for row, (original, found) in enumerate(zip(one, two, strict=True)):
        others = np.delete(np.arange(len(one)), row)
        limit = np.sort(original[others])[-k] - 1e-7
        nearest = others[np.argsort(-found[others], kind="stable")[:k]]
        shares.append(np.mean(original[nearest] >= limit))
    return float(np.mean(shares))


def _spearman(one: Float64Array, two: Float64Array) -> float:
    from scipy.stats import rankdata

    pairs = np.triu_indices(len(one), 1)
    ranks = [rankdata(cosines[pairs]) for cosines in (one, two)]
    if any(np.ptp(each) == 0 for each in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _timed(runs: list[Callable[[int], Any]], rows: list[int]) -> tuple[float, float]:
    """Return the median seconds of one sample by each of two, in turns after a first round."""
    taken: list[list[float]] = [[], []]
    for _, row in _rounds(rows):
        for which, run in enumerate(runs):
            start = time.perf_counter()
            run(row)
            taken[which].append(time.perf_counter() - start)
    first = len(rows)  # the first round is warm-up
    return statistics.median(taken[0][first:]), statistics.median(taken[1][first:])


def _rounds(rows: list[int]) -> Iterator[tuple[int, int]]:
    return ((number, row) for number in range(N_ROUNDS + 1) for row in rows)
