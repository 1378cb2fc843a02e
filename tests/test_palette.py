"""Colours stay apart for eyes of every kind, as measured by a library of colours."""

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("bokeh")

from coloraide import Color

from attnviz.plots.theme import DARK, LIGHT, color_table, head_colors, hex_color, ink_on, signed_colors
from attnviz.views import Category, Coloring

MODELS = ("machado", "brettel")
SIGHTS = [None, *((sight, model) for sight in ("protan", "deutan", "tritan") for model in MODELS)]
THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)


def seen(colors, sight):
    """Colours as they are seen, in CIELAB."""
    made = [Color(color) for color in colors]
    if sight is not None:
        made = [color.filter(sight[0], 1, method=sight[1]).clip("srgb") for color in made]
    return [color.convert("lab-d65") for color in made]


def nearest(colors):
    """The smallest CIEDE2000 between two of some colours, in all kinds of sight."""
    return min(a.delta_e(b, method="2000") for sight in SIGHTS for a, b in combinations(seen(colors, sight), 2))


def distance(colors, ground):
    """The smallest CIEDE2000 between a colour and a ground, in all kinds of sight."""
    every = (seen([*colors, ground], sight) for sight in SIGHTS)
    return min(color.delta_e(own[-1], method="2000") for own in every for color in own[:-1])


def shades(theme):
    """The palette and "other", and the queries and the keys that are drawn in them."""
    categories = (*(Category(f"{i}", 1) for i in range(12)), Category("other", 1, fallback="other"))
    table = color_table(Coloring("x", np.zeros((1, 2), np.uint8), categories), theme)
    return {
        "both": [*theme.palette, theme.other],
        "query": [hex_color(rgb) for rgb in table[0::2]],
        "key": [hex_color(rgb) for rgb in table[1::2]],
    }


@THEMES
def test_categories_stay_apart_in_every_sight_and_the_frequent_ones_most(theme):
    for name, colors in shades(theme).items():
        assert nearest(colors[:8]) >= (12 if name == "both" else 10), name
        assert nearest(colors[:12]) >= (7.9 if name == "both" else 7.3), name


@THEMES
def test_categories_stand_out_from_the_surface_and_from_other(theme):
    for *colors, other in shades(theme).values():
        assert distance(colors, theme.surface) >= 10
        assert distance(colors, other) >= 5


@THEMES
def test_numbers_around_nought_diverge_and_nought_is_seen(theme):
    steps = signed_colors(theme, np.linspace(-1, 1, 9, dtype=np.float32))
    assert steps[::4] == list(theme.signed)
    assert nearest(steps[::4]) >= 15
    assert nearest(steps) >= 4.5
    assert distance(steps, theme.surface) >= 15
    assert distance([theme.signed[1]], theme.other) >= 12  # nought is not "no value"


@THEMES
def test_heads_have_colours_that_stay_apart(theme):
    colors = head_colors(theme, 64)
    assert colors[:12] == list(theme.palette)
    for count, least in ((16, 7.9), (32, 5.3), (64, 4.2)):
        assert nearest(colors[:count]) >= least
    assert distance(colors, theme.surface) >= 4
    assert min(Color(color).contrast(ink_on(theme, color)) for color in colors) >= 3.8


@THEMES
def test_many_classes_have_colours_and_no_value_is_neither_other_nor_the_surface(theme):
    categories = [Category(f"{i}", 1) for i in range(64)]
    categories += [Category("other", 1, fallback="other"), Category("no value", 1, fallback="missing")]
    table = color_table(Coloring("x", np.zeros((1, 2), np.uint8), tuple(categories)), theme)
    for kind in (0, 1):
        *colors, other, missing = (hex_color(rgb) for rgb in table[kind::2])
        assert len(set(colors)) == 64
        assert nearest(colors[:30]) >= 4.3
        assert nearest(colors) >= (2, 3.4)[kind]
        assert distance([missing], other) >= 9
        assert distance([missing], theme.surface) >= 5
        assert distance(colors[:12], missing) >= 7
    assert distance([theme.missing], theme.other) >= 11


@THEMES
def test_queries_and_keys_stay_apart(theme):
    assert nearest([theme.query, theme.key]) >= 30
