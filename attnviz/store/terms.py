"""What layers add to their logits, as one small Parquet file for each layer that adds something."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attnviz.schema import TERMS
from attnviz.store.write import write_table
from attnviz.types import Terms

__all__ = ["read_terms", "write_terms"]

_WHOLE = {"place", "group", "partner"}  # numbers of positions and dimensions


def write_terms(path: Path, terms: Terms) -> None:
    """Write the arrays of a layer, one row each."""
    rows = [
        {"name": field.name, "shape": list(values.shape), "values": values.astype(np.float32).ravel()}
        for field in dataclasses.fields(terms)
        if (values := getattr(terms, field.name)) is not None
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=TERMS))


def read_terms(path: Path) -> Terms:
    """Read what ``write_terms`` wrote."""
    arrays: dict[str, Any] = {}
    for row in pq.read_table(path, partitioning=None).to_pylist():
        values = np.asarray(row["values"], np.float32).reshape(row["shape"])
        arrays[row["name"]] = values.astype(np.int32) if row["name"] in _WHOLE else values
    return Terms(**arrays)
