"""The nouns: frozen dataclasses that travel between the stages.

Shape words, always in this order: ``(batch, heads, tokens, head_dim)`` inside capture, ``(tokens, heads, head_dim)`` once
padding is gone, ``(points, 2)`` for a map. Layers and heads are counted from 0; a head is a *query* head, and
``kv_head = head // (num_heads // num_kv_heads)``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "KINDS",
    "Attention",
    "FloatArray",
    "Joint",
    "LayerInfo",
    "LayerVectors",
    "MapSpec",
    "ModelInfo",
    "ModelSpec",
    "Neighbors",
    "Progress",
    "Record",
    "Sequences",
    "TokenSequence",
]

FloatArray = NDArray[np.float32]
KINDS = ("query", "key")
"""The two kinds of point, in the order in which a map stores them."""

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; the library never prints."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the user's data, before tokenisation: a text, a pair of texts, or an image.

    An image is decoded when it is asked for: ten thousand photographs fit in no memory.
    """

    reference: str  # where it came from, for people: "reviews.csv:17", "cats/a.png"
    text: str | None = None
    pair: str | None = None
    image: Callable[[], NDArray[np.uint8]] | None = None  # decodes it: (height, width) or (height, width, 3)
    attributes: Mapping[str, Any] = field(default_factory=dict)  # the user's other columns, as they came


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One tokenised text (or pair), or one patchified image. Every array has one entry per token."""

    record: Record
    texts: tuple[str, ...]
    input_ids: NDArray[np.int32]  # vocabulary ids; -1 for patches and for special tokens of images
    is_special: NDArray[np.bool_]
    segment: NDArray[np.int8]  # 0, or 1 for the second text of a pair
    patch_row: NDArray[np.int16]  # -1 where the token is no patch
    patch_col: NDArray[np.int16]
    truncated: bool = False  # whether the text was longer than what the model takes
    streams: Mapping[str, int] = field(default_factory=dict)  # tokens of each stream, in order; empty: all are of one
    is_image: NDArray[np.bool_] | None = None  # where a sequence mixes text and image; None: all as the model's modality
    is_generated: NDArray[np.bool_] | None = None  # written by the model; None: no token is

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """What one attention layer does to ``q·k``: enough to rebuild its weights from stored vectors."""

    layer: int
    name: str  # module path, "encoder.layer.3.attention.self"
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scaling: float
    causal: bool = False
    window: int | None = None  # a query sees the keys less than this many positions away
    softcap: float | None = None  # logits become softcap * tanh(logits / softcap)

    def kv_head(self, head: int) -> int:
        """Return the key-value head that query head ``head`` reads."""
        return head // (self.num_heads // self.num_kv_heads)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model to load, and how."""

    id: str  # hub id, folder, package:NAME/FOLDER or builtin:NAME
    library: Literal["transformers", "timm"] | None = None  # None: told by the model's config
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"  # "auto": a GPU if there is one
    trust_remote_code: bool = False  # runs code from the model's repository: only if you have read it


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model a run was captured from."""

    id: str
    library: Literal["transformers", "timm", "fake"]
    architecture: str  # "BertModel", "VisionTransformer"
    modality: Literal["text", "image"]
    revision: str | None = None
    dtype: str = "float32"
    num_parameters: int = 0
    grid: tuple[int, int] | None = None  # patch rows and columns, for images


@dataclass(frozen=True, slots=True)
class LayerVectors:
    """What capture hands over for one layer and one batch, padding removed, in the order of the batch's sequences."""

    layer: int
    query: FloatArray  # (tokens, heads, head_dim), float16 where that was asked for
    key: FloatArray  # (tokens, kv_heads, head_dim)
    value_norm: FloatArray  # (tokens, kv_heads)
    logsumexp: FloatArray  # (tokens, heads): of each query's logits over the keys it may see


@dataclass(frozen=True, slots=True)
class Sequences:
    """Which tokens of a head stand in one sequence, and what its layer lets a query see there."""

    bounds: NDArray[np.int64]  # (sequences + 1,): the first token of each, then the number of tokens
    layer: LayerInfo

    @classmethod
    def one(cls, tokens: int, head_dim: int) -> "Sequences":
        """Return one sequence of all tokens, without a mask: for vectors of which no more is known."""
        return cls(np.array([0, tokens]), LayerInfo(0, "", 1, 1, head_dim, head_dim**-0.5))


@dataclass(frozen=True, slots=True)
class Joint:
    """Queries and keys of one head in one space, where distance can mean attention. See ``attnviz.normalize``."""

    query: FloatArray  # (tokens, head_dim)
    key: FloatArray  # (tokens, head_dim)
    shift: FloatArray  # (head_dim,): what was added to every key
    scale: float  # queries were multiplied by it, keys divided
    sequences: Sequences

    @property
    def original_key(self) -> FloatArray:
        """The keys before they were moved, ``(tokens, head_dim)``: their products with ``query`` are the model's q·k."""
        return self.key - self.shift

    @property
    def points(self) -> FloatArray:
        """All points, ``(2 * tokens, head_dim)``: the queries, then the keys."""
        return np.concatenate([self.query, self.key])


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Nearest neighbours of every point, nearest first, the point itself left out."""

    indices: NDArray[np.int32]  # (points, k)
    distances: FloatArray  # (points, k), Euclidean
    recall: float = 1.0  # share of the true neighbours found, measured on a sample; 1.0: exact


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map to make: its name in the run, the method, its dimensions and parameters."""

    name: str
    method: str
    dims: int = 2
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention weights of one head over one sequence: ``weights[i, j]`` is what query ``i`` gives to key ``j``."""

    weights: FloatArray  # (tokens, tokens); rows sum to 1
    tokens: tuple[str, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the weights, so that numpy functions take this object."""
        return np.array(self.weights, dtype=dtype, copy=copy)
