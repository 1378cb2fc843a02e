"""A point's strongest partners over the whole run beside its nearest on the map."""

import numpy as np
import pytest

from tests.fakes import write_fake_run, write_fake_streams

pytest.importorskip("panel")

from dataclasses import replace

from attnviz.errors import DatasetError
from attnviz.explorer import State, library
from attnviz.explorer.nearest import NearestPanel
from attnviz.store import RunDirectory
from attnviz.views import nearest_partners, partner_products, read_exchange


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nearest")
    return [write_fake_run(folder / "text", layers=2), write_fake_streams(folder / "pair", "pair")]


@pytest.mark.parametrize("kind", ["query", "key"])
def test_the_strongest_are_those_of_all_sequences_and_the_nearest_those_of_the_map(paths, kind):
    run = RunDirectory(paths[0])
    vectors, placed = run.vectors(1, 2), run.coordinates("umap_3d", 1, 2)
    own, others = (vectors.query, vectors.key) if kind == "query" else (vectors.key, vectors.query)
    products = others @ own[9]
    first, other = (0, run.num_tokens) if kind == "query" else (run.num_tokens, 0)
    distance = np.linalg.norm(placed[other : other + run.num_tokens] - placed[9 + first], axis=1)
    strongest, nearest = nearest_partners(run, 1, 2, 9, kind, placed=placed)
    np.testing.assert_array_equal(strongest["token"], np.argsort(-products, kind="stable")[:10])
    np.testing.assert_allclose(strongest["product"], np.sort(products)[::-1][:10], rtol=1e-6)
    np.testing.assert_array_equal(nearest["token"], np.argsort(distance, kind="stable")[:10])
    assert strongest["product_rank"].tolist() == nearest["map_rank"].tolist() == list(range(1, 11))
    ranks = distance.argsort(kind="stable").argsort() + 1
    np.testing.assert_array_equal(strongest["map_rank"], ranks[strongest["token"]])
    assert run.tokens["sequence_id"].iloc[strongest["token"]].nunique() > 1


def test_products_are_those_the_model_scales_and_turns_into_attention(paths):
    """In cross attention a query's partners are tokens of the encoder, and softmax of the scaled products is its attention."""
    run = RunDirectory(paths[1])
    layer, points = run.layers[5], run.points(5)
    token = int(points.query[7])
    exchange = read_exchange(run, 5, 1, int(run.tokens["sequence_id"].iloc[token]))
    products = partner_products(run, 5, 1, token, "query")
    assert len(products) == len(points.key)
    own = np.exp(products[np.isin(points.key, exchange.tokens("key"))] * layer.scaling)
    np.testing.assert_allclose(own / own.sum(), exchange.weights(exchange.place(token, "query"), "query"), rtol=1e-4)


def test_products_that_the_vectors_do_not_give_are_refused(paths):
    run = RunDirectory(paths[0])
    run.layers[1] = replace(run.layers[1], rebuilt=False, rope="before")
    with pytest.raises(DatasetError, match="before RoPE"):
        partner_products(run, 1, 0, 3, "query")


def test_the_panel_lists_both_and_a_click_selects(paths):
    state = State(library.open_runs(paths))
    panel = NearestPanel(state)
    assert not panel._box.visible
    state.param.update(map="pca", view="head", layer=1, head=2, token=9)
    run = state.directory
    wall = library.wall(run, "pca")
    frames = nearest_partners(run, 1, 2, 9, "query", placed=wall.points[wall.index(1, 2)])
    assert panel._box.visible
    for rows, frame in zip(panel._lists, frames, strict=True):
        assert [item["name"] for item in rows.items] == run.tokens["text"].iloc[frame["token"]].tolist()
    near = (frames[0]["map_rank"] <= 50).sum()
    assert f"{near} of the 10 strongest are among the 50 nearest keys" in panel._note.object
    panel._lists[1]._handle_msg(3)
    assert (state.token, state.kind) == (int(frames[1]["token"].iloc[3]), "key")
    panel._lists[1]._handle_msg(99)
    panel._lists[1]._handle_msg("x")
    assert state.token == int(frames[1]["token"].iloc[3])


def test_a_layer_without_products_says_so_and_keeps_the_rest(paths):
    state = State(library.open_runs([RunDirectory(paths[0])]))
    state.directory.layers[1] = replace(state.directory.layers[1], rebuilt=False)
    panel = NearestPanel(state)
    state.param.update(map="pca", view="head", layer=1, token=9)
    assert "before RoPE" in panel._note.object
    assert panel._lists[0].items == []
    assert state.problem == ""
