"""Encoders: graphs trained elsewhere (ONNX) that turn items and queries into vectors.

`OnnxEncoder` feeds named arrays to any graph and takes one matrix back. `TextEncoder` adds what a
text model needs around its graph: the tokenizer, padding, pooling, normalisation and prompts.
`ImageEncoder` adds what an image model needs: decoding, turning upright, resizing, cropping and
scaling; `efficientnet` and `state_dict` make the graph of one image model from its weights.
`AudioEncoder` adds what a sound needs: decoding, one channel, one rate, windows, and their mean.
`SequenceEncoder` takes histories of items, the newest last, to vectors of users.
`OnnxRanker` scores the candidates of a request by columns of user, items and context, or by pairs
of texts.
`TwoTower` holds a user tower and an item tower that say of each other that they are a pair.
`attention`, `pool_history` and `interests` make one vector of a history of vectors, or several.
`fuse_weighted`, `ConcatFusion` and `OnnxFusion` make one vector of several modalities;
`SharedSpace` holds encoders of several that say they share one, so that a text finds images.
`encode_catalogue` runs an encoder over a source of any length, in chunks that are finished or not
begun whatever kills the process, and writes ids and vectors as one file.
`compress` writes a smaller graph if it answers like the original on samples.
Encoders hold a `recengine.runtime.Session`, so the device contract, threads, fork and pickling are
settled there; they are immutable once made and may be used from many threads at once.
Texts are encoded in batches of like length, longest first, with a cap on padded tokens, and come
back in the order they were given. A batch is arithmetic in company: the vector of a text may differ
with its batch mates, by rounding in a float graph. Dynamic quantisation takes its scales over the
whole batch, so what such a graph encodes (of any kind) always runs alone, as every query does.
An encoder is saved as a *reference*: paths, digests and options, never as weights.
"""

from recengine.encoders.arrays import OnnxEncoder as OnnxEncoder
from recengine.encoders.attend import attention as attention
from recengine.encoders.attend import pool_history as pool_history
from recengine.encoders.audio import AudioEncoder as AudioEncoder
from recengine.encoders.catalogue import Catalogue as Catalogue
from recengine.encoders.catalogue import encode_catalogue as encode_catalogue
from recengine.encoders.compression import Compression as Compression
from recengine.encoders.compression import compress as compress
from recengine.encoders.fusion import ConcatFusion as ConcatFusion
from recengine.encoders.fusion import OnnxFusion as OnnxFusion
from recengine.encoders.fusion import fuse_weighted as fuse_weighted
from recengine.encoders.image import ImageEncoder as ImageEncoder
from recengine.encoders.interest_groups import Interests as Interests
from recengine.encoders.interest_groups import interests as interests
from recengine.encoders.ranker import OnnxRanker as OnnxRanker
from recengine.encoders.sequence import SequenceEncoder as SequenceEncoder
from recengine.encoders.space import SharedSpace as SharedSpace
from recengine.encoders.text import TextEncoder as TextEncoder
from recengine.encoders.towers import TwoTower as TwoTower

__all__ = [
    "AudioEncoder",
    "Catalogue",
    "Compression",
    "ConcatFusion",
    "ImageEncoder",
    "Interests",
    "OnnxEncoder",
    "OnnxFusion",
    "OnnxRanker",
    "SequenceEncoder",
    "SharedSpace",
    "TextEncoder",
    "TwoTower",
    "attention",
    "compress",
    "encode_catalogue",
    "fuse_weighted",
    "interests",
    "pool_history",
]
