"""Export: one tidy table of a map, for other tools. One file per target, one line in ``TARGETS``.

Receives a run and what to take of it; every target gets the same stream of tables (one per head), so none holds the whole.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from attnviz.errors import AttnvizError, nearest
from attnviz.export.csv import write_csv
from attnviz.export.parquet import write_parquet
from attnviz.export.tidy import tidy_tables
from attnviz.store import RunDirectory

__all__ = ["TARGETS", "export"]

TARGETS: dict[str, Callable[[Iterable[pa.Table], Path], int]] = {"csv": write_csv, "parquet": write_parquet}
"""Target → what writes a stream of tables to a file and returns the number of rows."""


def export(
    run: RunDirectory,
    to: str,
    *,
    out: Path | None = None,
    map_name: str | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> tuple[Path, int]:
    """Write one map of a run as a tidy table: a row per point of a head, with token, kind, layer, head, coordinates and attributes.

    Parameters
    ----------
    to
        A name in ``TARGETS``.
    out
        The file; ``RUN-MAP.TARGET`` beside the run, if not given. An existing file is replaced when the new one is complete.
    map_name
        The run's first map, if not given.
    layers, heads
        All, if not given.

    Returns
    -------
    tuple[Path, int]
        The file, and its number of rows.

    Raises
    ------
    AttnvizError
        If the target is unknown.
    DatasetError
        If the run has no such map, layer or head, or the file cannot be written.
    """
    if to not in TARGETS:
        raise AttnvizError(f"{to!r} is no export target of tables: {nearest(to, TARGETS)}")
    name = map_name or next(iter(run.maps), "")
    tables = tidy_tables(run, name, layers=layers, heads=heads)
    path = out or run.path.with_name(f"{run.path.name}-{name}.{to}")
    return path, TARGETS[to](tables, path)
