"""Sequences as a table: what each is, how long, and what the user knows of it; found by any of these."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from attnviz.store import RunDirectory
from attnviz.views.describe import show_text

__all__ = ["first_token", "sequence_table"]

LONGEST = 160  # characters of a text in a cell
KNOWN = {"sequence_id": "#", "num_tokens": "Tokens", "text": "Text", "pair": "Second text", "reference": "Reference"}
"""Titles of the columns that every run has."""


def sequence_table(run: RunDirectory, wanted: str = "") -> pd.DataFrame:
    """Return the sequences that hold a text in any of their columns, whatever its case; all without one.

    Columns are called as a reader sees them; ``attrs["attributes"]`` says how many of them, the last ones, are the user's own.
    Columns without a value are left out.
    """
    sequences = run.sequences.reset_index()
    own = [name for name in run.manifest.attributes if not _is_empty(sequences[name])]
    columns = [name for name in KNOWN if not _is_empty(sequences[name])]
    kept = np.ones(len(sequences), bool)
    if wanted:
        kept[:] = False
        for name in [*columns, *own]:
            values = pa.array(sequences[name].astype("string").fillna("").tolist(), pa.string())
            kept |= pc.match_substring(values, wanted, ignore_case=True).to_numpy(zero_copy_only=False).astype(bool)
    known = {KNOWN[name]: _cell(sequences.loc[kept, name]) for name in columns}
    # A user's column may have the name of one of ours: it comes second and says so.
    mine = {f"{name} (yours)" if name in known else name: _cell(sequences.loc[kept, name]) for name in own}
    table = pd.DataFrame(known | mine).reset_index(drop=True)
    table.attrs["attributes"] = len(mine)
    return table


def first_token(run: RunDirectory, sequence: int) -> int:
    """Return the first token of a sequence."""
    return int(run.token_slice(sequence).start)


def _is_empty(values: "pd.Series") -> bool:
    return bool((values.isna() | (values.astype("string") == "")).all())


def _cell(values: "pd.Series") -> "pd.Series":
    """Shorten texts; leave numbers to be sorted as numbers."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values
    return values.map(lambda value: "" if pd.isna(value) else show_text(str(value), longest=LONGEST))
