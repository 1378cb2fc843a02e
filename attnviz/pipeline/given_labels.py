"""The user's own labels as names of the model's classes, so that what is given and what is predicted can be compared.

A label is the number of a class, or its name in any case; −1 and gaps are rows without one, as data sets mark them.
"""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from attnviz.errors import InputError, nearest
from attnviz.pipeline.attributes import attribute_column
from attnviz.types import ModelInfo, Record

__all__ = ["LABELS", "given_labels"]

LABELS = ("label", "labels")
"""Columns that hold the labels where the recipe names none."""


def given_labels(
    records: Sequence[Record], model: ModelInfo, column: str | None
) -> tuple[pa.Array | None, tuple[str, ...]]:
    """Return the class of each record by name, None where no column holds labels of the model; and notes.

    Parameters
    ----------
    column
        Of the labels; the first of ``LABELS`` that the data has, if not given.

    Raises
    ------
    InputError
        If a column was asked for that is not there, or whose values are not the model's classes; or the model has none.
    """
    known = dict.fromkeys(name for record in records for name in record.attributes)
    if column is not None:
        _require_labels(column, known, model)
    found = column or next((name for name in LABELS if name in known), None)
    if found is None or model.problem_type != "single_label_classification":
        return None, ()
    values = attribute_column([record.attributes.get(found) for record in records])[0].to_pylist()
    by_name = {name.casefold(): name for name in reversed(model.class_names)}
    try:
        names = [_name_of(value, model.class_names, by_name) for value in values]
    except LookupError as error:
        first = model.class_names[0]
        said = f"column {found!r} holds {error.args[0]!r:.60}, which is no class of {model.id} (the first is {first!r:.60})"
        if column is None:
            return None, (f"{said}: what is given cannot be compared with what is predicted",)
        raise InputError(
            f"data.label_column: {said}. Accepted are names of classes, or numbers from 0 to {len(model.class_names) - 1}."
        ) from error
    return (pa.array(names, pa.string()) if any(names) else None), ()


def _require_labels(column: str, known: Sequence[str] | dict[str, None], model: ModelInfo) -> None:
    """Make sure that a column that the recipe names is there, and can be compared."""
    if model.problem_type != "single_label_classification":
        raise InputError(
            f"data.label_column = {column!r} is for models that choose one of several classes; {model.id} "
            f"({model.architecture}) does not. Leave it out: the column is kept all the same."
        )
    if column not in known:
        raise InputError(
            f"data.label_column names the column {column!r}, which the data does not have: {nearest(column, known)}"
        )


def _name_of(value: Any, names: Sequence[str], by_name: dict[str, str]) -> str | None:
    """Return the class that a label means, None where there is no label. Raises ``LookupError`` if it means none."""
    if value is None or value == -1 or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        if value in names:
            return value
        if value.casefold() in by_name:
            return by_name[value.casefold()]
    elif isinstance(value, int | float) and not isinstance(value, bool) and value in range(len(names)):
        return names[int(value)]
    raise LookupError(value)
