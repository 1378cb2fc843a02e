"""Several heads over one sequence as lines: queries left, keys right, a colour for each head, as opaque as the weight is large.

Beside each column stands a strip with one cell for each head: what the chosen tokens give to the token beside it, or get from it.
A cell is as opaque as its weight, so the strip is the row of the matrix that belongs to the choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, Rect, Segment, Text
from bokeh.plotting import figure

from attnviz.plots.figure import blank_figure
from attnviz.plots.theme import FONT, Theme
from attnviz.types import FloatArray

__all__ = [
    "LINES",
    "ROW",
    "STRIP",
    "HeadsFigure",
    "heads_figure",
    "line_columns",
    "lines_of",
    "own_lines",
    "strip_data",
]

ROW = 19  # pixels
STRIP = 0.28  # how wide a strip is; the lines take 1
TEXT = 0.78
LINES = 2000  # as many at most, the strongest
LEAST = 0.02  # weights without a choice; a chosen token shows more of its own
LEAST_OWN = 0.002


@dataclass(frozen=True, slots=True)
class HeadsFigure:
    """The figure and what the explorer fills."""

    plot: figure
    lines: ColumnDataSource  # x0, y0, x1, y1, color, alpha, width, and what they are: head, query, key
    strips: ColumnDataSource  # x, y, width, color, alpha
    marks: ColumnDataSource  # behind a token: x, y, width, color
    numbers: ColumnDataSource  # at the outer edge: x, y, text, align


def heads_figure(
    texts: tuple[Sequence[str], Sequence[str]],
    hidden: tuple[Sequence[bool], Sequence[bool]],
    theme: Theme,
    *,
    headings: tuple[str, str],
) -> HeadsFigure:
    """Draw the columns of queries and keys under their headings, the hidden ones faint, without lines."""
    count = max(map(len, texts))
    edge = STRIP + TEXT
    plot = blank_figure("heads-of-sequence", (-edge, 1 + edge, -count + 0.3, 1.3), fill=theme.surface, move=False)
    height = ROW * count + ROW
    plot.update(sizing_mode="stretch_width", height=height, min_height=height)
    made = HeadsFigure(
        plot,
        _source("heads-lines", "x0 y0 x1 y1 color alpha width head query key"),
        _source("heads-strips", "x y width color alpha"),
        _source("heads-marks", "x y width color"),
        _source("heads-numbers", "x y text align"),
    )
    band = Rect(x="x", y="y", width="width", height=0.94, fill_color="color", fill_alpha=0.16, line_color=None)
    band.update(border_radius=4)
    plot.add_glyph(made.marks, band)
    line = Segment(x0="x0", y0="y0", x1="x1", y1="y1", line_color="color", line_alpha="alpha", line_width="width")
    plot.add_glyph(made.lines, line)
    cell = Rect(x="x", y="y", width="width", height=0.82, fill_color="color", fill_alpha="alpha", line_color=None)
    plot.add_glyph(made.strips, cell)
    for side, (x, align, color) in enumerate(
        ((-STRIP - 0.03, "right", theme.query), (1 + STRIP + 0.03, "left", theme.key))
    ):
        inks = [theme.faint if gone else theme.ink for gone in hidden[side]]
        _write(plot, x, -np.arange(len(inks), dtype=np.float32), texts[side], inks, align)
        _write(plot, x, np.array([0.9], np.float32), [headings[side]], [color], align)
    shares = Text(x="x", y="y", text="text", text_align="align", text_font=value(FONT), text_font_size="10px")
    shares.update(text_color=theme.muted, text_baseline="middle")
    plot.add_glyph(made.numbers, shares)
    return made


def lines_of(weights: FloatArray) -> pd.DataFrame:
    """Return the strongest of all weights: ``head`` (place among those shown), ``query``, ``key``, ``weight``, weakest first."""
    return _strongest(weights, LEAST)


def own_lines(weights: FloatArray, rows: Sequence[int], kind: str) -> pd.DataFrame:
    """Return the lines of some queries, or of some keys, alone."""
    own = np.zeros_like(weights)
    place = (slice(None), list(rows)) if kind == "query" else (slice(None), slice(None), list(rows))
    own[place] = weights[place]
    return _strongest(own, LEAST_OWN)


def line_columns(lines: pd.DataFrame, colors: Sequence[str]) -> dict[str, object]:
    """Return lines as the figure's data: the opacity is the weight."""
    weights = lines["weight"].to_numpy()
    return {
        "x0": np.zeros(len(lines)),
        "y0": -lines["query"].to_numpy(np.float64),
        "x1": np.ones(len(lines)),
        "y1": -lines["key"].to_numpy(np.float64),
        "color": np.array(colors, dtype="U7")[lines["head"].to_numpy()] if len(lines) else np.empty(0, "U7"),
        "alpha": np.minimum(weights, 1),
        "width": np.full(len(lines), 2.0),
    } | {name: lines[name].to_numpy() for name in ("head", "query", "key")}


def strip_data(shares: FloatArray, kind: str, colors: Sequence[str], *, rows: Sequence[int] = ()) -> dict[str, object]:
    """Return the strip of the partners of chosen tokens, and full cells beside these.

    Parameters
    ----------
    shares
        ``(heads, partners)``: what the chosen tokens give to each, or get.
    kind, rows
        Which tokens are chosen.
    """
    heads, partners = shares.shape
    wide = STRIP / max(heads, 1)
    middles = (np.arange(heads) + 0.5) * wide
    left, right = middles - STRIP, middles + 1
    there, here = (right, left) if kind == "query" else (left, right)
    alpha = np.concatenate([np.minimum(shares, 1).ravel(), np.ones(heads * len(rows))])
    return {
        "x": np.concatenate([np.repeat(there, partners), np.repeat(here, len(rows))]),
        "y": -np.concatenate([np.tile(np.arange(partners), heads), np.tile(np.asarray(rows, np.int64), heads)]).astype(
            np.float64
        ),
        "width": np.full(len(alpha), wide * 0.9),
        "color": np.concatenate([np.repeat(list(colors), n) for n in (partners, len(rows))]).astype("U7"),
        "alpha": alpha,
    }


def _strongest(weights: FloatArray, least: float) -> pd.DataFrame:
    places = np.nonzero(weights >= least)
    found = weights[places]
    kept = np.argsort(found, kind="stable")[-LINES:]
    return pd.DataFrame(
        dict(zip(("head", "query", "key"), (p[kept] for p in places), strict=True)) | {"weight": found[kept]}
    )


def _source(name: str, columns: str) -> ColumnDataSource:
    return ColumnDataSource({column: [] for column in columns.split()}, name=name)


def _write(plot: figure, x: float, y: FloatArray, texts: Sequence[str], colors: Sequence[str], align: str) -> None:
    glyph = Text(x="x", y="y", text="text", text_align=align, text_baseline="middle", text_color="color")
    glyph.update(text_font=value(FONT), text_font_size="12px")
    data = {"x": np.full(len(y), x), "y": y, "text": list(texts), "color": list(colors)}
    plot.add_glyph(ColumnDataSource(data), glyph)
