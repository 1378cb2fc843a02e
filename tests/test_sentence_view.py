"""The sentence view without a browser: what a change of the state, the pointer or a click puts on the canvas."""

from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import write_fake_run, write_fake_streams

pytest.importorskip("panel")

import panel as pn

from attnviz.explorer import Explorer, State, library
from attnviz.explorer.sequence_numbers import Row, numbers_table
from attnviz.explorer.sequence_view import SentenceView
from attnviz.plots.matrix import matrix_pixels
from attnviz.plots.theme import THEMES, head_colors
from attnviz.views import Changes, mean_by_position, pair_numbers, read_heads


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentence")
    bare = write_fake_run(folder / "bare", maps=())
    image = write_fake_run(folder / "image", image=True, layers=1)
    pair = write_fake_streams(folder / "pair", "pair", sink=True)
    return [write_fake_run(folder / "text"), bare, image, pair]


@pytest.fixture
def view(paths):
    """The view over sequence 3 of the text run, layer 1."""
    state = State(library.open_runs(paths))
    assert state.restore("?run=text&view=sentence&layer=1&sequence=3") == []
    return SentenceView(state)


def drawn(view):
    """The lines as weights: (head, query, key) → opacity."""
    data = view._figure.lines.data
    return {
        (int(h), int(q), int(k)): float(a)
        for h, q, k, a in zip(*(data[name] for name in ("head", "query", "key", "alpha")), strict=True)
    }


def expect(weights, least=0.02):
    return {tuple(map(int, place)): float(weights[tuple(place)]) for place in np.argwhere(weights >= least)}


def test_lines_are_the_models_weights(view):
    run = view.state.directory
    weights = np.stack([run.attention(1, head, 3).weights for head in range(4)])
    assert drawn(view) == expect(weights)
    assert "Layer 1 · Sequence 3: 4 of 4 heads" in view.summary()
    view.state.sentence_heads = "2,0"
    assert drawn(view) == expect(weights[[0, 2]])
    view.state.sentence_join = "mean"
    assert drawn(view) == pytest.approx(expect(weights[[0, 2]].mean(axis=0, keepdims=True)))


def test_a_click_on_a_square_toggles_a_head_and_a_double_click_isolates_it(view):
    state, pick = view.state, view._controls.pick
    pick(1, only=False)
    assert state.sentence_heads == "0,2-3"
    pick(1, only=False)
    assert state.sentence_heads == ""
    pick(2, only=True)
    assert state.sentence_heads == "2"
    pick(2, only=False)
    assert view._shown.heads == ()
    assert drawn(view) == {}
    view._point(0.1, -1)  # nothing to tell
    state.sentence_form = "matrix"
    view._point(0.5, -0.5)
    pick(3, only=False)
    assert view._shown.heads == (3,)
    assert state.problem == ""


def test_hover_keeps_one_token_and_leaving_brings_all_back(view):
    every = drawn(view)
    view._point(0.1, -2.1)
    weights = view._shown.weights
    assert {place[1] for place in drawn(view)} == {2}
    strip = view._figure.strips.data
    np.testing.assert_array_equal(np.reshape(strip["alpha"][: weights[:, 2].size], weights[:, 2].shape), weights[:, 2])
    view._point(0.9, -3)
    assert {place[2] for place in drawn(view)} == {3}
    view._leave()
    assert drawn(view) == every
    assert len(view._figure.strips.data["x"]) == 0


def test_a_click_hides_a_token_and_another_brings_it_back(view):
    run, first = view.state.directory, view.state.directory.token_slice(3).start
    view._tap(0.1, -1)
    view._tap(0.9, -2)
    assert view.state.sentence_hidden == f"{first + 1}-{first + 2}"
    hidden = read_heads(run, 1, range(4), 3, Changes(frozenset({first + 1, first + 2})))
    assert drawn(view) == expect(hidden.weights)
    assert "2 hidden" not in view.summary()  # two queries and two keys
    assert "4 hidden" in view.summary()
    assert f"sentence_hidden={first + 1}-{first + 2}" in view.state.address()
    view._tap(0.1, -1)
    view.fit()
    assert view.state.sentence_hidden == ""


def test_selected_tokens_are_summed_and_are_the_states_token(view):
    state, first = view.state, view.state.directory.token_slice(3).start
    state.sentence_click = "select"
    view._tap(0.1, -1)
    assert (state.token, state.kind) == (first + 1, "query")
    view._tap(0.1, -3)
    assert state.token == first + 3
    assert view._chosen == [1, 3]
    weights = view._shown.weights
    alpha = np.reshape(view._figure.strips.data["alpha"][: weights[:, 1].size], weights[:, 1].shape)
    np.testing.assert_allclose(alpha, np.minimum(weights[:, 1] + weights[:, 3], 1))
    view._tap(0.1, -3)
    assert (state.token, view._chosen) == (first + 1, [1])
    view._tap(0.9, -2)
    assert (state.token, state.kind, view._chosen) == (first + 2, "key", [2])
    state.select(None)
    assert view._chosen == []


def test_the_sequence_follows_the_token_and_drops_it(view):
    state, run = view.state, view.state.directory
    token = run.token_slice(7).start + 2
    state.select(token, "key")
    assert state.sequence == 7
    assert view._chosen == [2]
    assert {place[2] for place in drawn(view)} == {2}
    view._controls.step(1)
    assert (state.sequence, state.token) == (8, None)
    view._controls.step(1000)
    assert state.sequence == run.num_sequences - 1
    view._controls.step(-1000)
    assert state.sequence == 0
    assert state.restore("?sequence=12") == ["sequence"]
    assert state.restore("?sequence=-1") == ["sequence"]


def test_numbers_of_a_pair_are_the_runs(view):
    run, first = view.state.directory, view.state.directory.token_slice(3).start
    view.state.param.update(sentence_form="matrix", sentence_join="mean")
    view._point(1.5, -4.5)
    texts = view._shown.texts
    assert view._figure.frame.data == {"x": [1.5], "y": [-4.5]}
    mean = np.mean([run.attention(1, head, 3).weights[4, 1] for head in range(4)])
    assert view._figure.tip.data["text"] == [f"{texts[0][4]} → {texts[1][1]}\nmean of 4 heads: {mean * 100:.2f} %"]
    for head in range(4):
        made = pair_numbers(run, 1, head, first + 4, first + 1)
        cells = f">{made.dot:.2f}</td>", f">{made.logit:.2f}</td>", f">{made.weight * 100:.2f} %</td>"
        assert all(cell in view._numbers.object for cell in cells)
    view._point(4.5, -1.5)  # a causal model's query does not see it
    assert "−∞" in view._numbers.object
    view.state.sentence_form = "lines"
    view.state.select(first + 4, "query")
    view._point(0.9, -1)
    assert f"{pair_numbers(run, 1, 2, first + 4, first + 1).dot:.2f}" in view._numbers.object


def test_a_matrix_holds_the_weights(view):
    run = view.state.directory
    view.state.param.update(sentence_form="matrix", sentence_heads="1")
    values = view._figure.values.data
    np.testing.assert_array_equal(values["weight"], run.attention(1, 1, 3).weights.ravel())
    view.state.param.update(sentence_heads="", sentence_join="sum")
    total = sum(run.attention(1, head, 3).weights for head in range(4))
    np.testing.assert_allclose(view._figure.values.data["weight"], total.ravel(), atol=1e-6)


def test_several_heads_are_a_matrix_each_on_one_scale(view):
    state, run = view.state, view.state.directory
    state.param.update(sentence_form="matrix", sentence_heads="0,2-3")
    weights = np.stack([run.attention(1, head, 3).weights for head in (0, 2, 3)])
    made = view._figure
    assert made.plot.name == "matrices"
    titles = made.plot.select_one({"name": "matrices-titles"}).data["text"]
    assert titles == ["Head 0", "Head 2", "Head 3"]
    assert "A matrix for each of 3 heads" in view.heading()[1]
    for number, (own, pixels) in enumerate(zip(weights, made.image.data["image"], strict=True)):
        color = head_colors(THEMES[state.theme], 4)[(0, 2, 3)[number]]
        np.testing.assert_array_equal(
            pixels, matrix_pixels(own, THEMES[state.theme].surface, color, most=float(weights.max()))
        )
    for number, row, column in ((0, 0, 0), (2, 4, 1), (1, weights.shape[1] - 1, weights.shape[2] - 1)):
        x = float(made.corners[number, 0]) + (column + 0.5) / weights.shape[2]
        y = float(made.corners[number, 1]) - (row + 0.5) / weights.shape[1]
        view._point(x, y)
        assert made.cell_at(x, y) == (number, row, column)
        np.testing.assert_allclose([made.frame.data[axis][number] for axis in "xy"], [x, y], atol=1e-6)
        assert len(made.frame.data["x"]) == 3
        text = made.tip.data["text"][0].split("\n")
        head, first = (0, 2, 3)[number], run.token_slice(3).start
        numbers = pair_numbers(run, 1, head, first + row, first + column)
        assert text[0] == f"Head {head}"
        assert text[2] == f"weight: {weights[number, row, column] * 100:.2f} %"
        assert text[3].startswith(f"q·k {numbers.dot:.2f}, scaled {numbers.dot * run.layers[1].scaling:.2f}, logit ")
    view._point(float(made.corners[0, 0]) - 0.05, -0.5)  # between matrices
    view._leave()
    assert len(made.frame.data["x"]) == len(made.tip.data["x"]) == 0
    view._tap(float(made.corners[1, 0]) + 0.5, float(made.corners[1, 1]) - 0.5)
    assert state.sentence_heads == "2"
    assert view._figure.plot.name == "matrix"


def test_a_matrix_of_several_heads_says_what_it_joins(view):
    view.state.param.update(sentence_form="matrix", sentence_join="mean")
    assert "mean of 4 heads" in view.heading()[1]
    assert "mean of 4 heads" in view.summary()
    view.state.sentence_join = "sum"
    assert "sum of 4 heads" in view.heading()[1]
    view.state.sentence_heads = "3"
    assert "heads" not in view.heading()[1]


def test_a_matrix_of_one_head_tells_the_way_to_the_weight(view):
    run, first = view.state.directory, view.state.directory.token_slice(3).start
    view.state.param.update(sentence_form="matrix", sentence_heads="2", hide_first=True)
    view._point(1.5, -4.5)
    made = pair_numbers(run, 1, 2, first + 4, first + 1)
    lines = view._figure.tip.data["text"][0].split("\n")
    assert lines[1] == f"weight: {view._shown.weights[0, 4, 1] * 100:.2f} %"
    scaled = made.dot * run.layers[1].scaling
    assert lines[2] == f"q·k {made.dot:.2f}, scaled {scaled:.2f}, logit {made.logit:.2f}"
    assert lines[3] == f"the model's weight: {made.weight * 100:.2f} %"


def test_of_many_heads_the_first_have_a_matrix_and_the_heading_says_so(tmp_path):
    state = State(library.open_runs([write_fake_run(tmp_path / "many", heads=20, layers=1)]))
    state.restore("?view=sentence&sentence_form=matrix")
    view = SentenceView(state)
    assert len(view._figure.image.data["image"]) == 16
    assert "the first 16 of 20 heads" in view.heading()[1]


def test_a_mean_is_weighed_by_value_norms_and_says_what_belongs_to_one_sequence(view, monkeypatch):
    state, run = view.state, view.state.directory
    vectors = type(run).vectors

    def with_norms(self, layer, head, tokens=slice(None)):
        found = vectors(self, layer, head, tokens)
        start, stop, _ = tokens.indices(self.num_tokens)
        return replace(found, value_norm=1 + np.arange(start, stop, dtype=np.float32) % 5)

    monkeypatch.setattr(type(run), "vectors", with_norms)
    state.param.update(sentence_scope="mean", sentence_values=True, sentence_heads="2", hide_first=True)
    total = {place: [] for place in ((2, 1), (4, 3), (4, 4))}
    for sequence in range(run.num_sequences):
        one = read_heads(run, 1, [2], sequence, Changes(values=True, first=True)).weights[0]
        for place, found in total.items():
            if max(place) < len(one):
                found.append(one[place])
    for place, found in total.items():
        assert view._shown.weights[0][place] == pytest.approx(np.mean(found), abs=1e-6)
    library.mean_attention.cache_clear()
    controls = view._controls
    assert controls._values.visible
    assert not any(item.visible for item in (controls._words, controls._pairs, controls._click))
    assert controls._of_one.visible
    assert "a mean by position leaves them" in controls._of_one.object
    state.sentence_scope = "one"
    assert not controls._of_one.visible


def test_the_mean_over_all_sequences_is_computed_once_and_shared(view):
    run = view.state.directory
    view.state.param.update(sentence_scope="mean", sentence_heads="2", hide_special=True)
    made = mean_by_position(run, 1, 2, special=True)
    np.testing.assert_array_equal(view._shown.weights[0], made.weights)
    assert drawn(view) == expect(made.weights[None])
    masks = {"special": True, "punctuation": False, "first": False, "values": False}
    assert library.mean_attention(run, 1, 2, **masks) is library.mean_attention(run, 1, 2, **masks)
    view._tap(0.1, -3)
    view._tap(0.1, -4)
    assert (view._chosen, view.state.token, view.state.sentence_hidden) == ([3, 4], None, "")
    view.state.sentence_form = "matrix"
    view._point(1.5, -3.5)
    assert f"{made.counts[3, 1]} sequences have both positions" in view._figure.tip.data["text"][0]


def test_every_layer_of_every_run_is_drawn(paths):
    explorer = Explorer(paths)
    state, shown = explorer.state, explorer._views["sentence"]
    for name, run in library.open_runs(paths).items():
        state.param.update(run=name, view="sentence")
        for layer, form in [(layer, form) for layer in run.layers for form in ("lines", "matrix")]:
            state.param.update(layer=layer, sentence_form=form)
            assert state.problem == ""
            assert shown._shown.weights.shape[0] == run.layers[layer].num_heads
            assert explorer._title.object.startswith("<h1>")
            assert not explorer._banner.visible  # a run without maps has sentences all the same
    assert shown._figure.plot.name == "matrices"


def test_a_layer_that_cannot_be_rebuilt_says_so(view, monkeypatch):
    run = view.state.directory
    info = run.layers[0]
    monkeypatch.setitem(run.layers, 0, type(info)(**{f: getattr(info, f) for f in info.__slots__} | {"rebuilt": False}))
    for scope in ("one", "mean"):
        library.mean_attention.cache_clear()
        view.state.param.update(layer=0, sentence_scope=scope)
        assert "cannot be rebuilt" in view._note.object
        assert (view._note.visible, view._pane.object, view.state.problem) == (True, None, "")
    view.state.layer = 1
    assert not view._note.visible


@pytest.mark.parametrize("value", ["x", "99", "-1,", ",,", "1" * 200, "<b>", "none"])
def test_nonsense_from_an_address_is_left_out(paths, value):
    state = State(library.open_runs(paths))
    state.restore(f"?view=sentence&sentence_heads={value}&sentence_hidden={value}&sentence_pairs={value}")
    view = SentenceView(state)
    assert view._shown.heads == (() if value == "none" else tuple(range(4)))
    assert state.sentence_pairs == "all"
    assert not view._shown.columns[0].hidden.any()


def test_tokens_are_escaped_in_the_table():
    evil = "<script>alert(1)</script>"
    made = numbers_table(evil, [Row(evil, "#000000", evil, 1.0, float("-inf"), 0.5, 0.25)], note=evil)
    assert "<script" not in made
    assert "−∞" in made
    assert "25.00 %" in made


def test_a_chosen_token_is_no_position_of_the_mean_and_a_position_no_token(view):
    """What is selected is read off the card: it names the selected row, or hints at what to do."""
    card = view.__panel__().select(pn.pane.HTML)[-1]
    first = view.state.directory.token_slice(1).start
    view.state.sequence = 1
    view.state.select(first + 2, "query")
    assert "<table" in card.object
    view.state.sentence_scope = "mean"
    assert "Rest on a token" in card.object
    view._tap(0.1, -3)  # the fourth position
    assert "<h3>3 → …</h3>" in card.object
    view.state.sentence_scope = "one"
    assert f"<h3>{view._shown.texts[0][2]} → …</h3>" in card.object
    view.state.sentence_scope = "mean"
    assert "Rest on a token" in card.object
