"""The wall in the order of a number: which heads, where, and what of it the explorer shows."""

import numpy as np
import pytest

from tests.fakes import write_fake_run, write_fake_streams

pytest.importorskip("panel")

from attnviz.errors import DatasetError
from attnviz.explorer import State, library
from attnviz.explorer.wall import AllHeads
from attnviz.plots.raster import Window
from attnviz.plots.theme import LIGHT
from attnviz.plots.wall import wall_figure
from attnviz.store import RunDirectory
from attnviz.views import arrange, head_numbers, look_closer, prepare_wall, read_number

RECALL = "map:attention_recall"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_fake_run(tmp_path_factory.mktemp("order") / "text", layers=3)


@pytest.fixture
def run(path):
    return RunDirectory(path)


@pytest.fixture
def wall(path):
    state = State(library.open_runs([path]))
    state.param.update(map="pca")
    return AllHeads(state)


def reading_order(wall):
    """The heads as one reads the wall."""
    return [(t.layer, t.head) for t in sorted(wall.shown, key=lambda tile: (tile.row, tile.column))]


def test_every_number_of_heads_is_offered_and_can_be_read(run):
    offered = head_numbers(run)
    assert list(offered)[:2] == ["map:trustworthiness", RECALL]
    assert offered[RECALL] == "Attention recall"
    assert {"joint_spearman", "scale", "query_norm", "umap.knn_preservation"} <= set(offered)
    assert not {"kv_head", "head_dim", "shift"} & set(offered)
    for name in offered:
        assert len(read_number(run, name, map_name="umap")) == 12
    np.testing.assert_array_equal(
        read_number(run, RECALL, map_name="pca"), read_number(run, "pca.attention_recall", map_name="umap")
    )
    with pytest.raises(DatasetError, match="has no score 'nosuch'"):
        read_number(run, "map:nosuch", map_name="pca")


@pytest.mark.parametrize("ascending", [False, True])
def test_tiles_lie_in_reading_order_of_the_number(run, ascending):
    numbers = read_number(run, RECALL, map_name="pca")
    made = arrange(prepare_wall(run, "pca"), numbers, "Attention recall", ascending=ascending)
    expected = numbers.sort_values(ascending=ascending)
    assert reading_order(made.wall) == list(expected.index)
    assert made.wall.columns == 5
    assert (made.wall.rows, made.wall.height) == (3, 3)
    assert made.wall.points is not None
    tile = made.wall.tile_at(1.5, -0.5)
    assert (made.wall.tiles[tile].layer, made.wall.tiles[tile].head) == expected.index[1]
    assert made.numbers[tile] == pytest.approx(expected.iloc[1])


def test_points_are_neither_copied_nor_mixed_up(run):
    plain = prepare_wall(run, "pca")
    made = arrange(plain, read_number(run, RECALL, map_name="pca"), "").wall
    assert made.points is plain.points
    assert made.index(1, 2) == plain.index(1, 2)


def test_heads_outside_the_range_lie_nowhere(run):
    numbers = read_number(run, RECALL, map_name="pca")
    middle = float(numbers.median())
    made = arrange(prepare_wall(run, "pca"), numbers, "", least=middle).wall
    assert reading_order(made) == list(numbers[numbers >= middle].sort_values(ascending=False).index)
    assert sorted(made.inside((-9, 9, -9, 9))) == sorted(i for i, tile in enumerate(made.tiles) if not tile.out)
    assert all(made.tile_at(x, -0.5) is None for x in (-0.5, 5.5))
    assert np.isfinite(wall_figure(made, LIGHT, numbers=numbers.to_numpy()).home).all()
    with pytest.raises(DatasetError, match="No head has a number between 2 and any"):
        arrange(made, numbers, "", least=2)


def test_heads_without_a_number_come_last_and_leave_with_a_filter(run):
    numbers = read_number(run, RECALL, map_name="pca").copy()
    numbers.iloc[0] = np.nan
    for ascending in (False, True):
        assert reading_order(arrange(prepare_wall(run, "pca"), numbers, "", ascending=ascending).wall)[-1] == (0, 0)
    assert (0, 0) not in reading_order(arrange(prepare_wall(run, "pca"), numbers, "", least=-1.0).wall)


def test_stacks_are_named_in_the_titles_of_tiles(tmp_path):
    pair = RunDirectory(write_fake_streams(tmp_path / "pair", "pair"))
    made = arrange(prepare_wall(pair, "pca"), read_number(pair, RECALL, map_name="pca"), "")
    texts = wall_figure(made.wall, LIGHT, numbers=made.numbers).titles.data_source.data["text"]
    assert texts[0].startswith("encoder 0.0  0.")


def test_the_same_place_of_every_head_fills_its_tile():
    points = np.array([[[0.1, 0.1], [0.12, 0.08], [-0.4, 0.1]]], np.float32)
    seen = look_closer(points, 0.1, 0.1, 10)
    np.testing.assert_allclose(seen[0, :2], [[0, 0], [0.2, -0.2]], atol=1e-6)
    assert np.isnan(seen[0, 2]).all()
    assert look_closer(points, 0.3, 0.0, 1.0) is points


def test_the_view_follows_order_and_filter_and_the_address_keeps_them(wall, run):
    state = wall.state
    state.param.update(order=RECALL)
    numbers = read_number(run, RECALL, map_name="pca")
    assert reading_order(wall._wall) == list(numbers.sort_values(ascending=False).index)
    assert "highest attention recall first" in wall.summary()
    least = float(np.sort(numbers)[-3])
    state.param.update(ascending=True, least=least)
    assert reading_order(wall._wall) == list(numbers.sort_values().index[-3:])
    assert wall.summary().startswith("3 of 12 heads")
    other = State(library.open_runs([run.path]))
    assert other.restore(state.address()) == []
    assert (other.order, other.ascending, other.least, other.most) == (RECALL, True, least, None)
    state.order = ""
    assert (state.least, len(wall._wall.shown)) == (None, 12)


def test_a_range_without_heads_is_a_sentence_that_passes(wall):
    wall.state.param.update(order=RECALL)
    wall.state.least = 5.0
    assert "No head has a number between 5 and any" in wall.state.problem
    wall.state.least = None
    assert wall.state.problem == ""
    assert len(wall._wall.shown) == 12


@pytest.mark.parametrize("value", ["least=nan", "most=inf", "near_zoom=0", "near_x=nan", "order=nosuch", "hidden=-1,x"])
def test_an_order_that_makes_no_sense_is_left_out_of_an_address(wall, value):
    assert wall.state.restore(f"?{value}") == [value.split("=")[0]]


def test_a_head_that_fills_the_window_is_entered_at_the_same_place_and_not_again_on_the_way_back(wall):
    state = wall.state
    tile = wall._wall.index(1, 2)
    x, y = wall._wall.tiles[tile].center
    close = Window(x - 0.3, x + 0.5, y - 0.3, y + 0.3, 800, 600)
    wall._draw(close)
    assert state.view == "all"  # nothing but this tile was ever seen
    wall._draw(Window(-1, 5, -4, 2, 600, 600))
    wall._draw(close)
    assert (state.view, state.layer, state.head) == ("head", 1, 2)
    assert state.arrival == pytest.approx((-0.2, 0.4, -0.3, 0.3))
    state.view = "all"
    wall._draw(close)
    assert state.view == "all"


def test_a_window_shared_by_all_heads_moves_what_is_seen_and_what_is_pointed_at(wall):
    state = wall.state
    before = wall._placed
    wall._wires.window = Window(-1, 5, -3, 1, 300, 300)  # as a browser tells it
    state.param.update(local=True, near_x=0.1, near_y=-0.05, near_zoom=4.0)
    np.testing.assert_array_equal(wall._placed, look_closer(before, 0.1, -0.05, 4.0))
    assert "4.0 times closer" in wall.summary()
    toolbar = wall._figure.plot.toolbar
    assert (toolbar.active_drag, toolbar.active_scroll) == (None, None)
    wall.fit()
    assert (state.near_x, state.near_y, state.near_zoom) == (0, 0, 1)
    state.local = False
    assert wall._placed is before
    assert None not in (toolbar.active_drag, toolbar.active_scroll)
