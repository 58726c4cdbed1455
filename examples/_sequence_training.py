"""What the two training examples share: pieces of histories, the loop, the export, the test.

A model maps item numbers (n, length), 0 for padding at the left, to vectors (n, length, dim): what
the user is like after each event. Its `items.weight` (n_items + 1, dim) are the item vectors. It is
trained to tell every next event among all items: a softmax over the whole catalogue.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

import recengine as rec


def pieces(train: rec.Interactions, length: int) -> torch.Tensor:
    """Return (n, length + 1) item numbers: all histories, cut from the end, padded at the left."""
    indptr, order = train.by_user()
    rows = []
    for start, stop in pairwise(indptr):
        for end in range(stop, start + 1, -length):  # the event a piece begins with is not told
            piece = train.item_indices[order[max(start, end - length - 1) : end]] + 1
            rows.append(np.pad(piece, (length + 1 - len(piece), 0)))
    return torch.from_numpy(np.array(rows))


def fit(
    model: nn.Module, train: rec.Interactions, *, length: int, epochs: int, rate: float, seed: int
) -> None:
    """Train in place, on one thread: the same numbers for the same seed. Prints its progress."""
    torch.set_num_threads(1)
    data, order = pieces(train, length), torch.Generator().manual_seed(seed)
    batches_each = -(-len(data) // 64)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=epochs * batches_each, pct_start=0.1
    )
    begin, total = time.perf_counter(), 0.0
    model.train()
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(data), generator=order).split(64):
            given, told = data[batch, :-1], data[batch, 1:]
            real = given > 0
            scores = model(given)[real] @ model.items.weight[1:].T
            loss = functional.cross_entropy(scores, told[real] - 1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        if epoch in (1, epochs) or epoch % 10 == 0:
            seconds = time.perf_counter() - begin
            print(f"epoch {epoch}: loss {total / batches_each:.3f}, {seconds:.0f} s", flush=True)
        total = 0.0
    model.eval()


class LastPlace(nn.Module):
    """What the user is like after the last event: the user tower."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """(n, length) -> (n, dim)."""
        return self.model(items)[:, -1]


class Table(nn.Module):
    """The vector of an item by its index: the item tower."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.items = model.items

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """(n,) -> (n, dim)."""
        return self.items(items + 1)


def export(model: nn.Module, folder: Path, items: rec.IdMap, length: int) -> rec.TwoTower:
    """Write user.onnx and item.onnx, which say what they need and that they are a pair; open it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = b"".join(weight.detach().numpy().tobytes() for weight in model.parameters())
    pair = hashlib.sha256(weights).hexdigest()
    needs = {"max_length": length, "n_items": len(items), "padding": 0, "pad_to": "longest"}
    told = {"recengine.sequence": json.dumps(needs | {"items": items.digest})}
    for role, tower, example in (
        ("user", LastPlace(model), torch.ones(2, 3, dtype=torch.int64)),
        ("item", Table(model), torch.ones(2, dtype=torch.int64)),
    ):
        path, axes = folder / f"{role}.onnx", {0: "n", 1: "length"}
        free = {"items": {axis: axes[axis] for axis in range(example.ndim)}, "vector": {0: "n"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dynamo=False is deprecated, but needs no more
            torch.onnx.export(
                tower.eval(), (example,), path, dynamo=False, input_names=["items"],
                output_names=["vector"], dynamic_axes=free, opset_version=17,
            )  # fmt: skip
        graph = onnx.load(path)
        says = {"recengine.tower": json.dumps({"role": role, "pair": pair})}
        onnx.helper.set_model_props(graph, says | (told if role == "user" else {}))
        onnx.save(graph, path)
    user = rec.SequenceEncoder(folder / "user.onnx", items, num_threads=1)
    return rec.TwoTower(user, rec.OnnxEncoder(folder / "item.onnx", num_threads=1))
