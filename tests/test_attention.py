"""The one formula, against torch and against hand-made masks."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from attnviz.attention import logits, logsumexp, visible, weights
from attnviz.types import LayerInfo

LAYER = LayerInfo(0, "attention", 4, 4, 8, 8**-0.5)


@pytest.fixture
def query_key():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 4, 6, 8)).astype(np.float32)


@pytest.mark.parametrize("causal", [False, True])
def test_weights_are_those_of_torch(query_key, causal):
    query, key = query_key
    layer = dataclasses.replace(LAYER, causal=causal)
    identity = torch.eye(6).expand(4, -1, -1)
    theirs = scaled_dot_product_attention(torch.from_numpy(query), torch.from_numpy(key), identity, is_causal=causal)
    np.testing.assert_allclose(weights(query, key, layer), theirs, atol=1e-6)


def test_windows():
    causal = visible(5, 5, dataclasses.replace(LAYER, causal=True, window=2))
    assert causal.astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    both = visible(4, 4, dataclasses.replace(LAYER, window=2))
    assert both.astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]


def test_softcap_bounds_the_logits(query_key):
    query, key = query_key * 100
    scores = logits(query, key, dataclasses.replace(LAYER, softcap=5.0))
    assert np.abs(scores).max() <= 5.0
    assert np.abs(logits(query, key, LAYER)).max() > 5.0


def test_large_logits_do_not_overflow(query_key):
    query, key = query_key * 1e3
    assert np.isfinite(logsumexp(logits(query, key, LAYER))).all()
    np.testing.assert_allclose(weights(query, key, LAYER).sum(-1), 1, rtol=1e-6)


def test_equal_keys_get_equal_weight_wherever_they_stand():
    """What sorts or cuts off weights sees them alike: a float32 product differs for most of these sizes, each processor's own."""
    rng = np.random.default_rng(0)
    for size in range(3, 80):
        query, key = rng.normal(size=(size, 64)), np.repeat(rng.normal(size=(1, 64)), size, axis=0)
        given = weights(query.astype(np.float32), key.astype(np.float32), LAYER)
        np.testing.assert_array_equal(given, given[:, :1].repeat(size, axis=1))
