"""The run directory as a format: its Arrow schemas and its version. This file is the reference for other tools.

Rows are aligned by position: row ``i`` of ``tokens.parquet`` is token ``i`` everywhere. A map holds the queries of tokens
0…n-1, then their keys. A model with an encoder and a decoder, two towers or stages has several *streams* of tokens: a
sequence holds one after the other, and a layer has queries of one stream and keys of one, so its files hold the rows of those
tokens alone (in vectors, a token of the other stream has no query, or no key: null). Every shard and every layer file holds one
row group per head, so that reading a head reads nothing else; ``token`` and ``head`` are stored all the same, so that any reader
can join without knowing that.

A map's scores lie in ``scores/map=NAME/layer=L`` and how far to trust each of its points in ``faithfulness/map=NAME/layer=L``,
not in ``heads.parquet`` and not beside the coordinates: adding a map must rewrite nothing, and runs made before there was a
faithfulness stay complete. ``RunDirectory.head_scores`` joins the scores of all maps to the heads.
"""

from collections.abc import Iterable

import pyarrow as pa

__all__ = [
    "HEADS",
    "IMAGES",
    "READABLE_VERSIONS",
    "SCHEMA_VERSION",
    "SEQUENCES",
    "TERMS",
    "TOKENS",
    "faithfulness_schema",
    "map_schema",
    "predictions_schema",
    "scores_schema",
    "vectors_schema",
]

SCHEMA_VERSION = 3
READABLE_VERSIONS = (1, 2, 3)

_label = pa.dictionary(pa.int8(), pa.string())

SEQUENCES = pa.schema(
    [
        pa.field("sequence_id", pa.int32(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("pair", pa.string()),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("first_token", pa.int64(), nullable=False),  # row of its first token in tokens.parquet
    ]
)
"""One row per sequence; the user's own columns follow these, and ``given``: their labels as names of the model's classes.

``given`` is there where the model was run with a classification head that chooses one class, and the labels are known.
"""

TOKENS = pa.schema(
    [
        pa.field("sequence_id", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # as people read it: " cat", "##ing", "東 1/3", "0xE6"
        pa.field("vocab_id", pa.int32()),
        pa.field("is_special", pa.bool_(), nullable=False),
        pa.field("segment", pa.int8(), nullable=False),
        pa.field("patch_row", pa.int16()),
        pa.field("patch_col", pa.int16()),
        pa.field(
            "frequency", pa.int32(), nullable=False
        ),  # of its vocab_id in this run; of its text, where it has none
        pa.field("stream", _label, nullable=False),  # "", or which of the model's streams; position counts within it
        pa.field("modality", _label, nullable=False),  # "text" or "image"
        pa.field("is_generated", pa.bool_(), nullable=False),  # written by the model
        pa.field(
            "plain", pa.string(), nullable=False
        ),  # its text without blanks and marks, characters whole: "cat", "東"
        pa.field(
            "starts_word", pa.bool_(), nullable=False
        ),  # special tokens, patches and punctuation are words of their own
        pa.field("is_punctuation", pa.bool_(), nullable=False),  # P and S of Unicode and nothing else; emoji are not
        pa.field("character", pa.string()),  # of which it holds a part; of several, all of them: "東"
        pa.field("part", pa.string()),  # which of that character's UTF-8 bytes: "1/3", "1–2/3"; of several "3/3, 1/3"
        pa.field("byte_values", pa.string()),  # all its bytes, "20 E6 9D", where they are no whole characters
    ]
)
"""One row per token, as the tokenizer decided: see ``models.reading_tokens``.

Runs of version 1 lack ``stream``, ``modality`` and ``is_generated``: they have one stream, one modality, and no generated token.
Those and runs of version 2 lack ``plain`` and what follows it, and their frequency is that of the text: ``RunDirectory.tokens``
makes the best of their texts, and ``RunDirectory.lacks`` says so.
"""

HEADS = pa.schema(
    [
        pa.field("layer", pa.int16(), nullable=False),
        pa.field("head", pa.int16(), nullable=False),
        pa.field("kv_head", pa.int16(), nullable=False),
        pa.field("head_dim", pa.int16(), nullable=False),
        pa.field("query_norm", pa.float32(), nullable=False),  # medians
        pa.field("key_norm", pa.float32(), nullable=False),
        pa.field("scale", pa.float32(), nullable=False),  # queries were multiplied by it, keys divided
        pa.field("shift", pa.list_(pa.float32()), nullable=False),  # added to every key
        pa.field("joint_spearman", pa.float32(), nullable=False),  # of distance with q·k, pooled pairs, joint space
    ]
)
"""One row per head: how its vectors were brought into one space."""

TERMS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),  # of a field of ``types.Terms``, which says what it means
        pa.field("shape", pa.list_(pa.int32()), nullable=False),
        pa.field("values", pa.list_(pa.float32()), nullable=False),  # in row-major order
    ]
)
"""``terms/layer=L/part-0.parquet``: what a layer adds to its logits (bias, sinks, groups), for layers that do."""

IMAGES = pa.schema(
    [
        pa.field("sequence_id", pa.int32(), nullable=False),
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]), nullable=False),
    ]
)
"""``media/images.parquet``: each picture as the model saw it, as PNG."""


def vectors_schema(head_dim: int, dtype: str = "float16") -> pa.Schema:
    """Return the schema of ``vectors/layer=L/shard-NNNNN.parquet`` for heads of ``head_dim`` dimensions.

    Parameters
    ----------
    head_dim
        Length of one query or key.
    dtype
        ``"float16"`` or ``"float32"``: how vectors are stored.
    """
    item = pa.field("item", {"float16": pa.float16(), "float32": pa.float32()}[dtype], nullable=False)
    return pa.schema(
        [
            pa.field("head", pa.int16(), nullable=False),
            pa.field("token", pa.int32(), nullable=False),
            pa.field("query", pa.list_(item, head_dim)),
            pa.field("key", pa.list_(item, head_dim)),
            pa.field("query_norm", pa.float32()),
            pa.field("key_norm", pa.float32()),
            pa.field("value_norm", pa.float32()),
            pa.field("logsumexp", pa.float32()),
        ]
    )


def map_schema(dims: int) -> pa.Schema:
    """Return the schema of ``maps/NAME/layer=L/part-0.parquet``: coordinates aligned with the points."""
    axes = [pa.field(axis, pa.float32(), nullable=False) for axis in "xyz"[:dims]]
    return pa.schema(
        [
            pa.field("head", pa.int16(), nullable=False),
            pa.field("token", pa.int32(), nullable=False),
            pa.field("kind", _label, nullable=False),
            *axes,
        ]
    )


def predictions_schema(problem_type: str) -> pa.Schema:
    """Return the schema of ``predictions/shard-NNNNN.parquet``: one row per sequence, what the model's classification head says.

    A head that gives one value has no classes: ``predicted`` is that value. Otherwise it is the most likely class by name,
    and ``class_logits`` are in the order of ``manifest.model.class_names``. Probabilities are the softmax of the logits, or the
    sigmoid of each where several classes can hold at once.

    Parameters
    ----------
    problem_type
        As ``types.ProblemType`` says.
    """
    number = pa.field("sequence_id", pa.int32(), nullable=False)
    if problem_type == "regression":
        return pa.schema([number, pa.field("predicted", pa.float32(), nullable=False)])
    return pa.schema(
        [
            number,
            pa.field("predicted", pa.string(), nullable=False),
            pa.field("predicted_probability", pa.float32(), nullable=False),
            pa.field("class_logits", pa.list_(pa.float32()), nullable=False),
        ]
    )


def faithfulness_schema() -> pa.Schema:
    """Return the schema of ``faithfulness/map=NAME/layer=L/part-0.parquet``: aligned with the points, shares from 0 to 1."""
    return pa.schema(
        [
            pa.field("head", pa.int16(), nullable=False),
            pa.field("token", pa.int32(), nullable=False),
            pa.field("kind", _label, nullable=False),
            pa.field("neighbors_kept", pa.float16(), nullable=False),  # of its nearest points, near on the map
            pa.field("attention_kept", pa.float16(), nullable=False),  # of its strongest partners, near on the map
        ]
    )


def scores_schema(metrics: Iterable[str]) -> pa.Schema:
    """Return the schema of ``scores/map=NAME/layer=L/part-0.parquet``: one row per head, one column per metric.

    The last column of a run is ``neighbors_recall``: the share of true neighbours that the search found, 1 where it was exact.
    """
    return pa.schema(
        [
            pa.field("head", pa.int16(), nullable=False),
            *(pa.field(metric, pa.float32(), nullable=False) for metric in metrics),
        ]
    )
