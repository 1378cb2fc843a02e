"""What is saved holds what was seen: points, numbers and colours, in one file that asks for nothing."""

import base64
import io
import json
import re

import numpy as np
import pytest
from bokeh.document import Document
from click.testing import CliRunner
from PIL import Image

import attnviz
from attnviz.cli import cli
from attnviz.errors import DatasetError
from attnviz.explorer import Explorer, library, offline, offline_wall
from attnviz.explorer.offline import chosen_state, head_page, sequence_page
from tests import fakes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return attnviz.open(fakes.write_fake_run(tmp_path_factory.mktemp("save") / "text"))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return attnviz.open(fakes.write_fake_run(tmp_path_factory.mktemp("save") / "image", image=True))


def document(page):
    """The figures in a page, as a browser would make them."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.html, re.S)[1]
    return Document.from_json(json.loads(text)["doc"])


def data(page, name):
    return document(page).select_one({"name": name}).data


def script(page, argument):
    """What a page's script was given under a name."""
    return next(
        model.args[argument] for model in document(page).models if argument in (getattr(model, "args", None) or {})
    )


def outside(page):
    """What a page would ask the network for."""
    written = re.sub(r"(<script\b[^>]*>).*?</script>", r"\1", page.html, flags=re.S)
    return re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(?!data:)[^"'>\s]+""", written)


def test_a_page_of_a_head_holds_every_point_where_the_map_has_it(run):
    page = run.head(1, 2).view(map="pca", color="position")
    points = data(page, "points")
    coordinates = run.coordinates("pca", 1, 2)
    rows = points["token"] + run.num_tokens * points["key"]
    assert sorted(rows) == list(range(2 * run.num_tokens))
    own = np.stack([points["x"], points["y"]], axis=1)
    scale = (own.max(axis=0) - own.min(axis=0)).max() / (coordinates.max(axis=0) - coordinates.min(axis=0)).max()
    moved = (own - own[0]) / scale
    np.testing.assert_allclose(moved, coordinates[rows] - coordinates[rows[0]], atol=1e-4)
    np.testing.assert_allclose(points["norm"], run.norms(1, 2)[rows], rtol=1e-6)
    assert "map pca" in page.sentence
    assert "coloured by position" in page.sentence
    names, words = script(page, "names"), script(page, "words")
    assert [names[word] for word in words] == run.tokens["text"].tolist()
    assert outside(page) == []
    assert len(page.html.encode()) < 5_000_000


def test_a_chosen_token_has_lines_to_what_it_attends_to(run):
    lines = data(run.head(0, 1).view(map="pca", token=4), "lines")
    sequence = int(run.tokens["sequence_id"].iloc[4])
    given = run.attention(0, 1, sequence).weights[4 - run.token_slice(sequence).start]
    np.testing.assert_allclose(sorted(lines["width"]), 1 + 5 * np.sort(given[given >= 0.05]), rtol=1e-5)


def test_a_page_of_a_sequence_holds_the_weights_of_every_head(run):
    page = run.sequence_view(3, layer=1, head=2)
    weights = script(page, "weights")
    assert len(weights) == 8
    for layer, head in ((0, 0), (1, 2), (1, 3)):
        np.testing.assert_array_equal(weights[f"{layer}/{head}"], run.attention(layer, head, 3).weights.ravel())
    alphas = np.array(data(page, "weights")["alpha"])
    seen = run.attention(1, 2, 3).weights
    np.testing.assert_allclose(np.sort(alphas), np.sort(seen[seen >= 0.02]), rtol=1e-5)
    assert outside(page) == []


def test_a_page_of_an_image_holds_the_weights_of_its_patches(image):
    page = image.sequence_view(2)
    heat = data(page, "heat")
    weights = image.attention(0, 0, 2).weights
    assert len(heat["weight"]) == 16
    np.testing.assert_allclose(heat["weight"], weights[script(page, "keys")[8], 1:], rtol=1e-6)
    assert outside(page) == []


def test_a_page_stays_small_and_says_what_was_left_out(run, monkeypatch):
    monkeypatch.setattr(offline, "POINTS", 60)
    page = run.head(0, 0).view()
    points = data(page, "points")
    assert 0 < len(points["x"]) <= 60
    assert f"{len(points['x'])} points, drawn at random from {2 * run.num_tokens}" in page.sentence
    monkeypatch.setattr(offline, "NUMBERS", 700)
    size = len(run.attention(0, 0, 3).weights) ** 2
    assert len(script(run.sequence_view(3), "weights")) == (8 if 8 * size <= 700 else 4 if 4 * size <= 700 else 1)
    monkeypatch.setattr(offline, "NUMBERS", 1)
    assert len(script(run.sequence_view(3, layer=1, head=3), "weights")) == 1


def test_pages_of_the_explorer_show_its_state(run):
    explorer = Explorer([run])
    explorer.state.restore("?map=umap&view=head&layer=1&head=3&kinds=key&theme=dark&token=7")
    made = explorer._saver.page("head")
    assert set(data(made, "points")["key"]) == {1}
    assert "Layer 1, head 3" in made.heading
    sequence = int(run.tokens["sequence_id"].iloc[7])
    assert f"Sequence {sequence} " in explorer._saver.page("sequence").heading
    assert explorer._saver.name_of == "text-layer1-head3"
    explorer.state.select(None)
    with pytest.raises(DatasetError, match="Click a point first"):
        explorer._saver.page("sequence")
    explorer.state.view = "all"
    with pytest.raises(DatasetError, match="Open a head first"):
        explorer._saver.page("head")


def picture(page):
    """The raster of all heads in a page."""
    address = data(page, "wall-picture")["url"][0]
    kind, content = address.split(",", 1)
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGBA"))


def test_a_page_of_all_heads_shows_each_where_the_map_has_it_with_its_name_and_scores(run):
    page = run.view(map="pca")
    heads = data(page, "heads")
    scores = run.scores("pca")
    assert len(heads["text"]) == 8
    for i, (layer, head) in enumerate(scores.index):
        assert (heads["x"][i], heads["y"][i]) == (head + 0.5, -layer - 0.5)
        recall = scores["attention_recall"][layer, head]
        assert heads["text"][i].startswith(f"Layer {layer} · Head {head}\n")
        assert f"attention recall {recall:.2f}" in heads["text"][i]
    image = picture(page)
    unit = image.shape[1] / 4.08
    wall = library.wall(run, "pca")
    for tile in (0, 6):
        x, y = wall.tiles[tile].center
        for dx, dy in wall.points[tile][:40]:
            row, column = int((0.04 - (y + dy)) * unit), int((0.04 + x + dx) * unit)
            assert image[row - 1 : row + 2, column - 1 : column + 2, 3].max() > 0
    assert image[: int(0.04 * unit) - 1].max(axis=(0, 1))[3] == 0  # nothing between tiles
    assert '<div class="swatches"><span><i style=' in page.html
    assert f"queries <em>{run.num_tokens}</em>" in page.html
    assert outside(page) == []
    assert len(page.html.encode()) < 5_000_000


def test_a_page_of_all_heads_follows_order_filter_and_colours(run):
    explorer = Explorer([run])
    explorer.state.restore(
        "?map=umap&order=map:attention_recall&only_heads=1-3&color=data:label&theme=dark&hidden=0&local=true&near_zoom=9"
    )
    page = explorer._saver.page("wall")
    scores = run.scores("umap")["attention_recall"]
    expected = scores[scores.index.get_level_values("head") > 0].sort_values(ascending=False)
    heads = data(page, "heads")
    order = np.lexsort((heads["x"], -np.array(heads["y"])))
    names = [heads["text"][i].split("\n")[0] for i in order]
    assert names == [f"Layer {layer} · Head {head}" for layer, head in expected.index]
    assert f"Attention recall: {expected.iloc[0]:.3f}" in heads["text"][order[0]]
    assert "highest attention recall first" in page.sentence
    swatches = explorer._views["all"].swatches()
    assert page.html.count("<em>") == len(swatches) - 1
    assert all(f"<em>{swatch.count}</em>" in page.html for swatch in swatches[:-1])
    with pytest.raises(DatasetError, match="name none of this run"):
        run.view(layers=[7])


def test_a_page_of_all_heads_becomes_smaller_until_it_fits(run, monkeypatch):
    whole = run.view()
    monkeypatch.setattr(offline_wall, "LIMIT", len(whole.html) - 20_000)
    small = run.view()
    assert len(small.html) < len(whole.html) - 20_000
    assert picture(small).shape < picture(whole).shape
    monkeypatch.setattr(offline_wall, "LIMIT", 1000)
    with pytest.raises(DatasetError, match="do not fit into one page"):
        run.view()


@pytest.mark.parametrize("color", ["kind", "norm", "position", "data:label", "neighbors_kept"])
def test_the_legend_of_a_picture_is_that_of_the_side_bar(run, color):
    explorer = Explorer([run])
    explorer.state.restore(f"?map=pca&color={color}")
    told = []
    explorer._saver._send_msg = told.append
    explorer._saver._handle_msg("legend")
    (legend,) = (answer["legend"] for answer in told)
    html = explorer._sidebar._legend.html
    counts = re.findall(r"<em>([\d,]+)</em>", html)
    assert [f"{entry['count']:,}" for entry in legend if entry["count"] is not None] == counts
    assert all(re.fullmatch("#[0-9a-fA-F]{6}", color) for entry in legend for color in entry["colors"])
    assert legend[0]["colors"]
    assert explorer._saver.summary == explorer._views["all"].summary()
    json.dumps(legend)


def test_a_view_without_a_legend_is_saved_without_one(run):
    explorer = Explorer([run])
    told = []
    explorer._saver._send_msg = told.append
    for view, count in (("sentence", 4), ("model", 0), ("neuron", 0), ("sequences", 0)):
        explorer.state.view = view
        explorer._saver._handle_msg("legend")
        assert len(told.pop()["legend"]) == count
    explorer.state.restore("?view=sentence&sentence_join=sum")
    explorer._saver._handle_msg("legend")
    assert told.pop() == {"legend": []}


def test_what_cannot_be_saved_is_a_sentence(run, tmp_path):
    with pytest.raises(DatasetError, match=r"no map 'umpa'.*umap"):
        run.head(0, 0).view(map="umpa")
    with pytest.raises(DatasetError, match="no color 'colour'"):
        run.head(0, 0).view(color="colour")
    with pytest.raises(DatasetError, match=f"tokens 0 to {run.num_tokens - 1}"):
        run.head(0, 0).view(token=run.num_tokens)
    with pytest.raises(DatasetError, match="sequences 0 to 11"):
        run.sequence_view(12)
    with pytest.raises(DatasetError, match="layers 0, 1; layer 9"):
        run.sequence_view(1, layer=9)
    with pytest.raises(DatasetError, match="heads 0 to 3; 4"):
        run.sequence_view(1, head=4)
    with pytest.raises(DatasetError, match="cannot be written"):
        run.sequence_view(1).save(tmp_path / "nowhere" / "x.html")
    unmapped = attnviz.open(fakes.write_fake_run(tmp_path / "unmapped", maps=()))
    with pytest.raises(DatasetError, match="no complete map"):
        unmapped.head(0, 0).view()
    assert unmapped.sequence_view(0).html  # a sequence needs no map


@pytest.mark.parametrize("kind", ["pair", "stages", "mixed"])
def test_runs_of_several_streams_are_saved_or_refused_with_a_sentence(kind, tmp_path):
    run = attnviz.open(fakes.write_fake_streams(tmp_path / kind, kind, sink=True))
    for layer in run.layers:
        state = chosen_state(run, layer=layer, head=1, view="head")
        points = run.points(layer)
        assert len(data(head_page(state), "points")["x"]) == len(points.query) + len(points.key)
        assert sequence_page(state, 1).html


def test_the_command_line_writes_pages(run, tmp_path):
    file = tmp_path / "head.html"
    done = CliRunner().invoke(
        cli, ["export", str(run.path), "--to", "html", "--layers", "1", "--heads", "3", "--out", str(file)]
    )
    assert done.exit_code == 0, done.output
    assert "Layer 1, head 3" in file.read_text("utf-8")
    done = CliRunner().invoke(cli, ["export", str(run.path), "--to", "html", "--sequence", "2"])
    assert run.path.with_name("text-sequence2.html").is_file(), done.output
    done = CliRunner().invoke(cli, ["export", str(run.path), "--to", "html", "--heads", "0,1", "--out", str(file)])
    assert "<h1>4 heads · " in file.read_text("utf-8"), done.output
    done = CliRunner().invoke(cli, ["export", str(run.path), "--to", "html"])
    assert "<h1>8 heads · " in run.path.with_name("text-heads.html").read_text("utf-8"), done.output
    done = CliRunner().invoke(cli, ["export", str(run.path), "--to", "html", "--sequence", "2", "--heads", "0,1"])
    assert "one head" in str(done.exception)
    done = CliRunner().invoke(cli, ["export", str(run.path), "--sequence", "2"])
    assert "--to html" in str(done.exception)
