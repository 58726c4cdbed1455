"""The names and signatures of implicit 0.7.3 over `ALS`, `BPR` and `FlatIndex`.

::

    from implicit.als import AlternatingLeastSquares                    # before
    from recengine.compat.implicit.als import AlternatingLeastSquares   # after

Signatures, order of returned pairs (ids, scores), shapes, attributes and saved files are those of
implicit, and each reads the other's files. ALS learns the same factors to float32 rounding from
equal seeds and ``use_cg=False``; BPR draws other numbers. What differs, all of it on purpose:

=============================== =============================== ===================================
situation                       implicit 0.7.3                  here
=============================== =============================== ===================================
fewer than N items are left     id 0 with score 0, or filtered  id −1 with score −inf, at the end
                                items with score −3.4e38
``N=0``                         IndexError                      empty answers
a negative user or item id      another row's answer            IndexError
an id given twice in `items`    is returned twice               is returned once
equal scores                    in no fixed order               the smaller id first
an id outside the model in      IndexError (recommend)          cannot be returned, so: ignored
`filter_items`
`items` as an array beside      "truth value is ambiguous"      "cannot be given together"
`filter_items`
before `fit`                    TypeError about None            NotFittedError
explicit zeros                  weight 0 in `fit`, "liked" in   no events, everywhere
                                `recommend` but not with
                                `items`
duplicate entries               solved as separate entries      summed
``use_cg=True`` (the default)   three steps towards the         three preconditioned ones,
                                solution of each row            which come closer
negatives of BPR                drawn by popularity; a like is  drawn uniformly; never a like
                                skipped, or taken with
                                ``verify_negative_samples`` off
`dtype`                         float32 or float64 (or 16)      float32; all sums are float64
`use_gpu`                       True where CUDA was built in    False; True is a DeviceError
``use_native=False``            the same, slowly                ValueError: there is one kernel
bits of the factors             vary with threads               the same at any `num_threads`
`user_factors`, `item_factors`  may be written into; cached     read-only; assigning another array
                                norms and products go stale     drops what was derived from it
NaN in the factors              ModelFitError after `fit`       ValueError where it would enter
`to_gpu`                        a GPU model                     DeviceError
=============================== =============================== ===================================
"""

from recengine.compat.implicit.als import AlternatingLeastSquares
from recengine.compat.implicit.bpr import BayesianPersonalizedRanking

__all__ = ["AlternatingLeastSquares", "BayesianPersonalizedRanking"]
