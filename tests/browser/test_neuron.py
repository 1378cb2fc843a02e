"""The model view and the neuron view in a browser: a thumbnail opens its head, and the numbers are those of the run."""

import re

import numpy as np
import pytest

from attnviz.store import RunDirectory
from attnviz.views.neuron import read_query

SEQUENCE = 4


@pytest.fixture(scope="module")
def text_run(runs):
    return RunDirectory(runs["text"])


@pytest.mark.slow
def test_a_thumbnail_names_its_pair_and_opens_its_head(shown, server, text_run):
    token = text_run.token_slice(SEQUENCE).start
    shown.open(f"{server}?run=text&map=pca&view=model&token={token}").painted("model-image")
    weights = text_run.attention(2, 1, SEQUENCE).weights
    assert shown.page.get_by_role("img").first.get_attribute("aria-label").startswith("12 heads over sequence 4")
    shown.page.mouse.move(*shown.at("model", 1.5 - 0.43 + 0.86 / len(weights) / 2, -2.5))
    tip = shown.assert_until(lambda: shown.data("tip", "text"), bool)[0]
    assert "Layer 2 · Head 1" in tip
    assert f"weight {weights[len(weights) // 2, 0] * 100:.2f} %" in tip
    shown.page.mouse.click(*shown.at("model", 1.5, -2.5))
    shown.assert_until(lambda: shown.page.url, lambda url: f"view=head&layer=2&head=1&token={token}" in url)
    shown.assert_until(lambda: shown.text("h1"), lambda text: text == "Layer 2 · Head 1")


def test_neurons_show_the_run_s_numbers_and_colour_the_map(shown, server, text_run):
    token = text_run.token_slice(SEQUENCE).start + 3
    shown.open(f"{server}?run=text&map=pca&view=neuron&layer=1&head=2&token={token}")
    seen = read_query(text_run, 1, 2, token)
    places = seen.strongest(12)

    def agrees(key):
        pair = seen.pair(int(key))
        shown.assert_until(lambda: shown.text(".steps"), lambda text: f"{pair.dot:.4f}" in text)
        assert f"{pair.weight * 100:.2f} %" in shown.text(".steps")
        values = np.concatenate([pair.query, pair.key, pair.product]).reshape(3, -1)[:, pair.order("contribution")]
        np.testing.assert_allclose(shown.data("neuron-bars", "value"), values.ravel(), atol=1e-6)
        assert shown.data("neuron-sum", "value")[-1] == pytest.approx(pair.dot, abs=1e-6)

    agrees(seen.points.key[places[0]])
    keys = shown.page.get_by_role("group", name="Keys").get_by_role("button")
    assert keys.count() == min(12, len(places))
    assert (
        keys.locator("bdi.name").count() == keys.count()
    )  # a token that runs from right to left turns nothing beside it
    keys.nth(1).click()
    agrees(seen.points.key[places[1]])
    shown.page.get_by_role("group", name="Queries").get_by_role("button").nth(2).click()
    shown.assert_until(lambda: shown.page.url, lambda url: f"token={token - 1}" in url)
    seen = read_query(text_run, 1, 2, token - 1)
    agrees(seen.points.key[places[1]])
    shown.page.get_by_role("button", name="By dimension", exact=True).click()
    first = seen.query
    shown.assert_until(
        lambda: shown.data("neuron-bars", "value")[: len(first)], lambda values: np.allclose(values, first)
    )
    shown.page.mouse.click(*shown.at("neuron", 5.5, 0))
    shown.page.get_by_role("button", name="Colour the map by dimension 5").click()
    shown.assert_until(lambda: shown.page.url, lambda url: "color=dimension%3A5" in url and "view=head" in url)
    colour = shown.page.get_by_label("Colour", exact=True)
    assert colour.evaluate("(list) => list.selectedOptions[0].textContent") == "Dimension 5"
    shown.assert_until(lambda: shown.text(".legend"), lambda text: re.search(r"≤ −.*0.*≥ ", text))
    shown.painted("dots")


def test_hostile_tokens_are_buttons_with_text(shown, server, runs):
    run = RunDirectory(runs["hostile"])
    token = int(np.flatnonzero(run.tokens["text"].str.startswith("<img"))[0])
    shown.open(f"{server}?run=hostile&map=pca&view=neuron&token={token}")
    shown.assert_until(lambda: shown.text(".query-and-key"), lambda text: "<img" in text)
    names = shown.page.get_by_role("group", name="Queries").get_by_role("button").all_inner_texts()
    assert any("<" in name for name in names)
    assert shown.page.evaluate("window.hacked") is None
