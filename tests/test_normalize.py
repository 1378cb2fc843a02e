import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attnviz.errors import MapError
from attnviz.normalize import Normalize, joint
from attnviz.types import LayerInfo, Sequences

rng = np.random.default_rng(0)
QUERY = (rng.normal(size=(40, 8)) * 3 + 1).astype(np.float32)
KEY = (rng.normal(size=(40, 8)) - 2).astype(np.float32)
OPTIONS = [Normalize(translate=translate, scale=scale) for translate in (True, False) for scale in ("balance", "none")]


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("options", OPTIONS)
def test_scale_and_shift_reproduce_the_joint_space_bit_for_bit(options):
    result = joint(QUERY, KEY, options=options)
    scale = np.float32(result.scale)  # as heads.parquet stores it
    assert scale == result.scale
    assert (QUERY * scale).tobytes() == result.query.tobytes()
    assert (KEY / scale + result.shift).tobytes() == result.key.tobytes()
    assert result.shift.dtype == result.query.dtype == np.float32


@pytest.mark.parametrize("options", OPTIONS)
def test_attention_is_unchanged(options):
    result = joint(QUERY, KEY, options=options)
    np.testing.assert_allclose(softmax(result.query @ result.key.T), softmax(QUERY @ KEY.T), atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_logits_can_be_had_back(options):
    result = joint(QUERY, KEY, options=options)
    np.testing.assert_allclose(result.query @ (result.key - result.shift).T, QUERY @ KEY.T, rtol=1e-4, atol=1e-4)


def test_keys_are_moved_onto_queries_after_scaling():
    result = joint(QUERY, KEY)
    np.testing.assert_allclose(result.key.mean(axis=0), result.query.mean(axis=0), atol=1e-5)


def test_balance_gives_both_the_same_median_norm():
    result = joint(QUERY, KEY, options=Normalize(translate=False))
    norms = [np.median(np.linalg.norm(vectors, axis=1)) for vectors in (result.query, result.key)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert result.scale == pytest.approx(
        np.sqrt(np.median(np.linalg.norm(KEY, axis=1)) / np.median(np.linalg.norm(QUERY, axis=1))), rel=1e-6
    )


def test_without_options_nothing_is_changed():
    result = joint(QUERY, KEY, options=Normalize(translate=False, scale="none"))
    assert (result.query == QUERY).all()
    assert (result.key == KEY).all()
    assert result.scale == 1
    assert (result.shift == 0).all()


@pytest.mark.parametrize("zero", ["query", "key", "both", "most"])
def test_zero_norms_leave_the_scale_at_one(zero):
    query, key = QUERY.copy(), KEY.copy()
    if zero in ("query", "both"):
        query[:] = 0
    if zero in ("key", "both"):
        key[:] = 0
    if zero == "most":
        key[: len(key) // 2 + 1] = 0
    result = joint(query, key)
    assert result.scale == 1
    assert np.isfinite(result.points).all()


def test_one_token_and_constant_vectors_coincide():
    one = joint(QUERY[:1], KEY[:1])
    np.testing.assert_allclose(one.query, one.key, rtol=1e-6)
    constant = joint(np.ones((5, 3)), np.full((5, 3), -4.0))
    assert constant.scale == 2
    assert (constant.points == 2).all()


def test_float16_is_taken():
    assert joint(QUERY.astype(np.float16), KEY.astype(np.float16)).query.dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_vectors_that_are_not_finite_are_refused_and_counted(bad, which):
    vectors = [QUERY.copy(), KEY.copy()]
    vectors[which][[3, 5], 2] = bad
    with pytest.raises(MapError, match=f"2 of 40 {('queries', 'keys')[which]} hold NaN or infinity"):
        joint(*vectors)


@pytest.mark.parametrize(
    ("query", "key"),
    [(QUERY, KEY[:, :4]), (QUERY[:0], KEY[:0]), (QUERY[0], KEY[0]), (QUERY[None], KEY[None])],
)
def test_shapes_that_do_not_match_are_refused(query, key):
    with pytest.raises(MapError, match=r"both must be \(tokens, head_dim\)"):
        joint(query, key)


def test_numbers_that_leave_float32_are_refused():
    with pytest.raises(MapError, match="leave the range"):
        joint(np.full((3, 2), 3e38), np.array([[3e38, 3e38], [-3e38, -3e38], [-3e38, -3e38]]))


@pytest.mark.parametrize(
    ("options", "message"), [({"scale": "balanced"}, "did you mean 'balance'"), ({"translate": "yes"}, "true or false")]
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(MapError, match=message):
        Normalize(**options)


numbers = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays(np.float32, (7, 3), elements=numbers), arrays(np.float32, (7, 3), elements=numbers))
def test_any_vectors_keep_their_differences_of_logits(query, key):
    result = joint(query, key)
    original = query.astype(np.float64) @ key.T
    moved = result.query.astype(np.float64) @ result.key.T
    size = float(np.abs(result.query).max()) * float(np.abs(result.key).max()) * 3 + 1e-6
    np.testing.assert_allclose(
        moved - moved[:, :1], original - original[:, :1], atol=1e-5 * size + 1e-5 * np.abs(original).max()
    )


def test_sequences_must_cover_the_tokens():
    layer = LayerInfo(0, "", 1, 1, 4, 0.5)
    vectors = np.ones((10, 4))
    assert joint(vectors, vectors).sequences.bounds.tolist() == [0, 10]
    with pytest.raises(MapError, match="10 queries and 10 keys were given, and sequences that end at 7"):
        joint(vectors, vectors, Sequences(np.array([0, 7]), layer))
