"""Colours, light and dark: the one place where a colour is written down.

Query blue and key orange stay apart under every common colour blindness and on both backgrounds (AttentionViz' green and
pink do not: a deuteranope sees two greys). The explorer's style sheet takes its variables from here as well.
"""

from dataclasses import dataclass

import numpy as np
from bokeh.palettes import Viridis256

from attnviz.types import FloatArray
from attnviz.views import Coloring
from attnviz.views.coloring import BINS

__all__ = [
    "DARK",
    "FONT",
    "LIGHT",
    "THEMES",
    "Theme",
    "category_color",
    "color_table",
    "head_colors",
    "hex_color",
    "scale_colors",
]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Theme:
    """A set of colours; every one is a hexadecimal string."""

    name: str
    page: str  # behind everything
    surface: str  # cards, tiles
    raised: str  # tooltips, inputs
    line: str
    ink: str
    muted: str
    faint: str
    accent: str
    query: str
    key: str
    other: str
    palette: tuple[str, ...]
    scale: tuple[int, int]  # which part of Viridis stands out against the surface


LIGHT = Theme(
    name="light",
    page="#f6f7f9",
    surface="#ffffff",
    raised="#ffffff",
    line="#e3e6eb",
    ink="#1b2130",
    muted="#5b6475",
    faint="#8d95a5",
    accent="#3453d1",
    query="#3a62e0",
    key="#ee7d1b",
    other="#aeb4bf",
    palette=(
        "#3e6be0",
        "#e8622c",
        "#1f9d6b",
        "#c9308f",
        "#d9a400",
        "#7a4fd6",
        "#17a2c4",
        "#a8452b",
        "#78a51c",
        "#e5759b",
        "#4a5568",
        "#9a7a3a",
    ),
    scale=(0, 235),
)
DARK = Theme(
    name="dark",
    page="#0f131b",
    surface="#161b26",
    raised="#202736",
    line="#2a3242",
    ink="#e8ebf2",
    muted="#a3acbd",
    faint="#717b8f",
    accent="#8ba4ff",
    query="#6f94ff",
    key="#ff9d45",
    other="#667085",
    palette=(
        "#6c95ff",
        "#ff7f50",
        "#3cc48e",
        "#ee5fb5",
        "#f2c530",
        "#a284f5",
        "#43c8e6",
        "#d0795f",
        "#a5d13f",
        "#ff9fbe",
        "#b4bccb",
        "#cfae6a",
    ),
    scale=(40, 255),
)
MORE = {"light": ("#0b5d4e", "#6b1f7c", "#c3d939", "#c9b2f5"), "dark": ("#1f7a5c", "#d63a3a", "#f4f1bb", "#7d3f98")}
"""What the palette lacks to 16 heads."""

THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def color_table(coloring: Coloring, theme: Theme) -> FloatArray:
    """Return the colour of every code of a coloring, ``(codes, 3)`` in 0…1: queries lighter, keys darker."""
    if coloring.by_kind:
        return _rgb([theme.query, theme.key])
    if coloring.categories:
        middle = _rgb([category_color(coloring, i, theme) for i in range(len(coloring.categories))])
    else:
        middle = _rgb([*scale_colors(theme, BINS), theme.other])
    table = np.empty((2 * len(middle), 3), np.float32)
    table[0::2] = middle + (1 - middle) * 0.22
    table[1::2] = middle * 0.80
    return table


def category_color(coloring: Coloring, number: int, theme: Theme) -> str:
    """Return the colour of a category."""
    return theme.other if coloring.categories[number].fallback else theme.palette[number]


def scale_colors(theme: Theme, count: int) -> list[str]:
    """Return ``count`` colours from low to high."""
    return [Viridis256[i] for i in np.linspace(*theme.scale, count).astype(int)]


def head_colors(theme: Theme, count: int) -> list[str]:
    """Return a colour for each of so many heads; the first 16 differ, then they begin anew."""
    colors = [*theme.palette, *MORE[theme.name]]
    return [colors[number % len(colors)] for number in range(count)]


def hex_color(rgb: FloatArray) -> str:
    """Return a colour of a table as ``#rrggbb``."""
    return "#" + "".join(f"{round(float(part) * 255):02x}" for part in rgb)


def _rgb(colors: list[str]) -> FloatArray:
    return np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors], np.float32)
