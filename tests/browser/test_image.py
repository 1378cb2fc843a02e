"""The image view in a browser: its numbers are the run's, a click chooses a patch or opens an image, the address restores it."""

import numpy as np
import pytest

from attnviz.plots.image import mark_boxes
from attnviz.store import RunDirectory

SEQUENCE = 4
HEAD = "map=pca&view=image&layer=1&head=2"


@pytest.fixture(scope="module")
def run(runs):
    return RunDirectory(runs["picture"])


def test_a_heat_has_the_run_s_weights_and_a_click_chooses_a_patch(shown, server, run):
    first = run.token_slice(SEQUENCE).start
    weights = run.attention(1, 2, SEQUENCE).weights
    shown.open(f"{server}?run=picture&{HEAD}&sequence={SEQUENCE}").painted("image-heat")
    shown.assert_until(
        lambda: shown.data("image-marks", "text"), lambda text: text == [f"[CLS]\n{weights[0, 0] * 100:.1f} %"]
    )
    shown.page.mouse.move(*shown.at("image", 2.5, -1.5))
    tip = shown.assert_until(lambda: shown.data("tip", "text"), bool)[0]
    assert f"patch 1, 2 · key\nweight {weights[0, 7] * 100:.2f} %\nq·k " in tip
    shown.page.mouse.click(*shown.at("image", 3.5, -0.5))
    shown.assert_until(lambda: shown.page.url, lambda url: f"token={first + 4}" in url)
    said = f"Query patch 0, 3 gives {weights[4, 1:].sum() * 100:.1f} % to patches"
    shown.assert_until(lambda: shown.text(".image-said"), lambda text: said in text)
    assert shown.data("patch-frame", "x") == [3.5]
    picture = shown.page.get_by_role("img").first  # it is named up to 100 ms after the words are there
    shown.assert_until(lambda: picture.get_attribute("aria-label"), lambda label: said in label)
    x, y, *_ = mark_boxes(1, (4, 4))[0]
    shown.page.mouse.move(*shown.at("image", x, y))
    shown.assert_until(lambda: shown.data("tip", "text"), lambda text: text and text[0].startswith("[CLS] · key"))
    shown.page.mouse.click(*shown.at("image", x, y))
    shown.assert_until(lambda: shown.page.url, lambda url: f"token={first}&" in f"{url}&")
    shown.page.get_by_role("button", name="Key", exact=True).click()
    said = f"{weights[0, 0] * 100:.1f} % from itself"
    shown.assert_until(lambda: shown.text(".image-said"), lambda text: "Key [CLS] gets" in text and said in text)
    shown.page.keyboard.press("ArrowLeft")
    shown.assert_until(lambda: shown.text("h1"), lambda text: text == "Layer 1 · Head 1")


@pytest.mark.slow
def test_arrows_are_the_run_s_weights_and_the_address_restores_them(shown, server, run):
    def drawn():
        return shown.assert_until(lambda: shown.data("image-arrows", "x0"), bool)

    weights = run.attention(1, 2, SEQUENCE).weights
    shown.open(f"{server}?run=picture&{HEAD}&sequence={SEQUENCE}").painted("image-heat")
    shown.page.get_by_role("button", name="Flows", exact=True).click()
    drawn()

    def agrees(least):
        numbers = [
            [shown.data(name, column) for column in ("query", "key", "weight")]
            for name in ("image-arrows", "image-rings")
        ]
        query, key, weight = (np.concatenate(columns) for columns in zip(*numbers, strict=True))
        np.testing.assert_allclose(weight, weights[query.astype(int), key.astype(int)], atol=1e-6)
        assert len(weight) == np.count_nonzero(weights >= least)
        left = 1 - weights[weights >= least].sum() / weights.sum()
        assert f"not drawn: {left * 100:.1f} %" in shown.text(".image-said")

    agrees(0.1)
    field = shown.page.get_by_role("textbox", name="Least weight")
    field.fill("0.2")
    field.press("Enter")
    shown.assert_until(lambda: shown.text(".image-said"), lambda text: "of at least 20 %" in text)
    shown.assert_until(lambda: shown.page.url, lambda url: "image_least=0.2" in url)
    agrees(0.2)
    shown.open(shown.page.url)
    drawn()
    agrees(0.2)
    shown.page.get_by_role("button", name="Strongest", exact=True).click()
    shown.assert_until(lambda: shown.text(".image-said"), lambda text: "strongest key" in text)
    ends = dict(zip(shown.data("image-arrows", "query"), shown.data("image-arrows", "key"), strict=True))
    ends |= dict(zip(shown.data("image-rings", "query"), shown.data("image-rings", "key"), strict=True))
    assert ends == {patch: weights[patch].argmax() for patch in range(1, 17)}


def test_the_grid_opens_an_image(shown, server, run):
    shown.open(f"{server}?run=picture&{HEAD}").painted("image-heat")
    shown.page.get_by_role("button", name="Grid", exact=True).click()
    names = shown.assert_until(
        lambda: shown.data("grid-names", "text"), lambda names: names and len(names) == 12 and names[5]
    )
    assert names[5] == "5 · label 2"
    shown.rest()  # it is laid out for the canvas once its size is known
    x, y, wide, high = (shown.data("grid-heats", column)[5] for column in ("x", "y", "dw", "dh"))
    shown.page.mouse.move(*shown.at("image-grid", x + 0.1 * wide, y + 0.9 * high))
    weight = run.attention(1, 2, 5).weights[0, 1]
    tip = shown.assert_until(lambda: shown.data("tip", "text"), bool)[0]
    assert f"patch 0, 0: {weight * 100:.2f} %" in tip
    shown.page.mouse.click(*shown.at("image-grid", x + wide / 2, y + high / 2))
    shown.assert_until(lambda: shown.page.url, lambda url: "sequence=5" in url and "image_form" not in url)
    shown.assert_until(lambda: shown.text(".title"), lambda text: "Image of sequence 5" in text)


@pytest.mark.slow
def test_a_text_run_does_not_offer_images(shown, server):
    shown.open(f"{server}?run=text&map=pca&view=image&layer=2").painted("wall-image")
    tabs = shown.page.get_by_role("tab").all_inner_texts()
    assert "Image" not in tabs
    assert "Sentence" in tabs
    shown.page.get_by_label("Run", exact=True).select_option("picture")
    shown.assert_until(lambda: shown.page.get_by_role("tab").all_inner_texts(), lambda texts: "Image" in texts)
    shown.page.get_by_role("tab", name="Image").click()
    shown.painted("image-heat")
