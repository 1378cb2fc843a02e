"""The scale of weights beside a picture: shades grow with the root of the weight, so that small ones are seen."""

import numpy as np
from bokeh.models import ColorBar, FixedTicker, LinearColorMapper
from numpy.typing import NDArray

from attnviz.plots.theme import FONT, Theme

__all__ = ["mark_weights", "weight_bar"]

MARKED = (0.0, 0.01, 0.05, 0.2, 0.5)
LENGTH = 150  # pixels


def weight_bar(colors: NDArray[np.uint8], theme: Theme, *, across: bool = False) -> ColorBar:
    """Return the scale of some colours, ``(shades, 3)`` from no weight to the largest; ``across`` for below a picture."""
    palette = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors.tolist()]
    bar = ColorBar(
        color_mapper=LinearColorMapper(palette=palette, low=0, high=1),
        ticker=FixedTicker(ticks=[], minor_ticks=[]),
        title="Weight in %",
        orientation="horizontal" if across else "vertical",
        width=LENGTH if across else 9,
        height=9 if across else LENGTH,
        padding=6,
        label_standoff=5,
        background_fill_color=None,
        bar_line_color=theme.line,
        major_tick_line_color=None,
        major_label_text_color=theme.muted,
        title_text_color=theme.muted,
    )
    bar.update(title_text_font=FONT, title_text_font_size="11px", title_text_font_style="normal")
    bar.update(title_standoff=4 if across else 8, major_label_text_font=FONT, major_label_text_font_size="11px")
    return bar


def mark_weights(bar: ColorBar, top: float) -> None:
    """Write weights beside a scale whose strongest colour stands for ``top``."""
    marked = [*(weight for weight in MARKED if weight < 0.64 * top), top]
    places = [(weight / top) ** 0.5 for weight in marked]
    bar.major_label_overrides = {place: f"{weight * 100:.3g}" for place, weight in zip(places, marked, strict=True)}
    bar.ticker = FixedTicker(ticks=places, minor_ticks=[])
