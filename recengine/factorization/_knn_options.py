"""What ItemKNN and UserKNN are told, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recengine._validation import as_choice, as_count, as_real
from recengine.factorization._likes import Likes
from recengine.factorization._neighbours import nearest
from recengine.factorization._options import threads_of
from recengine.factorization._rows import owned
from recengine.factorization.weighting import Weighting, check_bm25

SIMILARITIES = ("cosine", "bm25", "tfidf")


@dataclass(frozen=True)
class KnnOptions:
    """Checked hyper-parameters; `k1` and `b` are None unless `similarity` is "bm25"."""

    neighbours: int
    similarity: str
    shrinkage: float
    k1: float | None
    b: float | None

    @classmethod
    def checked(
        cls, neighbours: Any, similarity: Any, shrinkage: Any, k1: Any, b: Any
    ) -> KnnOptions:
        """Return the options, refusing what is out of range or would be ignored."""
        neighbours = as_count("neighbours", neighbours, minimum=1)
        similarity = as_choice("similarity", similarity, SIMILARITIES)
        shrinkage = as_real("shrinkage", shrinkage, minimum=0)
        if similarity == "bm25":
            if shrinkage > 0:
                raise ValueError(f'shrinkage must be 0 for similarity="bm25", got {shrinkage:g}')
            k1, b = check_bm25(1.2 if k1 is None else k1, 0.75 if b is None else b)
        else:
            for name, value in (("k1", k1), ("b", b)):
                if value is not None:
                    raise ValueError(f'{name} must be None unless similarity="bm25", got {value!r}')
        return cls(neighbours, similarity, shrinkage, k1, b)

    @property
    def cosine(self) -> bool:
        """Whether similarities are divided by norms."""
        return self.similarity != "bm25"

    def weighting(self, documents: Likes) -> Weighting:
        """Return how the rows of `documents` are weighed."""
        return Weighting.of(documents, self.similarity, self.k1 or 0.0, self.b or 0.0)

    def nearest(self, documents: Likes, num_threads: int | None, label: str) -> Likes:
        """Return the neighbours of each row of `documents`, (n_rows, n_rows).

        `label` is that of the progress bar, which is not drawn where it is empty.
        """
        weights = self.weighting(documents).weigh_rows(documents)
        found = nearest(
            documents,
            weights,
            self.neighbours,
            self.cosine,
            self.shrinkage,
            threads_of(num_threads),
            label,
        )
        return owned(Likes((documents.shape[0], documents.shape[0]), *found))
