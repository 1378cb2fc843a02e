"""The views: what the small frames and arrays say about a run."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from attnviz.errors import DatasetError
from attnviz.metrics import HEADLINES
from attnviz.store import RunDirectory, layout
from attnviz.types import Attention
from attnviz.views import (
    KEPT,
    color_points,
    colorings,
    describe_token,
    excerpt,
    in_rows,
    links,
    match_tokens,
    patch_weights,
    prepare_wall,
    score_phrases,
    show_text,
    strongest_lines,
    turn,
)
from attnviz.views.coloring import MOST, Coloring, _categorical
from tests.fakes import write_fake_run, write_fake_streams


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return RunDirectory(write_fake_run(tmp_path_factory.mktemp("views") / "text"))


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    return {kind: RunDirectory(write_fake_streams(folder / kind, kind)) for kind in ("pair", "stages", "mixed")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return RunDirectory(write_fake_run(tmp_path_factory.mktemp("views") / "image", image=True))


def test_wall_keeps_every_head_in_its_tile_and_its_aspect(run):
    wall = prepare_wall(run, "pca")
    assert (wall.rows, wall.columns, wall.dims) == (2, 4, 2)
    assert np.abs(wall.points).max() <= 0.5
    raw = run.coordinates("pca", 1, 2)
    placed = wall.points[wall.index(1, 2)]
    factors = np.ptp(placed, axis=0) / np.ptp(raw, axis=0)
    np.testing.assert_allclose(factors[0], factors[1], rtol=1e-5)


def test_tiles_are_found_by_place_and_by_window(run):
    wall = prepare_wall(run, "pca")
    tile = wall.tiles[wall.tile_at(2.5, -1.5)]
    assert (tile.layer, tile.head) == (1, 2)
    assert wall.tile_at(-0.5, -0.5) is None
    assert [wall.tiles[i].head for i in wall.inside((0.2, 1.8, -0.9, -0.1))] == [0, 1]
    assert wall.index(7, 0) is None


def test_wall_survives_points_that_are_no_numbers(run, monkeypatch):
    monkeypatch.setattr(run, "coordinates", lambda name, layer: np.full((1, 4, 2), np.nan, np.float32))
    assert prepare_wall(run, "pca").points.shape == (2, 4, 2)


def test_turning_shows_x_and_y_from_the_front_and_never_leaves_the_tile(run):
    wall = prepare_wall(run, "umap_3d")
    np.testing.assert_allclose(turn(wall.points, 0, 0), wall.points[..., :2], atol=1e-6)
    for angles in [(37, 0), (90, 45), (-120, -80)]:
        assert np.linalg.norm(turn(wall.points, *angles), axis=-1).max() <= 0.5
    flat = prepare_wall(run, "pca").points
    assert turn(flat, 30, 30) is flat


def test_every_coloring_codes_every_point_and_counts_every_token(run, pictures):
    for source in (run, pictures):
        heads = tuple((layer.layer, head) for layer in source.manifest.layers for head in range(layer.num_heads))
        for name in colorings(source):
            made: Coloring = color_points(source, name, heads=heads, map_name="umap")
            rows = len(heads) if name == "norm" or name in KEPT else 1
            assert made.codes.shape == (rows, 2 * source.num_tokens), name
            kinds = made.codes % 2
            assert (kinds[:, : source.num_tokens] == 0).all()
            assert (kinds[:, source.num_tokens :] == 1).all()
            if made.categories:
                assert sum(category.tokens for category in made.categories) == source.num_tokens, name
                assert made.codes.max() < 2 * len(made.categories)


def test_many_categories_keep_the_most_frequent_and_count_the_rest():
    values = pd.Series([f"c{i:02d}" for i in range(80) for _ in range(80 - i)] + [None] * 3)
    made = _categorical("topic", values)
    assert [category.label for category in made.categories[:MOST]] == [f"c{i:02d}" for i in range(MOST)]
    assert (made.categories[MOST].label, made.categories[MOST].fallback) == ("other (16 values)", "other")
    assert made.categories[MOST].tokens == sum(80 - i for i in range(MOST, 80))
    assert (made.categories[MOST + 1].tokens, made.categories[MOST + 1].fallback) == (3, "missing")


def test_position_modulo_five_says_what_it_says(run):
    made = color_points(run, "position_mod_5", heads=())
    labels = [category.label for category in made.categories]
    assert labels[:5] == list("01234")
    expected = run.tokens["position"].to_numpy() % 5
    np.testing.assert_array_equal(made.codes[0, : run.num_tokens] // 2, expected)


def test_special_tokens_punctuation_and_words_are_told_apart(run):
    counts = {c.label: c.tokens for c in color_points(run, "special", heads=()).categories}
    assert counts["special"] == 2 * run.num_sequences
    assert counts["punctuation"] == int(run.tokens["text"].isin([",", "."]).sum())


def test_norms_differ_by_head_and_share_one_scale(run):
    made = color_points(run, "norm", heads=((0, 0), (1, 3)))
    norms = np.concatenate([run.vectors(1, 3).query_norm, run.vectors(1, 3).key_norm])
    expected = np.clip((norms - made.low) / (made.high - made.low) * 100, 0, 99).astype(int)
    np.testing.assert_allclose(made.codes[1] // 2, expected, atol=1)


@pytest.mark.parametrize(("name", "column"), [("neighbors_kept", 0), ("attention_kept", 1)])
def test_what_a_map_keeps_is_coloured_from_none_to_all_by_head_and_map(run, name, column):
    heads = ((0, 0), (1, 3))
    made = color_points(run, name, heads=heads, map_name="umap")
    assert (made.low, made.high) == (0, 1)
    assert made.tally(np.ones((2, 2 * run.num_tokens), bool))[-1] == 0
    kept = np.stack([run.faithfulness("umap", *head)[:, column] for head in heads])
    np.testing.assert_array_equal(made.codes // 2, np.clip(kept * 100, 0, 99).astype(int))
    assert (made.codes != color_points(run, name, heads=heads, map_name="pca").codes).any()


def test_a_map_that_does_not_know_what_it_keeps_is_grey(tmp_path):
    old = RunDirectory(write_fake_run(tmp_path / "old"))
    shutil.rmtree(layout.faithfulness_dir(old.path, "pca"))
    made = color_points(old, "neighbors_kept", heads=((0, 0),), map_name="pca")
    assert set(made.codes[0] // 2) == {100}
    assert made.tally(np.ones((1, 2 * old.num_tokens), bool))[-1] == old.num_tokens
    shutil.rmtree(old.path / "faithfulness")
    assert not set(KEPT) & set(colorings(old))


def test_missing_numbers_have_a_code_of_their_own(tmp_path):
    sizes = pa.array([None, *np.arange(15.0)])
    pictures = RunDirectory(write_fake_run(tmp_path / "sizes", image=True, sequences=16, label=sizes))
    made = color_points(pictures, "data:label", heads=())
    assert made.tally(np.ones((1, 2 * pictures.num_tokens), bool))[-1] == 17
    assert set(made.codes[0, :17]) == {200}


def test_search_finds_parts_whole_tokens_and_case(run):
    texts = run.tokens["text"]
    assert match_tokens(run, "ird").sum() == texts.str.contains("ird").sum() > 0
    assert match_tokens(run, "bird", how="exact").sum() == 0
    assert match_tokens(run, "THE", how="exact").sum() == (texts == "the").sum()
    assert match_tokens(run, "THE", case=True).sum() == 0
    assert match_tokens(run, "").sum() == 0
    first = int(np.flatnonzero(match_tokens(run, "[CLS]"))[0])
    assert first == 0  # AttentionViz never found the first token


def attention():
    weights = np.array([[0.90, 0.04, 0.06], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], np.float32)
    return Attention(weights, ("a", "b", "c"), ("a", "b", "c"))


def test_links_of_a_query_and_of_a_key_say_what_they_leave_out():
    frame, rest = links(attention(), 0)
    assert frame["position"].tolist() == [0, 2]
    assert rest == pytest.approx(0.04)
    frame, rest = links(attention(), 1, kind="key", threshold=0.1)
    assert frame["text"].tolist() == ["b", "c"]
    assert rest == pytest.approx(0.04)


def test_strongest_lines_are_the_strongest_and_drawn_last():
    frame = strongest_lines(attention().weights, limit=3)
    assert frame["weight"].tolist() == pytest.approx([0.5, 0.5, 0.9])
    assert tuple(frame.iloc[-1][["query", "key"]]) == (0, 0)


def test_patch_weights_leave_out_what_is_no_patch():
    weights = np.array([0.4, 0.1, 0.5], np.float32)
    grid = patch_weights(weights, np.array([-1, 0, 1]), np.array([-1, 1, 0]), grid=(2, 2))
    np.testing.assert_allclose(grid, [[0, 0.1], [0.5, 0]])


def test_a_token_is_described_in_few_lines(run, pictures):
    title, place, norm, around = describe_token(run, 2, "key", norm=1.5)
    assert title.endswith(" · key")
    assert place.startswith("position 2 of ")
    assert norm == "norm 1.50"
    assert around.startswith("[CLS] ")
    assert describe_token(pictures, 6, "query")[0] == "patch 1, 1 · query"
    assert describe_token(pictures, 0, "query")[0] == "[CLS] · query"


def test_excerpt_stays_in_its_sequence(run):
    before, token, _ = excerpt(run, run.token_slice(1).start)
    assert (before, token) == ("", "[CLS]")


@pytest.mark.parametrize(
    ("given", "shown"), [("a\nb", "a⏎b"), ("", "∅"), ("x" * 50, "x" * 13 + "…" + "x" * 13), ("<b>", "<b>")]
)
def test_text_is_shown_on_one_line(given, shown):
    assert show_text(given) == shown


def test_scores_are_read_for_one_head(run):
    phrases = score_phrases(run.scores("umap"), 1, 2)
    assert [phrase.rsplit(" ", 1)[0] for phrase in phrases] == [name.replace("_", " ") for name in HEADLINES]


def test_a_missing_map_is_named(run):
    with pytest.raises(DatasetError, match="no complete map 'tsne'"):
        prepare_wall(run, "tsne")


def test_every_attribute_becomes_a_coloring(run):
    attributes = json.loads((run.path / "manifest.json").read_text())["attributes"]
    assert {f"data:{name}" for name in attributes} <= set(colorings(run))


def test_a_wall_turned_alike_keeps_every_distance_and_brings_heads_together(run):
    plain, alike = prepare_wall(run, "umap_3d"), prepare_wall(run, "umap_3d", alike=True)
    assert alike.tiles == plain.tiles
    assert not alike.points.flags.writeable
    assert np.linalg.norm(alike.points, axis=-1).max() <= 0.5
    for before, after in zip(plain.points, alike.points, strict=True):
        apart = [np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (before, after)]
        factor = apart[1].max() / apart[0].max()  # a head that was turned fills its tile anew
        np.testing.assert_allclose(apart[1], apart[0] * factor, atol=1e-4)
    np.testing.assert_array_equal(alike.points[0], plain.points[0])
    for number, tile in enumerate(alike.tiles):
        reference = number - 1 if tile.column else number - alike.columns
        if reference >= 0:
            pairs = [centred(wall.points[number]) * centred(alike.points[reference]) for wall in (plain, alike)]
            assert pairs[1].sum() >= pairs[0].sum() - 1e-3


def test_the_wall_puts_stacks_together_and_apart(streams):
    run = streams["pair"]
    assert [*run.layers] == [0, 1, 2, 4, 3, 5]  # as the model runs them
    wall = prepare_wall(run, "pca")
    rows = {tile.row: tile for tile in wall.tiles}
    labels = [f"{stack} {number}" for stack in ("encoder", "decoder", "cross") for number in (0, 1)]
    assert [tile.label for tile in rows.values()] == labels
    steps = -np.diff([tile.center[1] for tile in rows.values()])
    assert (steps > 1.1).tolist() == [False, True, False, True, False]
    assert wall.height == pytest.approx(6.4)
    for number, tile in enumerate(wall.tiles):
        assert wall.tile_at(*wall.centers[number]) == number
        there = np.isfinite(wall.points[number]).all(axis=1)
        assert there.sum() == sum(len(tokens) for _, tokens in run.points(tile.layer).by_kind())
    assert wall.tile_at(0.5, -2.1) is None  # between the stacks


def test_tiles_are_turned_alike_within_their_stack_only(streams):
    plain, alike = (prepare_wall(streams["pair"], "pca", alike=alike) for alike in (False, True))
    firsts = {alike.index(layer, 0) for layer in (0, 2, 4)}
    for number in range(len(plain.tiles)):
        same = np.allclose(plain.points[number], alike.points[number], equal_nan=True)
        assert same == (number in firsts)


def test_colourings_speak_of_what_varies(streams):
    offered = {kind: colorings(run) for kind, run in streams.items()}
    assert {"stream", "is_generated"} <= set(offered["pair"])
    assert "modality" not in offered["pair"]
    assert {"stream", "patch_row"} <= set(offered["stages"])
    assert "is_generated" not in offered["stages"]
    assert {"stream", "modality", "patch_row", "position", "length", "special"} <= set(offered["mixed"])
    assert offered["pair"]["position"] == "Position in stream"
    classes = {c.label: c.tokens for c in color_points(streams["mixed"], "special", heads=()).categories}
    assert classes["patch"] == 8 * streams["mixed"].num_sequences
    assert classes["special"] == streams["mixed"].num_sequences
    made = color_points(streams["mixed"], "length", heads=())
    assert made.tally(np.ones((1, 2 * streams["mixed"].num_tokens), bool))[-1] == 9 * streams["mixed"].num_sequences


def test_a_run_of_one_stream_is_offered_no_more_than_before(tmp_path):
    run = RunDirectory(write_fake_run(tmp_path / "one"))
    assert not {"stream", "modality", "is_generated"} & set(colorings(run))
    assert colorings(run)["position"] == "Position"
    assert [info.label for info in in_rows(run)] == ["0", "1"]
    assert describe_token(run, 2, "query")[1].startswith("position 2 of ")


def test_generated_tokens_are_told(streams):
    run = streams["pair"]
    token = int(np.flatnonzero(run.tokens["is_generated"])[0])
    assert ", generated, sequence 0" in describe_token(run, token, "query")[1]


def centred(points):
    shifted = points - points.mean(axis=0)
    return shifted / np.linalg.norm(shifted)
