"""Sequences as a table: what each is, how long, and what the user knows of it; found by any of these."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnviz.store import Column, RunDirectory
from attnviz.views.describe import show_text

__all__ = ["first_token", "sequence_table"]

LONGEST = 160  # characters of a text in a cell
KNOWN = {"sequence_id": "#", "num_tokens": "Tokens", "text": "Text", "pair": "Second text", "reference": "Reference"}
"""Titles of the columns that every run has."""


def sequence_table(run: RunDirectory, wanted: str = "") -> pd.DataFrame:
    """Return the sequences that hold a text in any of their columns, whatever its case; all without one.

    Columns are called as a reader sees them; ``attrs["attributes"]`` says how many of them, the last ones, are the user's own.
    Columns without a value are left out. What is a scale (numbers, dates, durations) is an ordered category of texts: it is shown
    digit for digit, and sorted by value.
    """
    sequences = run.sequences.reset_index()
    own = [column for column in run.columns.values() if not column.is_empty]
    columns = [name for name in KNOWN if not _is_empty(sequences[name])]
    kept = np.ones(len(sequences), bool)
    if wanted:
        known_texts = [pa.array(sequences[name].astype("string").fillna("").tolist(), pa.string()) for name in columns]
        kept = np.logical_or.reduce([_holds(values, wanted) for values in [*known_texts, *(c.texts for c in own)]])
    cells = {KNOWN[name]: _cell(sequences.loc[kept, name]) for name in columns}
    for column in own:
        cells[_title(column.name, cells)] = _own_cell(column, kept)
    table = pd.DataFrame(cells).reset_index(drop=True)
    table.attrs["attributes"] = len(own)
    return table


def first_token(run: RunDirectory, sequence: int) -> int:
    """Return the first token of a sequence."""
    return int(run.token_slice(sequence).start)


def _title(name: str, taken: dict[str, "pd.Series"]) -> str:
    """Return what a user's column is called; one that has the name of another comes second and says so."""
    while name in taken:
        name += " (yours)"
    return name


def _holds(values: pa.Array, wanted: str) -> NDArray[np.bool_]:
    found = pc.match_substring(values, wanted, ignore_case=True).fill_null(False)
    held: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False).astype(bool)
    return held


def _is_empty(values: "pd.Series") -> bool:
    return bool((values.isna() | (values.astype("string") == "")).all())


def _cell(values: "pd.Series") -> "pd.Series":
    """Shorten texts; leave numbers to be sorted as numbers."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values
    return values.map(lambda value: "" if pd.isna(value) else show_text(str(value), longest=LONGEST))


def _own_cell(column: Column, kept: NDArray[np.bool_]) -> "pd.Series":
    rows = np.flatnonzero(kept)
    names = column.names.to_pylist()
    if column.is_ordered:
        # A browser's numbers have 53 bits: an identifier of 19 digits goes there as a text.
        return pd.Series(pd.Categorical.from_codes(column.codes[rows], names, ordered=True), rows)
    shown = np.array([*(show_text(name, longest=LONGEST) for name in names), ""], dtype=object)
    return pd.Series(shown[column.codes[rows]], rows)
