"""A map as a tidy table, head by head: what every target writes.

A row is a point that a head has: a token of another stream has no query there, or no key, and no row. The columns are the same
for every run, those that speak of streams too: who joins runs of several models need not know which has them. The user's own
columns follow, as they are stored; one that has the name of one of ours has as many underscores behind it as make it free.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from attnviz.errors import DatasetError
from attnviz.inputs.columns import free_name
from attnviz.store import RunDirectory
from attnviz.types import LayerInfo

__all__ = ["tidy_tables"]


def tidy_tables(
    run: RunDirectory, name: str, *, layers: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> Iterator[pa.Table]:
    """Return one table per head; all have the same columns. Raises ``DatasetError`` at once if something is not there."""
    run.scores(name)  # says which maps there are
    for layer in layers or ():
        run.head(layer, 0)
    chosen = [(info, head) for info in run.layers.values() for head in range(info.num_heads)]
    chosen = [(info, head) for info, head in chosen if layers is None or info.layer in layers]
    chosen = [(info, head) for info, head in chosen if heads is None or head in heads]
    if not chosen:
        raise DatasetError(f"Run {run.name} has no such heads: layers {list(layers or [])}, heads {list(heads or [])}.")
    return (_head_table(run, name, info, head) for info, head in chosen)


def _head_table(run: RunDirectory, name: str, info: LayerInfo, head: int) -> pa.Table:
    frame = run.head(info.layer, head).map(name)
    vectors = run.vectors(info.layer, head)
    frame.insert(0, "map", name)
    frame.insert(1, "layer", info.layer)
    frame.insert(2, "layer_label", info.label)  # "3", or "cross 2" where the model has several stacks
    frame.insert(3, "head", head)
    frame["norm"] = np.concatenate([vectors.query_norm, vectors.key_norm])
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    sequences = table["sequence_id"].combine_chunks()
    for column in run.columns.values():
        name_here = free_name(column.name, frame.columns, {*run.columns, *table.column_names})
        table = table.append_column(name_here, column.values.take(sequences))
    return table
