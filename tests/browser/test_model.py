"""The model view in a browser: keys and clicks on its tiles, and only some layers and heads."""

import pytest


def test_keys_and_clicks_open_heads(shown, server):
    shown.open(f"{server}?run=text&view=model&only_heads=1-3").painted("model-image")
    shown.page.keyboard.press("ArrowRight")
    tip = shown.assert_until(lambda: shown.data("tip", "text"), bool)[0]
    assert tip.startswith("Layer 0 · Head 1")
    shown.page.keyboard.press("ArrowDown")
    shown.assert_until(lambda: shown.data("tip", "text"), lambda text: text and text[0].startswith("Layer 1 · Head 1"))
    shown.page.keyboard.press("Enter")
    shown.assert_until(lambda: shown.page.url, lambda url: "view=head" in url and "layer=1" in url and "head=1" in url)
    shown.page.get_by_role("tab", name="Model").focus()
    shown.page.keyboard.press("Enter")  # on a control, Enter presses it
    shown.assert_until(lambda: shown.page.url, lambda url: "view=model" in url)
    shown.painted("model-image")
    shown.rest()  # the figure is laid out again
    shown.page.mouse.click(*shown.at("model", 2.5, -0.5))
    shown.assert_until(lambda: shown.page.url, lambda url: "view=head" in url and "layer=0" in url and "head=3" in url)
    assert shown.errors == []


@pytest.mark.slow
def test_fields_of_the_side_bar_choose_layers_and_heads(shown, server):
    shown.open(f"{server}?run=text&view=model").painted("model-image")
    shown.page.get_by_label("Layers", exact=True).fill("1")
    shown.page.keyboard.press("Enter")
    shown.assert_until(lambda: shown.page.url, lambda url: "only_layers=1" in url)
    shown.assert_until(lambda: shown.text(".summary"), lambda text: text.startswith("4 of "))
