"""The sentence view: queries left, keys right, a line for every weight, as opaque as the weight is large."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, Rect, Segment, Text
from bokeh.plotting import figure

from attnviz.plots.figure import blank_figure
from attnviz.plots.theme import FONT, Theme
from attnviz.types import KINDS

__all__ = ["HEADINGS", "MOST_ROWS", "SentenceFigure", "line_data", "sentence_figure"]

ROW = 18  # pixels
HEADINGS = ("queries", "keys")
SIDES = {"query": (-0.05, "right"), "key": (1.05, "left")}  # where a column stands, and how it is aligned
MOST_ROWS = 400  # a canvas may not be higher than 16,384 device pixels


@dataclass(frozen=True, slots=True)
class SentenceFigure:
    """The figure and what the explorer fills."""

    plot: figure
    columns: dict[str, ColumnDataSource]  # of the queries and of the keys: x, y, text
    headings: dict[str, ColumnDataSource]  # of both columns: x, y, text
    lines: ColumnDataSource  # x0, y0, x1, y1, color, width, alpha
    marks: ColumnDataSource  # behind a token: x, y, color
    numbers: ColumnDataSource  # beside a token: x, y, text, align

    def write(self, queries: Sequence[str], keys: Sequence[str], headings: tuple[str, str] = HEADINGS) -> None:
        """Write the two columns of tokens under their headings, and make room for them; lines and marks stay as they are."""
        for kind, texts, heading in zip(KINDS, (queries, keys), headings, strict=True):
            rows = -np.arange(len(texts), dtype=float)
            self.columns[kind].data = {"x": np.full(len(texts), SIDES[kind][0]), "y": rows, "text": list(texts)}
            self.headings[kind].data = {"x": [SIDES[kind][0]], "y": [0.9], "text": [heading]}
        count = max(len(queries), len(keys))
        self.plot.y_range.start = -count + 0.2
        self.plot.update(height=ROW * count + 22, min_height=ROW * count + 22)


def sentence_figure(theme: Theme) -> SentenceFigure:
    """Draw an empty sentence."""
    plot = blank_figure("sentence", (-1.12, 2.12, -1, 1.4), fill=theme.surface, move=False)
    plot.sizing_mode = "stretch_width"
    lines = ColumnDataSource({name: [] for name in ("x0", "y0", "x1", "y1", "color", "width", "alpha")}, name="weights")
    marks = ColumnDataSource({"x": [], "y": [], "color": []}, name="marks")
    numbers = ColumnDataSource({"x": [], "y": [], "text": [], "align": []}, name="numbers")
    plot.add_glyph(
        lines, Segment(line_color="color", line_width="width", line_alpha="alpha", line_cap="round", x0="x0", x1="x1")
    )
    band = Rect(x="x", y="y", width=1.02, height=0.94, fill_color="color", fill_alpha=0.18, line_color=None)
    band.update(border_radius=4)
    plot.add_glyph(marks, band)
    columns = {kind: _column(plot, SIDES[kind][1], theme.ink) for kind in KINDS}
    headings = {"query": _column(plot, "right", theme.query), "key": _column(plot, "left", theme.key)}
    shares = Text(x="x", y="y", text="text", text_align="align", text_font=value(FONT), text_font_size="10px")
    shares.update(text_color=theme.muted, text_baseline="middle")
    plot.add_glyph(numbers, shares)
    return SentenceFigure(plot, columns, headings, lines, marks, numbers)


def line_data(lines: pd.DataFrame, theme: Theme, *, chosen: tuple[str, int] | None) -> dict[str, object]:
    """Return the lines as the figure's data.

    Parameters
    ----------
    lines
        ``query``, ``key`` (rows of the figure) and ``weight``.
    chosen
        Kind and row of the token whose lines stand out; the others fade.
    """
    kind, row = chosen or ("", -1)
    own = (lines[kind] == row).to_numpy() if kind else np.ones(len(lines), bool)
    weights = lines["weight"].to_numpy()
    color = {"query": theme.query, "key": theme.key}.get(kind, theme.accent)
    return {
        "x0": np.zeros(len(lines)),
        "y0": -lines["query"].to_numpy(),
        "x1": np.ones(len(lines)),
        "y1": -lines["key"].to_numpy(),
        "color": np.where(own, color, theme.faint),
        "width": np.where(own, 1 + 3 * weights, 1.0),
        "alpha": np.clip(weights, 0.02, 1) * np.where(own, 1.0, 0.25),
    }


def _column(plot: figure, align: str, color: str) -> ColumnDataSource:
    source = ColumnDataSource({"x": [], "y": [], "text": []})
    glyph = Text(x="x", y="y", text="text", text_align=align, text_baseline="middle", text_color=color)
    glyph.update(text_font=value(FONT), text_font_size="12px")
    plot.add_glyph(source, glyph)
    return source
