"""The engine: recommendations, search and updates over everything that is known of users and items.

`Engine` holds one frozen `State` (`state`): catalogue, profiles, sources, model and encoder. A
request reads it once; a change (`update`) makes the next state aside, sharing what stays, and
publishes it by replacing one reference under a writer lock, so no reader sees half a change.
Items learn from events by `publish`: solved aside, published in one such change.
Retrieval is a list of sources (`sources`): factors, content and popularity, each an index over
ordinals with a way to see a user as a vector. One weighted source answers alone; several nominate
and `fuse` finds the exact best of their weighted sum. `retrieve` applies what a user has seen and
what the caller allows, denies or filters (`filters`); a ranker, if there is one (`ranker`), orders
what was found (`last_stage`); `answers` turns ordinals into the caller's ids, last of all.
`request` carries deadline and trace through every stage. `profiles` keeps the histories of the
build as one sparse matrix and what was observed since in small parts of which an event copies one.
`changes` makes changes one after the other, behind an event log where there is one; `journal` says
what the log holds and follows it after a restart.
`bundle` writes all of it as one checked file of arrays (`recengine.storage`) and reads it back
mapped. Nothing here imports Numba, SciPy, polars or onnxruntime to answer a request.
"""

from recengine.engine.engine import Engine
from recengine.engine.filters import ItemFilter

__all__ = ["Engine", "ItemFilter"]
