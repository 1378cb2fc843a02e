"""Heads of one sequence, and their mean over all: every number against a plain loop over the model's weights."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnviz.attention import logits
from attnviz.plots.heads_of_sequence import line_columns, lines_of, own_lines, strip_data
from attnviz.plots.matrix import cell_at, matrix_pixels
from attnviz.plots.theme import THEMES, head_colors
from attnviz.store import RunDirectory, layout
from attnviz.views import Changes, has_pair, join_heads, mean_by_position, pair_numbers, read_heads
from attnviz.views.heads_of_sequence import hide, weigh_by_value
from tests.fakes import write_fake_run, write_fake_streams


def changed(path, **columns):
    """A run whose tokens have other columns: functions from the old values to the new."""
    file = path / layout.TOKENS_FILE
    table = pq.read_table(file, partitioning=None)
    for name, change in columns.items():
        place = table.schema.get_field_index(name)
        made = pa.array(change(table[name].to_pylist()), table.schema.field(name).type)
        table = table.set_column(place, table.schema.field(name), made)
    pq.write_table(table, file)
    return RunDirectory(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A text run; the value of token t has norm 1 + t % 5, and sequences are pairs split at their fifth token."""
    path = write_fake_run(tmp_path_factory.mktemp("heads") / "text", heads=4, sequences=9)
    for file in path.glob("vectors/*/*.parquet"):
        table = pq.read_table(file, partitioning=None)
        norms = pa.array([1.0 + token % 5 for token in table["token"].to_pylist()], pa.float32())
        place = table.schema.get_field_index("value_norm")
        groups = table.set_column(place, table.schema.field("value_norm"), norms)
        pq.write_table(groups, file, row_group_size=table.num_rows // 4)
    positions = RunDirectory(path).tokens["position"].to_numpy()
    return changed(path, segment=lambda old: [int(place >= 5) for place in positions])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return RunDirectory(write_fake_streams(tmp_path_factory.mktemp("heads") / "pair", "pair", sink=True))


def as_seen(weights, hidden_q, hidden_k, sink=False):
    """The weights without hidden tokens, by a loop."""
    made = np.zeros_like(weights)
    for i, row in enumerate(weights):
        rest = sum(w for j, w in enumerate(row) if j not in hidden_k) + ((1 - row.sum()) if sink else 0)
        for j, w in enumerate(row):
            if i not in hidden_q and j not in hidden_k and rest > 0:
                made[i, j] = w / rest
    return made


def test_without_changes_the_weights_are_the_models(run):
    made = read_heads(run, 1, (2, 0), 3)
    assert made.heads == (2, 0)
    np.testing.assert_array_equal(made.weights[0], run.attention(1, 2, 3).weights)
    np.testing.assert_array_equal(made.weights[1], run.attention(1, 0, 3).weights)
    assert made.queries.texts == made.keys.texts == run.attention(1, 0, 3).tokens
    part = read_heads(run, 1, (2,), 3, rows=slice(1, 3), columns=slice(0, 4))
    np.testing.assert_array_equal(part.weights[0], made.weights[0, 1:3, :4])
    assert (part.queries.texts, part.whole) == (made.queries.texts[1:3], (len(made.queries), len(made.keys)))
    assert read_heads(run, 1, (), 3).weights.shape == (0, len(made.queries), len(made.keys))


def test_hidden_tokens_give_what_softmax_gives_without_them(run):
    first, weights = run.token_slice(4).start, run.attention(0, 1, 4).weights
    count = len(weights)
    made = read_heads(run, 0, (1,), 4, Changes(frozenset({first + 2, first + 3}), special=True))
    gone = {0, 2, 3, count - 1}
    np.testing.assert_allclose(made.weights[0], as_seen(weights, gone, gone), atol=1e-6)
    assert set(np.flatnonzero(made.queries.hidden)) == gone
    vectors, info = run.vectors(0, 1, run.token_slice(4)), run.layers[0].of_head(1)
    scores = logits(vectors.query, vectors.key, info)
    kept = np.setdiff1d(np.arange(count), list(gone))
    without = np.exp(scores[np.ix_(kept, kept)])
    np.testing.assert_allclose(
        made.weights[0][np.ix_(kept, kept)], without / without.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6
    )


def test_a_row_that_gave_all_to_the_hidden_is_empty(run):
    made = read_heads(run, 0, (0,), 2, Changes(frozenset({run.token_slice(2).start + 1}), first=True))
    assert run.layers[0].causal
    assert not made.weights[0, :2].any()
    np.testing.assert_allclose(made.weights[0, 2:].sum(axis=1), 1, atol=1e-5)
    assert np.isfinite(made.weights).all()


def test_a_sink_keeps_its_part(pair):
    layer = 5
    weights = pair.attention(layer, 1, 6).weights
    assert (weights.sum(axis=1) < 0.99).all()
    made = read_heads(pair, layer, (1,), 6, Changes(frozenset({int(pair.token_slice(6).start)})))
    np.testing.assert_allclose(made.weights[0], as_seen(weights, set(), {0}, sink=True), atol=1e-6)
    sinks = 1 - weights.sum(axis=1)
    np.testing.assert_allclose(1 - made.weights[0].sum(axis=1), sinks / (1 - weights[:, 0]), atol=1e-5)


def test_cross_attention_has_other_tokens_on_either_side(pair):
    made = read_heads(pair, 5, (0, 1), 2, Changes(special=True))
    texts = pair.tokens["text"].to_numpy()
    assert made.queries.texts == tuple(texts[made.queries.first])
    assert set(pair.tokens["stream"].iloc[made.queries.first]) == {"decoder"}
    assert set(pair.tokens["stream"].iloc[made.keys.first]) == {"encoder"}
    gone_q = set(np.flatnonzero(pair.tokens["is_special"].to_numpy()[made.queries.first]))
    gone_k = set(np.flatnonzero(pair.tokens["is_special"].to_numpy()[made.keys.first]))
    assert gone_q == {0}
    for head in (0, 1):
        expected = as_seen(pair.attention(5, head, 2).weights, gone_q, gone_k, sink=True)
        np.testing.assert_allclose(made.weights[head], expected, atol=1e-6)
    assert made.keys.row(int(made.keys.first[3])) == 3
    assert made.keys.row(int(made.queries.first[0])) is None
    assert not has_pair(pair, 5, 2)


def test_weighing_by_value_changes_shares_and_keeps_sums(run):
    sequence = 5
    rows = run.token_slice(sequence)
    norms = np.array([1.0 + token % 5 for token in range(rows.start, rows.stop)])
    weights = run.attention(1, 3, sequence).weights
    made = read_heads(run, 1, (3,), sequence, Changes(values=True)).weights[0]
    for i, row in enumerate(weights):
        together = sum(w * n for w, n in zip(row, norms, strict=True))
        np.testing.assert_allclose(made[i], [w * n / together for w, n in zip(row, norms, strict=True)], atol=1e-6)
    half = weigh_by_value(weights / 2, norms.astype(np.float32))
    np.testing.assert_allclose(half.sum(axis=1), 0.5, atol=1e-6)
    assert not weigh_by_value(np.zeros((2, 3), np.float32), norms[:3].astype(np.float32)).any()


@pytest.mark.parametrize("pairs", ["aa", "ab", "ba", "bb"])
def test_of_a_pair_one_direction_is_kept(run, pairs):
    sequence = int(np.argmax(run.sequences["num_tokens"]))
    assert has_pair(run, 0, sequence)
    weights = run.attention(0, 0, sequence).weights
    made = read_heads(run, 0, (0,), sequence, Changes(pairs=pairs)).weights[0]
    for i in range(len(weights)):
        for j in range(len(weights)):
            kept = ("ab"[int(i >= 5)] + "ab"[int(j >= 5)]) == pairs
            assert made[i, j] == (weights[i, j] if kept else 0)


def test_a_pair_tells_how_its_weight_comes_about(run, pair):
    for opened, layer, head, sequence in ((run, 1, 3, 5), (pair, 5, 1, 2)):
        rows = opened.token_slice(sequence)
        points = opened.points(layer).within(rows.start, rows.stop)
        vectors, weights = opened.vectors(layer, head, rows), opened.attention(layer, head, sequence).weights
        for i, j in ((2, 1), (1, 3)):
            made = pair_numbers(opened, layer, head, int(points.query[i]), int(points.key[j]))
            assert made.dot == pytest.approx(float(vectors.query[i] @ vectors.key[j]), abs=1e-5)
            assert made.weight == pytest.approx(float(weights[i, j]), abs=1e-6)
            seen = not opened.layers[layer].causal or j <= i
            assert made.logit == (pytest.approx(made.dot * 8**-0.5, abs=1e-5) if seen else -np.inf)


def test_heads_are_joined_and_rows_summed(run):
    made = read_heads(run, 0, range(4), 1)
    total = sum(run.attention(0, head, 1).weights for head in range(4))
    np.testing.assert_allclose(join_heads(made.weights, "sum")[0], total, atol=1e-6)
    np.testing.assert_allclose(join_heads(made.weights, "mean")[0], total / 4, atol=1e-6)
    assert join_heads(made.weights, "each") is made.weights
    for head in range(4):
        weights = run.attention(0, head, 1).weights
        np.testing.assert_allclose(made.of_rows([1, 3], "query")[head], weights[1] + weights[3], atol=1e-6)
        np.testing.assert_allclose(made.of_rows([0, 2], "key")[head], weights[:, 0] + weights[:, 2], atol=1e-6)


@pytest.mark.parametrize("masks", [{}, {"special": True}, {"first": True, "punctuation": True}])
@pytest.mark.parametrize(("which", "layer"), [("run", 1), ("pair", 5), ("pair", 2)])
def test_the_mean_by_position_counts_each_sequence_once(request, monkeypatch, which, layer, masks):
    monkeypatch.setattr("attnviz.views.aggregate.AT_ONCE", 30)
    opened = request.getfixturevalue(which)
    made = mean_by_position(opened, layer, 1, positions=6, **masks)
    total, counts = np.zeros((6, 6)), np.zeros((6, 6), int)
    for sequence in range(opened.num_sequences):
        weights = read_heads(opened, layer, (1,), sequence, Changes(**masks)).weights[0]
        for i in range(min(6, weights.shape[0])):
            for j in range(min(6, weights.shape[1])):
                total[i, j] += weights[i, j]
                counts[i, j] += 1
    rows, columns = made.weights.shape
    np.testing.assert_array_equal(made.counts, counts[:rows, :columns])
    np.testing.assert_allclose(made.weights, (total / np.maximum(counts, 1))[:rows, :columns], atol=1e-5)
    assert not counts[rows:].any()
    assert not made.weights.flags.writeable


def test_nothing_hidden_is_the_same_array():
    weights = np.full((2, 2), 0.5, np.float32)
    assert hide(weights, np.zeros(2, bool), np.zeros(2, bool)) is weights


def test_lines_and_strips_are_as_opaque_as_weights_are_large(run):
    weights = read_heads(run, 0, (0, 3), 2).weights
    colors = head_colors(THEMES["light"], 4)
    data = line_columns(lines_of(weights), [colors[0], colors[3]])
    for head, query, key, alpha, color in zip(
        *(data[name] for name in ("head", "query", "key", "alpha", "color")), strict=True
    ):
        assert alpha == weights[head, query, key] >= 0.02
        assert color == colors[(0, 3)[head]]
    assert len(data["x0"]) == (weights >= 0.02).sum()
    assert set(own_lines(weights, [3], "key")["key"]) == {3}
    strip = strip_data(weights[:, 2], "query", [colors[0], colors[3]], rows=[2])
    np.testing.assert_array_equal(strip["alpha"][: weights[:, 2].size], weights[:, 2].ravel())
    assert all(x > 1 for x in strip["x"][: weights[:, 2].size])
    assert all(x < 0 for x in strip["x"][weights[:, 2].size :])


@pytest.mark.parametrize("theme", THEMES)
def test_sixty_four_heads_have_sixty_four_colours(theme):
    assert len(set(head_colors(THEMES[theme], 64))) == 64
    assert head_colors(THEMES[theme], 12) == list(THEMES[theme].palette)
    assert len(head_colors(THEMES[theme], 80)) == 80


def test_a_matrix_has_its_first_query_on_top_and_finds_its_cells():
    pixels = matrix_pixels(np.array([[1, 0], [0, 0.25]], np.float32), "#000000", "#fffefc")
    colors = pixels.view(np.uint8).reshape(2, 2, 4)[::-1]
    assert colors[0, 0].tolist() == [255, 254, 252, 255]
    assert colors[0, 1].tolist() == [0, 0, 0, 255]
    assert colors[1, 1, 0] == 128
    assert cell_at(1.5, -0.2, (2, 2)) == (0, 1)
    assert cell_at(-3, -1.5, (2, 2)) == (1, -1)
    assert cell_at(0.5, 2, (2, 2)) == cell_at(0.5, 0.5, (2, 2)) == (-1, 0)
    assert cell_at(2.5, -1, (2, 2)) is cell_at(-1, 1, (2, 2)) is None


def test_a_query_that_may_see_no_key_gives_nothing_and_spoils_no_mean(pair, monkeypatch):
    """Of a cross layer with a window: a query beyond the last key's window sees none of them."""
    layer = next(n for n, info in pair.layers.items() if info.query_stream != info.key_stream)
    plain = mean_by_position(pair, layer, 1)
    monkeypatch.setitem(pair.layers, layer, replace(pair.layers[layer], window=1))
    sizes = [pair.attention(layer, 1, sequence).weights.shape for sequence in range(pair.num_sequences)]
    assert any(queries > keys for queries, keys in sizes)
    made = mean_by_position(pair, layer, 1)
    assert np.isfinite(made.weights).all()
    np.testing.assert_array_equal(made.counts, plain.counts)
    for sequence, (queries, keys) in enumerate(sizes):
        found = pair.attention(layer, 1, sequence).weights
        sees = np.arange(queries) < keys
        np.testing.assert_allclose(found[sees].sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(found[~sees], 0)
