"""What a point's colour says: one code per point, with a legend that counts.

A code is ``2 * bin + kind`` (kind 0 = query, 1 = key), so a lookup table of at most 256 colours paints a whole wall and the
two kinds stay apart under every colouring. Numbers fall into 100 bins, and so do dates, durations and decimals. Of categories
the 64 most frequent keep a colour, as many as ``plots.theme`` has, and the rest is "other". A column of more than twelve whole
numbers is a scale, unless it is said to be of classes. Adding a colouring is a function and a line in ``TEXT`` or ``IMAGE``, or in
``PARTS`` if it is of use only where tokens differ in it; those of ``KEPT`` say how far to trust each point of a map.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from math import floor, isfinite, log10
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from attnviz.store import Column, RunDirectory
from attnviz.types import FloatArray
from attnviz.views.dimension import dimension_limit, dimension_title, dimension_values

__all__ = ["BINS", "FEW", "KEPT", "MOST", "Category", "Coloring", "as_classes", "color_points", "colorings"]

Table = dict[str, tuple[str, Callable[[RunDirectory], "pd.Series"]]]

BINS = 100
EDGES = (0.005, 0.995)  # of all values: what lies beyond has the colour of the end
WHOLE, NUMBER = re.compile(r"-?[0-9]+"), re.compile(r"-?([0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?|inf)|nan")
FEW = 12  # different numbers: more are a scale
MOST = 64  # categories that have a colour
ATTRIBUTE = "data:"  # before the name of a user's column, so that a column named "norm" is no trouble
CLASSES = "class:"  # instead: its whole numbers are the names of classes
KEPT = {"neighbors_kept": "Neighbours kept", "attention_kept": "Attention kept"}
"""Colourings that differ between maps, in the order of ``RunDirectory.faithfulness``."""


@dataclass(frozen=True, slots=True)
class Category:
    """One entry of a legend, with the number of the run's tokens it covers."""

    label: str
    tokens: int
    fallback: Literal["", "other", "missing"] = ""  # what takes no colour of the palette


@dataclass(frozen=True, slots=True)
class Coloring:
    """Codes of the points and what they mean."""

    title: str
    codes: NDArray[np.uint8]  # (1, points), or (heads, points) where heads differ
    categories: tuple[Category, ...] = ()  # empty: the codes are bins of a number
    low: float = 0.0
    high: float = 0.0
    note: str = ""  # "logarithmic"
    signed: bool = False  # bins of a number whose scale has 0 in its middle
    ends: tuple[str, str] = ("", "")  # low and high as they are read: of dates, dates
    without: str = "no value"  # what points without a number are called
    own: bool = False  # of a user's column, whose name is written as it is

    @property
    def phrase(self) -> str:
        """The title within a sentence."""
        return self.title if self.own else self.title.lower()

    @property
    def by_kind(self) -> bool:
        """Whether the colour says query or key and nothing else."""
        return not self.categories and self.low == self.high == 0.0

    def left_out(self, entries: Collection[int]) -> NDArray[np.bool_]:
        """Return which points belong to some entries of the legend, ``(1, points)`` or, where heads differ, ``(heads, points)``."""
        table = np.zeros(256, bool)
        codes = np.arange(256)
        table[np.isin(codes if self.by_kind else codes // 2, list(entries))] = True
        return table[self.codes] if entries else np.zeros((1, self.codes.shape[1]), bool)

    def tally(self, shown: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return how many tokens have a shown point of each category; of numbers, the last entry counts those without one.

        Parameters
        ----------
        shown
            ``(1, points)`` or, where heads differ, ``(heads, points)``. A token is counted once, if it has the code anywhere.
        """
        codes, width = np.broadcast_arrays(self.codes, shown)[0], self.codes.shape[1] // 2
        counted = np.zeros(len(self.categories) or BINS + 1, np.int64)
        for code in range(len(counted)) if self.categories else (BINS,):
            has = ((codes // 2 == code) & shown).any(axis=0)
            counted[code] = np.count_nonzero(has[:width] | has[width:])
        return counted


def colorings(run: RunDirectory) -> dict[str, str]:
    """Return the colourings that make sense for a run: name and title."""
    own = {f"{ATTRIBUTE}{name}": name for name in run.columns}
    kept = KEPT if run.has_faithfulness() else {}
    parts = {name: title for name, (title, _) in PARTS.items() if run.tokens[name].nunique() > 1}
    tokens = {name: title for name, (title, _) in _table(run).items()}
    if "stream" in parts and "position" in tokens:
        tokens["position"] = "Position in stream"
    return {"kind": "Query / key", "norm": "Vector norm"} | kept | parts | tokens | own


def color_points(
    run: RunDirectory, name: str, *, heads: Sequence[tuple[int, int]], map_name: str | None = None
) -> Coloring:
    """Return the colouring ``name`` for some heads.

    Parameters
    ----------
    name
        One of ``colorings(run)``, or ``dimension:<d>``, or ``as_classes`` of one.
    heads
        (layer, head) in the order of the tiles; only "norm", dimensions and those of ``KEPT`` differ between them.
    map_name
        For those of ``KEPT``; of a map that does not know, every point is without a value.
    """
    if (dimension := dimension_title(run, name)) is not None:
        return _dimension(run, name, dimension, heads)
    if name.startswith((ATTRIBUTE, CLASSES)):
        made = _own(run, run.columns[name.partition(":")[2]], as_classes=name.startswith(CLASSES))
        return replace(made, own=True)
    title = colorings(run)[name]
    if name in KEPT:
        return _kept(run, name, heads, map_name)
    if name == "kind":
        return Coloring(title, _with_kinds(np.zeros((1, run.num_tokens), np.uint8)))
    if name == "norm":
        return _norms(run, title, heads)
    values = (PARTS | _table(run))[name][1](run)
    if _is_number(values) and name != "position_mod_5":
        return _shade(title, values, logarithmic=name == "frequency")
    return _categorical(title, values)


def as_classes(run: RunDirectory, name: str) -> str | None:
    """Return the colouring that takes the whole numbers of a column as names of classes; None where there is no such choice."""
    column = run.columns.get(name.removeprefix(ATTRIBUTE)) if name.startswith(ATTRIBUTE) else None
    if column is None or column.kind != "whole" or _is_class(run, column):
        return None
    return f"{CLASSES}{column.name}"


def _is_class(run: RunDirectory, column: Column) -> bool:
    """Tell whether a column names classes, by its type, by what the recipe says, or because it has few different numbers."""
    if not column.is_ordered or column.name in run.manifest.classes:
        return True
    return column.kind != "measure" and len(column.names) <= FEW


def _own(run: RunDirectory, column: Column, *, as_classes: bool) -> Coloring:
    """Colour by a user's column: of each sequence, so by one value for all of its tokens."""
    lengths = np.diff(run.bounds)
    if as_classes or _is_class(run, column):
        return _classes(column.name, np.repeat(column.codes, lengths), column.names.to_pylist())
    numbers = column.numbers
    known = np.flatnonzero(np.isfinite(numbers))
    ranked = known[np.argsort(column.order[known], kind="stable")]  # in which all digits count
    rows = [int(ranked[round(share * (len(ranked) - 1))]) for share in EDGES] if len(ranked) else []
    low, high = numbers[rows].tolist() if rows else (0.0, 1.0)
    high = high if high > low else low + 1.0
    found = np.clip(numbers, low, high)  # what is infinite has the colour of the end
    made = _continuous(column.name, np.tile(np.repeat(found, lengths), 2)[None], limits=(low, high))
    return replace(made, ends=_ends(column, rows), without=_without(column))


def _ends(column: Column, rows: list[int]) -> tuple[str, str]:
    """Return the values of two rows as a legend says them: whole numbers to the last digit."""
    if not rows:
        return "−inf", "inf"
    low, high = column.short(rows)
    if column.kind == "whole":
        return _signed(f"{int(low):,}"), _signed(f"{int(high):,}")
    return number_ends(float(low), float(high)) if column.kind == "number" else (low, high)


def _without(column: Column) -> str:
    is_nan = pa.types.is_floating(column.type) and bool(np.isnan(column.numbers).sum() > column.values.null_count)
    return "no value or NaN" if is_nan else "no value"


def number_ends(low: float, high: float) -> tuple[str, str]:
    """Return two numbers with as many digits as tell them apart."""
    if float(low).is_integer() and float(high).is_integer() and max(abs(low), abs(high)) < 1e15:
        return _signed(f"{low:,.0f}"), _signed(f"{high:,.0f}")
    span = high - low if high > low else abs(high) or 1.0
    digits = 2 - floor(log10(span)) if isfinite(span) else 99
    if digits > 8 or max(abs(low), abs(high)) >= 1e9:
        return _signed(f"{low:.3g}"), _signed(f"{high:.3g}")
    return _signed(f"{low:,.{max(2, digits)}f}"), _signed(f"{high:,.{max(2, digits)}f}")


def _signed(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _table(run: RunDirectory) -> "Table":
    return {"text": TEXT, "image": IMAGE, "text+image": MIXED}[run.manifest.model.modality]


def _is_number(values: "pd.Series") -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _shade(title: str, values: "pd.Series", *, logarithmic: bool = False) -> Coloring:
    numbers = values.to_numpy(dtype=np.float32, na_value=np.nan)
    return _continuous(title, np.tile(numbers, 2)[None], logarithmic=logarithmic)


def _categorical(title: str, values: "pd.Series") -> Coloring:
    codes, names = pd.factorize(values)
    return _classes(title, codes, [str(name) for name in names])


def _classes(title: str, codes: NDArray[np.int64], names: Sequence[str]) -> Coloring:
    """Colour by names; ``codes`` says which of them each token has, -1 for none, ``(tokens,)``."""
    counts = np.bincount(codes + 1, minlength=len(names) + 1)[1:]
    frequent = sorted(range(len(names)), key=lambda number: (-int(counts[number]), names[number]))[:MOST]
    kept = _natural(frequent, names)
    other, missing = len(kept), len(kept) + 1
    places = np.full(len(names) + 1, other)
    places[kept], places[-1] = np.arange(len(kept)), missing
    categories = [Category(names[number], int(counts[number])) for number in kept]
    rest = len(names) - len(kept)
    left = int(counts.sum()) - sum(category.tokens for category in categories)
    categories.append(Category(f"other ({rest} values)", left, fallback="other"))
    categories.append(Category("no value", int(np.count_nonzero(codes < 0)), fallback="missing"))
    return Coloring(title, _with_kinds(places[codes].astype(np.uint8)[None]), tuple(categories))


def _natural(numbers: list[int], names: Sequence[str]) -> list[int]:
    """Order names, by number: those of numbers by value, others as they were given, so that a legend never reshuffles."""
    given = [names[number] for number in numbers]
    if all(WHOLE.fullmatch(name) for name in given):
        return sorted(numbers, key=lambda number: int(names[number]))
    if all(NUMBER.fullmatch(name) for name in given):
        return sorted(numbers, key=lambda number: (names[number] == "nan", float(names[number])))
    return numbers


def _continuous(
    title: str,
    values: FloatArray,
    *,
    logarithmic: bool = False,
    limits: tuple[float, float] | None = None,
    signed: bool = False,
) -> Coloring:
    """Bin one number per point, ``(heads, points)``.

    Without limits, one value in 200 at either end may lie beyond the range, so that outliers do not eat the scale.
    """
    known = np.isfinite(values)
    low, high = map(float, limits or (np.quantile(values[known], EDGES) if known.any() else (0.0, 1.0)))
    ends = number_ends(low, high)
    high = high if high > low else low + 1.0
    scale = np.log1p if logarithmic else np.asarray
    share = (scale(np.clip(values, low, high)) - scale(low)) / (scale(high) - scale(low))
    bins = np.where(known, np.clip(np.nan_to_num(share) * BINS, 0, BINS - 1), BINS).astype(np.uint8)
    note = "logarithmic" if logarithmic else ""
    kinds = np.repeat([0, 1], values.shape[1] // 2).astype(np.uint8)
    return Coloring(title, 2 * bins + kinds, (), low, high, note, signed, ends)


def _with_kinds(bins: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the codes of queries, then keys, from one bin per token."""
    return np.concatenate([2 * bins, 2 * bins + 1], axis=1)


def _norms(run: RunDirectory, title: str, heads: Sequence[tuple[int, int]]) -> Coloring:
    """Bin the norms of all heads on one scale: that heads and kinds differ is the finding."""
    return _continuous(title, np.stack([run.norms(*head) for head in heads]))


def _dimension(run: RunDirectory, name: str, title: str, heads: Sequence[tuple[int, int]]) -> Coloring:
    """Bin one dimension of the vectors of all heads on one scale, with 0 in its middle."""
    values = dimension_values(run, name, heads)
    limit = dimension_limit(values)
    return _continuous(title, values, limits=(-limit, limit), signed=True)


def _kept(run: RunDirectory, name: str, heads: Sequence[tuple[int, int]], map_name: str | None) -> Coloring:
    """Bin what a map keeps of each point from 0 to 1, so that colours compare between heads and maps."""
    if map_name is None or not run.has_faithfulness(map_name):
        values = np.full((len(heads), 2 * run.num_tokens), np.nan, np.float32)
    else:
        column = list(KEPT).index(name)
        layers = {layer: run.faithfulness(map_name, layer)[:, :, column] for layer in dict(heads)}
        values = np.stack([layers[layer][head] for layer, head in heads])
    return _continuous(KEPT[name], values, limits=(0.0, 1.0))


def _token_class(run: RunDirectory) -> "pd.Series":
    classes = run.tokens["is_punctuation"].map({True: "punctuation", False: "word"})
    return classes.where(~run.tokens["is_special"], "special")


def _word_or_patch(run: RunDirectory) -> "pd.Series":
    """Return the class of each token where a run has texts and images."""
    return _token_class(run).mask((run.tokens["modality"] == "image") & ~run.tokens["is_special"], "patch")


def _text_length(run: RunDirectory) -> "pd.Series":
    """Return how many characters a token has, whole or in part, without blanks and marks; a patch has none."""
    return run.tokens["plain"].str.len().where(run.tokens["modality"] == "text")


def _relative_position(run: RunDirectory) -> "pd.Series":
    """Return the place of each token in its stream of a sequence, from 0 for the first to 1 for the last."""
    position = run.tokens["position"]
    last = position.groupby([run.tokens["sequence_id"], run.tokens["stream"]]).transform("max")
    return position / last.where(last > 0, 1)


def _sequence_length(run: RunDirectory) -> "pd.Series":
    return run.sequences["num_tokens"].loc[run.tokens["sequence_id"]].reset_index(drop=True)


TEXT: Table = {
    "position": ("Position", lambda run: run.tokens["position"]),
    "relative_position": ("Relative position", _relative_position),
    "position_mod_5": ("Position mod 5", lambda run: run.tokens["position"] % 5),
    "special": ("Special / punctuation", _token_class),
    "length": ("Token length", _text_length),
    "sequence_length": ("Sequence length", _sequence_length),
    "frequency": ("Token frequency", lambda run: run.tokens["frequency"]),
}
"""Colourings of texts by name: title, and one value per token."""

IMAGE: Table = {
    "patch_row": ("Patch row", lambda run: run.tokens["patch_row"]),
    "patch_col": ("Patch column", lambda run: run.tokens["patch_col"]),
    "special": ("Special / patch", lambda run: run.tokens["is_special"].map({True: "special", False: "patch"})),
}
"""Colourings of images by name: title, and one value per token."""

MIXED: Table = TEXT | IMAGE | {"special": ("Special / punctuation / patch", _word_or_patch)}
"""Colourings of runs that hold both."""

PARTS: Table = {
    "stream": ("Stream", lambda run: run.tokens["stream"]),
    "modality": ("Modality", lambda run: run.tokens["modality"]),
    "is_generated": ("Generated", lambda run: run.tokens["is_generated"].map({True: "generated", False: "given"})),
}
"""Colourings by what may differ within a run, by their column of ``tokens``; offered where it does."""
