"""The attention map: which keys hold a query, and that nearness means attention where other maps cannot show it."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from attnviz.attention import visible, weights
from attnviz.maps.attention import strongest_keys
from attnviz.metrics import METRICS
from attnviz.normalize import joint
from attnviz.types import LayerInfo, MapSpec, Sequences
from tests.contracts import make

MASKS = {
    "full": {},
    "causal": {"causal": True},
    "window": {"window": 5},
    "causal window": {"causal": True, "window": 3},
}


def random_head(*lengths, seed=0, size=1, **mask):
    """Vectors without structure, in sequences of these lengths; larger ones attend to fewer keys."""
    rng, tokens = np.random.default_rng(seed), sum(lengths)
    sequences = Sequences(np.append(0, np.cumsum(lengths)), LayerInfo(0, "", 1, 1, 6, 6**-0.5, **mask))
    return joint(rng.normal(size=(tokens, 6)) * size, rng.normal(size=(tokens, 6)) * size - 1, sequences)


def attended(seed=0, *, clusters=10, each=60):
    """Clusters of queries that attend to clusters of keys elsewhere: what they share is small beside what parts them."""
    rng, nothing = np.random.default_rng(seed), np.zeros((clusters, 6))
    shared, apart, elsewhere = 2 * np.eye(clusters), *(rng.normal(size=(2, clusters, 6)) * 6)
    centres = np.hstack([shared, apart, nothing]), np.hstack([shared, nothing, elsewhere])
    return joint(
        *(np.repeat(of_kind, each, axis=0) + rng.normal(size=(clusters * each, 22)) / 20 for of_kind in centres)
    )


def with_hubs(tokens=200, *, seed=0):
    """Queries that all attend to the same fifteen keys, so that attention says nothing of which are alike."""
    rng = np.random.default_rng(seed)
    query, key = rng.normal(size=(tokens, 6)) + 3, rng.normal(size=(tokens, 6))
    key[:15] += 20
    return joint(query, key)


def by_sorting(vectors, k):
    """The strongest keys of every query from the definition: all products, what is hidden left out, sorted."""
    products = vectors.query @ vectors.original_key.T
    for first, stop in pairwise(vectors.sequences.bounds):
        hidden = ~visible(int(stop - first), int(stop - first), vectors.sequences.layer)
        products[first:stop, first:stop][hidden] = -np.inf
    order = np.argsort(-products, axis=1)[:, :k]
    return np.where(np.take_along_axis(products, order, axis=1) == -np.inf, -1, order)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("lengths", [(40,), (90, 150, 1, 59), (10,) * 30, (1000,)], ids=["one", "few", "many", "long"])
def test_the_strongest_keys_are_those_of_all_that_are_not_hidden(lengths, mask):
    vectors = random_head(*lengths, **MASKS[mask])
    found = strongest_keys(vectors, 12)
    assert (found.shape, found.dtype) == ((sum(lengths), 12), np.int32)
    np.testing.assert_array_equal(found, by_sorting(vectors, 12))


def test_only_keys_of_the_own_sequence_are_hidden():
    vectors = random_head(6, 6, causal=True)
    found = strongest_keys(vectors, 12)
    assert set(found[0]) == {0, *range(6, 12), -1}  # the first query of the first sequence
    assert set(found[6]) == {*range(7), -1}
    assert set(found[11]) == {*range(12)}
    assert (np.diff(found < 0, axis=1) >= 0).all()  # what is missing stands last


def test_more_keys_than_there_are_leave_gaps():
    assert (strongest_keys(random_head(4), 6) < 0).sum(axis=1).tolist() == [2] * 4


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_products_beyond_float32_are_ranked_all_the_same(size):
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 60, 6))
    plain, scaled = (strongest_keys(joint(query * by, key * by), 5) for by in (1, size))
    assert (plain == scaled).mean() > 0.99


@pytest.mark.parametrize("dims", [2, 3])
def test_near_is_attended_where_umap_cannot_show_it(dims):
    vectors = attended()
    recall = {
        method: METRICS["attention_recall"](vectors, make(MapSpec("m", method, dims), vectors))
        for method in ("attention", "umap")
    }
    assert recall["attention"] > 0.95
    assert recall["umap"] < recall["attention"] - 0.5


def test_edges_of_the_same_kind_keep_alike_queries_together():
    vectors = with_hubs()
    trust = [
        METRICS["trust_query"](vectors, make(MapSpec("m", "attention", 2, {"n_same": n_same}), vectors))
        for n_same in (0, 7)
    ]
    assert trust[1] > trust[0] + 0.05


def test_more_keys_hold_a_query_to_more_of_them():
    vectors = random_head(300)
    recall = [
        METRICS["attention_recall"](vectors, make(MapSpec("m", "attention", 2, {"n_keys": n_keys}), vectors))
        for n_keys in (1, 15)
    ]
    assert recall[1] > recall[0] + 0.1


@pytest.mark.parametrize("mask", MASKS)
def test_edges_within_the_sequence_bring_what_a_query_attends_to_nearer(mask):
    vectors, few = random_head(*[12] * 25, size=2, **MASKS[mask]), {"n_keys": 1, "n_same": 1}
    far = [
        attended_distance(vectors, make(MapSpec("m", "attention", 2, few | {"in_sequence": weight}), vectors))
        for weight in (0, 1)
    ]
    assert far[1] < 0.8 * far[0]


def attended_distance(vectors, placed):
    """How far a query lies from the keys of its sequence, weighted by attention, over how far from any key."""
    apart = cdist(placed[: len(vectors.query)], placed[len(vectors.query) :])
    far = 0
    for first, stop in pairwise(vectors.sequences.bounds):
        given = weights(vectors.query[first:stop], vectors.original_key[first:stop], vectors.sequences.layer)
        far += (given * apart[first:stop, first:stop]).sum()
    return far / len(apart) / apart.mean()
