"""The graphs that maps are laid out from, against umap-learn's and against the definition of perplexity."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from attnviz.maps import neighbors
from attnviz.maps.graph import edges, fuzzy, memberships, perplexity_weights, union
from attnviz.maps.umap_learn import _library

CLOUDS = {
    "random": lambda rng: rng.normal(size=(400, 6)),
    "of two densities": lambda rng: rng.normal(size=(400, 6)) * np.repeat([[1], [1e-3]], 200, axis=0),
    "with coincident points": lambda rng: np.repeat(rng.normal(size=(80, 6)), 5, axis=0),
    "tiny": lambda rng: rng.normal(size=(400, 6)) * 1e-20,
}


def found(cloud, k):
    return neighbors(CLOUDS[cloud](np.random.default_rng(0)).astype(np.float32), k)


def umap_learns(near):
    """Its fuzzy simplicial set of the same neighbours; it counts the point itself among them."""
    total, k = near.indices.shape
    indices = np.column_stack([np.arange(total), near.indices])
    distances = np.column_stack([np.zeros(total, np.float32), near.distances])
    graph, *_ = _library().umap_.fuzzy_simplicial_set(
        np.zeros((total, 1)), k + 1, np.random.RandomState(0), "euclidean", knn_indices=indices, knn_dists=distances
    )
    return graph.toarray()


@pytest.mark.parametrize("k", [4, 14])
@pytest.mark.parametrize("cloud", ["random", "of two densities", "with coincident points"])
def test_the_fuzzy_graph_is_umap_learns(cloud, k):
    near = found(cloud, k)
    apart = np.abs(fuzzy(near).toarray() - umap_learns(near))
    assert (apart > 1e-4).mean() < 1e-3
    # Where a bandwidth is the narrowest one, umap-learn's is narrower by 1 / k: its mean counts the point itself.
    assert apart.max() < (1e-4 if cloud == "random" else 0.5 / k)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_memberships_fall_with_distance_and_add_up_to_the_logarithm_of_their_number(cloud):
    weights = memberships(found(cloud, 14).distances)
    assert (weights.dtype, weights.shape) == (np.float32, (400, 14))
    assert (np.diff(weights, axis=1) <= 0).all()
    np.testing.assert_array_equal(weights[:, 0], 1)
    totals = weights.sum(axis=1)
    if cloud == "with coincident points":
        assert totals.min() >= 5  # four in the same place, and the nearest elsewhere
    else:  # more where the narrowest bandwidth is too wide
        assert (totals > np.log2(15) - 1e-3).all()
        assert (totals < np.log2(15) + 1e-3).mean() > 0.98


@pytest.mark.parametrize("cloud", ["random", "of two densities", "tiny"])
@pytest.mark.parametrize("perplexity", [2.5, 10, 20])
def test_perplexity_weights_have_the_perplexity_that_was_asked_for(cloud, perplexity):
    weights = perplexity_weights(found(cloud, 60).distances, perplexity).astype(np.float64)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=1)
    np.testing.assert_allclose(np.exp(entropy), perplexity, rtol=1e-3)
    assert (np.diff(weights, axis=1) <= 0).all()


def test_edges_stand_where_the_neighbours_do():
    near = found("random", 3)
    weights = memberships(near.distances)
    dense = edges(near.indices, weights, points=400).toarray()
    np.testing.assert_array_equal(np.take_along_axis(dense, near.indices, axis=1), weights)
    assert dense.astype(bool).sum() == weights.astype(bool).sum()
    assert edges(near.indices[:, :0], weights[:, :0], points=400).nnz == 0


def test_a_union_holds_what_either_direction_does():
    directed = np.array([[0, 0.5, 1], [0.5, 0, 0], [0, 0.25, 0]])
    both = union(csr_array(directed))
    np.testing.assert_allclose(both.toarray(), [[0, 0.75, 1], [0.75, 0, 0.25], [1, 0.25, 0]])
    assert both.nnz == 6
