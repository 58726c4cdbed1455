"""The runtime: onnxruntime sessions, and the contract about the device they run on.

The only room that imports onnxruntime, and it does so at the first `open_session`.
A device is asked for by name and is either given or refused. ``"cuda"`` means that every node of
the graph runs on the GPU, judged on the session that was *created* (its providers, and where its
nodes stand): the provider list of the wheel proves nothing, because onnxruntime falls back to the
CPU with no more than a log line. ``"auto"`` may fall back, and then says why: in the log
``recengine`` and in `Session.reason`.
Threads are explicit: as many as this process may use, none of them spinning. Options are checked
against a list of our own, for onnxruntime takes a misspelt key in silence.
A session outlives fork (the child opens its own and leaves the parent's alone, for destroying that
one there crashes) and travels by pickle as a path and a digest, never as weights.
A run may have a deadline. One that is expected to be short runs where it is called, and one thread
of the process watches them all; a longer one runs aside, and its caller walks away in time.
A graph may be cut at one of its tensors: onnxruntime alone would run all of it, whatever is asked.
On a GPU, a run takes buffers of its own from a pool; on the CPU that was measured to gain nothing.
What many runs read (the matrix of a scorer) is placed on the device once, and named in their feeds.
`_wheel` finds onnxruntime, `_cuda` asks the machine why CUDA cannot start, `_create` makes native
sessions, `cutting` parts of graphs, `shrinking` smaller ones, `session` wraps a native session,
`_calls` and `_bound` reach it, `_watch` and `_aside` keep deadlines, `ports` fits arrays to it,
`placed` are arrays that stay there, `buckets` are shapes that batches are padded to, `report` tells
``recengine doctor``.
"""

from recengine.runtime._create import parse_device as parse_device
from recengine.runtime.buckets import Buckets as Buckets
from recengine.runtime.buckets import as_buckets as as_buckets
from recengine.runtime.files import Built as Built
from recengine.runtime.files import check_digest as check_digest
from recengine.runtime.files import file_digest as file_digest
from recengine.runtime.options import RuntimeOptions as RuntimeOptions
from recengine.runtime.placed import Placed as Placed
from recengine.runtime.ports import Port as Port
from recengine.runtime.report import (
    ProvidersReport as ProvidersReport,
)
from recengine.runtime.report import (
    ProviderStatus as ProviderStatus,
)
from recengine.runtime.report import (
    providers_report as providers_report,
)
from recengine.runtime.session import (
    Session as Session,
)
from recengine.runtime.session import (
    open_session as open_session,
)
from recengine.runtime.shrinking import METHODS as METHODS
from recengine.runtime.shrinking import shrink as shrink

__all__ = [
    "METHODS",
    "Buckets",
    "Built",
    "Placed",
    "Port",
    "ProviderStatus",
    "ProvidersReport",
    "RuntimeOptions",
    "Session",
    "as_buckets",
    "check_digest",
    "file_digest",
    "open_session",
    "parse_device",
    "providers_report",
    "shrink",
]
