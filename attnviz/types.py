"""The nouns: frozen dataclasses that travel between the stages.

Shape words, always in this order: ``(batch, heads, tokens, head_dim)`` inside capture, ``(tokens, heads, head_dim)`` once
padding is gone, ``(points, 2)`` for a map. Layers and heads are counted from 0; a head is a *query* head, and
``kv_head = head // (num_heads // num_kv_heads)``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
    "ProblemType",
    "Progress",
    "Record",
    "Sequences",
    "Terms",
    "TokenSequence",
    "TokenText",
]

FloatArray = NDArray[np.float32]
KINDS = ("query", "key")
"""The two kinds of point, in the order in which a map stores them."""

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""What a classification head was trained for, in the words of transformers: one class of several, any of several, or a value."""

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
    notes: tuple[str, ...] = ()  # what was done to it that people should know: "transparent, laid on white"
    source: str = ""  # which of several sources it came from


@dataclass(frozen=True, slots=True)
class TokenText:
    """What a token says, decided where the tokenizer is at hand. What is not said here is that of a special token or a patch."""

    text: str  # as people read it: " cat", "##ing", "東 1/3", "0xE6"
    plain: str  # without blanks and marks, characters whole: what a search for "cat" compares
    starts_word: bool = True  # of a special token, a patch and punctuation too: each is a word of its own
    is_punctuation: bool = False
    character: str | None = None  # of which it holds a part; of several, all of them
    part: str | None = None  # which of that character's UTF-8 bytes: "1/3", "1–2/3", of several characters "3/3, 1/3"
    byte_values: str | None = None  # all its bytes, "20 E6 9D", where they are no whole characters


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One tokenised text (or pair), or one patchified image. Every array has one entry per token."""

    record: Record
    tokens: tuple[TokenText, ...]
    input_ids: NDArray[np.int32]  # vocabulary ids; -1 for patches and for special tokens of images
    is_special: NDArray[np.bool_]
    segment: NDArray[np.int8]  # 0, or 1 for the second text of a pair
    patch_row: NDArray[np.int16]  # -1 where the token is no patch
    patch_col: NDArray[np.int16]
    truncated: bool = False  # whether the text was longer than what the model takes
    streams: Mapping[str, int] = field(default_factory=dict)  # tokens of each stream, in order; empty: all are of one
    is_image: NDArray[np.bool_] | None = None  # where text and image mix; None: all as the model's modality
    is_generated: NDArray[np.bool_] | None = None  # written by the model; None: no token is

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    @property
    def texts(self) -> tuple[str, ...]:
        """The tokens as people read them."""
        return tuple(token.text for token in self.tokens)

    def cut(self, tokens: int, stream: str | None = None) -> "TokenSequence":
        """Return the sequence with at most so many tokens in a stream, or in each: the first ones."""
        streams = self.streams or {"": len(self)}
        counts = {name: min(count, tokens) if stream in (None, name) else count for name, count in streams.items()}
        before = np.cumsum([0, *streams.values()])[:-1]
        kept = np.concatenate([np.arange(first, first + n) for first, n in zip(before, counts.values(), strict=True)])
        arrays = ("input_ids", "is_special", "segment", "patch_row", "patch_col", "is_image", "is_generated")
        shorter = {name: values[kept] for name in arrays if (values := getattr(self, name)) is not None}
        tokens_kept = tuple(self.tokens[i] for i in kept)
        return replace(self, tokens=tokens_kept, streams=counts if self.streams else {}, truncated=True, **shorter)


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What a layer adds to its logits beside ``q·k``, and what it hides, where a number does not say it.

    Positions count from 0 in the stream of a sequence. Arrays of one head have no first axis.
    """

    sinks: FloatArray | None = None  # (heads,): a logit that no key has and every row of softmax counts
    by_distance: FloatArray | None = None  # (heads, 2 * reach + 1): bias of key position − query position, from −reach
    by_place: FloatArray | None = None  # (heads, places, places): bias of two places of a window, or of an image
    place: NDArray[np.int32] | None = None  # (positions,): where in its window a position stands; None: where it is
    group: NDArray[np.int32] | None = None  # (positions,): a query sees the keys of its group alone
    rotation: FloatArray | None = None  # (2, positions, head_dim): the RoPE that vectors lack: cosines, signed sines
    partner: NDArray[np.int32] | None = None  # (head_dim,): with which dimension RoPE turns each

    def of_head(self, head: int | slice) -> "Terms":
        """Return the terms of one head, or of some."""
        own = {name: None if (all_heads := getattr(self, name)) is None else all_heads[head] for name in _BY_HEAD}
        return replace(self, **own)


_BY_HEAD = ("sinks", "by_distance", "by_place")


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """What one attention layer does to ``q·k``: enough to rebuild its weights from stored vectors."""

    layer: int  # its number in the model; where several stacks have one, counted through all of them
    name: str  # module path, "encoder.layer.3.attention.self"
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scaling: float
    causal: bool = False
    window: int | None = None  # a query sees the keys less than this many positions away
    chunk: int | None = None  # a query sees the keys of its own chunk of so many positions
    softcap: float | None = None  # logits become softcap * tanh(logits / softcap)
    stack: str = ""  # "encoder", "decoder", "cross", "vision": which part of the model, where it has several
    number: int | None = None  # of the layer in its stack
    query_stream: str = ""  # whose tokens have queries; "": all
    key_stream: str = ""
    rope: Literal["after", "before"] = "after"  # whether stored vectors are rotated already
    seam: str = "interface"  # how it was watched: the name of a capture backend
    rebuilt: bool = True  # False: the stored vectors do not give the model's attention
    terms: Terms | None = field(default=None, compare=False)

    def kv_head(self, head: int) -> int:
        """Return the key-value head that query head ``head`` reads."""
        return head // (self.num_heads // self.num_kv_heads)

    def of_head(self, head: int) -> "LayerInfo":
        """Return the layer as one of its heads sees it: its terms are those of the head."""
        return self if self.terms is None else replace(self, terms=self.terms.of_head(head))

    @property
    def label(self) -> str:
        """The layer's name for people: "3", or "encoder 3" where the model has several stacks, "stage 0 · 3" where they count."""
        if not self.stack:
            return str(self.layer)
        return f"{self.stack}{' ·' if self.stack[-1].isdigit() else ''} {self.number}"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model to load, and how."""

    id: str  # hub id, folder, package:NAME/FOLDER or builtin:NAME
    library: Literal["transformers", "timm"] | None = None  # None: told by the model's config
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"  # "auto": what the checkpoint was saved in
    device: str = "auto"  # "auto": a GPU if there is one
    device_map: str | None = None  # "auto": spread over every device, as accelerate does; instead of device
    quantize: Literal["8bit", "4bit"] | None = None  # by bitsandbytes, on a GPU
    allow_pickle: bool = False  # opening pickled weights can run code: only if you trust who made them
    trust_remote_code: bool = False  # runs code from the model's repository: only if you have read it


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model a run was captured from."""

    id: str
    library: Literal["transformers", "timm", "torch", "fake"]
    architecture: str  # "BertModel", "VisionTransformer"
    modality: Literal["text", "image", "text+image"]
    revision: str | None = None
    dtype: str = "float32"
    num_parameters: int = 0
    grid: tuple[int, int] | None = None  # patch rows and columns, for images
    problem_type: ProblemType | None = (
        None  # what its classification head was trained for; None: it was run without one
    )
    class_names: tuple[str, ...] = ()  # of its classification head, in the order of its logits


@dataclass(frozen=True, slots=True)
class LayerVectors:
    """What capture hands over for one layer and one batch, padding removed, in the order of the batch's sequences."""

    layer: int
    query: FloatArray  # (queries, heads, head_dim), float16 where that was asked for
    key: FloatArray  # (keys, kv_heads, head_dim)
    value_norm: FloatArray  # (keys, kv_heads)
    logsumexp: FloatArray  # (queries, heads): of each query's logits over the keys it may see, and its sink


@dataclass(frozen=True, slots=True)
class Sequences:
    """Which queries and keys of a head stand in one sequence, and what its layer lets a query see there.

    Where attention runs in windows, each window is a sequence here: no query of it sees beyond.
    """

    bounds: NDArray[np.int64]  # (sequences + 1,): the first query of each, then the number of queries
    layer: LayerInfo  # as the head sees it
    bounds_of_keys: NDArray[np.int64] | None = None  # where keys are of other tokens than queries; None: they are not
    positions: NDArray[np.int32] | None = None  # (queries,): in the whole sequence; None: counted from each bound

    @property
    def key_bounds(self) -> NDArray[np.int64]:
        """The first key of each sequence, then the number of keys, ``(sequences + 1,)``."""
        return self.bounds if self.bounds_of_keys is None else self.bounds_of_keys

    @classmethod
    def one(cls, tokens: int, head_dim: int) -> "Sequences":
        """Return one sequence of all tokens, without a mask: for vectors of which no more is known."""
        return cls(np.array([0, tokens]), LayerInfo(0, "", 1, 1, head_dim, head_dim**-0.5))


@dataclass(frozen=True, slots=True)
class Joint:
    """Queries and keys of one head in one space, where distance can mean attention. See ``attnviz.normalize``."""

    query: FloatArray  # (queries, head_dim)
    key: FloatArray  # (keys, head_dim): as many as queries, but where queries attend to another stream
    shift: FloatArray  # (head_dim,): what was added to every key
    scale: float  # queries were multiplied by it, keys divided
    sequences: Sequences

    @property
    def original_key(self) -> FloatArray:
        """The keys before they were moved, ``(keys, head_dim)``: their products with ``query`` are the model's q·k."""
        return self.key - self.shift

    @property
    def points(self) -> FloatArray:
        """All points, ``(queries + keys, head_dim)``: the queries, then the keys."""
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

    weights: FloatArray  # (queries, keys); rows sum to 1, to less where the layer has a sink
    tokens: tuple[str, ...]  # of the queries
    key_tokens: tuple[str, ...]  # the same, but where queries attend to another stream

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the weights, so that numpy functions take this object."""
        return np.array(self.weights, dtype=dtype, copy=copy)
