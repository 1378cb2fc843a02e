"""One query times one key as bars: q, k and q∘k for each dimension, their signs as colours, and the running sum below."""

from dataclasses import dataclass

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, LinearAxis, NoOverlap, Quad, Range1d, Segment, Step
from bokeh.plotting import figure
from numpy.typing import NDArray

from attnviz.plots.figure import add_tip, blank_figure
from attnviz.plots.theme import FONT, Theme, signed_colors
from attnviz.types import FloatArray
from attnviz.views.neuron import Pair

__all__ = ["BANDS", "NeuronFigure", "bar_colors", "neuron_data", "neuron_figure"]

BANDS = ("q", "k", "q∘k", "sum")
PITCH = 2.3  # between the middles of two bands; a bar is at most 1 high


@dataclass(frozen=True, slots=True)
class NeuronFigure:
    """The figure, one dimension wide per unit, and what the explorer fills."""

    plot: figure
    bars: ColumnDataSource  # left, right, bottom, top, color, value
    run: ColumnDataSource  # the running sum: x, y
    frame: ColumnDataSource  # the chosen dimension: left, right
    tip: ColumnDataSource
    order: NDArray[np.int64]  # which dimension each place is


def neuron_figure(pair: Pair, theme: Theme, *, by: str, chosen: int | None = None) -> NeuronFigure:
    """Draw a pair with its dimensions in an order: ``"contribution"`` or ``"dimension"``."""
    order = pair.order(by)
    count, low = len(order), -PITCH * (len(BANDS) - 1) - 1.15
    plot = blank_figure("neuron", (0, count, low, 1.15), fill=theme.surface, move=False)
    plot.update(height=400, min_height=400, sizing_mode="stretch_width")
    bars, run, largest = neuron_data(pair, order, theme)
    plot.add_layout(_names(largest, theme), "left")
    plot.add_layout(_numbers(order, theme), "below")
    middles = -PITCH * np.arange(len(BANDS), dtype=float)
    lines = ColumnDataSource({"x0": np.zeros(len(BANDS)), "x1": np.full(len(BANDS), count), "y": middles})
    plot.add_glyph(lines, Segment(x0="x0", x1="x1", y0="y", y1="y", line_color=theme.line))
    sources = [ColumnDataSource(bars, name="neuron-bars"), ColumnDataSource(run, name="neuron-sum")]
    plot.add_glyph(
        sources[0], Quad(left="left", right="right", bottom="bottom", top="top", fill_color="color", line_color=None)
    )
    plot.add_glyph(sources[1], Step(x="x", y="y", mode="after", line_color=theme.ink, line_width=1.6))
    place = np.flatnonzero(order == chosen).tolist()
    frame = ColumnDataSource({"left": place, "right": [i + 1 for i in place]}, name="neuron-frame")
    plot.add_glyph(
        frame,
        Quad(
            left="left",
            right="right",
            bottom=low,
            top=1.15,
            fill_color=theme.accent,
            fill_alpha=0.14,
            line_color=theme.accent,
        ),
    )
    plot.x_range = Range1d(0, count)
    return NeuronFigure(plot, sources[0], sources[1], frame, add_tip(plot, theme), order)


def neuron_data(
    pair: Pair, order: NDArray[np.int64], theme: Theme
) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.float64]], list[float]]:
    """Return the bars of q, k and q∘k, the running sum, and the largest size in each band, which is as high as a band."""
    rows: list[FloatArray] = [pair.query[order], pair.key[order], pair.product[order]]
    sums = np.cumsum(pair.product[order], dtype=np.float64)
    largest = [max(float(np.abs(values).max()), 1e-12) for values in [*rows, sums.astype(np.float32)]]
    left = np.tile(np.arange(len(order)), len(rows))
    middle = np.repeat(-PITCH * np.arange(len(rows)), len(order))
    value = np.concatenate(rows)
    share = np.concatenate([values / most for values, most in zip(rows, largest[:-1], strict=True)])
    bars = {
        "left": left + 0.06,
        "right": left + 0.94,
        "bottom": middle + np.minimum(share, 0),
        "top": middle + np.maximum(share, 0),
        "color": bar_colors(share, theme),
        "value": value,
    }
    steps = np.append(sums, sums[-1])
    run = {"x": np.arange(len(steps), dtype=float), "y": -PITCH * len(rows) + steps / largest[-1], "value": steps}
    return bars, run, largest


def bar_colors(shares: FloatArray, theme: Theme) -> NDArray[np.str_]:
    """Return the colours of bars, in full from 0.6 of the longest on: a short bar must show its sign as well."""
    return np.array(signed_colors(theme, np.clip(shares / np.float32(0.6), -1, 1)))


def _names(largest: list[float], theme: Theme) -> LinearAxis:
    """Name the bands, with what their height means."""
    texts = {-PITCH * i: f"{name} ±{most:.3g}" for i, (name, most) in enumerate(zip(BANDS, largest, strict=True))}
    return _axis(texts, theme)


def _numbers(order: NDArray[np.int64], theme: Theme) -> LinearAxis:
    """Return the axis that numbers the dimensions; of many, some."""
    step = max(1, -(-len(order) // 32))
    axis = _axis({i + 0.5: str(order[i]) for i in range(0, len(order), step)}, theme)
    axis.update(axis_label="dimension", axis_label_text_font=FONT, axis_label_text_font_size="11px")
    axis.update(axis_label_text_font_style="normal", axis_label_text_color=theme.faint, axis_label_standoff=2)
    return axis


def _axis(texts: dict[float, str], theme: Theme) -> LinearAxis:
    return LinearAxis(
        ticker=FixedTicker(ticks=list(texts), minor_ticks=[]),
        major_label_overrides=texts,
        major_label_policy=NoOverlap(),
        major_label_text_font=FONT,
        major_label_text_font_size="10px",
        major_label_text_color=theme.muted,
        major_tick_line_color=None,
        axis_line_color=None,
    )
