"""From a state to what the raster needs: which points, in which colours, and which of them stand out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.explorer import library
from attnviz.explorer.state import State
from attnviz.plots.raster import Layer
from attnviz.plots.theme import THEMES, Theme, color_table
from attnviz.store import RunDirectory
from attnviz.types import FloatArray
from attnviz.views import Coloring, as_classes, find_first

__all__ = ["Scene", "make_scene"]


@dataclass(frozen=True)  # without slots, which leave no room for what is found once
class Scene:
    """What is shown of the points of one or of all heads."""

    run: RunDirectory
    heads: tuple[tuple[int, int], ...]
    theme: Theme
    coloring: Coloring
    table: FloatArray  # (codes, 3)
    shown: NDArray[np.bool_]  # (points,), of those that any of the heads has
    matched: NDArray[np.bool_] | None  # (points,), of the shown ones; None without a search
    chosen: NDArray[np.bool_] | None = None  # (points,), of the shown ones; None without a selection
    listed: NDArray[np.bool_] | None = None  # (points,), what the legend counts: the shown ones and those it leaves out
    trouble: str = ""  # why the search cannot be made
    hidden: frozenset[int] = frozenset()  # entries of the legend that are left out
    gone: NDArray[np.bool_] | None = None  # (heads, points), what the legend leaves out of some heads only

    @property
    def lit(self) -> NDArray[np.bool_] | None:
        """Which points stand out because they were found or selected; None if the whole field does."""
        if self.matched is None or self.chosen is None:
            return self.chosen if self.matched is None else self.matched
        return self.matched | self.chosen

    def counts(self, mask: NDArray[np.bool_] | None = None) -> tuple[int, int]:
        """Return how many queries and keys are in a mask, or shown in any of the heads."""
        chosen = self.shown if mask is None else mask
        tokens = self.run.num_tokens
        return int(chosen[:tokens].sum()), int(chosen[tokens:].sum())

    @property
    def points_a_head(self) -> float:
        """How many points a head shows, on average."""
        return float(np.mean([queries + keys for queries, keys in self._counts(self.shown)]))

    def tally(self) -> NDArray[np.int64]:
        """Return how many tokens have a shown point of each category, or at last no number; see ``Coloring.tally``."""
        listed = self.shown if self.listed is None else self.listed
        if len(self.coloring.codes) == 1:
            return self.coloring.tally(listed[None])
        present = library.present(self.run)
        return self.coloring.tally(np.stack([listed & present[layer] for layer, _ in self.heads]))

    def words(self) -> str:
        """Return what is shown of each head, in words."""
        text = f"{self._numbers(self.shown)} coloured by {self.coloring.phrase}"
        return text if self.matched is None else f"{text}, {self._numbers(self.matched)} matching the search"

    def _numbers(self, mask: NDArray[np.bool_]) -> str:
        queries, keys = zip(*self._counts(mask), strict=True)
        return f"{_range(queries)} queries and {_range(keys)} keys"

    def _counts(self, mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Return how many queries and keys of a mask each head shows."""
        present = library.present(self.run)
        if self.gone is not None:
            return [
                self.counts(mask & present[layer] & ~gone)
                for (layer, _), gone in zip(self.heads, self.gone, strict=True)
            ]
        by_layer = {layer: self.counts(mask & present[layer]) for layer in dict(self.heads)}
        return [by_layer[layer] for layer, _ in self.heads]

    @cached_property
    def _rows(self) -> NDArray[np.int32]:
        return np.flatnonzero(self.shown).astype(np.int32)

    def layers(self, radius: float) -> list[Layer]:
        """Return the layers of the raster: with a search or a selection, what it holds over a dimmed field."""
        rows = self._rows
        lit = self.lit
        if lit is None:
            return [Layer(rows, self.coloring.codes, self.table, radius)]
        grey = np.full_like(self.table, 0.55)
        found = np.flatnonzero(lit).astype(np.int32)
        least = 1.5 if len(found) < 500 else 0.5  # a few matches must be seen on a small tile, many must not fill it
        return [
            Layer(rows, self.coloring.codes, grey, radius, 0.22),
            Layer(found, self.coloring.codes, self.table, min(1.5 * radius + least, 3.5)),
        ]

    def colors(self, rows: NDArray[np.int64], *, dim: bool = True) -> FloatArray:
        """Return the colours of some points of a scene of one head, ``(rows, 3)``; grey where others stand out."""
        colors: FloatArray = self.table[self.coloring.codes[0, rows]]
        lit = self.lit
        if lit is None or not dim:
            return colors
        return np.where(lit[rows, None], colors, np.float32(0.62))


def make_scene(state: State, heads: tuple[tuple[int, int], ...], map_name: str | None = None) -> Scene:
    """Return the scene of some heads, at least one (their order is that of the tiles), on the state's map or another."""
    run, theme = state.directory, THEMES[state.theme]
    classes = as_classes(run, state.color) if state.as_classes else None
    coloring = library.coloring(run, classes or state.color, heads, map_name or state.map)
    tokens = _unmasked(state)
    kinds = [state.kinds in ("both", kind) for kind in ("query", "key")]
    present = library.present(run)
    shown = np.concatenate([tokens & kind for kind in kinds])
    shown &= np.logical_or.reduce([present[layer] for layer in dict(heads)])
    listed, left_out = shown, coloring.left_out(state.hidden_entries)
    gone = left_out if len(left_out) > 1 and left_out.any() else None
    shown = shown & ~left_out.all(axis=0)
    found, trouble = _search(state)
    matched = None if found is None else np.tile(found, 2) & shown
    chosen = None
    if len(state.selected):
        chosen = np.zeros(len(shown), bool)
        chosen[state.selected] = shown[state.selected]
    table, hidden = color_table(coloring, theme), state.hidden_entries
    return Scene(run, heads, theme, coloring, table, shown, matched, chosen, listed, trouble, hidden, gone)


def _unmasked(state: State) -> NDArray[np.bool_]:
    """Return which tokens no mask hides."""
    run = state.directory
    tokens = np.ones(run.num_tokens, bool)
    if state.hide_special:
        tokens &= ~run.tokens["is_special"].to_numpy()
    if state.hide_punctuation:
        tokens &= ~library.punctuation(run)
    if state.hide_first:
        tokens &= ~find_first(run)
    return tokens


def _search(state: State) -> tuple[NDArray[np.bool_] | None, str]:
    """Return which tokens the search finds, None without one; and what is wrong with it, as a sentence."""
    if not state.search:
        return None, ""
    try:
        return library.matching(state.directory, state.search, how=state.how, where=state.where, case=state.case), ""
    except DatasetError as error:
        return None, str(error)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
