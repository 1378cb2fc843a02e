"""The plots: looked at as arrays and sources, without a browser."""

import numpy as np
import pandas as pd
import pytest

from attnviz.plots.figure import place_tip
from attnviz.plots.head import head_figure
from attnviz.plots.labels import choose_labels
from attnviz.plots.picture import image_data, patch_pixels
from attnviz.plots.raster import Layer, Window, draw, spread_for
from attnviz.plots.sentence import line_data, sentence_figure
from attnviz.plots.theme import DARK, LIGHT, color_table, scale_colors
from attnviz.plots.wall import wall_figure
from attnviz.views import Category, Coloring, Tile, Wall

RED, BLUE = [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]


def raster(points, codes, table, *, window=None, radius=0.0, strength=1.0, rows=None):
    window = window or Window(0, 4, 0, 4, 4, 4)
    rows = np.arange(len(points)) if rows is None else rows
    layer = Layer(
        np.asarray(rows, np.int32), np.array([codes], np.uint8), np.array(table, np.float32), radius, strength
    )
    points = np.array([points], np.float32)
    tiles = np.zeros(1, np.int32)
    image = draw(points, np.zeros((1, 2), np.float32), tiles=tiles, window=window, layers=[layer])
    return image.view(np.uint8).reshape(window.height, window.width, 4)


def test_a_point_colours_its_pixel_and_row_zero_is_the_bottom():
    image = raster([[0.5, 0.5], [3.5, 2.5]], [0, 1], [RED, BLUE])
    assert image[0, 0].tolist()[:3] == [255, 0, 0]
    assert image[2, 3].tolist()[:3] == [0, 0, 255]
    assert (image[..., 3] > 0).sum() == 2


def test_points_outside_or_without_number_draw_nothing():
    assert raster([[-1, 2], [9, 9], [np.nan, 1]], [0, 0, 0], [RED])[..., 3].sum() == 0


def test_a_pixel_shows_the_mean_and_grows_opaque_with_the_count():
    image = raster([[0.5, 0.5]] * 9 + [[2.5, 2.5], [1.5, 1.5], [1.5, 1.5]], [0] * 9 + [0, 0, 1], [RED, BLUE])
    assert image[0, 0, 3] > image[1, 1, 3] > image[2, 2, 3] > 100
    red, _, blue = image[1, 1, :3]
    assert abs(int(red) - int(blue)) <= 1


def test_a_radius_makes_a_disc_that_is_cut_at_the_edge():
    window = Window(0, 9, 0, 9, 9, 9)
    assert (raster([[4.5, 4.5]], [0], [RED], window=window, radius=2)[..., 3] > 0).sum() == 12
    assert (raster([[0.5, 0.5]], [0], [RED], window=window, radius=2)[..., 3] > 0).sum() == 8


def test_rows_choose_the_points_and_strength_dims_them():
    image = raster([[0.5, 0.5], [1.5, 1.5]], [0, 0], [RED], rows=[1], strength=0.2)
    assert image[0, 0, 3] == 0
    assert 0 < image[1, 1, 3] < 60


def test_a_later_layer_lies_over_an_earlier_one():
    points, centers = np.array([[[0.5, 0.5]]], np.float32), np.zeros((1, 2), np.float32)
    layers = [Layer(np.zeros(1, np.int32), np.zeros((1, 1), np.uint8), np.array([c], np.float32)) for c in (RED, BLUE)]
    window = Window(0, 1, 0, 1, 1, 1)
    image = draw(points, centers, tiles=np.zeros(1, np.int32), window=window, layers=layers)
    red, _, blue, _ = image.view(np.uint8).ravel()
    assert blue > 200 > red


def test_spread_grows_as_points_become_few():
    window = Window(0, 1, 0, 1, 800, 800)
    assert 0 < spread_for(1e6, window) < spread_for(1e4, window) < spread_for(10, window) == 3.5


def test_labels_do_not_cover_each_other_and_the_wanted_come_first():
    window = Window(0, 1, 0, 1, 400, 400)
    places = np.array([[0.1, 0.5], [0.11, 0.5], [0.1, 0.9], [0.97, 0.1]], np.float32)
    chosen = choose_labels(places, ["first"] * 4, window=window, wanted=np.array([0, 1, 0, 9], np.float32))
    assert chosen.tolist() == [1, 2]  # the last one would leave the window


def coloring(count, **more):
    return Coloring("x", np.zeros((1, 2), np.uint8), tuple(Category(f"{i}", 1) for i in range(count)), **more)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_a_table_has_a_lighter_query_and_a_darker_key_for_every_category(theme):
    table = color_table(coloring(12), theme)
    assert table.shape == (24, 3)
    assert (table[0::2].sum(axis=1) > table[1::2].sum(axis=1)).all()
    assert color_table(Coloring("x", np.zeros((1, 2), np.uint8)), theme).shape == (2, 3)
    assert color_table(coloring(0, low=1.0, high=2.0), theme).shape == (202, 3)
    assert len(set(theme.palette)) == 12
    assert len(scale_colors(theme, 12)) == 12


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_text_can_be_read_on_its_background(theme):
    for ink, least in ((theme.ink, 7), (theme.muted, 4.5)):
        for ground in (theme.page, theme.surface):
            assert contrast(ink, ground) >= least
    for mark in (theme.query, theme.key):
        assert contrast(mark, theme.surface) >= 2.5


def contrast(first, second):
    """Contrast ratio of WCAG 2."""
    lights = sorted((luminance(first), luminance(second)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(color):
    parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_query_and_key_stay_apart_for_a_deuteranope():
    confusion = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])  # Machado 2009
    for theme in (LIGHT, DARK):
        seen = [confusion @ [int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (theme.query, theme.key)]
        assert np.linalg.norm(seen[0] - seen[1]) > 120


def test_figures_have_no_toolbar_and_the_sources_they_promise():
    wall = Wall((Tile(0, 0, 0, 0, "0"), Tile(0, 1, 0, 1, "0")), np.zeros((2, 2, 2), np.float32))
    made = wall_figure(wall, LIGHT)
    assert made.plot.toolbar_location is None
    assert made.home == (-0.04, 2.04, -1.04, 0.04)
    assert set(made.tip.data) == set(place_tip(["a"], 0, 0, bounds=(0, 1, 0, 1)))
    assert set(head_figure(DARK).dots.data_source.data) == {"x", "y", "color", "marker", "size"}


def test_a_tile_says_its_head_and_how_faithful_the_map_is_to_it():
    wall = Wall((Tile(0, 0, 0, 0, "0"), Tile(1, 3, 0, 1, "decoder 1")), np.zeros((2, 2, 2), np.float32))
    made = wall_figure(wall, LIGHT, faithful=np.array([0.951, np.nan]))
    assert made.titles.data_source.data["text"] == ["L0 · H0  0.95", "decoder 1 · H3  –"]
    assert wall_figure(wall, LIGHT).titles.data_source.data["text"] == ["L0 · H0", "decoder 1 · H3"]


def test_a_tip_turns_away_from_the_edges():
    assert place_tip(["a", "b"], 0.9, 0.9, bounds=(0, 1, 0, 1))["anchor"] == ["top_right"]
    assert place_tip(["a", "b"], 0.1, 0.1, bounds=(0, 1, 0, 1))["anchor"] == ["bottom_left"]


@pytest.mark.parametrize("x", [0.05, 0.45, 0.55, 0.95])
def test_the_lines_of_a_tooltip_break_where_the_figure_ends(x):
    line = "while the cat sat on a mat [and] the birds sang of a sea"
    text = place_tip(["cat", line], x, 0.5, bounds=(0, 1, 0, 1), width=240)["text"][0].split("\n")
    assert max(map(len, text)) * 6.6 + 32 <= 240 * max(x, 1 - x)
    assert " ".join(text) == f"cat {line}"
    assert place_tip(["cat", line], x, 0.5, bounds=(0, 1, 0, 1), width=1200)["text"] == [f"cat\n{line}"]


def test_lines_are_as_opaque_as_their_weight_and_the_others_fade():
    frame = pd.DataFrame({"query": [0, 1], "key": [1, 1], "weight": [0.5, 0.8]})
    data = line_data(frame, LIGHT, chosen=("query", 0))
    assert data["alpha"].tolist() == pytest.approx([0.5, 0.2])
    assert data["color"].tolist() == [LIGHT.query, LIGHT.faint]


def test_a_sentence_has_room_for_the_longer_column_and_forgets_the_one_before():
    shown, heights = sentence_figure(LIGHT), []
    for queries, keys in ((["a"], ["a", "b"]), (["a", "b"], ["b"]), (["a"], ["b"])):
        shown.write(queries, keys)
        heights.append(shown.plot.height)
        assert shown.columns["query"].data["text"] == queries
        assert shown.columns["key"].data["text"] == keys
        assert shown.plot.y_range.start == -max(len(queries), len(keys)) + 0.2
    assert heights[0] == heights[1] > heights[2]


def test_pictures_are_turned_once_and_patches_are_cut_from_the_right_place():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[0:2, 2:4] = [255, 0, 0, 255]  # top right
    drawn = image_data(pixels, (2, 2))["image"][0].view(np.uint8).reshape(4, 4, 4)
    assert drawn[3, 3].tolist() == [255, 0, 0, 255]  # Bokeh's last row is the top
    for place, inside in (((0, 1), [255, 0, 0, 255]), ((-1, -1), [255, 255, 255, 255])):
        packed = patch_pixels(pixels, place, grid=(2, 2), border="#0000ff", fill="#ffffff")
        patch = packed.view(np.uint8).reshape(*packed.shape, 4)
        assert packed.shape == (28, 28)  # of two pixels, enlarged so that the outline stays thin
        assert (patch[2:-2, 2:-2] == inside).all()
        assert (patch[:2] == [0, 0, 255, 255]).all()


def test_a_large_raster_is_summed_in_parts_and_is_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, 500, 2)).astype(np.float32)
    layer = Layer(
        np.arange(0, 500, 3, np.int32), rng.integers(0, 2, (2, 500), np.uint8), np.eye(3, dtype=np.float32)[:2]
    )
    given = {"tiles": np.arange(2, dtype=np.int32), "window": Window(-3, 6, -3, 3, 90, 60), "layers": [layer]}
    centers = np.array([[0, 0], [3, 0]], np.float32)
    whole = draw(points, centers, **given)
    monkeypatch.setattr("attnviz.plots.raster.LARGE", 1)
    np.testing.assert_array_equal(draw(points, centers, **given), whole)
    assert np.count_nonzero(whole) > 100
