"""Maps turned alike: what was turned is turned back, no distance changes, and what cannot be compared stays."""

import numpy as np
import pytest

from attnviz.maps import align_heads, turned


def shape(dims, points=300, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(points, dims)) * [9, 4, 2][:dims] + 30).astype(np.float32)


def turning(dims, seed, *, flip):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(dims, dims)))[0]
    if (np.linalg.det(turn) < 0) != flip:
        turn[:, 0] *= -1
    return turn.astype(np.float32)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_what_was_turned_and_flipped_is_turned_back(dims, flip, seed):
    reference = shape(dims)
    noise = np.random.default_rng(seed).normal(scale=0.1, size=reference.shape)
    moved = (reference @ turning(dims, seed, flip=flip) * 5 + noise - 700).astype(np.float32)
    back = turned(moved, reference)
    np.testing.assert_allclose(back.mean(axis=0), moved.mean(axis=0), atol=1e-2)  # about its own centre
    expected = 5 * (reference - reference.mean(axis=0))
    np.testing.assert_allclose(back - back.mean(axis=0), expected, atol=1.5)
    assert np.abs(back - back.mean(axis=0) - expected).mean() < 0.25
    assert back.dtype == np.float32


@pytest.mark.parametrize("dims", [2, 3])
def test_distances_stay(dims):
    placed = shape(dims, seed=1)
    after = turned(placed, shape(dims, seed=2))
    apart = [np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (placed, after)]
    np.testing.assert_allclose(apart[1], apart[0], atol=1e-4)


def test_heads_are_turned_like_the_one_before_and_layers_like_the_one_above():
    reference = shape(2)
    layers = [np.stack([reference @ turning(2, 10 * row + i, flip=bool(i % 2)) for i in range(4)]) for row in range(3)]
    aligned = list(align_heads(layers))
    np.testing.assert_array_equal(aligned[0][0], layers[0][0])
    for heads in aligned:
        for placed in heads:
            centred = placed - placed.mean(axis=0)
            np.testing.assert_allclose(centred, aligned[0][0] - aligned[0][0].mean(axis=0), atol=1e-2)


def test_layers_may_differ_in_heads_and_are_not_changed():
    layers = [np.stack([shape(3, seed=i) for i in range(count)]) for count in (1, 3, 2)]
    before = [layer.tobytes() for layer in layers]
    assert [heads.shape for heads in align_heads(layers)] == [(1, 300, 3), (3, 300, 3), (2, 300, 3)]
    assert before == [layer.tobytes() for layer in layers]
    assert list(align_heads([])) == []


def test_points_that_are_no_numbers_are_left_out_of_the_comparison():
    reference = shape(2)
    moved = reference @ turning(2, 1, flip=True)
    moved[3] = np.nan
    back = turned(moved, reference)
    good = np.arange(300) != 3
    np.testing.assert_allclose(
        (back - back[good].mean(axis=0))[good], (reference - reference[good].mean(axis=0))[good], atol=1e-3
    )
    assert np.isnan(back[3]).all()
    nothing = np.full((300, 2), np.nan, np.float32)
    assert turned(moved, nothing).tobytes() == moved.tobytes()
    assert np.isfinite(turned(reference, np.zeros_like(reference))).all()
