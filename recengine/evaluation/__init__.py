"""How good are recommendations, and how sure is that.

`evaluate` lays a result (a `TopK`, or a frame user_id, item_id, score) against the events of a test
split and returns an `Evaluation`: one figure per metric, the value of every user behind it,
bootstrap intervals, and the paired difference to another evaluation of the same users.
The ranking metrics are those of trec_eval with binary relevance; `metrics` has each of them as a
function of its own, over rows of hits, beside RMSE and MAE for predicted ratings.
The protocol is one: all items of the result are ranked against all relevant items, no sampled
negatives; who counts and what is relevant is written at `evaluate`.
`figures_table` and `differences_table` arrange evaluations in rows; they print nothing.
Nothing here is on a request path, and the engine never imports it.
"""

from recengine.evaluation import metrics
from recengine.evaluation.bootstrap import Interval
from recengine.evaluation.figures import Comparison, Evaluation
from recengine.evaluation.protocol import evaluate
from recengine.evaluation.report import Table, differences_table, figures_table

__all__ = [
    "Comparison",
    "Evaluation",
    "Interval",
    "Table",
    "differences_table",
    "evaluate",
    "figures_table",
    "metrics",
]
