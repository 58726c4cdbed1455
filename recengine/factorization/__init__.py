"""Sparse factors of a user x item matrix, trained here and folded in online.

`ALS` is the facade: it owns hyper-parameters and checks arguments. `_objective` says what is
minimised, for either objective, as one general system; `_likes` turns whatever was given into
canonical CSR; `_training` owns the schedule: fixed row ranges of equal cost, taken by the threads
of `_workers`, and one Gram matrix per half-epoch. Rows are solved by kernels of each instruction
set (csrc/simd/als.h), in the basis in which that Gram matrix is diagonal (`_basis`): there
conjugate gradients take three steps, and a row of few entries is a small system. Products and
factors are float32, Gram matrices and losses float64; a system that float32 does not carry is
solved in float64. A row's arithmetic depends on nothing but that row, and partial Gram matrices are
added in a fixed order: the factors have the same bits at any thread count. `_checkpoint` is where a
killed training goes on from. `_fold_in` hands the same kernels one user's items on the request
path, from Cython.

`BPR` ranks likes above other items by stochastic gradient. `_grid` is the schedule of such steps:
user shards beside item blocks, no two of a turn in one row, so that these bits too are those of
the seed. `_bpr_kernels` holds the steps, `_biased` the factors with item biases as a last column
and what both models of them share, `_sgd_fold_in` (Cython) what one user's factors are against
fixed items. `SGD` predicts ratings under the same schedule; `_ratings` takes values of either sign
where `_likes` takes weights.

`online` is what a fitted model learns without `fit`: rows of either side solved anew by `_fold_in`,
their Gram matrix changed by what changed, and published by one reference; a `FoldedUser` takes a
further event as a rank-one change (`_rank_one`) of its system.

`ItemKNN` and `UserKNN` keep the matrix itself and the nearest rows of one side: `_layout` lays the
entries out so that each pair is met once and near the cache, `_neighbours` owns the schedule, heaps
with a total order make the neighbours independent of threads, `_rows` sums sparse rows on request.
`EASE` adds XᵀX up over the same layout and inverts it in place (`_ease`), for catalogues that fit.

What models share is written once: `_learned` shows, saves and reads again whatever a fit learned,
`_factored` ranks by factors, `_keeps_matrix` by rows of a matrix that is kept (`_knn` by neighbours
of either side), `_options` checks what `fit` is told.

`weighting` weighs a matrix by BM25 or TF-IDF; `_ranking` picks the best rows, for every model.
"""

from recengine.factorization.als import ALS
from recengine.factorization.bpr import BPR
from recengine.factorization.ease import EASE
from recengine.factorization.folded_user import FoldedUser
from recengine.factorization.item_knn import ItemKNN
from recengine.factorization.sgd import SGD
from recengine.factorization.user_knn import UserKNN
from recengine.factorization.weighting import bm25_weight, tfidf_weight

__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "SGD",
    "FoldedUser",
    "ItemKNN",
    "UserKNN",
    "bm25_weight",
    "tfidf_weight",
]
