"""Train SASRec on MovieLens 100k, export it to ONNX, serve it, and measure it beside ALS.

    pip install '.[cpu,data,examples]'
    python examples/train_sasrec.py [--epochs 12] [--seed 0] [--folder sasrec]

The model tells the next film from the last 50 by self-attention. It differs from the paper in three
ways: the softmax over all films instead of one sampled negative, attention that learns how much an
event counts by its distance instead of by its place, and no position vectors.

W.-C. Kang, J. McAuley. Self-Attentive Sequential Recommendation. ICDM 2018.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from _sequence_training import export, fit
from torch import nn

import recengine as rec
from recengine.data import load_ml_100k

LENGTH, DIM, HEADS, BLOCKS, DROPOUT = 50, 64, 2, 2, 0.3
EPOCHS, RATE = 12, 5e-3  # chosen on the second last event of each user


class Block(nn.Module):
    """Causal self-attention and a feed-forward net, each added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.into, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.by_distance = nn.Parameter(torch.zeros(HEADS, LENGTH))
        self.dropout = nn.Dropout(DROPOUT)
        self.net = nn.Sequential(
            nn.Linear(DIM, 4 * DIM), nn.GELU(), self.dropout, nn.Linear(4 * DIM, DIM)
        )

    def forward(self, x: torch.Tensor, real: torch.Tensor, ago: torch.Tensor) -> torch.Tensor:
        """(n, length, dim) -> the same; `ago[t, s]` events lie between s and t."""
        n, length, _ = x.shape
        parts = self.into(self.before(x)).view(n, length, 3, HEADS, DIM // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) * (DIM // HEADS) ** -0.5
        scores = scores + self.by_distance[:, ago.clamp(min=0)]
        seen = real[:, None, None, :] & (ago >= 0)
        weights = self.dropout(scores.masked_fill(~seen, -1e9).softmax(-1))
        x = x + self.dropout(self.out((weights @ value).transpose(1, 2).reshape(n, length, DIM)))
        return x + self.dropout(self.net(self.between(x)))


class SASRec(nn.Module):
    """Item numbers (n, length), 0 for padding, to vectors (n, length, dim)."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, DIM, padding_idx=0)
        nn.init.normal_(self.items.weight[1:], std=DIM**-0.5)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.dropout, self.norm = nn.Dropout(DROPOUT), nn.LayerNorm(DIM)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Read each history up to each of its events."""
        place = torch.arange(items.shape[1])
        x = self.dropout(self.items(items) * DIM**0.5)
        for block in self.blocks:
            x = block(x, items > 0, place[:, None] - place)
        return self.norm(x)


def main() -> None:
    """Train, export, serve, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("sasrec"))
    options = parser.parse_args()
    train, test = load_ml_100k().interactions.split_last(1)
    torch.manual_seed(options.seed)
    model = SASRec(train.n_items)
    fit(model, train, length=LENGTH, epochs=options.epochs, rate=RATE, seed=options.seed)
    towers = export(model, options.folder, train.items, LENGTH)

    ids, seen = train.users.ids, train.to_csr()
    vectors = towers.encode_users([train.history(user) for user in ids])
    items = towers.encode_items(np.arange(train.n_items))
    index = rec.FlatIndex(items, ids=train.items.ids, metric="dot")
    ours = rec.evaluate(index.search(vectors, 10, exclude=seen), test, users=ids, train=train)
    als = rec.ALS(factors=64, regularization=10.0, random_state=options.seed).fit(train)
    index = rec.FlatIndex(als.item_factors_, ids=train.items.ids, metric="dot")
    listed = index.search(als.user_factors_, 10, exclude=seen)
    peer = rec.evaluate(listed, test, users=ids, train=train)
    apart = ours.compare(peer, "ndcg")
    print(f"SASRec NDCG@10 {ours['ndcg']:.4f}, ALS {peer['ndcg']:.4f}; the difference is ", end="")
    print(f"{apart.difference:+.4f} ({apart.interval.low:+.4f} ... {apart.interval.high:+.4f})")


if __name__ == "__main__":
    main()
