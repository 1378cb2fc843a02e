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

__all__ = ["MOST_ROWS", "SentenceFigure", "line_data", "sentence_figure"]

ROW = 18  # pixels
MOST_ROWS = 400  # a canvas may not be higher than 16,384 device pixels


@dataclass(frozen=True, slots=True)
class SentenceFigure:
    """The figure and what the explorer fills."""

    plot: figure
    lines: ColumnDataSource  # x0, y0, x1, y1, color, width, alpha
    marks: ColumnDataSource  # behind a token: x, y, color
    numbers: ColumnDataSource  # beside a token: x, y, text, align


def sentence_figure(
    queries: Sequence[str], keys: Sequence[str], theme: Theme, *, headings: tuple[str, str] = ("queries", "keys")
) -> SentenceFigure:
    """Draw the two columns of tokens under their headings, without lines."""
    count = max(len(queries), len(keys))
    plot = blank_figure("sentence", (-1.12, 2.12, -count + 0.2, 1.4), fill=theme.surface, move=False)
    height = ROW * count + 22
    plot.update(sizing_mode="stretch_width", height=height, min_height=height)
    lines = ColumnDataSource({name: [] for name in ("x0", "y0", "x1", "y1", "color", "width", "alpha")}, name="weights")
    marks = ColumnDataSource({"x": [], "y": [], "color": []}, name="marks")
    numbers = ColumnDataSource({"x": [], "y": [], "text": [], "align": []}, name="numbers")
    plot.add_glyph(
        lines, Segment(line_color="color", line_width="width", line_alpha="alpha", line_cap="round", x0="x0", x1="x1")
    )
    band = Rect(x="x", y="y", width=1.02, height=0.94, fill_color="color", fill_alpha=0.18, line_color=None)
    band.update(border_radius=4)
    plot.add_glyph(marks, band)
    _column(plot, queries, theme, x=-0.05, align="right")
    _column(plot, keys, theme, x=1.05, align="left")
    _write(plot, {"x": [-0.05], "y": [0.9], "text": [headings[0]]}, theme.query, "right")
    _write(plot, {"x": [1.05], "y": [0.9], "text": [headings[1]]}, theme.key, "left")
    shares = Text(x="x", y="y", text="text", text_align="align", text_font=value(FONT), text_font_size="10px")
    shares.update(text_color=theme.muted, text_baseline="middle")
    plot.add_glyph(numbers, shares)
    return SentenceFigure(plot, lines, marks, numbers)


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


def _column(plot: figure, texts: Sequence[str], theme: Theme, *, x: float, align: str) -> None:
    rows = -np.arange(len(texts), dtype=float)
    _write(plot, {"x": np.full(len(texts), x), "y": rows, "text": list(texts)}, theme.ink, align)


def _write(plot: figure, data: dict[str, object], color: str, align: str) -> None:
    glyph = Text(x="x", y="y", text="text", text_align=align, text_baseline="middle", text_color=color)
    glyph.update(text_font=value(FONT), text_font_size="12px")
    plot.add_glyph(ColumnDataSource(data), glyph)
