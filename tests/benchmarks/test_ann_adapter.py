"""The adapter answers as the ann-benchmarks suite calls it."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import oracles
import pytest

pytestmark = pytest.mark.usefixtures("on_path")

# The methods of the suite's BaseANN with their arguments, and what its runner calls beside them.
INTERFACE = {
    "fit": 1,
    "query": 2,
    "batch_query": 2,
    "get_batch_results": 0,
    "get_additional": 0,
    "get_memory_usage": 0,
    "set_query_arguments": 1,
    "done": 0,
}


def test_the_class_has_the_interface():
    from ann_benchmarks import Recengine

    algorithm = Recengine("angular")
    for name, n_arguments in INTERFACE.items():
        assert len(inspect.signature(getattr(algorithm, name)).parameters) == n_arguments, name
    assert str(algorithm) == algorithm.name == "recengine(metric=cosine, num_threads=1)"


@pytest.mark.parametrize(("distance", "metric"), [("angular", "cosine"), ("euclidean", "l2")])
def test_it_answers_as_the_runner_asks(distance, metric, rng):
    from ann_benchmarks import Recengine

    train = rng.standard_normal((60, 5))  # float64: the suite's arrays are what they are
    test = rng.standard_normal((4, 5)).astype(np.float32)
    algorithm = Recengine(distance)
    algorithm.fit(train)
    want, _ = oracles.search(metric, test, train.astype(np.float32), 7)
    for threads in (1, 2):
        algorithm.set_query_arguments(threads)
        assert str(threads) in str(algorithm)
        for query, ids in zip(test, want, strict=True):
            np.testing.assert_array_equal(algorithm.query(query, 7), ids)
        assert algorithm.batch_query(test, 7) is None
        np.testing.assert_array_equal(algorithm.get_batch_results(), want)
    assert len(algorithm.query(test[0], 100)) == 60, "no padding: the runner indexes with the ids"
    assert algorithm.get_memory_usage() > 1000
    assert algorithm.get_additional()["dist_comps"] > 0
    algorithm.done()
    with pytest.raises(RuntimeError, match="fit must come before a query"):
        algorithm.query(test[0], 1)


def test_it_refuses_other_distances():
    from ann_benchmarks import Recengine

    with pytest.raises(ValueError, match="metric must be one of angular, euclidean, got 'jaccard'"):
        Recengine("jaccard")


def test_the_definition_names_the_class():
    text = (Path(inspect.getfile(_adapter())).with_name("config.yml")).read_text()
    assert "constructor: Recengine" in text
    assert "base_args: ['@metric']" in text


def _adapter():
    from ann_benchmarks import Recengine

    return Recengine
