"""What a model's classification head says of each sequence: one file per shard, written as the model runs.

The tables of a run are written before the model runs, so predictions lie in files of their own and are joined to the sequences when
a run is opened. A run that was killed goes on at its last complete shard, and rewrites nothing.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attnviz.schema import predictions_schema
from attnviz.store import layout
from attnviz.store.edition import Edition
from attnviz.store.manifest import Manifest
from attnviz.types import FloatArray, ModelInfo, ProblemType

__all__ = ["GIVEN", "predicted_columns", "predicted_names", "prediction_table", "probabilities", "with_predictions"]

GIVEN = "given"
"""The column of the sequences that holds the user's labels as names of the model's classes."""


def prediction_table(model: ModelInfo, logits_of: Mapping[int, FloatArray]) -> pa.Table:
    """Return ``predictions/shard-NNNNN.parquet`` of a model with a classification head: the logits of some sequences, ordered."""
    if model.problem_type is None:
        raise ValueError(f"{model.id} has no classification head")
    schema = predictions_schema(model.problem_type)
    sequences = np.array(sorted(logits_of), np.int32)
    logits = np.stack([logits_of[number] for number in sequences.tolist()])
    if model.problem_type == "regression":
        return pa.table({"sequence_id": sequences, "predicted": logits[:, 0]}, schema=schema)
    likely = logits.argmax(axis=1)
    chances = probabilities(logits, model.problem_type)[np.arange(len(logits)), likely]
    columns = {
        "sequence_id": sequences,
        "predicted": [model.class_names[number] for number in likely],
        "predicted_probability": chances.astype(np.float32),
        "class_logits": list(logits),
    }
    return pa.table(columns, schema=schema)


def probabilities(logits: FloatArray, problem_type: ProblemType) -> FloatArray:
    """Return the probability of each class, ``(…, classes)``: of one among all, or of each by itself."""
    wide = logits.astype(np.float64)
    if problem_type == "multi_label_classification":
        return np.exp(-np.logaddexp(0, -wide))
    return np.exp(wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True))


def predicted_names(model: ModelInfo) -> tuple[str, ...]:
    """Return the names of all that is predicted of a sequence."""
    return () if model.problem_type is None else tuple(predictions_schema(model.problem_type).names[1:])


def predicted_columns(model: ModelInfo) -> tuple[str, ...]:
    """Return which of them can be shown, sorted and coloured by; logits are a list, and cannot."""
    return tuple(name for name in predicted_names(model) if name != "class_logits")


def with_predictions(table: pa.Table, manifest: Manifest, run: Path, edition: Edition) -> pa.Table:
    """Return the sequences of a run with what its model predicts.

    Raises
    ------
    DatasetError
        If a file is missing or damaged, or the run was replaced.
    """
    if manifest.model.problem_type is None:
        return table
    parts = []
    for number in range(len(manifest.shards)):
        path = layout.predictions_file(run, number)
        with edition.reading(path):
            parts.append(pq.read_table(path, partitioning=None))
    predicted = pa.concat_tables(parts)
    with edition.reading(run / "predictions"):
        if len(predicted) != len(table):
            raise pa.ArrowInvalid(f"{len(predicted):,} sequences where {len(table):,} belong")
    for name in predicted.column_names[1:]:
        table = table.append_column(name, predicted[name])
    return table
