"""The neuron view: every number against plain numpy, for each thing a layer may do to q·k; and what a session shows of it."""

import json

import numpy as np
import pytest

from tests.fakes import write_fake_run, write_fake_streams

pytest.importorskip("panel")

from attnviz.attention import logits
from attnviz.errors import DatasetError
from attnviz.explorer import Explorer, State, library
from attnviz.explorer.neuron_view import steps
from attnviz.plots.neuron import BANDS, PITCH, bar_colors, neuron_figure
from attnviz.plots.theme import DARK, LIGHT
from attnviz.store import RunDirectory, layout
from attnviz.store.terms import write_terms
from attnviz.types import Terms
from attnviz.views import color_points, colorings, patch_name
from attnviz.views.dimension import dimension_title, dimension_values
from attnviz.views.neuron import Pair, choose_pair, read_query

LAYER, HEAD, SEQUENCE = 1, 3, 2
LONGEST, DIM = 20, 8


def rotation():
    """The RoPE of 8 dimensions, whose halves turn each other."""
    angle = np.outer(np.arange(LONGEST), np.tile([1.0, 0.5, 0.2, 0.1], 2)).astype(np.float32)
    sign = np.repeat([-1, 1], 4)
    return np.stack([np.cos(angle), np.sin(angle) * sign]), np.roll(np.arange(DIM), 4).astype(np.int32)


def terms_of(case):
    rng = np.random.default_rng(3)
    made = {}
    if case == "bias":
        made["by_distance"] = rng.normal(size=(4, 2 * LONGEST + 1)).astype(np.float32)
    if case == "sink":
        made["sinks"] = np.array([0.5, 1, 1.5, 2], np.float32)
    if case == "rope":
        made["rotation"], made["partner"] = rotation()
    return Terms(**made) if made else None


@pytest.fixture(scope="module", params=["plain", "causal", "softcap", "bias", "sink", "rope"])
def case(request, tmp_path_factory):
    """A run of four heads on two key heads whose layers do one thing more."""
    path = write_fake_run(tmp_path_factory.mktemp("neuron") / request.param)
    changes = {"causal": request.param == "causal", "softcap": 2.0 if request.param == "softcap" else None}
    manifest = json.loads((path / layout.MANIFEST_FILE).read_text())
    for info in manifest["layers"]:
        info.update(changes)
        if (terms := terms_of(request.param)) is not None:
            write_terms(layout.terms_file(path, info["layer"]), terms)
    (path / layout.MANIFEST_FILE).write_text(json.dumps(manifest))
    return request.param, RunDirectory(path)


def by_hand(name, query, key, place):
    """The products of one query with all keys, their sum, what the layer makes of it, and the weights, in float64."""
    query, key = query[place].astype(float), key.astype(float)
    if name == "rope":
        (cosine, sine), partner = rotation()
        query = query * cosine[place] + query[partner] * sine[place]
        key = np.stack([own * cosine[i] + own[partner] * sine[i] for i, own in enumerate(key)])
    products = query * key
    scores = products.sum(axis=1) / np.sqrt(DIM)
    final = 2 * np.tanh(scores / 2) if name == "softcap" else scores
    if name == "bias":
        final = final + np.array([terms_of(name).by_distance[HEAD, j - place + LONGEST] for j in range(len(key))])
    if name == "causal":
        final = np.where(np.arange(len(key)) <= place, final, -np.inf)
    sink = np.exp(terms_of(name).sinks[HEAD]) if name == "sink" else 0.0
    return products, scores, final, np.exp(final) / (np.exp(final).sum() + sink)


def test_a_pair_is_what_numpy_makes_of_it(case):
    name, run = case
    rows = run.token_slice(SEQUENCE)
    vectors = run.vectors(LAYER, HEAD, rows)
    attention = run.attention(LAYER, HEAD, SEQUENCE).weights
    all_logits = logits(vectors.query, vectors.key, run.layers[LAYER].of_head(HEAD))
    for place in (0, 3, rows.stop - rows.start - 1):
        products, scores, final, weights = by_hand(name, vectors.query, vectors.key, place)
        seen = read_query(run, LAYER, HEAD, rows.start + place)
        np.testing.assert_allclose(seen.weights, weights, atol=1e-6)
        assert seen.sink == pytest.approx(1 - weights.sum(), abs=1e-5)
        for number in range(len(weights)):
            pair = seen.pair(rows.start + number)
            np.testing.assert_allclose(pair.product, products[number], atol=1e-5)
            assert pair.scaled == pytest.approx(scores[number], abs=1e-5)
            assert pair.logit == pytest.approx(final[number], abs=1e-5)
            assert pair.logit == pytest.approx(float(all_logits[place, number]), abs=1e-5)
            assert pair.weight == pytest.approx(float(attention[place, number]), abs=1e-6)
            rest = (pair.scaled if pair.capped is None else pair.capped) + (pair.bias or 0)
            assert rest == pytest.approx(pair.logit, abs=1e-5) or (name == "causal" and number > place)
        assert (pair.bias is not None) == (name == "bias")
        assert (pair.capped is not None) == (name == "softcap")


def test_heads_that_share_keys_show_the_same_key(tmp_path):
    run = RunDirectory(write_fake_run(tmp_path / "gqa"))
    first, second = (read_query(run, 0, head, 4) for head in (2, 3))
    np.testing.assert_array_equal(first.keys, second.keys)
    assert not np.array_equal(first.query, second.query)


@pytest.fixture(scope="module")
def pair_path(tmp_path_factory):
    return write_fake_streams(tmp_path_factory.mktemp("neuron") / "pair", "pair")


@pytest.fixture(scope="module")
def pair_run(pair_path):
    return RunDirectory(pair_path)


def test_cross_attention_holds_a_decoder_query_against_encoder_keys(pair_run):
    rows = pair_run.token_slice(1)
    points, vectors = pair_run.points(5).within(rows.start, rows.stop), pair_run.vectors(5, 1, rows)
    seen, key = choose_pair(pair_run, (5, 1), int(points.query[2]), "query", int(points.key[1]))
    assert key == points.key[1]
    assert seen.pair(key).dot == pytest.approx(float(vectors.query[2] @ vectors.key[1]), abs=1e-5)
    assert seen.pair(key).weight == pytest.approx(float(pair_run.attention(5, 1, 1).weights[2, 1]), abs=1e-6)
    assert set(pair_run.tokens["stream"].iloc[seen.points.key]) == {"encoder"}


def test_a_chosen_key_gets_the_query_that_gives_it_most(pair_run):
    rows = pair_run.token_slice(1)
    points = pair_run.points(5).within(rows.start, rows.stop)
    given = pair_run.attention(5, 0, 1).weights
    seen, key = choose_pair(pair_run, (5, 0), int(points.key[2]), "query", None)
    assert (seen.token, key) == (points.query[given[:, 2].argmax()], points.key[2])
    seen, key = choose_pair(pair_run, (5, 0), int(points.query[1]), "query", 0)  # a partner of another sequence
    assert key == points.key[given[1].argmax()]
    assert choose_pair(pair_run, (2, 0), int(points.key[2]), "query", None) is None  # a decoder has no encoder token
    assert choose_pair(pair_run, (5, 0), None, "key", None, sequence=1)[0].token in points.query


def test_a_token_without_query_is_an_error_in_words(pair_run):
    with pytest.raises(DatasetError, match="no query in layer cross 1"):
        read_query(pair_run, 5, 0, int(pair_run.points(5).key[0]))


PAIR = Pair(np.array([1, -2, 0.5], np.float32), np.array([3, 1, 4], np.float32), 0.5, None, None, 1.5, 0.25)


def test_the_order_is_by_contribution_or_by_dimension():
    assert PAIR.product.tolist() == [3, -2, 2]
    assert PAIR.order("contribution").tolist() == [0, 2, 1]
    assert PAIR.order("dimension").tolist() == [0, 1, 2]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_bars_have_signs_and_the_sum_ends_at_q_dot_k(theme):
    figure = neuron_figure(PAIR, theme, by="contribution", chosen=1)
    bars, run = figure.bars.data, figure.run.data
    assert bars["value"].tolist() == [1, 0.5, -2, 3, 4, 1, 3, 2, -2]
    middle = np.repeat(-PITCH * np.arange(len(BANDS) - 1), 3)
    signs = np.where(bars["top"] > middle, 1, -1)
    np.testing.assert_array_equal(signs, np.sign(bars["value"]))
    assert run["value"].tolist() == [3, 5, 3, 3]
    assert run["value"][-1] == PAIR.dot
    assert figure.frame.data["left"] == [2]  # dimension 1 adds least, so it is the last
    low, middle, high = bar_colors(np.array([-0.6, 0.0, 0.6], np.float32), theme)
    assert (low, middle, high) == theme.signed


def test_the_steps_name_what_the_layer_does_and_escape_tokens():
    made = steps(Pair(PAIR.query, PAIR.key, 0.5, 30.0, -0.25, 1.2, 0.25), ("<script>", "a&b"))
    for part in ("<b>3.0000</b>", "<b>1.5000</b>", "soft-capped at 30", "<b>-0.2500</b>", "<b>1.2000</b>", "25.00 %"):
        assert part in made
    assert "<script>" not in made
    assert "a&amp;b" in made
    assert "bias" not in steps(PAIR, ("a", "b"))
    assert "mask" in steps(Pair(PAIR.query, PAIR.key, 0.5, None, None, -np.inf, 0.0), ("a", "b"))


def test_a_dimension_colours_each_point_with_its_own_number(case):
    name, run = case
    values = dimension_values(run, "dimension:5", [(0, 0), (LAYER, HEAD)])
    assert values.shape == (2, 2 * run.num_tokens)
    token = run.token_slice(SEQUENCE).start + 3
    seen = read_query(run, LAYER, HEAD, token)
    assert values[1, token] == pytest.approx(seen.query[5], abs=1e-6)
    assert values[1, run.num_tokens + token] == pytest.approx(seen.keys[3, 5], abs=1e-6)
    made = color_points(run, "dimension:5", heads=[(0, 0), (LAYER, HEAD)])
    assert (made.title, made.low) == ("Dimension 5", -made.high)
    bins = made.codes // 2
    inside = np.abs(values) < 0.98 * made.high
    np.testing.assert_array_equal(
        (bins >= 50)[inside & (np.abs(values) > 1e-3)], (values > 0)[inside & (np.abs(values) > 1e-3)]
    )
    assert (made.codes[0] != made.codes[1]).any()
    assert name == "rope" or np.array_equal(values[1, : run.num_tokens], run.vectors(LAYER, HEAD).query[:, 5])


def test_points_a_head_lacks_have_no_dimension(pair_run):
    values = dimension_values(pair_run, "dimension:0", [(5, 0)])[0]
    points = pair_run.points(5)
    known = np.concatenate([points.query, points.key + pair_run.num_tokens])
    assert np.isfinite(values[known]).all()
    assert np.isnan(values).sum() == len(values) - len(known)


@pytest.mark.parametrize(
    "name", "dimension: dimension:8 dimension:-1 dimension:x dimension:٣ norm data:dimension:1".split()
)
def test_only_dimensions_that_a_head_has_are_colourings(pair_run, name):
    assert dimension_title(pair_run, name) is None
    assert dimension_title(pair_run, "dimension:7") == "Dimension 7"


@pytest.fixture
def explorer(pair_path, tmp_path_factory):
    text = write_fake_run(tmp_path_factory.mktemp("neuron") / "text")
    return Explorer([text, pair_path])


def test_a_session_chooses_query_key_and_dimension(explorer):
    state = explorer.state
    state.restore("?run=text&map=pca&view=neuron&layer=1&head=2&token=9")
    shown, run = explorer._views["neuron"], state.directory
    first = run.token_slice(int(run.tokens["sequence_id"].iloc[9])).start
    given = run.attention(1, 2, int(run.tokens["sequence_id"].iloc[9])).weights[9 - first]
    weights = [f"{weight * 100:.2f} %" for weight in np.sort(given)[::-1][:12]]
    assert [note for _, note, *_ in shown._keys.items] == weights
    assert shown._key == first + int(given.argmax())
    shown._keys.choose(2)
    assert state.partner == shown._key == first + int(np.argsort(-given, kind="stable")[2])
    assert [chosen for *_, chosen in shown._keys.items].index(True) == 2
    shown._queries.choose(1)
    assert (state.token, state.kind, shown._seen.token) == (first + 1, "query", first + 1)
    assert shown._key == state.partner  # it stays, so that queries compare
    assert f"“{patch_name(run, first + 1)}”" in shown.summary()
    state.neuron_order = "dimension"
    assert shown._figure.order.tolist() == list(range(8))
    shown._tap(5.4)
    assert state.neuron_dimension == 5
    assert shown._color.text == "Colour the map by dimension 5"
    shown._point(5.4, 0.0)
    assert f"q {shown._pair.query[5]:.4f}" in shown._figure.tip.data["text"][0]
    shown._color_map()
    assert (state.view, state.color) == ("head", "dimension:5")
    assert state.problem == ""
    assert explorer._views["head"]._scene.coloring.title == "Dimension 5"


def test_reset_goes_back_to_the_strongest_key_by_contribution(explorer):
    state = explorer.state
    state.restore("?run=text&map=pca&view=neuron&layer=1&head=2&token=9&neuron_order=dimension&neuron_dimension=5")
    shown = explorer._views["neuron"]
    strongest = shown._key
    shown._keys.choose(3)
    assert shown._key != strongest
    explorer._press("0")
    assert (shown._key, state.token, state.layer, state.head) == (strongest, 9, 1, 2)
    assert (state.partner, state.neuron_order, state.neuron_dimension) == (None, "contribution", None)
    assert shown._figure.order.tolist() == shown._pair.order("contribution").tolist()


def test_a_colouring_by_dimension_is_in_the_address_and_leaves_with_its_run(explorer, pair_path):
    state = State(library.open_runs([pair_path]))
    assert state.restore("?run=pair&color=dimension:3&view=neuron&partner=2&neuron_order=dimension") == []
    other = State(library.open_runs([pair_path]))
    assert other.restore(state.address()) == []
    assert (other.color, other.partner, other.neuron_order) == ("dimension:3", 2, "dimension")
    assert State(library.open_runs([pair_path])).restore("?color=dimension:8&partner=-1") == ["color", "partner"]
    explorer.state.offer_color("dimension:1")
    explorer.state.color = "dimension:1"
    explorer.state.run = "pair"
    assert explorer.state.color in colorings(explorer.state.directory)


def test_a_token_that_a_layer_lacks_is_said_in_words(explorer):
    explorer.state.restore("?run=pair&view=neuron&layer=2&token=0")
    shown = explorer._views["neuron"]
    assert "has no point here" in shown._numbers.object
    assert not any(part.visible for part in shown._parts)
    explorer.state.layer = 5  # where it has a key
    assert all(part.visible for part in shown._parts)
    assert shown._key == 0


def test_a_layer_that_cannot_be_rebuilt_is_a_sentence(tmp_path):
    path = write_fake_run(tmp_path / "before")
    manifest = json.loads((path / layout.MANIFEST_FILE).read_text())
    manifest["layers"][1]["rebuilt"] = False
    (path / layout.MANIFEST_FILE).write_text(json.dumps(manifest))
    explorer = Explorer([path])
    explorer.state.restore("?view=neuron&layer=1&token=3")
    assert "cannot be rebuilt" in explorer._views["neuron"]._numbers.object
    assert explorer.state.problem == ""
