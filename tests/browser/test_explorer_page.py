"""Clicks through the explorer as a person would, and reads back what the page shows."""

import numpy as np
import pytest

from attnviz.store import RunDirectory
from attnviz.views import patch_name, prepare_wall, read_exchange, show_text
from tests.browser.conftest import HOSTILE, Shown


@pytest.fixture(scope="module")
def text_run(runs):
    return RunDirectory(runs["text"])


def wall_place(run, name, layer, head, point):
    """Where a point lies on the wall."""
    wall = prepare_wall(run, name)
    tile = wall.index(layer, head)
    return wall.points[tile, point, :2] + wall.centers[tile]


def lone_point(run, layer, head):
    """The query that lies farthest from all other points of a head, so that a pointer cannot mean another one."""
    points = prepare_wall(run, "pca").points[prepare_wall(run, "pca").index(layer, head)]
    distance = np.linalg.norm(points[: run.num_tokens, None] - points[None], axis=2)
    return int(np.argmax(np.sort(distance, axis=1)[:, 1]))


def test_hover_names_layer_head_and_token_and_lights_it_everywhere(shown, server, text_run):
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    token = lone_point(text_run, 1, 2)
    shown.page.mouse.move(*shown.at("wall", *wall_place(text_run, "pca", 1, 2, token)))
    tip = shown.assert_until(lambda: shown.data("tip", "text"), bool)[0]
    assert "Layer 1 · Head 2 · trustworthiness" in tip
    assert f"{text_run.tokens['text'].iloc[token]} · query" in tip
    assert len(shown.data("lit", "x")) == 2 * 12  # its query and its key in each of 3 × 4 heads


@pytest.mark.slow
def test_click_opens_the_head_and_arrows_move_on_with_the_selection_kept(shown, server, text_run):
    shown.open(f"{server}?run=text&map=pca&token=5").painted("wall-image")
    shown.page.mouse.click(*shown.at("wall", 2.5, -1.5))
    shown.goes_to("view=head&layer=1&head=2&token=5")
    shown.assert_until(lambda: shown.text("h1"), lambda text: text == "Layer 1 · Head 2")
    shown.painted("sequence")
    shown.page.keyboard.press("ArrowRight")
    shown.goes_to("layer=1&head=3&token=5")
    shown.page.get_by_role("button", name="Layer above").click()
    shown.goes_to("layer=0&head=3&token=5")


@pytest.mark.slow
def test_clicking_a_point_shows_the_attention_that_the_run_holds(shown, server, text_run):
    shown.open(f"{server}?run=text&map=pca&view=head&layer=1&head=2").painted("dots")
    token = lone_point(text_run, 1, 2)
    wall = prepare_wall(text_run, "pca")
    shown.page.mouse.click(*shown.at("head", *wall.points[wall.index(1, 2), token]))
    shown.goes_to(f"token={token}")
    sequence = int(text_run.tokens["sequence_id"].iloc[token])
    weights = text_run.attention(1, 2, sequence).weights
    position = token - text_run.token_slice(sequence).start
    alphas = np.array(shown.assert_until(lambda: shown.data("weights", "alpha"), bool))
    queries, keys = -np.array(shown.data("weights", "y0")), -np.array(shown.data("weights", "y1"))
    own = queries == position
    np.testing.assert_allclose(alphas[own], weights[position, keys[own].astype(int)], atol=1e-5)
    assert own.sum() == (weights[position] >= 0.02).sum()
    assert f"{weights[position].max() * 100:.1f} %" in shown.text(".beside table")
    assert len(shown.data("lines", "x0")) == (weights[position] >= 0.05).sum()


@pytest.mark.slow
def test_a_decoder_token_under_cross_attention_shows_its_partners_of_the_encoder(shown, server, runs):
    run = RunDirectory(runs["pair"])
    shown.open(f"{server}?run=pair&map=pca&view=head&layer=5&head=1").painted("dots")
    shown.assert_until(lambda: shown.text("h1"), lambda text: text == "Cross 1 · Head 1")
    wall = prepare_wall(run, "pca")
    places = wall.points[wall.index(5, 1)]
    there = np.flatnonzero(np.isfinite(places).all(axis=1))
    distance = np.linalg.norm(places[there, None] - places[None, there], axis=2)
    queries = there < run.num_tokens
    token = int(there[queries][np.argmax(np.sort(distance, axis=1)[queries, 1])])
    shown.page.mouse.click(*shown.at("head", *places[token]))
    shown.goes_to(f"token={token}")
    exchange = read_exchange(run, 5, 1, int(run.tokens["sequence_id"].iloc[token]))
    weights = exchange.weights(exchange.place(token, "query"), "query")
    best = int(exchange.tokens("key")[np.argmax(weights)])
    assert run.tokens["stream"].iloc[[token, best]].tolist() == ["decoder", "encoder"]
    table = shown.assert_until(lambda: shown.text(".beside table"), bool)
    name = patch_name(run, best)
    assert table.startswith(f"{name}{run.tokens['position'].iloc[best]}{weights.max() * 100:.1f} %")
    assert len(shown.data("lines", "x0")) == (weights >= 0.05).sum()
    shown.page.keyboard.press("ArrowUp")
    shown.page.keyboard.press("ArrowUp")
    shown.assert_until(lambda: shown.text("h1"), lambda text: text == "Decoder 1 · Head 1")
    shown.goes_to(f"token={token}")


@pytest.mark.slow
def test_search_counts_matches_and_the_address_brings_them_back(shown, server, text_run):
    shown.open(f"{server}?run=text").painted("wall-image")
    field = shown.page.get_by_placeholder("token…")
    field.fill("BIRD")
    field.press("Enter")
    count = int(text_run.tokens["text"].str.contains("bird").sum())
    sentence = f"{count} queries and {count} keys match"
    shown.assert_until(lambda: shown.text(".side"), lambda text: sentence in text)
    shown.page.get_by_text("Keys", exact=True).click()
    shown.assert_until(lambda: shown.text(".side"), lambda text: f"0 queries and {count} keys match" in text)
    shown.goes_to("kinds=key")
    other = Shown(shown.page.context.new_page()).open(shown.page.url)
    assert f"0 queries and {count} keys match" in other.assert_until(
        lambda: other.text(".side"), lambda text: "match" in text
    )
    assert other.page.get_by_placeholder("token…").input_value() == "BIRD"


def test_the_way_back_shows_what_was_seen(shown, server):
    page = shown.page

    def after(act, *given):
        before = page.url
        act(*given)
        shown.assert_until(lambda: page.url, lambda url: url != before)
        shown.rest()
        return page.url

    def title(words):
        shown.assert_until(lambda: shown.text("h1"), lambda text: text == words)

    shown.open(f"{server}?run=text&map=pca&local=true").painted("wall-image")
    shown.rest()
    begun = page.evaluate("history.length")
    page.mouse.move(*shown.at("wall", 0.6, -0.4))
    near = after(page.mouse.wheel, 0, -240)
    nearer = after(page.mouse.wheel, 0, -240)
    after(page.mouse.click, *shown.at("wall", 2.5, -1.5))
    after(page.keyboard.press, "ArrowRight")
    title("Layer 1 · Head 3")
    assert page.evaluate("history.length") == begun + 4
    after(page.go_back)
    title("Layer 1 · Head 2")
    assert after(page.go_back) == nearer
    title("All heads")
    assert after(page.go_back) == near
    assert after(page.go_forward) == nearer
    after(page.go_back)
    page.mouse.move(*shown.at("wall", 0.6, -0.4))
    again, before = (float(url.split("near_zoom=")[1]) for url in (after(page.mouse.wheel, 0, -240), nearer))
    assert again == pytest.approx(before, rel=1e-4)  # from the window that is seen, not from the one of after


def test_an_address_with_nonsense_opens_the_page_all_the_same(shown, server):
    shown.open(f"{server}?run=../../etc/passwd&map=%00&layer=99&token=1e9&theme=pink&view=head&azimuth=x&color=<b>")
    shown.assert_until(lambda: shown.text("h1"), lambda text: text == "Layer 0 · Head 0")
    assert "fake/tiny" in shown.text(".brand")
    assert shown.page.get_by_label("Run", exact=True).input_value() == "text"


def test_hostile_text_stays_text(shown, server, runs):
    run = RunDirectory(runs["hostile"])
    shown.open(f"{server}?run=hostile&map=pca&view=head&layer=0&head=1&color=data:label").painted("dots")
    tokens = [int(np.flatnonzero(run.tokens["text"] == text)[0]) for text in HOSTILE]
    seen = []
    for token in tokens:
        place = prepare_wall(run, "pca").points[1, token]
        shown.page.mouse.click(*shown.at("head", *place))
        shown.assert_until(lambda: shown.data("weights", "alpha"), bool)
        seen.append(shown.text(".beside h2"))
    assert any("<" in text or "&amp;" in text for text in seen)
    assert "<script>" in shown.text(".legend")
    assert shown.page.evaluate("window.hacked") is None
    assert "\u2407" in [show_text(text) for text in HOSTILE]


@pytest.mark.slow
def test_image_run_shows_patches_and_the_picture_with_the_patch_framed(shown, server, runs):
    shown.open(f"{server}?run=picture&map=pca&view=head&layer=1&head=0&token=22&kind=query")
    shown.painted("patches")
    assert len(shown.data("patches", "x")) == 2 * RunDirectory(runs["picture"]).num_tokens
    assert shown.data("patch-frame", "x") == [0.5]
    assert shown.data("patch-frame", "y") == [-1.5]
    assert shown.text(".beside h2") == "patch 1, 0 · query"
    assert "with special tokens:" in shown.text(".beside")
    shown.page.mouse.click(*shown.at("picture", 2.5, -3.5))
    shown.assert_until(lambda: shown.text(".beside h2"), lambda text: text == "patch 3, 2 · query")


def test_zoom_turns_the_raster_into_what_the_new_window_needs(shown, server):
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    before = shown.data("wall-image", "dw")[0]
    shown.page.mouse.move(*shown.at("wall", 1.5, -1.5))
    shown.page.mouse.wheel(0, -400)
    shown.assert_until(lambda: shown.data("wall-image", "dw")[0], lambda wide: wide < 0.8 * before)
    shown.page.get_by_role("button", name="Reset view").click()
    shown.assert_until(lambda: shown.data("wall-image", "dw")[0], lambda wide: abs(wide - before) < 1e-6)


def test_dark_and_phone_have_no_scroll_and_a_side_bar_to_open(shown, server):
    shown.page.set_viewport_size({"width": 390, "height": 844})
    shown.open(f"{server}?run=text&map=umap_3d&theme=dark").painted("wall-image")
    colors = "getComputedStyle(document.body).backgroundColor"
    shown.assert_until(lambda: shown.page.evaluate(colors), lambda color: color == "rgb(15, 19, 27)")
    scroll = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert shown.page.evaluate(scroll) == 0
    assert not shown.page.get_by_placeholder("token…").is_visible()
    shown.page.get_by_role("button", name="Options and legend").click()
    shown.page.get_by_placeholder("token…").wait_for(state="visible")
    assert shown.page.evaluate(scroll) == 0


def test_run_theme_and_view_are_changed_on_the_page(shown, server):
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    home = shown.data("wall-image", "dw")[0]
    for name in ("Dark", "Light", "Dark"):
        shown.page.get_by_role("button", name=name).click()
        shown.page.get_by_role("button", name={"Dark": "Light", "Light": "Dark"}[name]).wait_for()
    shown.page.get_by_role("tab", name="One head").click()
    shown.page.get_by_label("Run", exact=True).select_option("picture")
    shown.page.get_by_label("Colour", exact=True).select_option(label="Patch row")
    shown.assert_until(lambda: shown.page.url, lambda url: "run=picture" in url and "color=patch_row" in url)
    shown.painted("patches")
    shown.page.get_by_label("Run", exact=True).select_option("text")
    shown.page.get_by_role("tab", name="All heads").click()
    shown.assert_until(
        lambda: (shown.data("wall-image", "dw") or [0])[0], lambda wide: wide == pytest.approx(home, rel=0.01)
    )


@pytest.mark.parametrize(
    ("name", "words"), [("unmapped", "no complete map yet"), ("broken", "is missing from the run")]
)
def test_what_is_missing_is_said_in_a_sentence(shown, server, name, words):
    shown.open(f"{server}?run={name}&map=umap")
    shown.assert_until(lambda: shown.text(".banner"), lambda text: words in text)


@pytest.mark.slow
def test_the_canvas_is_described_in_words(shown, server):
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    label = shown.page.get_by_role("img").first.get_attribute("aria-label")
    assert label.startswith("12 heads on map pca, in each")
