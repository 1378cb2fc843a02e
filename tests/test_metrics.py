"""Metrics against brute force: loops over all points, written from the definitions."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn import manifold

from attnviz import metrics
from attnviz.metrics import METRICS, attention_recall, joint_spearman, map_spearman, trustworthiness
from attnviz.normalize import Normalize, joint
from attnviz.types import Joint, Sequences
from tests.contracts import MetricContract, clusters


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

    def test_chunks_change_nothing(self, monkeypatch):
        vectors = clusters(100)
        whole = trustworthiness(vectors, vectors.points[:, :2])
        monkeypatch.setattr(metrics, "_CHUNK", 1_000)
        assert trustworthiness(vectors, vectors.points[:, :2]) == whole

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
        found = metrics._nearest_others(np.zeros((60, 2)), np.arange(60), 15)
        assert (found != np.arange(60)[:, None]).all()


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


def test_every_metric_has_a_contract():
    tested = {contract.metric for contract in MetricContract.__subclasses__()}
    assert tested == set(METRICS)
