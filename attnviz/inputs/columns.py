"""From a row with named columns to a Record: shared by every reader of tables.

Receives a mapping of column names to values, gives a Record or the reason why there is none. The text and pair columns
become the Record's; everything else rides along as attributes, with the types it came with. A name that the run's
``sequences.parquet`` needs for itself gets a trailing underscore rather than an error: it is the user's data.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnviz.errors import InputError, nearest
from attnviz.inputs.images import lazily
from attnviz.inputs.rows import DataOptions, Skip
from attnviz.schema import SEQUENCES
from attnviz.types import Record

__all__ = ["Columns", "choose", "free_name", "to_record"]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are shown to the model."""

    main: str
    pair: str | None = None


def choose(place: str, names: Iterable[str], options: DataOptions, *, images: Iterable[str] = ()) -> Columns:
    """Return the columns to read of a table at ``place``.

    Raises
    ------
    InputError
        If a column that was asked for is not there; the message names the nearest.
    """
    known = list(names)
    picture = next(iter(images), None)
    main = options.column or (picture if picture and "text" not in known else "text")
    for column in (main, options.pair_column):
        if column is not None and column not in known:
            raise InputError(
                f"{place} has no column {column!r}: {nearest(column, known)} Choose with data.column and data.pair_column."
            )
    return Columns(main, options.pair_column)


def to_record(reference: str, row: Mapping[str, Any], columns: Columns) -> Record | Skip:
    """Return the Record of one row, or why there is none.

    A missing second text is no reason to skip: the row is read as a single text.
    """
    main = row.get(columns.main)
    pair = row.get(columns.pair) if columns.pair else None
    attributes = _attributes(row, columns)
    if isinstance(main, Mapping) and {"bytes", "path"} <= main.keys():  # a picture, as `datasets` stores it
        image = lazily(main["bytes"] if main["bytes"] is not None else Path(str(main["path"])))
        return image if isinstance(image, Skip) else Record(reference, image=image, attributes=attributes)
    if main is None or (isinstance(main, str) and not main.strip()):
        return Skip("empty text")
    if not isinstance(main, str):
        return Skip("not a text")
    return Record(reference, main, pair if isinstance(pair, str) and pair.strip() else None, attributes=attributes)


def _attributes(row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return the user's other columns under names that are free."""
    attributes: dict[str, Any] = {}
    others = [str(name) for name in row if name not in (columns.main, columns.pair)]
    for name in others:
        attributes[free_name(name, SEQUENCES.names, {*others, *attributes})] = row[name]
    return attributes


def free_name(name: str, reserved: Iterable[str], taken: Iterable[str]) -> str:
    """Return ``name``, with trailing underscores where it is reserved and until nobody else has it."""
    blocked = set(reserved)
    if name not in blocked:
        return name
    blocked.update(taken)
    while name in blocked:
        name += "_"
    return name
