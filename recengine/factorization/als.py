"""Alternating least squares for implicit feedback."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recengine._types import Float32Array
from recengine._validation import as_choice, as_count, as_generator, as_real
from recengine.factorization import _training
from recengine.factorization._basis import PANEL
from recengine.factorization._checkpoint import Checkpoint
from recengine.factorization._events import as_events
from recengine.factorization._factored import Factored, factors_from
from recengine.factorization._featured import Featured
from recengine.factorization._fitted import Fitted
from recengine.factorization._initial import initial_factors
from recengine.factorization._likes import Likes, as_likes
from recengine.factorization._objective import OBJECTIVES, Objective
from recengine.factorization._options import as_flag, as_threads, check_callback, threads_of
from recengine.factorization._priors import Priors, priors_from_state, saved_priors
from recengine.factorization._workers import workers
from recengine.factorization.online import Online

SOLVERS = ("cg", "cholesky", "block")
_CG_STEPS, _BLOCK_SIZE = 3, 64


class ALS(Factored[Fitted], Online, Featured):
    """Factors of a user x item matrix of implicit feedback, by alternating least squares.

    Parameters
    ----------
    factors : int, default 64
        Numbers that describe a user or an item.
    regularization : float, default 0.01
        Weight of the squared norms, >= 0.
    alpha : float, default 1.0
        What every weight is multiplied with, > 0.
    iterations : int, default 15
        Epochs: each solves all users, then all items.
    solver : {"cg", "cholesky", "block"}
        How an epoch solves a row, in the basis in which the other side's Gram matrix is diagonal.
        "cg": some steps of conjugate gradients from the row's last solution, preconditioned by the
        diagonal: the fastest way to a given loss. "cholesky": the exact solution. "block": one
        pass over blocks of coordinates, each solved exactly (iALS++). Rows of few entries are
        solved exactly by "block" too.
    objective : {"implicit", "ials"}
        "implicit" is the objective of the library of that name (version 0.7): an observed pair
        has confidence ``alpha * weight``, every other pair 1. "ials" adds `unobserved_weight`
        times the squared score of *all* pairs and scales the regularization by frequency.
        Neither maps onto the other.
    num_threads : int or None
        Threads of `fit` and `loss`; None: what this process may use (affinity and quota).
    random_state : int, Generator or None
        Seed of the initial factors; None: a new one each time.
    unobserved_weight : float, optional
        "ials" only, >= 0; 0.1 when omitted.
    frequency_exponent : float, optional
        "ials" only, >= 0; 1 when omitted. Rows of n entries are regularized by
        ``regularization * (n + unobserved_weight * n_other) ** frequency_exponent``.
    cg_steps : int, optional
        "cg" only, >= 1; 3 when omitted.
    block_size : int, optional
        "block" only, a positive multiple of 16; 64 when omitted.

    Attributes
    ----------
    user_factors_ : ndarray (n_users, factors), float32, C-contiguous, read-only
    item_factors_ : ndarray (n_items, factors), float32, C-contiguous, read-only
        The score of a pair is the dot product. Rows without entries are 0, or their prior.
    user_prior_, item_prior_ : ndarray of the same shapes, read-only, or None without features
        What features predict of the factors: what rows are drawn towards instead of 0.

    Notes
    -----
    Cost of an iteration: O(n_entries factors cg_steps + (n_users + n_items) factors²) for "cg",
    O(n_entries factors² + (n_users + n_items) factors³) for "cholesky", with `block_size` for one
    of the factors for "block". Memory beyond the factors: the CSR matrix, one transposed copy, and
    the larger side's factors once more. The factors are the same bits at any
    `num_threads` for a given (seed, data) on one machine. A fitted model is immutable and may be
    used from any number of threads; a second `fit` replaces it by one reference. Checked against
    a float64 NumPy oracle and against implicit.

    References
    ----------
    Hu, Koren, Volinsky: Collaborative filtering for implicit feedback datasets, 2008, section 4.
    Rendle, Krichene, Zhang, Koren: Revisiting the performance of iALS on item recommendation
    benchmarks, 2021, section 2; the same: iALS++: speeding up matrix factorization with subspace
    optimization, 2021.
    Takács, Pilászy, Tikk: Applications of the conjugate gradient method for implicit feedback
    collaborative filtering, 2011.
    """

    _shown = ("factors", "regularization", "alpha", "iterations", "objective")
    _settings = (
        *("factors", "regularization", "alpha", "iterations", "solver", "objective"),
        *("unobserved_weight", "frequency_exponent", "cg_steps", "block_size", "random_state"),
    )
    _later = ("cg_steps", "block_size")  # before them, solvers were exact
    _arrays = ("user_factors", "item_factors", "item_gram")

    def __init__(
        self,
        factors: int = 64,
        regularization: float = 0.01,
        alpha: float = 1.0,
        iterations: int = 15,
        solver: str = "cg",
        objective: str = "implicit",
        num_threads: int | None = None,
        random_state: int | np.random.Generator | None = None,
        *,
        unobserved_weight: float | None = None,
        frequency_exponent: float | None = None,
        cg_steps: int | None = None,
        block_size: int | None = None,
    ) -> None:
        self.factors = as_count("factors", factors, minimum=1)
        self.regularization = as_real("regularization", regularization, minimum=0)
        self.alpha = as_real("alpha", alpha, minimum=0, exclusive=True)
        self.iterations = as_count("iterations", iterations, minimum=1)
        self.solver = as_choice("solver", solver, SOLVERS)
        self.objective = as_choice("objective", objective, OBJECTIVES)
        self.num_threads = as_threads(num_threads)
        as_generator(random_state)
        self.random_state = random_state
        self.unobserved_weight = self._ials_only("unobserved_weight", unobserved_weight, 0.1)
        self.frequency_exponent = self._ials_only("frequency_exponent", frequency_exponent, 1.0)
        self.cg_steps = self._solver_only("cg", "cg_steps", cg_steps, _CG_STEPS)
        self.block_size = self._solver_only("block", "block_size", block_size, _BLOCK_SIZE)
        if self.block_size is not None and self.block_size % PANEL:
            raise ValueError(f"block_size must be a multiple of 16, got {block_size}")

    def _ials_only(self, name: str, value: float | None, default: float) -> float | None:
        if self.objective == "ials":
            return as_real(name, default if value is None else value, minimum=0)
        if value is not None:
            raise ValueError(f'{name} must be None unless objective="ials", got {value!r}')
        return None

    def _solver_only(self, solver: str, name: str, value: Any, default: int) -> int | None:
        if self.solver == solver:
            return as_count(name, default if value is None else value, minimum=1)
        if value is not None:
            raise ValueError(f'{name} must be None unless solver="{solver}", got {value!r}')
        return None

    def _objective(self) -> Objective:
        if self.unobserved_weight is None or self.frequency_exponent is None:
            return Objective(self.alpha, 1.0, 1.0, self.regularization, 0.0)
        return Objective(
            self.alpha, 0.0, self.unobserved_weight, self.regularization, self.frequency_exponent
        )

    # --- training -------------------------------------------------------------------------------

    def fit(
        self,
        matrix: Any,
        init: Any = None,
        progress: bool = False,
        callback: Callable[[int, float], object] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        *,
        user_features: Any = None,
        item_features: Any = None,
    ) -> ALS:
        """Learn the factors of `matrix`.

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_users, n_items)
            Duplicates are summed; explicit zeros are not events. A negative weight is a dislike:
            of that confidence that the score is 0.
        init : (user_factors, item_factors), optional
            Where to start, copied; otherwise drawn from `random_state` (users first): uniform in
            [0, 0.01) for "implicit", normal with deviation ``0.1 / sqrt(factors)`` for "ials".
        progress : bool
            Draw a bar with the loss on standard error.
        callback : callable, optional
            Called after every epoch with (epochs done, loss); the training ends where it returns
            True. What it raises ends the training too, the model unchanged.
        checkpoint : path-like, optional
            A file that is replaced after every epoch. Where it is there, of the same data,
            settings and `init`, training goes on from it: to the same bits as without the stop.
            Not together with features.
        user_features, item_features : array_like or scipy sparse (n_rows, n_features), optional
            What is known of each user or item beside its entries: vectors of content, tags; columns
            of about one scale. A linear map learns to predict factors from them (a row counts by
            its entries, at most 50; generalised cross-validation chooses the strength of its
            ridge), and the regularization of a row becomes ``λ ‖x − prediction‖²``: a row without
            entries is its prediction, and one with many is what they say.

        Returns
        -------
        ALS
            This model.

        Raises
        ------
        TypeError
            `matrix` is not sparse or does not hold real numbers; `progress` is not a bool.
        ValueError
            A weight is not finite, `init` has the wrong shape, `checkpoint` is of another training,
            or a system cannot be solved (only where `regularization` is about 0, or
            `frequency_exponent` so large that it overflows). The model is unchanged then.

        Notes
        -----
        The loss that `progress` and `callback` ask for costs about a tenth of an epoch.
        """
        progress = as_flag("progress", progress)
        check_callback(callback)
        likes = as_likes(matrix, self.alpha, signed=True)
        users, items = initial_factors(
            self.objective, likes.shape, self.factors, init, self.random_state
        )
        objective, priors = self._objective(), Priors(likes, user_features, item_features)
        if checkpoint is not None and not (user_features is None and item_features is None):
            raise ValueError(f"checkpoint must be None where features are given, got {checkpoint}")
        kept = None if checkpoint is None else self._checkpoint(checkpoint, likes, init)
        with workers(self._threads()) as team:
            _training.alternate(
                objective,
                _training.Solver(self.solver, self.cg_steps or 0, self.block_size or 16),
                likes,
                (users, items),
                self.iterations,
                team,
                _training.Watch(progress, callback, kept),
                priors,
            )
            item_gram = _training.gram(items, team)
        both = priors.users, priors.items
        self._fitted = Fitted.of(objective, users, items, item_gram, both)
        return self

    def _checkpoint(self, path: Any, likes: Likes, init: Any) -> Checkpoint:
        settings = self._described()
        del settings["iterations"]
        return Checkpoint(path, settings, likes, init)

    def _threads(self) -> int:
        return threads_of(self.num_threads)

    def loss(self, matrix: Any) -> float:
        """Return the training objective of the factors on `matrix`, per unit of weight.

        With p = x·y and c = ``alpha * weight`` of the observed pairs O::

            implicit: (Σ_O c (1 − p)² + Σ_rest p² + λ ‖X‖² + λ ‖Y‖²) / (Σ_O c + n_rest)
            ials:     (Σ_O c (1 − p)² + w₀ Σ_all p² + Σ λ_u ‖x_u‖² + Σ λ_i ‖y_i‖²)
                      / (Σ_O c + w₀ n_all)

        Of a dislike c is the size of its confidence, and p² stands for (1 − p)².
        The first is what implicit reports. With features the norms are those of ``x − prior``.
        Summed in float64; O(n_entries factors).

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_users, n_items)

        Returns
        -------
        float
            0 for a matrix without users or items.
        """
        fitted = self._require()
        shape = (len(fitted.users), len(fitted.items))
        likes = as_likes(matrix, fitted.objective.alpha, shape=shape, signed=True)
        with workers(self._threads()) as team:
            priors = self.user_prior_, self.item_prior_
            return _training.loss(fitted.objective, likes, fitted.users, fitted.items, team, priors)

    # --- what was learned -----------------------------------------------------------------------

    def fold_in(self, indices: Any, weights: Any = None, *, features: Any = None) -> Float32Array:
        """Return the user whom these items describe, against fixed item factors.

        Parameters
        ----------
        indices : array_like (n,), int
            Rows of `item_factors_`, in any order; the weights of a repeated item are summed.
        weights : array_like (n,), optional
            As in the matrix of `fit`; 1 each when omitted. Weight 0 is no event.
        features : array_like or scipy sparse (n_features,) or (1, n_features), optional
            Of a model that was fitted with `user_features`: what is known of the user beside.

        Returns
        -------
        ndarray (factors,), float32
            What `fit` would solve for a user with this row and these features, by "cholesky".
            Without events what the features predict; 0 without those.

        Raises
        ------
        ValueError
            An index outside [0, n_items), a wrong weight, features of another model, or a system
            that cannot be solved.

        Notes
        -----
        O(n factors² + factors³) on the caller's thread, without the GIL, BLAS or Numba, and without
        memory but the result; 1-D int64 indices and float32 weights are read where they lie. Safe
        from any number of threads. Checked against a float64 NumPy oracle.
        """
        fitted = self._require()
        rows, given = as_events(indices, weights, len(fitted.items))
        solved = fitted.side.fold_in(rows, given, self._user_prior(features))
        if solved is None:
            raise _training.not_solvable(fitted.objective.regularization, "the user folded in")
        return solved

    # --- persistence ----------------------------------------------------------------------------

    def _saved(self, fitted: Fitted) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays = {
            "user_factors": fitted.users,
            "item_factors": fitted.items,
            "item_gram": fitted.item_gram,
        }
        return arrays | saved_priors(fitted.user_prior, fitted.item_prior), {}

    def _restored(self, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> Fitted:
        users, items = factors_from(arrays, self.factors)
        gram = np.array(arrays["item_gram"], dtype=np.float64, order="C")
        if gram.shape != (self.factors, self.factors) or not np.isfinite(gram).all():
            raise ValueError(f"item_gram must be finite and of shape {2 * (self.factors,)}")
        priors = priors_from_state(arrays, users, items)
        return Fitted.of(self._objective(), users, items, gram, priors)
