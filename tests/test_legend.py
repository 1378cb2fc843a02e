"""Legends that switch points off, masks, and what both mean to counts and pictures."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import write_fake_run

pytest.importorskip("panel")

from attnviz.explorer import State, library, markup
from attnviz.explorer.legend import Legend
from attnviz.explorer.scene import make_scene
from attnviz.explorer.wall import AllHeads
from attnviz.plots.theme import THEMES
from attnviz.views import color_points
from attnviz.views.coloring import BINS

HEADS = tuple((layer, head) for layer in (0, 1) for head in range(4))


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legend")
    return [write_fake_run(folder / "text"), write_fake_run(folder / "image", image=True)]


@pytest.fixture
def state(paths):
    return State(library.open_runs(paths))


def entries(state, heads=HEADS):
    """Number, pressed, label and count of the legend's buttons."""
    pattern = r'data-entry="(\d+)" aria-pressed="(\w+)".*?<span>(.*?)</span><em>([\d,]+)</em>'
    found = re.findall(pattern, markup.legend(make_scene(state, heads)))
    return [(int(n), pressed == "true", label, int(count.replace(",", ""))) for n, pressed, label, count in found]


def test_an_entry_that_is_switched_off_takes_its_points_away_and_keeps_its_place_and_count(state):
    state.color = "special"
    before = entries(state)
    number, _, label, count = before[1]
    shown, table = make_scene(state, HEADS).shown.sum(), make_scene(state, HEADS).table
    state.show_entry(number, False)
    scene = make_scene(state, HEADS)
    assert scene.shown.sum() == shown - 2 * count
    assert [(n, label, count) for n, _, label, count in entries(state)] == [(n, w, c) for n, _, w, c in before]
    assert [n for n, pressed, *_ in entries(state) if not pressed] == [number]
    np.testing.assert_array_equal(scene.table, table)  # no colour moves
    assert not (scene.coloring.codes[0, scene.shown] // 2 == number).any()
    state.show_entry(number, True)
    assert make_scene(state, HEADS).shown.sum() == shown
    assert label in {"special", "punctuation", "word"}


def test_hidden_entries_are_hidden_from_a_search_and_in_every_view(state):
    state.param.update(color="special", search="the")
    whole = make_scene(state, HEADS).matched.sum()
    word = next(number for number, _, label, _ in entries(state) if label == "word")
    state.show_entry(word, False)
    assert whole > 0
    assert make_scene(state, HEADS).matched.sum() == 0
    assert make_scene(state, ((1, 2),)).shown.sum() == 2 * sum(c for n, _, _, c in entries(state) if n != word)


def test_the_two_kinds_are_entries_too(state):
    state.show_entry(0, False)
    assert make_scene(state, HEADS).counts() == (0, state.directory.num_tokens)
    assert [(pressed, label) for _, pressed, label, _ in entries(state)] == [(False, "query"), (True, "key")]


def test_a_value_that_is_missing_can_be_switched_off(paths):
    state = State(library.open_runs([paths[1]]))
    state.color = "patch_row"
    assert [(label, count) for _, _, label, count in entries(state)] == [("no value", state.directory.num_sequences)]
    state.show_entry(100, False)
    assert make_scene(state, HEADS).counts()[0] == 16 * state.directory.num_sequences


def test_another_colouring_or_run_shows_everything_again_and_the_address_keeps_what_is_hidden(state, paths):
    state.color = "position_mod_5"
    state.show_entry(3, False)
    state.show_entry(1, False)
    assert state.hidden == "1,3"
    other = State(library.open_runs(paths))
    assert other.restore(state.address()) == []
    assert (other.color, other.hidden) == ("position_mod_5", "1,3")
    state.color = "special"
    assert state.hidden == ""
    other.run = "image"
    assert other.hidden == ""


def test_only_the_number_of_an_entry_gets_through(state):
    legend = Legend(state.guard(state.show_entry))
    for message in (-1, [256, False], ["1", False], [1], None, {"a": 1}):
        legend._handle_msg(message)
    assert state.hidden == ""
    legend._handle_msg([2, False])
    legend._handle_msg([2, False])
    assert state.hidden == "2"


def test_masks_hide_punctuation_and_the_first_position_in_the_maps(state):
    tokens = state.directory.tokens
    everything = make_scene(state, HEADS).shown.sum()
    for name, masked in (
        ("hide_punctuation", tokens["text"].isin([",", "."])),
        ("hide_first", tokens["position"] == 0),
        ("hide_special", tokens["is_special"]),
    ):
        setattr(state, name, True)
        assert masked.any()
        np.testing.assert_array_equal(make_scene(state, HEADS).shown, np.tile(~masked.to_numpy(), 2), name)
        setattr(state, name, False)
    assert make_scene(state, HEADS).shown.sum() == everything


def test_special_tokens_of_punctuation_alone_are_not_punctuation(state):
    assert not (library.punctuation(state.directory) & state.directory.tokens["is_special"].to_numpy()).any()


def test_a_patch_is_no_punctuation(paths):
    assert not library.punctuation(State(library.open_runs([paths[1]])).directory).any()


def test_relative_positions_go_from_the_first_to_the_last_token_of_each_sequence(state):
    run = state.directory
    made = color_points(run, "relative_position", heads=())
    bins = made.codes[0, : run.num_tokens] // 2
    ends = run.bounds[1:] - 1
    assert set(bins[run.bounds[:-1]]) == {0}
    assert set(bins[ends]) == {99}
    middle = run.token_slice(0).start + 1
    assert bins[middle] == int(100 / (run.bounds[1] - 1))


def test_a_bad_pattern_is_said_and_the_picture_stays(state):
    state.param.update(search="[a", how="regex")
    scene = make_scene(state, HEADS)
    assert scene.matched is None
    assert "is no regular expression" in scene.trouble


def test_a_value_that_some_heads_lack_can_be_switched_off_in_those(state, monkeypatch):
    state.color = "norm"
    made, tokens = library.coloring(state.directory, "norm", HEADS, state.map), state.directory.num_tokens
    codes = made.codes.copy()
    codes[3, :10] = 2 * BINS  # queries
    codes[:, tokens + 20] = 2 * BINS + 1  # a key in all heads
    monkeypatch.setattr(library, "coloring", lambda *given: replace(made, codes=codes))
    assert [(number, label, count) for number, _, label, count in entries(state)] == [(BINS, "no value", 11)]
    state.show_entry(BINS, False)
    scene = make_scene(state, HEADS)
    assert (~scene.shown).nonzero()[0].tolist() == [tokens + 20]
    assert scene.gone[3, :10].all()
    assert scene.gone.sum() == 10 + len(HEADS)
    assert f"{tokens - 10:,} to {tokens:,} queries and {tokens - 1:,} keys" in scene.words()
    assert scene.points_a_head == 2 * tokens - 1 - 10 / len(HEADS)
    assert [(label, count, pressed) for _, pressed, label, count in entries(state)] == [("no value", 11, False)]
    wall = AllHeads(state)
    places = wall._placed[3]
    assert np.isnan(places[:10]).all()
    assert np.isfinite(places[10:tokens]).all()
    assert np.isfinite(wall._placed[2, :10]).all()
    state.show_entry(BINS, True)
    assert make_scene(state, HEADS).gone is None
    assert np.isfinite(wall._placed).all()


def test_a_dimension_has_a_legend_with_nought_in_its_middle(state):
    state.offer_color("dimension:3")
    state.color = "dimension:3"
    shown = markup.legend(make_scene(state, HEADS))
    low, middle, high = re.findall(r"<span>(.*?)</span>", shown)[:3]
    assert middle == "0"
    assert low.removeprefix("≤ −") == high.removeprefix("≥ ")
    assert all(color in shown for color in THEMES["light"].signed)
    state.color = "norm"
    assert not any(color in markup.legend(make_scene(state, HEADS)) for color in THEMES["light"].signed)
