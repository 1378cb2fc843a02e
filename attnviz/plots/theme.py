"""Colours, light and dark: the one place where a colour is written down.

Query blue and key orange stay apart under every common colour blindness and on both backgrounds (AttentionViz' green and
pink do not: a deuteranope sees two greys). The explorer's style sheet takes its variables from here as well.

The palettes were searched for among 12 families of hue: the smallest CIEDE2000 between two of them is as large as it gets, to the
eye and as seen by protan, deutan and tritan at full severity (the models of Machado and of Brettel), for each colour and for the
lighter query and the darker key made of it. Smallest of the seven kinds of sight, 2026-11-21 (``tests/test_palette.py`` holds
them to it; Okabe's and Ito's 8 reach 7.9, the light palette before this one 1.7 in its first 8 and 0.7 in all 12):

====== ===== =============== =============== ============
theme  first between colours between queries between keys
====== ===== =============== =============== ============
light  8     13.4            11.3            11.2
light  12    8.5             7.6             8.4
dark   8     12.1            10.1            10.3
dark   12    8.0             7.4             7.6
====== ===== =============== =============== ============

Their order keeps the mean of the first few grey, as a pixel of many points should be. Of 32 heads two may be as near as 5.4, of
64 as 4.3: from about 20 on, colours help and the numbers tell. More than 12 classes take the colours of heads, up to 64, with a
smaller difference of query and key, so that two of 30 are no nearer than 4.4 (of 64: 2.0 among queries, 3.5 among keys); the
legend's switches tell what the eye cannot. "Other" and "no value" are 11 and more apart (2026-11-28).
"""

from dataclasses import dataclass

import numpy as np
from bokeh.palettes import Viridis256

from attnviz.types import FloatArray
from attnviz.views import Coloring
from attnviz.views.coloring import BINS, FEW

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
    "ink_on",
    "scale_colors",
    "signed_colors",
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
    other: str  # categories without a colour of their own
    missing: str  # no value: nearer to the surface than anything that has one
    palette: tuple[str, ...]
    signed: tuple[str, str, str]  # least, 0, most: 0 is seen on the surface, and is no "other"
    scale: tuple[int, int]  # which part of Viridis stands out against the surface


LIGHT = Theme(
    name="light",
    page="#f6f7f9",
    surface="#ffffff",
    raised="#ffffff",
    line="#e3e6eb",
    ink="#1b2130",
    muted="#5b6475",
    faint="#687083",
    accent="#3453d1",
    query="#3a62e0",
    key="#ee7d1b",
    other="#aeb4bf",
    missing="#e6dec8",
    palette=(
        "#2f85eb",
        "#e57519",
        "#116d47",
        "#cc2380",
        "#68d6ed",
        "#4e0e81",
        "#f6c411",
        "#820109",
        "#ade17a",
        "#d78ba3",
        "#232f3f",
        "#786314",
    ),
    signed=("#823cbe", "#d0c5a2", "#007d63"),
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
    faint="#8a94a8",
    accent="#8ba4ff",
    query="#6f94ff",
    key="#ff9d45",
    other="#667085",
    missing="#453b44",
    palette=(
        "#45a1fe",
        "#ee8f10",
        "#4d9358",
        "#eb3998",
        "#8fe3fc",
        "#7325f1",
        "#fadb59",
        "#b0251d",
        "#a1d17b",
        "#f8a2cf",
        "#e7eef5",
        "#a07425",
    ),
    signed=("#cf9bff", "#7a7156", "#4fe6ae"),
    scale=(40, 255),
)
MORE = {
    "light": """
        #789e76 #3a161c #c4bc9e #7a38d0 #92aaf1 #827f5b #40482f #5a4056 #89706e #787bbf #a74b58 #a47017 #9db1bf
        #a27493 #165144 #181457 #432b1f #4c6671 #458285 #a7af5a #e335b6 #756194 #485af8 #629d8e #874f34 #703680
        #d5a3a4 #999abd #dac1b8 #a986d8 #4a4d6b #4f813c #b88e46 #baca8c #9ec6c8 #3440af #5e705e #2c1c42 #caa1d7
        #74866d #2012aa #882931 #2c1e2e #5e373b #695158 #cd8061 #68311d #144212 #193761 #649ef7 #ba9f8a #fca529
    """.split(),
    "dark": """
        #765f6b #8f8bb6 #baa09e #783874 #f1ebcc #5f7a69 #2b7b8d #9fa765 #c923b8 #8c363c #ca7fd7 #9dc4f8 #975c5a
        #556c31 #8a9ead #bfc798 #bffce6 #17c7af #38fd92 #9372a5 #4983f2 #deb6c0 #efd3cd #8e9371 #c3715d #aa858a
        #959235 #c2cc39 #d0fbb4 #4db388 #7836ab #846a4a #ce3241 #594c8c #6b4560 #99bc41 #cecce3 #b35a7c #6b57d9
        #c45cda #a5a6f0 #cf97cb #6bc47d #6d8690 #665a7b #894d5c #db7a7b #9cebac #d3958f #306307 #f295a8 #fd5342
    """.split(),
}
"""What the palette lacks to 64 heads."""

THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def color_table(coloring: Coloring, theme: Theme) -> FloatArray:
    """Return the colour of every code of a coloring, ``(codes, 3)`` in 0…1: queries lighter, keys darker."""
    if coloring.by_kind:
        return _rgb([theme.query, theme.key])
    if coloring.categories:
        middle = _rgb([category_color(coloring, i, theme) for i in range(len(coloring.categories))])
    else:
        middle = _rgb([*scale_colors(theme, BINS, signed=coloring.signed), theme.missing])
    tint = 0.22 if len(coloring.categories) <= FEW + 2 else 0.12  # with "other" and "no value"
    table = np.empty((2 * len(middle), 3), np.float32)
    table[0::2] = middle + (1 - middle) * tint
    table[1::2] = middle * (0.98 - 0.8 * tint)
    return table


def category_color(coloring: Coloring, number: int, theme: Theme) -> str:
    """Return the colour of a category."""
    fallback = coloring.categories[number].fallback
    if fallback:
        return theme.missing if fallback == "missing" else theme.other
    return head_colors(theme, number + 1)[number]


def scale_colors(theme: Theme, count: int, *, signed: bool = False) -> list[str]:
    """Return ``count`` colours from low to high; ``signed``, they diverge from 0 in the middle."""
    if signed:
        return signed_colors(theme, np.linspace(-1, 1, count, dtype=np.float32))
    return [Viridis256[i] for i in np.linspace(*theme.scale, count).astype(int)]


def signed_colors(theme: Theme, shares: FloatArray) -> list[str]:
    """Return colours of numbers from −1 (violet) over 0 (sand) to 1 (green)."""
    ends = _rgb([*theme.signed])
    return [hex_color(np.array([np.interp(share, [-1, 0, 1], part) for part in ends.T])) for share in shares]


def head_colors(theme: Theme, count: int) -> list[str]:
    """Return a colour for each of so many heads; the first 64 differ, then they begin anew."""
    colors = [*theme.palette, *MORE[theme.name]]
    return [colors[number % len(colors)] for number in range(count)]


def ink_on(theme: Theme, color: str) -> str:
    """Return the colour in which a number can be read on a colour: the theme's ink or its surface."""
    ground, *inks = (_light(given) + 0.05 for given in (color, theme.ink, theme.surface))
    contrasts = [max(ink, ground) / min(ink, ground) for ink in inks]
    return theme.ink if contrasts[0] > contrasts[1] else theme.surface


def hex_color(rgb: FloatArray) -> str:
    """Return a colour of a table as ``#rrggbb``."""
    return "#" + "".join(f"{round(float(part) * 255):02x}" for part in rgb)


def _light(color: str) -> float:
    """Return the relative luminance of a colour, as WCAG counts it."""
    parts = _rgb([color])[0].astype(float)
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _rgb(colors: list[str]) -> FloatArray:
    return np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors], np.float32)
