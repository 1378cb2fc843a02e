"""Heats, arrows, marks and grids of images are the run's own attention."""

import numpy as np
import pytest

from attnviz.plots.image import arrow_data, cell_boxes, columns_for, mark_boxes, mark_data, ring_data, spots
from attnviz.plots.picture import grey_pixels, heat_pixels, small_pixels
from attnviz.plots.theme import LIGHT
from attnviz.views.image_flows import (
    flows_above,
    grid_heats,
    has_images,
    heat_of,
    image_marks,
    image_sequences,
    read_image,
    strongest_flows,
)
from tests.image_runs import CLS, PLACE, SEQUENCE, image_paths, image_run, image_runs, weights_of  # noqa: F401  # fixtures


@pytest.mark.parametrize("kind", ["query", "key"])
def test_a_heat_is_a_row_or_a_column_of_the_weights(run, kind):
    weights, image = weights_of(run), read_image(run, *PLACE, SEQUENCE)
    token = run.token_slice(SEQUENCE).start + 6  # patch 1, 1
    heat = heat_of(image, kind, token)
    own = weights[6] if kind == "query" else weights[:, 6]
    np.testing.assert_array_equal(heat.grid, own[1:].reshape(4, 4))
    assert (heat.source, heat.averaged) == (token, 1)
    assert heat.beside == pytest.approx(own[CLS])
    assert heat.own == pytest.approx(weights[6, 6])
    assert heat.on_patches == pytest.approx(own[1:].sum(), abs=1e-6)
    assert heat.sink == pytest.approx(0, abs=1e-6)


def test_without_a_token_the_heat_is_of_the_class_token_or_the_mean(run, runs):
    heat = heat_of(read_image(run, *PLACE, SEQUENCE), "query")
    assert heat.source == run.token_slice(SEQUENCE).start
    np.testing.assert_array_equal(heat.grid, weights_of(run)[CLS, 1:].reshape(4, 4))
    stages = runs["stages"]
    mean = heat_of(read_image(stages, 3, 0, 2), "query")
    weights = stages.attention(3, 0, 2).weights
    assert (mean.source, mean.averaged) == (None, 4)
    np.testing.assert_allclose(mean.grid, weights.mean(axis=0).reshape(2, 2), rtol=1e-6)
    assert mean.sink == pytest.approx(1 - weights.sum(axis=1).mean(), abs=1e-6)
    assert mean.sink > 0.01
    words = heat_of(read_image(runs["mixed"], 1, 0, 2), "query")
    assert words.source is None  # a special token of a text is no class token of the image


@pytest.mark.parametrize("kind", ["query", "key"])
def test_every_patch_has_an_arrow_to_its_strongest_partner(run, kind):
    weights, image = weights_of(run), read_image(run, *PLACE, SEQUENCE)
    flows = strongest_flows(image, kind)
    ends = dict(zip(*((flows.query, flows.key) if kind == "query" else (flows.key, flows.query)), strict=True))
    best = weights.argmax(axis=1) if kind == "query" else weights.argmax(axis=0)
    assert ends == {patch: best[patch] for patch in range(1, 17)}
    np.testing.assert_array_equal(flows.weight, weights[flows.query, flows.key])
    with_class = strongest_flows(image, kind, token=run.token_slice(SEQUENCE).start)
    assert len(with_class.weight) == 17


def test_flows_are_all_weights_from_the_threshold_on_and_the_rest_is_counted(run):
    weights, image = weights_of(run), read_image(run, *PLACE, SEQUENCE)
    for least in (0.0, 0.1, float(weights.max()), 1.0):
        flows = flows_above(image, least)
        kept = weights[weights >= max(least, 1e-9)]
        assert len(flows.weight) == flows.above == len(kept)
        np.testing.assert_allclose(np.sort(flows.weight), np.sort(kept))
        assert flows.left_out == pytest.approx(1 - kept.sum() / weights.sum(), abs=1e-6)
    few = flows_above(image, 0.01, most=5)
    np.testing.assert_allclose(few.weight, np.sort(weights.ravel())[-5:])
    assert few.above > 5
    assert few.left_out == pytest.approx(1 - few.weight.sum() / weights.sum(), abs=1e-6)


def test_arrows_end_at_class_tokens_and_what_attends_to_itself_has_a_ring(run):
    image = read_image(run, *PLACE, SEQUENCE)
    marks, missing = image_marks(image, 14)
    assert (marks.tolist(), missing) == ([run.token_slice(SEQUENCE).start], 0)
    flows = flows_above(image, 0.02)
    placed = spots(image, marks, (4, 4))
    arrows, rings = arrow_data(flows, placed), ring_data(flows, placed)
    assert len(arrows["weight"]) + len(rings["weight"]) == len(flows.weight)
    assert (rings["query"] == rings["key"]).all()
    assert len(rings["x"]) == np.count_nonzero(np.diag(weights_of(run)) >= 0.02) > 0
    box = mark_boxes(1, (4, 4))[0]
    to_class = np.flatnonzero(arrows["key"] == CLS)
    assert len(to_class)
    inside = np.hypot(arrows["x1"][to_class] - box[0], arrows["y1"][to_class] - box[1]) < box[2]
    assert inside.all()
    patch = np.flatnonzero((arrows["query"] != CLS) & (arrows["key"] != CLS))
    row, column = np.divmod(arrows["key"][patch] - 1, 4)  # it ends in the patch it leads to
    assert (np.floor(arrows["x1"][patch]) == column).all()
    assert (np.floor(-arrows["y1"][patch]) == row).all()
    assert (np.argsort(arrows["width"]) == np.argsort(arrows["weight"])).all()


def test_stages_and_words_have_their_places(runs):
    stages = read_image(runs["stages"], 2, 0, 1)
    assert stages.grid("query") == stages.grid("key") == (2, 2)
    placed = spots(stages, np.empty(0, np.int64), (4, 4))  # on a picture in units of a finer grid
    assert placed["query"][3].tolist() == [3, -3, 2, 2]
    run = runs["mixed"]
    mixed = read_image(run, 1, 0, 1)
    beside = np.flatnonzero(run.tokens["patch_row"].isna().to_numpy()[run.points(1).query])
    words = mixed.exchange.tokens("query")[~mixed.patches("query")]
    assert set(words) <= set(run.points(1).query[beside].tolist())
    marks, missing = image_marks(mixed, 2)
    assert (len(marks), missing) == (2, len(words) - 2)
    undrawn = spots(mixed, marks, (2, 2))["query"]
    assert np.isnan(undrawn[:, 0]).sum() == missing
    kept, _ = image_marks(mixed, 1, token=int(words[-1]))
    assert kept.tolist() == [words[-1]]


def test_the_grid_is_each_image_s_own_attention(run, runs):
    chosen = [11, 0, 7, 3]
    for kind in ("query", "key"):
        for place, heat in zip(chosen, grid_heats(run, *PLACE, chosen, kind), strict=True):
            weights = weights_of(run, place)
            own = weights[CLS] if kind == "query" else weights[:, CLS]
            assert (heat.sequence, heat.source) == (place, run.token_slice(place).start)
            np.testing.assert_allclose(heat.grid, own[1:].reshape(4, 4), atol=1e-7)
    like = run.token_slice(2).start + 9
    for place, heat in zip(chosen, grid_heats(run, *PLACE, chosen, "query", like=like), strict=True):
        assert heat.source == run.token_slice(place).start + 9
        np.testing.assert_allclose(heat.grid, weights_of(run, place)[9, 1:].reshape(4, 4), atol=1e-7)
    late = int(
        runs["mixed"]
        .points(1)
        .query[runs["mixed"].tokens["position"].to_numpy()[runs["mixed"].points(1).query].argmax()]
    )
    texts = runs["mixed"].tokens["text"].iloc
    for heat in grid_heats(runs["mixed"], 1, 0, range(12), "query", like=late):
        assert heat.grid is None if heat.source is None else texts[heat.source] == texts[late]


def test_which_runs_and_sequences_have_images(runs):
    assert [has_images(runs[name]) for name in ("picture", "stages", "mixed", "text")] == [True, True, True, False]
    assert image_sequences(runs["picture"]).tolist() == list(range(12))
    assert image_sequences(runs["text"]).tolist() == []


# pictures


def test_a_heat_is_clear_where_no_weight_is_and_covers_where_most_is():
    pixels = heat_pixels(np.array([[0.0, 0.25, 1.0]], np.float32))
    assert pixels[0, 0, 3] == 0
    assert 0 < pixels[0, 1, 3] < pixels[0, 2, 3] < 255
    assert heat_pixels(np.array([[0.25]], np.float32), 1.0)[0, 0].tolist() == pixels[0, 1].tolist()
    grey = grey_pixels(np.array([[[255, 0, 0, 255], [0, 0, 0, 0]]], np.uint8))
    assert len(set(grey[0, 0, :3].tolist())) == 1
    assert grey[0, 1, 3] == 0
    assert small_pixels(np.zeros((40, 80, 4), np.uint8), 20).shape == (10, 20, 4)


def test_cells_keep_proportions_and_fill_the_canvas():
    boxes = cell_boxes([(4, 4), (2, 4), (4, 4)], 2)
    assert boxes[1, 2] == pytest.approx(2 * boxes[1, 3])
    assert boxes[2, 0] == boxes[0, 0]
    assert boxes[2, 1] < boxes[0, 1]
    assert columns_for(24, 1200, 600) > columns_for(24, 360, 600) > 1


def test_marks_say_their_weight_and_none_where_they_are_no_partner():
    made = mark_data(mark_boxes(2, (4, 4)), ["[CLS]", "word"], np.array([0.25, np.nan]), LIGHT, top=0.5, opacity=1.0)
    assert made["text"] == ["[CLS]\n25.0 %", "word"]
    assert made["color"][0] != made["color"][1] == LIGHT.page


# the view
