"""The explorer, the export and the description of runs whose tokens are of several streams."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tests.fakes import write_fake_run, write_fake_streams

pytest.importorskip("panel")

from bokeh.events import Tap

from attnviz.cli import show
from attnviz.explorer import Explorer, State, library, markup
from attnviz.explorer.scene import make_scene
from attnviz.export import export
from attnviz.info import describe, describe_heads
from attnviz.plots.picture import frame_data
from attnviz.plots.raster import Window
from attnviz.store import RunDirectory
from attnviz.views import (
    describe_absence,
    excerpt,
    layer_name,
    links,
    patch_grids,
    patch_name,
    read_exchange,
)

ARCHIVE = Path(__file__).parent / "archives" / "v1"
KINDS = ("pair", "stages", "mixed")
CROSS = 5  # the last layer of a pair: queries of the decoder, keys of the encoder
WINDOW = Window(-0.6, 0.6, -0.6, 0.6, 300, 300)
OF_A_MAP = ("all", "head")  # the views that show a map


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    return {kind: write_fake_streams(folder / kind, kind, sink=kind == "pair") for kind in KINDS}


@pytest.fixture(scope="module")
def runs(paths):
    return {kind: RunDirectory(path) for kind, path in paths.items()}


@pytest.fixture
def explorer(paths):
    return Explorer(list(paths.values()))


def token_of(run, stream, number=1):
    """A token of a stream in the second sequence."""
    rows = run.tokens[(run.tokens["stream"] == stream) & (run.tokens["sequence_id"] == 1)]
    return int(rows.index[number])


def click(figure, x, y):
    figure._trigger_event(Tap(figure, x=x, y=y))


def opened(explorer, run, view="head", **state):
    """An explorer at a state, drawn once as if a browser had asked."""
    words = "&".join(f"{name}={value}" for name, value in {"run": run, "view": view, "map": "pca", **state}.items())
    assert explorer.state.restore(f"?{words}") == []
    shown = explorer._views[view]
    shown._wires.window = WINDOW
    shown._draw(WINDOW)
    assert explorer.state.problem == ""
    return shown


@pytest.mark.parametrize("view", OF_A_MAP)
@pytest.mark.parametrize("run", KINDS)
def test_every_view_draws_and_counts_what_a_layer_has(explorer, runs, run, view):
    for layer, info in runs[run].layers.items():
        shown = opened(explorer, run, view, layer=layer) if view == "head" else opened(explorer, run, view)
        points = runs[run].points(layer)
        if view == "head":
            assert f"{len(points.query)} queries and {len(points.key)} keys" in shown.summary()
            assert shown.summary().startswith(layer_name(info))
            assert shown._count(WINDOW) == len(points.query) + len(points.key)
    if view == "all" and run == "stages":
        assert "in each 48 to 192 queries and 48 to 192 keys" in shown.summary()


def test_hover_finds_only_points_that_are_there_and_lights_them_where_they_are(explorer, runs):
    run = runs["pair"]
    shown = opened(explorer, "pair", "all")
    token = token_of(run, "encoder")
    shown._light(token)
    assert (
        len(shown._figure.lit.data["x"]) == 2 * 2 * 2 + 2 * 2
    )  # both points in two layers of two heads, a key in two more
    assert np.isfinite(shown._figure.lit.data["x"]).all()
    shown._wires.window = Window(-0.1, 0.1, -0.1, 0.1, 900, 900)
    for number, tile in enumerate(shown._wall.tiles):
        key = run.points(tile.layer).key[3] + run.num_tokens
        assert shown._nearest(number, *(shown._placed[number, key] + shown._centers[number])) == key
    explorer.state.search = "</s>"  # a token that decoders do not have
    decoder = shown._wall.index(2, 0)
    assert shown._nearest(decoder, *shown._centers[decoder]) is None


def test_a_tip_on_the_wall_names_the_stack(explorer, runs):
    shown = opened(explorer, "pair", "all")
    number = shown._wall.index(CROSS, 1)
    shown._point(*(shown._centers[number] + 0.47))
    assert shown._figure.tip.data["text"][0].startswith("Cross 1 · Head 1")


@pytest.mark.parametrize(("stream", "kind"), [("decoder", "query"), ("encoder", "key")])
def test_a_cross_head_draws_lines_to_the_other_stream(explorer, runs, stream, kind):
    run = runs["pair"]
    token = token_of(run, stream)
    shown = opened(explorer, "pair", layer=CROSS, head=1, token=token, kind=kind)
    exchange = read_exchange(run, CROSS, 1, 1)
    frame, _ = links(exchange.attention, exchange.place(token, kind), kind=kind)
    shown._mark_sequence()
    lines = shown._figure.lines.data
    assert len(lines["x0"]) == len(frame) > 0
    partner = "encoder" if stream == "decoder" else "decoder"
    tokens = exchange.tokens("key" if kind == "query" else "query")[frame["position"]]
    assert set(run.tokens["stream"].iloc[tokens]) == {partner}
    assert run.tokens["text"].iloc[tokens].tolist() == frame["text"].tolist()
    places = shown._placed[tokens + (run.num_tokens if kind == "query" else 0)]
    np.testing.assert_array_equal(lines["x1"], places[:, 0])
    marked = len(shown._figure.sequence.data_source.data["x"])
    assert marked == sum(len(exchange.tokens(side)) for side in ("query", "key"))


def test_hover_in_a_head_says_the_norm_of_its_point(explorer, runs):
    run = runs["pair"]
    shown = opened(explorer, "pair", layer=CROSS)
    key = int(run.points(CROSS).key[5])
    shown._wires.window = Window(-0.1, 0.1, -0.1, 0.1, 900, 900)
    shown._point(*shown._placed[key + run.num_tokens])
    norm = run.vectors(CROSS, 0, slice(key, key + 1)).key_norm[0]
    assert f"norm {norm:.2f}" in shown._figure.tip.data["text"][0]


def beside(explorer):
    """The facts, the numbers, the picture and the sentence beside a head."""
    shown = explorer._beside.objects
    return [shown[1], shown[2], shown[3], shown[5]]  # the selection and the nearest lie between


def test_a_token_without_a_point_is_said_in_a_sentence_and_stays_selected(explorer, runs):
    token = token_of(runs["pair"], "encoder")
    shown = opened(explorer, "pair", layer=2, token=token)
    sentence = describe_absence(runs["pair"], 2, token)
    assert "has queries and keys of decoder" in sentence
    assert sentence in shown.summary()
    facts, numbers, *pictures = beside(explorer)
    assert (facts.object, numbers.object) == (markup.note(sentence), "")
    assert not any(picture.visible for picture in pictures)
    assert shown._figure.lines.data["x0"] == []


def test_stepping_through_the_stacks_keeps_what_was_chosen(explorer, runs):
    state = explorer.state
    token = token_of(runs["pair"], "encoder")
    opened(explorer, "pair", layer=1, head=1, token=token)
    seen = [state.kind_here]
    for _ in range(4):
        state.step(1, 0)
        seen.append(state.kind_here)
    assert seen == ["query", None, None, "key", "key"]  # by rows of the wall: encoder 1, decoder 0 and 1, cross 0 and 1
    assert (state.token, state.kind, state.layer) == (token, "query", CROSS)
    state.step(-4, 0)
    assert (state.layer, state.kind_here) == (1, "query")


def test_the_panel_beside_a_cross_head_has_the_texts_of_both_streams(explorer, runs):
    run = runs["pair"]
    token = token_of(run, "decoder", 2)
    opened(explorer, "pair", layer=CROSS, head=0, token=token)
    facts, numbers, picture, sentence = beside(explorer)
    assert (picture.visible, sentence.visible) == (False, True)
    assert "decoder position 2 of" in facts.object
    exchange = read_exchange(run, CROSS, 0, 1)
    weights = exchange.weights(exchange.place(token, "query"), "query")
    best = int(exchange.tokens("key")[np.argmax(weights)])
    assert f'>{patch_name(run, best)}</td><td class="place">{run.tokens["position"].iloc[best]}<' in numbers.object
    assert f"Sink, which is no token: {(1 - weights.sum()) * 100:.1f} %" in numbers.object
    columns = [r.data_source.data["text"] for r in sentence[0].object.renderers if "text" in r.data_source.data]
    read, said = (run.tokens["text"].iloc[exchange.tokens(kind)].tolist() for kind in ("key", "query"))
    assert [list(texts) for texts in columns[:2]] == [said, read]
    assert [texts[0] for texts in columns[2:4]] == ["decoder queries", "encoder keys"]


def test_a_click_in_the_sentence_chooses_a_token_of_its_stream(explorer, runs):
    run = runs["pair"]
    opened(explorer, "pair", layer=CROSS, token=token_of(run, "decoder"))
    sentence = beside(explorer)[3][0]
    for x, kind, stream in ((1.4, "key", "encoder"), (-0.4, "query", "decoder")):
        click(sentence.object, x, -2)
        assert (explorer.state.token, explorer.state.kind) == (token_of(run, stream, 2), kind)
    decoders = int((run.tokens["stream"].iloc[run.token_slice(1)] == "decoder").sum())
    click(sentence.object, -0.4, -decoders)  # below the shorter column
    assert explorer.state.token == token_of(run, "decoder", 2)


def test_a_key_has_no_sink_and_a_layer_without_one_does_not_speak_of_it(explorer, runs):
    opened(explorer, "pair", layer=CROSS, token=token_of(runs["pair"], "encoder"), kind="key")
    assert "Sink" not in beside(explorer)[1].object
    opened(explorer, "pair", layer=4, token=token_of(runs["pair"], "decoder"), kind="query")
    assert "Sink" not in beside(explorer)[1].object


def test_a_layer_that_cannot_be_rebuilt_says_so_instead_of_numbers(tmp_path):
    path = write_fake_streams(tmp_path / "kept", "pair")
    manifest = json.loads((path / "manifest.json").read_text())
    for layer in manifest["layers"]:
        layer["rebuilt"] = False
    (path / "manifest.json").write_text(json.dumps(manifest))
    explorer = Explorer([path])
    shown = opened(explorer, "kept", layer=CROSS, token=token_of(RunDirectory(path), "decoder"))
    facts, numbers, picture, sentence = beside(explorer)
    assert "norm" in facts.object
    assert "attention cannot be rebuilt" in numbers.object
    assert (picture.visible, sentence.visible) == (False, False)
    assert shown._figure.lines.data["x0"] == []


def test_each_stage_has_its_own_grid(explorer, runs):
    run = runs["stages"]
    grids = patch_grids(run)
    assert {tuple(grid) for grid in grids[run.points(0).query].tolist()} == {(4, 4)}
    assert {tuple(grid) for grid in grids[run.points(2).query].tolist()} == {(2, 2)}
    shown = opened(explorer, "stages", layer=2, token=token_of(run, "stage 1", 3))
    _, _, picture, sentence = beside(explorer)
    assert (picture.visible, sentence.visible) == (True, False)
    figure = picture[0].object
    assert (figure.x_range.end, figure.y_range.start) == (2, -2)
    frame = next(r.data_source for r in figure.renderers if r.data_source.name == "patch-frame")
    assert (frame.data["x"], frame.data["y"]) == ([1.5], [-1.5])
    click(figure, 0.5, -1.5)
    assert explorer.state.token == token_of(run, "stage 1", 2)
    images = shown._figure.patches.data_source.data["image"]
    assert {image.shape for image in images} == {(24 + 4, 24 + 4)}  # a quarter of 8 × 8 pixels, enlarged and framed
    assert layer_name(run.layers[2]) == "Stage 1, layer 0"
    assert run.layers[2].label == "stage 1 · 0"


def test_a_patch_is_framed_on_the_grid_of_its_partners():
    assert frame_data((3, 1), (4, 4), (2, 2)) == {"x": [0.75], "y": [-1.75], "width": [0.5], "height": [0.5]}


def test_a_mixed_sequence_has_a_picture_and_a_sentence(explorer, runs):
    run = runs["mixed"]
    word = token_of(run, "language", 0)
    shown = opened(explorer, "mixed", layer=1, token=word)
    picture, sentence = beside(explorer)[2:]
    assert (picture.visible, sentence.visible) == (True, True)
    texts = next(r.data_source.data["text"] for r in sentence[0].object.renderers if "text" in r.data_source.data)
    own = run.tokens.iloc[run.token_slice(1)]
    words = own[(own["stream"] == "language") & (own["modality"] == "text")]["text"].tolist()
    assert list(texts) == words
    assert len(shown._figure.patches.data_source.data["image"]) == 2 * 4 * run.num_sequences
    assert len(shown._figure.dots.data_source.data["x"]) == 2 * int(
        ((run.tokens["stream"] == "language") & (run.tokens["modality"] == "text")).sum()
    )
    before, text, after = excerpt(run, word)
    assert f"{before} {text} {after}".split() == words
    opened(explorer, "mixed", layer=0, token=token_of(run, "vision", 0))
    assert [item.visible for item in beside(explorer)[2:]] == [True, False]


@pytest.mark.parametrize("color", ["stream", "norm", "neighbors_kept", "position", "is_generated", "data:label"])
def test_legends_count_tokens_that_the_head_has(paths, runs, color):
    run, state = runs["pair"], State(library.open_runs([paths["pair"]]))
    state.color = color
    for layer in run.layers:
        scene = make_scene(state, ((layer, 0),))
        counted = scene.tally()
        points = run.points(layer)
        if scene.coloring.categories:
            assert counted.sum() == len(points.tokens)
        else:
            assert counted[-1] == 0  # a point that is not there lacks no number
        assert "no value" not in markup.legend(scene)
    whole = make_scene(state, tuple((layer, head) for layer in run.layers for head in (0, 1)))
    assert whole.counts() == (run.num_tokens, run.num_tokens)
    if whole.coloring.categories:
        assert whole.tally().sum() == run.num_tokens
    state.param.update(kinds="query")
    crossed = make_scene(state, ((CROSS, 0),))
    assert crossed.counts() == (len(run.points(CROSS).query), 0)


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_export_has_a_row_for_every_point_that_there_is(runs, tmp_path, to):
    run = runs["pair"]
    path, rows = export(run, to, out=tmp_path / f"t.{to}", map_name="pca")
    table = pd.read_csv(path) if to == "csv" else pd.read_parquet(path)
    expected = sum(
        info.num_heads * sum(len(t) for _, t in run.points(layer).by_kind()) for layer, info in run.layers.items()
    )
    assert len(table) == rows == expected
    assert table[["x", "y", "norm"]].notna().all().all()
    cross = table[table["layer_label"] == "cross 1"]
    assert set(cross["layer"]) == {CROSS}
    assert set(zip(cross["kind"], cross["stream"], strict=True)) == {("query", "decoder"), ("key", "encoder")}
    one = cross[(cross["head"] == 1) & (cross["kind"] == "key")]
    norms = run.norms(CROSS, 1)[one["token"] + run.num_tokens]
    np.testing.assert_allclose(one["norm"], norms, rtol=1e-5)


def test_export_has_the_same_columns_whatever_the_run(runs, tmp_path):
    one = RunDirectory(write_fake_run(tmp_path / "one"))
    columns = [
        list(pd.read_parquet(export(run, "parquet", out=tmp_path / "t.parquet", map_name="pca")[0]))
        for run in (one, runs["pair"])
    ]
    assert columns[0] == columns[1]


def test_info_tells_streams_and_the_points_of_each_layer(runs, monkeypatch, capsys):
    run = runs["pair"]
    given = describe(run)
    assert list(given["streams"]) == ["encoder", "decoder"]
    assert sum(given["streams"].values()) == run.num_tokens
    cross = next(layer for layer in given["layers"] if layer["layer"] == CROSS)
    assert (cross["label"], cross["queries"], cross["keys"]) == (
        "cross 1",
        given["streams"]["decoder"],
        given["streams"]["encoder"],
    )
    json.dumps(given)
    monkeypatch.setattr(show, "page", lambda: Console(width=120))
    show.description(given)
    show.head_scores(describe_heads(run))
    told = capsys.readouterr().out
    assert "layers: encoder 2, decoder 2, cross 2" in told
    assert f"{2 * given['streams']['decoder']} to {2 * given['streams']['encoder']} points a head" in told
    lines = [line.split() for line in told.splitlines()]
    assert ["cross", "1", "1"] in [words[:3] for words in lines]
    assert any(words.count("spearman") == 3 for words in lines)  # whole, not folded
    assert max(len(line.rstrip()) for line in told.splitlines() if not line.startswith("pair ")) <= 120


def test_a_run_of_version_1_opens_as_before(tmp_path):
    path = next(path.parent for path in ARCHIVE.rglob("manifest.json"))
    shutil.copytree(path, tmp_path / "early")
    run = RunDirectory(tmp_path / "early")
    explorer = Explorer([run])
    for view in OF_A_MAP:
        shown = opened(explorer, run.name, view, token=1, map=next(iter(run.maps)))
        assert "queries and" in shown.summary()
    assert describe(run)["streams"] == {}
    path, rows = export(run, "csv", out=tmp_path / "t.csv")
    assert rows == 2 * run.num_tokens * describe(run)["heads"]
    assert set(pd.read_csv(path, keep_default_na=False)["stream"].unique()) == {""}
