"""Metrics against brute force: loops over all points, written from the definitions."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn import manifold

from attnviz.attention import visible
from attnviz.errors import MapError
from attnviz.maps import neighbors
from attnviz.metrics import METRICS, NEIGHBORS, Judge, PointEvidence, joint_spearman, pointwise
from attnviz.metrics.evidence import search_counts
from attnviz.metrics.space import kth_largest
from attnviz.metrics.within import Reach, sequence_pairs
from attnviz.normalize import Normalize, joint
from attnviz.types import Joint, LayerInfo, Sequences
from tests.contracts import MetricContract, clusters

trustworthiness, map_spearman, attention_recall = (
    METRICS[name] for name in ("trustworthiness", "map_spearman", "attention_recall")
)
MASKS = {
    "full": {},
    "causal": {"causal": True},
    "window": {"window": 4},
    "causal window": {"causal": True, "window": 3},
}


def sequences(*lengths, **mask):
    return Sequences(np.append(0, np.cumsum(lengths)), LayerInfo(0, "", 1, 1, 6, 6**-0.5, **mask))


def random_head(*lengths, seed=0, **mask):
    """Vectors without structure in sequences of these lengths, and a map that knows nothing of them."""
    rng = np.random.default_rng(seed)
    tokens = sum(lengths)
    vectors = joint(rng.normal(size=(tokens, 6)), rng.normal(size=(tokens, 6)) - 1, sequences(*lengths, **mask))
    return vectors, rng.normal(size=(2 * tokens, 2)).astype(np.float32)


def blocks(vectors, placed):
    """Each sequence by itself: q·k, distances on the map, and which keys its queries see, ``(queries, keys)`` each."""
    tokens = len(vectors.query)
    for first, stop in pairwise(vectors.sequences.bounds):
        rows = slice(first, stop)
        products = vectors.query[rows] @ vectors.original_key[rows].T
        distances = cdist(placed[:tokens][rows], placed[tokens:][rows])
        yield products, distances, visible(int(stop - first), int(stop - first), vectors.sequences.layer)


def mean_spearman(vectors, placed):
    """Over the visible pairs of each sequence that has at least three, by scipy."""
    pairs = [(far[seen], products[seen]) for products, far, seen in blocks(vectors, placed) if seen.sum() >= 3]
    return np.mean([spearmanr(*of_sequence).statistic for of_sequence in pairs])


class TestTrustworthiness(MetricContract):
    metric = "trustworthiness"

    @pytest.mark.parametrize("tokens", [16, 40, 150])
    def test_equals_sklearn_where_the_sample_is_everything(self, tokens):
        vectors = clusters(tokens)
        for placed in (vectors.points[:, :2], np.random.default_rng(0).normal(size=(2 * tokens, 3))):
            expected = manifold.trustworthiness(vectors.points, placed, n_neighbors=15)
            assert trustworthiness(vectors, placed) == pytest.approx(expected, abs=1e-6)

    def test_a_sample_is_judged_against_all_points(self):
        vectors = clusters(700)
        placed = vectors.points[:, :2]
        everything = manifold.trustworthiness(vectors.points, placed, n_neighbors=15)
        assert trustworthiness(vectors, placed) == pytest.approx(everything, abs=0.01)

    @pytest.mark.parametrize("size", [1e25, 1e-25])
    def test_vectors_that_float32_cannot_square_are_ranked_all_the_same(self, size):
        vectors, placed = clusters(60), clusters(60, seed=1).points[:, :2]
        scaled = Joint(vectors.query * size, vectors.key * size, vectors.shift * size, 1.0, vectors.sequences)
        assert trustworthiness(scaled, placed) == pytest.approx(trustworthiness(vectors, placed), abs=1e-9)
        assert trustworthiness(vectors, placed * size) == pytest.approx(trustworthiness(vectors, placed), abs=1e-9)

    def test_vectors_far_from_the_origin_are_ranked_as_exactly(self):
        vectors = clusters(100)
        far = Joint(vectors.query + 4_096, vectors.key + 4_096, vectors.shift, vectors.scale, vectors.sequences)
        expected = manifold.trustworthiness(far.points.astype(np.float64), far.points[:, :2], n_neighbors=15)
        assert trustworthiness(far, vectors.points[:, :2]) == pytest.approx(expected, abs=1e-3)

    def test_is_one_for_a_map_that_keeps_every_distance_and_half_for_chance(self):
        vectors = clusters(150)
        assert trustworthiness(vectors, vectors.points) == 1
        rng = np.random.default_rng(0)
        values = [trustworthiness(vectors, rng.normal(size=(300, 2))) for _ in range(5)]
        assert np.mean(values) == pytest.approx(0.5, abs=0.05)

    def test_coincident_points_are_not_their_own_neighbours(self):
        vectors = clusters(60)
        query, key = (np.repeat(part, 30, axis=0) for part in (vectors.query, vectors.key))
        repeated = Joint(query, key, vectors.shift, 1.0, Sequences.one(*query.shape))
        assert trustworthiness(repeated, repeated.points) == 1


class KindContract(MetricContract):
    """Trustworthiness and continuity of one kind, against scikit-learn's trustworthiness of that kind."""

    @pytest.mark.parametrize("tokens", [31, 150])
    def test_equals_sklearn_where_the_sample_is_everything(self, tokens):
        vectors = clusters(tokens)
        part = slice(0, tokens) if self.metric.endswith("query") else slice(tokens, None)
        for placed in (vectors.points[:, :2], np.random.default_rng(0).normal(size=(2 * tokens, 3))):
            spaces = vectors.points[part].astype(np.float64), placed[part]
            near, ranks = spaces[::-1] if self.metric.startswith("continuity") else spaces
            expected = manifold.trustworthiness(near, ranks, n_neighbors=15)
            assert METRICS[self.metric](vectors, placed) == pytest.approx(expected, abs=1e-6)

    def test_the_other_kind_does_not_matter(self):
        vectors = clusters(80)
        placed = vectors.points[:, :2].copy()
        other = slice(80, None) if self.metric.endswith("query") else slice(0, 80)
        before = METRICS[self.metric](vectors, placed)
        placed[other] = np.random.default_rng(0).normal(size=(80, 2))
        assert METRICS[self.metric](vectors, placed) == before

    def test_a_sample_is_judged_against_all_points(self):
        vectors = clusters(1_100)
        placed = vectors.points[:, :2]
        part = slice(0, 1_100) if self.metric.endswith("query") else slice(1_100, None)
        near, ranks = vectors.points[part], placed[part]
        if self.metric.startswith("continuity"):
            near, ranks = ranks, near
        everything = manifold.trustworthiness(near, ranks, n_neighbors=15)
        assert METRICS[self.metric](vectors, placed) == pytest.approx(everything, abs=0.02)


class TestTrustQuery(KindContract):
    metric = "trust_query"


class TestTrustKey(KindContract):
    metric = "trust_key"


class TestContinuityQuery(KindContract):
    metric = "continuity_query"


class TestContinuityKey(KindContract):
    metric = "continuity_key"


class TestKnnPreservation(MetricContract):
    metric = "knn_preservation"

    @pytest.mark.parametrize(("tokens", "k"), [(5, 4), (16, 15), (100, 15)])
    def test_equals_a_loop_over_points(self, tokens, k):
        vectors = clusters(tokens)
        placed = vectors.points[:, :2]
        both = [
            np.argsort(cdist(space, space) + np.diag([np.inf] * 2 * tokens), axis=1)
            for space in (vectors.points, placed)
        ]
        shares = [len(set(one[:k]) & set(other[:k])) / k for one, other in zip(*both, strict=True)]
        assert METRICS[self.metric](vectors, placed) == pytest.approx(np.mean(shares), abs=1e-9)

    def test_coincident_points_are_kept_by_a_map_that_keeps_them_coincident(self):
        vectors = clusters(4)
        query, key = (np.repeat(part, 40, axis=0) for part in (vectors.query, vectors.key))
        repeated = Joint(query, key, vectors.shift, 1.0, Sequences.one(*query.shape))
        assert METRICS[self.metric](repeated, repeated.points) == 1
        assert METRICS[self.metric](repeated, np.zeros((320, 2), np.float32)) < 0.5


class TestMapSpearman(MetricContract):
    metric = "map_spearman"

    @pytest.mark.parametrize("options", [Normalize(), Normalize(translate=False, scale="none")])
    def test_equals_scipy_over_all_pairs_with_the_models_own_products(self, options):
        rng = np.random.default_rng(0)
        query, key = (rng.normal(size=(60, 5)) + offset for offset in (1, -2))
        vectors = joint(query, key, options=options)
        placed = vectors.points[:, :2]
        expected = spearmanr(cdist(placed[:60], placed[60:]).ravel(), (query @ key.T).ravel()).statistic
        assert map_spearman(vectors, placed) == pytest.approx(expected, abs=1e-5)

    def test_equal_distances_share_their_rank(self):
        vectors = clusters(60)
        placed = np.round(vectors.points[:, :2] / 3)
        products = vectors.query @ (vectors.key - vectors.shift).T
        expected = spearmanr((cdist(placed[:60], placed[60:]) ** 2).round().ravel(), products.ravel()).statistic
        assert map_spearman(vectors, placed) == pytest.approx(expected, abs=1e-5)

    def test_pairs_are_pooled_so_that_shrinking_the_keys_is_no_way_to_a_good_score(self):
        rng = np.random.default_rng(0)
        query, key = rng.normal(size=(100, 6)), rng.normal(size=(100, 6))
        shrunk = Joint(query, key * 1e-3, np.zeros(6), 1.0, Sequences.one(100, 6))
        distances, products = cdist(shrunk.query, shrunk.key), shrunk.query @ shrunk.key.T
        per_query = np.mean([spearmanr(d, p).statistic for d, p in zip(distances, products, strict=True)])
        assert per_query < -0.99
        assert joint_spearman(shrunk) > -0.2

    def test_joint_spearman_is_that_of_a_perfect_map(self):
        vectors = clusters(300)
        assert joint_spearman(vectors, seed=4) == map_spearman(vectors, vectors.points, seed=4)
        assert -1 <= joint_spearman(vectors) < -0.5

    def test_is_zero_where_nothing_varies(self):
        vectors = joint(np.ones((20, 3)), np.ones((20, 3)))
        assert map_spearman(vectors, np.random.default_rng(0).normal(size=(40, 2))) == 0
        assert map_spearman(clusters(20), np.zeros((40, 2))) == 0


class TestAttentionRecall(MetricContract):
    metric = "attention_recall"

    @pytest.mark.parametrize(
        ("tokens", "top", "near"), [(1, 1, 1), (9, 1, 4), (40, 4, 20), (50, 5, 25), (51, 10, 50), (120, 10, 50)]
    )
    def test_equals_a_loop_over_queries(self, tokens, top, near):
        rng = np.random.default_rng(0)
        query, key = rng.normal(size=(tokens, 6)), rng.normal(size=(tokens, 6)) - 1
        vectors, placed = joint(query, key), rng.normal(size=(2 * tokens, 2))
        shares = []
        for i in range(tokens):
            largest = set(np.argsort(-(key @ query[i]))[:top])
            nearest = set(np.argsort(np.linalg.norm(placed[tokens:] - placed[i], axis=1))[:near])
            shares.append(len(largest & nearest) / top)
        assert attention_recall(vectors, placed) == pytest.approx(np.mean(shares), abs=1e-9)

    def test_is_one_where_near_is_attended_and_zero_where_far_is(self):
        angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        vectors = joint(circle, circle)
        assert attention_recall(vectors, np.concatenate([circle, circle])) == 1
        assert attention_recall(vectors, np.concatenate([circle, -circle])) == 0

    def test_chance_is_fifty_over_the_keys(self):
        vectors = clusters(500)
        random = np.random.default_rng(0).normal(size=(1_000, 2))
        assert attention_recall(vectors, random) == pytest.approx(0.1, abs=0.03)

    def test_keys_with_the_same_product_count_alike(self):
        keys = np.zeros((200, 3))
        vectors = Joint(np.ones((200, 3)), keys, np.zeros(3), 1.0, Sequences.one(200, 3))
        assert attention_recall(vectors, np.random.default_rng(0).normal(size=(400, 2))) == 1


class TestAttentionTop1(MetricContract):
    metric = "attention_top1"

    @pytest.mark.parametrize("mask", MASKS)
    def test_equals_a_loop_over_queries(self, mask):
        vectors, placed = random_head(9, 1, 14, 2, 30, **MASKS[mask])
        hits = []
        for products, distances, seen in blocks(vectors, placed):
            best = np.where(seen, products, -np.inf).argmax(axis=1)
            nearest = np.where(seen, distances, np.inf).argmin(axis=1)
            hits += (best == nearest)[seen.sum(axis=1) > 1].tolist()
        assert METRICS[self.metric](vectors, placed) == pytest.approx(np.mean(hits), abs=1e-9)
        assert 0 < np.mean(hits) < 1

    def test_is_one_where_no_query_has_a_choice(self):
        vectors, placed = random_head(1, 1, 1)
        assert METRICS[self.metric](vectors, placed) == 1

    def test_keys_with_the_same_product_count_alike(self):
        vectors = Joint(np.ones((200, 3)), np.zeros((200, 3)), np.zeros(3), 1.0, Sequences.one(200, 3))
        assert METRICS[self.metric](vectors, np.random.default_rng(0).normal(size=(400, 2))) == 1

    def test_a_map_of_one_spot_is_no_better_than_chance(self):
        vectors, placed = random_head(20, 20, 20)
        assert METRICS[self.metric](vectors, placed * 0) == pytest.approx(1 / 20)


class TestAttentionSpearman(MetricContract):
    metric = "attention_spearman"

    @pytest.mark.parametrize("mask", MASKS)
    def test_equals_scipy_over_the_visible_pairs_of_each_sequence(self, mask):
        vectors, placed = random_head(9, 1, 14, 2, 30, **MASKS[mask])
        assert METRICS[self.metric](vectors, placed) == pytest.approx(mean_spearman(vectors, placed), abs=1e-6)

    def test_drawn_pairs_estimate_all_of_them(self):
        vectors, _ = random_head(300, 900, causal=True)
        placed = vectors.points[:, :2]
        assert METRICS[self.metric](vectors, placed) == pytest.approx(mean_spearman(vectors, placed), abs=0.01)

    def test_is_zero_where_no_sequence_has_enough_pairs(self):
        vectors, placed = random_head(1, 1, 1)
        assert METRICS[self.metric](vectors, placed) == 0


@pytest.mark.parametrize("mask", MASKS)
def test_the_reach_of_a_query_is_what_the_layer_lets_it_see(mask):
    given = sequences(7, 1, 12, **MASKS[mask])
    reach = Reach.of(given)
    seen = np.zeros((20, 20), bool)
    for first, stop in ((0, 7), (7, 8), (8, 20)):
        seen[first:stop, first:stop] = visible(stop - first, stop - first, given.layer)
    columns = np.arange(20)
    np.testing.assert_array_equal((columns >= reach.first[:, None]) & (columns < reach.stop[:, None]), seen)
    drawn = sequence_pairs(given, reach, 0)
    pairs = {(q, k) for queries, keys in drawn for q, k in zip(queries.tolist(), keys.tolist(), strict=True)}
    assert pairs == {(q, k) for q, k in zip(*map(np.ndarray.tolist, np.nonzero(seen)), strict=True) if not 7 <= q < 8}


@pytest.mark.parametrize(("width", "k"), [(1, 1), (40, 40), (1_000, 3), (2_567, 10), (6_400, 16), (100_003, 51)])
def test_the_kth_largest_is_that_of_a_sorted_row(width, k):
    rng = np.random.default_rng(0)
    for rows in (
        rng.normal(size=(4, width)),
        np.round(rng.normal(size=(4, width))),
        np.sort(rng.normal(size=(4, width))),
    ):
        np.testing.assert_array_equal(kth_largest(rows, k), np.sort(rows, axis=1)[:, -k])


def expected_points(vectors, placed):
    """``pointwise`` from its definition: no ties, everything sorted."""
    tokens = len(vectors.query)
    k = min(15, (2 * tokens - 1) // 2)
    orders = [np.argsort(cdist(s, s) + np.diag([np.inf] * 2 * tokens), axis=1) for s in (vectors.points, placed)]
    kept = [len(set(a[:k]) & set(b[: 2 * k])) / k for a, b in zip(*orders, strict=True)]
    top, near = search_counts(tokens)
    logits = vectors.query @ vectors.original_key.T * vectors.sequences.layer.scaling
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    distances = cdist(placed[:tokens], placed[tokens:])
    attention = [
        len(set(np.argsort(-w)[:top]) & set(np.argsort(d)[:near])) / top
        for strength, apart in ((weights, distances), (weights.T, distances.T))
        for w, d in zip(strength, apart, strict=True)
    ]
    return np.stack([kept, attention], axis=1)


class TestPointwise:
    def judge(self, vectors, placed):
        return pointwise(PointEvidence(vectors, neighbors(vectors.points, NEIGHBORS)), placed)

    @pytest.mark.parametrize("tokens", [2, 9, 50, 51, 700])
    def test_equals_loops_over_points(self, tokens):
        vectors, random = random_head(tokens)
        for placed in (random, vectors.points[:, :3]):
            np.testing.assert_allclose(self.judge(vectors, placed), expected_points(vectors, placed), atol=1e-6)

    def test_its_means_are_the_scores(self):
        vectors, placed = random_head(200)
        kept = self.judge(vectors, placed)
        assert kept[:200, 1].mean() == pytest.approx(attention_recall(vectors, placed), abs=1e-6)

    @pytest.mark.parametrize("size", [1e16, 1e-16])
    def test_logits_beyond_float32_are_no_trouble(self, size):
        vectors = clusters(60)
        scaled = replace(vectors, query=vectors.query * size, key=vectors.key * size, shift=vectors.shift * size)
        kept = self.judge(scaled, vectors.points[:, :2])
        assert np.isfinite(kept).all()
        np.testing.assert_allclose(kept[:60], self.judge(vectors, vectors.points[:, :2])[:60], atol=1e-6)

    def test_equal_keys_are_kept_by_a_map_that_puts_them_on_one_spot(self):
        """The first token of every causal sequence has the same key, and most attention."""
        rng = np.random.default_rng(0)
        query, key = rng.normal(size=(300, 4)) * 0.1 + 1, rng.normal(size=(300, 4)) * 0.1
        key[::5] = 3
        vectors = joint(query, key, options=Normalize(translate=False, scale="none"))
        placed = np.concatenate([query, key])[:, :2].copy()
        placed[:300] += 2  # queries beside the spot
        assert self.judge(vectors, placed)[:300, 1].min() == 1

    def test_one_token_keeps_everything(self):
        vectors, placed = random_head(1)
        assert self.judge(vectors, placed).tolist() == [[1, 1], [1, 1]]

    def test_too_few_neighbours_are_refused(self):
        vectors, _ = random_head(40)
        with pytest.raises(MapError, match="14 neighbours of each point were given; 15"):
            PointEvidence(vectors, neighbors(vectors.points, 14))


def test_the_judge_gives_what_the_metrics_give():
    vectors, placed = random_head(30, 50)
    judge = Judge(vectors, neighbors(vectors.points, 20), 4)
    scores, kept = judge(placed)
    assert scores == {name: metric(vectors, placed, seed=4) for name, metric in METRICS.items()}
    assert judge(placed)[0] == scores
    assert (kept.shape, kept.dtype) == ((160, 2), np.float32)
    with pytest.raises(MapError, match=r"finite \(160, dims\)"):
        judge(placed[1:])


def test_every_metric_has_a_contract():
    contracts = {*MetricContract.__subclasses__(), *KindContract.__subclasses__()} - {KindContract}
    assert {contract.metric for contract in contracts} == set(METRICS)
