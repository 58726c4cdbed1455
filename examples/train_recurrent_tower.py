"""Train a recurrent user tower on MovieLens 100k, export it with its item tower, and serve both.

    pip install '.[cpu,data,examples]'
    python examples/train_recurrent_tower.py --cell gru [--epochs 12] [--seed 0] [--folder towers]

Films become vectors, an LSTM or GRU reads those of a user in order, and its state is compared with
the film vectors by their product. Without biases, and with zeros for padding, the state stays at
zero until the first film: padding changes no vector.

B. Hidasi, A. Karatzoglou, L. Baltrunas, D. Tikk. Session-based Recommendations with Recurrent
Neural Networks. ICLR 2016.
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

LENGTH, DIM, DROPOUT, EPOCHS, RATE = 50, 64, 0.3, 12, 5e-3
CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(nn.Module):
    """Item numbers (n, length), 0 for padding, to vectors (n, length, dim)."""

    def __init__(self, n_items: int, cell: str) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, DIM, padding_idx=0)
        nn.init.normal_(self.items.weight[1:], std=DIM**-0.5)
        self.cell = CELLS[cell](DIM, DIM, batch_first=True, bias=False)
        self.dropout, self.out = nn.Dropout(DROPOUT), nn.Linear(DIM, DIM)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Read each history up to each of its events."""
        states, _ = self.cell(self.dropout(self.items(items) * DIM**0.5))
        return self.out(self.dropout(states))


def main() -> None:
    """Train, export, serve, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", choices=sorted(CELLS), default="gru")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("towers"))
    options = parser.parse_args()
    events, films, _ = load_ml_100k()
    train, test = events.split_last(1)
    torch.manual_seed(options.seed)
    model = Recurrent(train.n_items, options.cell)
    fit(model, train, length=LENGTH, epochs=options.epochs, rate=RATE, seed=options.seed)
    towers = export(model, options.folder, train.items, LENGTH)

    items = towers.encode_items(np.arange(train.n_items))
    index = rec.FlatIndex(items, ids=train.items.ids, metric="dot")
    users = train.users.ids
    vectors = towers.encode_users([train.history(user) for user in users])
    found = index.search(vectors, 10, exclude=train.to_csr())
    print(options.cell, rec.evaluate(found, test, users=users, train=train))

    titles = dict(zip(films["item_id"], films["title"], strict=True))
    history = train.history(42)
    print("User 42 saw", "; ".join(titles[item] for item in history[-3:].tolist()))
    one = towers.user.encode_query(history)  # as a request would
    ids, _ = index.search(one, k=5, exclude=history)
    print("and may like", "; ".join(titles[item] for item in ids.tolist()))


if __name__ == "__main__":
    main()
