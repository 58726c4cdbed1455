from recengine._errors import (
    BundleError as BundleError,
    DeadlineError as DeadlineError,
    DeviceError as DeviceError,
    FetchError as FetchError,
    ImageError as ImageError,
    LogError as LogError,
    LossError as LossError,
    NotFittedError as NotFittedError,
    RecengineError as RecengineError,
    SoundError as SoundError,
    UnknownItemError as UnknownItemError,
    UnknownUserError as UnknownUserError,
)
from recengine._types import TopK as TopK
from recengine.data import (
    CleaningReport as CleaningReport,
    CleaningRules as CleaningRules,
    IdMap as IdMap,
    Interactions as Interactions,
)
from recengine.encoders import (
    AudioEncoder as AudioEncoder,
    Catalogue as Catalogue,
    Compression as Compression,
    ConcatFusion as ConcatFusion,
    ImageEncoder as ImageEncoder,
    Interests as Interests,
    OnnxEncoder as OnnxEncoder,
    OnnxFusion as OnnxFusion,
    OnnxRanker as OnnxRanker,
    SequenceEncoder as SequenceEncoder,
    SharedSpace as SharedSpace,
    TextEncoder as TextEncoder,
    TwoTower as TwoTower,
    attention as attention,
    compress as compress,
    encode_catalogue as encode_catalogue,
    fuse_weighted as fuse_weighted,
    interests as interests,
    pool_history as pool_history,
)
from recengine.engine import Engine as Engine
from recengine.evaluation import (
    Evaluation as Evaluation,
    evaluate as evaluate,
    metrics as metrics,
)
from recengine.factorization import (
    ALS as ALS,
    BPR as BPR,
    EASE as EASE,
    FoldedUser as FoldedUser,
    ItemKNN as ItemKNN,
    SGD as SGD,
    UserKNN as UserKNN,
    bm25_weight as bm25_weight,
    tfidf_weight as tfidf_weight,
)
from recengine.retrieval import (
    Filter as Filter,
    FlatIndex as FlatIndex,
    cosine_similarity as cosine_similarity,
    dot_similarity as dot_similarity,
    euclidean_distance as euclidean_distance,
    merge_topk as merge_topk,
    search_interests as search_interests,
    topk as topk,
    where as where,
)
from recengine.retrieval.device import DeviceIndex as DeviceIndex
from recengine.storage import EventLog as EventLog

__version__: str
