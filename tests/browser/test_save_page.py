"""The menu that saves what is seen, and the saved pages, opened as a reader would."""

import io
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnviz.store import RunDirectory

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def head(shown, server):
    """A head with a chosen token and the menu open."""
    shown.open(f"{server}?run=text&map=pca&view=head&layer=1&head=2&token=5").painted("sequence")
    shown.assert_until(lambda: shown.data("weights", "x0"), bool)
    shown.page.get_by_text("Save", exact=True).click()
    return shown


def saved(shown, name):
    """What a button of the menu downloads, and the name of its file."""
    with shown.page.expect_download() as waiting:
        shown.page.get_by_role("button", name=name).click()
    return Path(waiting.value.path()).read_bytes(), waiting.value.suggested_filename


def test_a_png_has_the_chosen_number_of_pixels_and_shows_what_is_seen(head):
    sizes = {}
    for scale in ("1", "3"):
        head.page.get_by_label("Pixels of the PNG").select_option(scale)
        content, name = saved(head, "Picture (PNG)")
        assert name == "text-layer1-head2.png"
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        sizes[scale] = picture.size
        assert len(picture.getcolors(10_000_000)) > 50
    width, height = sizes["1"]
    np.testing.assert_allclose(sizes["3"], (3 * width, 3 * height), atol=3)
    assert width > 600
    assert head.page.evaluate("window.devicePixelRatio") == 1


def test_an_svg_has_the_marks_lines_and_words_of_what_is_seen(head):
    content, name = saved(head, "Drawing (SVG)")
    assert name == "text-layer1-head2.svg"
    drawing = ET.fromstring(content)
    assert "Layer 1, head 2" in drawing.find(f"{SVG}title").text
    texts = [element.text for element in drawing.iter(f"{SVG}text")]
    assert "queries" in texts  # of the sentence beside it
    assert len(list(drawing.iter(f"{SVG}path"))) > len(head.data("lines", "x0")) + len(head.data("weights", "x0"))
    assert b"<script" not in content


@pytest.mark.slow
def test_pictures_carry_legend_and_caption(shown, server, runs):
    run = RunDirectory(runs["text"])
    shown.open(f"{server}?run=text&map=pca&color=data:label").painted("wall-image")
    shown.page.get_by_text("Save", exact=True).click()
    drawing = ET.fromstring(saved(shown, "Drawing (SVG)")[0])
    texts = [element.text for element in drawing.iter(f"{SVG}text")]
    caption = drawing.find(f"{SVG}title").text
    assert caption.startswith("12 heads on map pca")
    assert caption in " ".join(texts)
    counts = run.sequences["label"].repeat(run.sequences["num_tokens"]).value_counts()
    for label, count in counts.items():
        assert f"{label}  {count}" in texts
    place = [float(element.get("y")) for element in drawing.findall(f"{SVG}text")]
    figures = max(float(element.get("y")) + float(element.get("height")) for element in drawing.findall(f"{SVG}svg"))
    assert figures < min(place) < max(place) < float(drawing.get("height"))

    shown.page.get_by_label("Pixels of the PNG").select_option("1")
    picture = Image.open(io.BytesIO(saved(shown, "Picture (PNG)")[0])).convert("RGB")
    assert picture.height == round(float(drawing.get("height")))
    below = np.asarray(picture)[int(figures) :].reshape(-1, 3)
    fills = [rect.get("fill") for rect in drawing.findall(f"{SVG}rect")[1:]]
    assert len(fills) == 2 * len(counts)
    for fill in fills:
        color = [int(fill[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(below.astype(int) - color).sum(axis=1) == 0).any()


@pytest.mark.slow
def test_a_saved_wall_names_its_heads(shown, server, offline, runs):
    run = RunDirectory(runs["text"])
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    shown.page.get_by_text("Save", exact=True).click()
    content, name = saved(shown, "Page of all heads")
    assert name == "text-all.html"
    page = offline(content)
    page.page.mouse.move(*page.at("wall", 2.5, -1.5))
    tip = page.assert_until(lambda: page.data("tip", "text"), bool)[0]
    recall = run.scores("pca")["attention_recall"][1, 2]
    assert tip.startswith("Layer 1 · Head 2\n")
    assert f"attention recall {recall:.2f}" in tip
    assert page.data("frame", "x") == [2.5]
    page.page.mouse.move(5, 5)
    page.assert_until(lambda: page.data("tip", "text"), lambda text: not text)
    assert f"{run.num_tokens}" in page.text(".swatches")


@pytest.mark.slow
def test_the_link_restores_what_is_shown(head):
    head.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    head.page.get_by_role("button", name="Copy link").click()
    head.assert_until(lambda: head.text(".save-told"), lambda text: text == "The link is copied.")
    assert "view=head&layer=1&head=2&token=5" in head.page.evaluate("navigator.clipboard.readText()")


@pytest.mark.slow
def test_a_page_without_its_condition_is_a_sentence(shown, server):
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    shown.page.get_by_text("Save", exact=True).click()
    shown.page.get_by_role("button", name="Page of this head").click()
    shown.assert_until(lambda: shown.text(".save-told"), lambda text: text == "Open a head first.")
    shown.page.keyboard.press("Escape")
    shown.assert_until(lambda: shown.page.get_by_role("button", name="Copy link").count(), lambda count: count == 0)


@pytest.fixture
def offline(browser, tmp_path):
    """Open a saved page from disk; whatever it asks for is an error."""
    context = browser.new_context(viewport={"width": 1000, "height": 900}, offline=True)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if not request.url.startswith("file:") else None)
    page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)

    def show(content):
        file = tmp_path / "saved.html"
        file.write_bytes(content)
        page.goto(file.as_uri())
        page.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
        from tests.browser.conftest import Shown

        opened = Shown.__new__(Shown)
        opened.page, opened.errors = page, errors
        return opened

    yield show
    context.close()
    assert errors == []


def test_a_saved_head_still_reads_its_points(head, offline, runs):
    run = RunDirectory(runs["text"])
    content, name = saved(head, "Page of this head")
    assert name == "text-layer1-head2.html"
    page = offline(content)
    points = {column: page.data("points", column) for column in ("x", "y", "token", "key")}
    place = np.stack([points["x"], points["y"]], axis=1)
    distance = np.linalg.norm(place[:, None] - place[None], axis=2) + np.eye(len(place)) * 9
    lone = int(np.argmax(distance.min(axis=1)))
    page.page.mouse.move(*page.at("head", *place[lone]))
    tip = page.assert_until(lambda: page.data("tip", "text"), bool)[0]
    kind = "key" if points["key"][lone] else "query"
    assert tip.startswith(f"{run.tokens['text'].iloc[points['token'][lone]]} · {kind}\nposition ")


def test_a_saved_sequence_still_answers_the_pointer_and_changes_heads(head, offline, runs):
    run = RunDirectory(runs["text"])
    page = offline(saved(head, "Page of this sequence")[0])
    sequence = int(run.tokens["sequence_id"].iloc[5])

    def numbers():
        return [int(text[:-1]) for text in page.data("numbers", "text")]

    for layer, number in (("1", "2"), ("0", "3")):
        page.page.get_by_label("Layer").select_option(layer)
        page.page.get_by_label("Head").select_option(number)
        page.page.mouse.move(10, 10)
        page.page.mouse.move(*page.at("sentence", -0.4, -1))
        weights = run.attention(int(layer), int(number), sequence).weights[1]
        page.assert_until(numbers, lambda seen, w=weights: seen == [round(v * 100) for v in w[w >= 0.05].tolist()])
