"""The user's own columns, of any type of Arrow: what kind of values they hold, and what the rest of the house needs of them.

Receives a column of ``sequences.parquet`` as it is stored; gives its texts (shown, searched, told apart), its order (sorted by) and
its place on a scale (coloured by). Everything is worked out once and from the stored values themselves: two identifiers of 19
digits differ in their last digit, and stay different.
"""

from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnviz.store.storable import storable
from attnviz.store.texts import is_nested, texts
from attnviz.types import FloatArray

__all__ = ["Column", "Kind", "to_frame"]

Kind = Literal["whole", "number", "measure", "class", "nested"]
"""Whole numbers, other numbers, what is always a scale (decimals, dates, times, durations), names, and values with parts."""

DAY = 86_400.0
NULLABLE = {
    **{
        getattr(pa, f"{sign}int{bits}")(): getattr(pd, f"{sign.upper()}Int{bits}Dtype")()
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    pa.bool_(): pd.BooleanDtype(),
}
"""What pandas holds exactly where values are missing; numpy's whole numbers would become floats."""


class Column:
    """One of the user's columns.

    Parameters
    ----------
    name
        As the run calls it.
    values
        One value per sequence, as they are stored.
    """

    def __init__(self, name: str, values: pa.Array | pa.ChunkedArray) -> None:
        self.name = name
        whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        self.values: pa.Array = storable(whole)[0]

    def __repr__(self) -> str:
        return f"<column {self.name}: {self.values.type}, {len(self.values):,} rows>"

    @property
    def type(self) -> pa.DataType:
        """The type of Arrow."""
        return self.values.type

    @property
    def kind(self) -> Kind:
        """What its values are."""
        if pa.types.is_integer(self.type):
            return "whole"
        if pa.types.is_floating(self.type):
            return "number"
        if pa.types.is_decimal(self.type) or pa.types.is_temporal(self.type):
            return "measure"
        return "nested" if is_nested(self.type) else "class"

    @property
    def is_ordered(self) -> bool:
        """Whether its values can be laid out on a scale."""
        return self.kind in ("whole", "number", "measure")

    @cached_property
    def texts(self) -> pa.Array:
        """Each value as a text, null where there is none; see ``store.texts``."""
        return texts(self.values)

    @property
    def is_empty(self) -> bool:
        """Whether no row has anything to show."""
        return not pc.any(pc.not_equal(self.texts, "")).as_py()

    @cached_property
    def names(self) -> pa.Array:
        """The different values as texts: those of a scale in their order, others as they first occur."""
        if self.is_ordered:
            _, first = np.unique(self.order, return_index=True)
            return self.texts.take(pa.array(first[self.order[first] >= 0]))
        return self._encoded.dictionary

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """Which of ``names`` each row has, -1 where it has no value, ``(rows,)``."""
        if self.is_ordered:
            return self.order
        codes: NDArray[np.int64] = self._encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return codes

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The rank of each value among those that differ, from 0, -1 where there is none, ``(rows,)``; NaN is last."""
        comparable = self.texts if not self.is_ordered else self._comparable
        ranks = pc.rank(comparable, tiebreaker="dense").to_numpy().astype(np.int64) - 1
        return np.where(self._known, ranks, -1)

    @cached_property
    def numbers(self) -> FloatArray:
        """Where each value of a scale lies on it, NaN where there is none, ``(rows,)``, in float64.

        All but floats are counted from the least value, which keeps their digits: times and durations in seconds.
        """
        kind = self.type
        if pa.types.is_floating(kind):
            values: FloatArray = self._comparable.cast(pa.float64()).to_numpy(zero_copy_only=False)
            return np.where(self._known, values, np.nan)
        return _decimal_offsets(self.values) if pa.types.is_decimal(kind) else self._whole_offsets()

    def short(self, rows: Iterable[int]) -> list[str]:
        """Return the values of some rows of a scale as short as a legend needs them: points in time days apart as dates."""
        found = list(rows)
        shown = [text or "" for text in self.texts.take(pa.array(found, pa.int64())).to_pylist()]
        if pa.types.is_timestamp(self.type) and len(found):
            apart = float(np.ptp(self.numbers[found]))
            return [_short(text, apart) for text in shown]
        return shown

    @property
    def _known(self) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = self.values.is_valid().to_numpy(zero_copy_only=False)
        return known

    @cached_property
    def _encoded(self) -> pa.DictionaryArray:
        return self.texts.dictionary_encode()

    @property
    def _comparable(self) -> pa.Array:
        """The values in a type that Arrow ranks."""
        return self.values.cast(pa.float32()) if pa.types.is_float16(self.type) else self.values

    def _whole_offsets(self) -> FloatArray:
        """Return how far whole numbers, dates and times lie above the least of them: exact differences, rounded once."""
        wide = _as_whole(self.values.drop_null())
        numbers = np.full(len(self.values), np.nan)
        if len(wide):
            offsets = wide.view(np.uint64) - wide.min(keepdims=True).view(
                np.uint64
            )  # which wraps around to what is right
            numbers[self._known] = offsets.astype(np.float64) / _per_unit(self.type)
        return numbers


def _short(text: str, apart: float) -> str:
    """Return a point in time that is one of several, so many seconds apart: its date, or its time to the minute."""
    date, gap, clock = text.partition(" ")
    return date if apart >= 2 * DAY else f"{date}{gap}{clock[:5]}" if apart >= DAY / 12 else text


def _as_whole(values: pa.Array) -> NDArray[Any]:
    """Return whole numbers, or what dates and times are stored as, in 64 bits."""
    kind = values.type
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        values = values.cast(pa.int32())
    whole: NDArray[Any] = values.cast(pa.uint64() if pa.types.is_uint64(kind) else pa.int64()).to_numpy()
    return whole


def _per_unit(kind: pa.DataType) -> float:
    """Return how many of what is stored are a second, or a day of dates."""
    if pa.types.is_date64(kind):
        return 1000 * DAY
    return {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}.get(getattr(kind, "unit", "s"), 1.0)


def _decimal_offsets(values: pa.Array) -> FloatArray:
    kind = values.type
    if kind.precision < 76 and values.null_count < len(values):
        wide = values.cast(pa.decimal256(kind.precision + 1, kind.scale))
        with suppress(pa.ArrowInvalid):  # where there is no room for the difference
            values = pc.subtract(wide, pc.min(wide))
    numbers: FloatArray = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table for pandas, every value as it is stored.

    Whole numbers and booleans with gaps come in nullable types, nested values and what numpy cannot hold in types of Arrow.
    """
    return pd.DataFrame({name: _series(column) for name, column in zip(table.column_names, table.columns, strict=True)})


def _series(column: pa.ChunkedArray) -> "pd.Series":
    nullable = NULLABLE.get if column.null_count else None
    if not is_nested(column.type):
        with suppress(pa.ArrowException, ValueError):  # nanoseconds of a day, a time zone that is not known here
            series: pd.Series[Any] = column.to_pandas(types_mapper=nullable)
            return series
    return pd.Series(pd.arrays.ArrowExtensionArray(column))
