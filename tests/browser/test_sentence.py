"""The sentence view in a browser: squares, pointer, clicks and the address, read back from the page."""

import numpy as np
import pytest

from attnviz.store import RunDirectory
from tests.browser.conftest import Shown


def weights_of(run, layer, heads, sequence):
    return np.stack([run.attention(layer, head, sequence).weights for head in heads])


def shown_lines(shown):
    """The lines as weights; empty while they change between two questions to the page."""
    columns = [shown.data("heads-lines", name) for name in ("head", "query", "key", "alpha")]
    if columns[0] is None or len(set(map(len, columns))) > 1:
        return {}
    return {tuple(map(int, place)): alpha for *place, alpha in zip(*columns, strict=True)}


def wait_for(shown, weights):
    """Wait until exactly these weights are drawn."""
    expected = {tuple(map(int, place)): weights[tuple(place)] for place in np.argwhere(weights >= 0.02)}
    names, wanted = list(expected), np.array(list(expected.values()))

    def drawn(lines):
        return lines.keys() == expected.keys() and np.allclose([lines[name] for name in names], wanted, atol=1e-6)

    shown.assert_until(lambda: shown_lines(shown), drawn)


def test_weights_on_the_page_are_those_of_the_run(shown, server, runs):
    run = RunDirectory(runs["text"])
    shown.open(f"{server}?run=text&view=sentence&layer=1&sequence=4")
    wait_for(shown, weights_of(run, 1, range(4), 4))
    head = shown.page.get_by_role("button", name="Head 2", exact=True)
    head.click()
    wait_for(shown, weights_of(run, 1, (0, 1, 3), 4))
    shown.assert_until(lambda: shown.page.url, lambda url: "sentence_heads=0-1%2C3" in url)
    head.dblclick()
    wait_for(shown, weights_of(run, 1, (2,), 4))
    shown.page.get_by_role("button", name="Next sequence").click()
    wait_for(shown, weights_of(run, 1, (2,), 5))
    shown.assert_until(lambda: shown.page.url, lambda url: "sequence=5" in url and "sentence_heads=2" in url)

    weights = weights_of(run, 1, (2,), 5)
    shown.page.mouse.move(*shown.at("heads-of-sequence", -0.3, -3))
    shown.assert_until(lambda: {place[1] for place in shown_lines(shown)}, lambda rows: rows == {3})
    best = float(weights[0, 3].max())
    shown.assert_until(lambda: shown.text("table.numbers"), lambda text: f"{best * 100:.2f} %" in text)
    shown.page.mouse.click(*shown.at("heads-of-sequence", -0.3, -3))
    first = run.token_slice(5).start
    shown.assert_until(lambda: shown.page.url, lambda url: f"sentence_hidden={first + 3}" in url)

    other = Shown(shown.page.context.new_page()).open(shown.page.url)
    hidden = weights.copy()
    hidden[:, 3] = hidden[:, :, 3] = 0
    hidden /= np.maximum(hidden.sum(axis=2, keepdims=True), 1e-12)
    wait_for(other, hidden.astype(np.float32))
    other.page.get_by_role("button", name="Matrix").click()
    values = other.assert_until(lambda: other.data("matrix-values", "weight"), bool)
    np.testing.assert_allclose(values, hidden.ravel(), atol=1e-6)
    assert other.errors == []


@pytest.mark.slow
def test_a_run_without_maps_has_sentences_and_a_mean(shown, server, runs):
    run = RunDirectory(runs["unmapped"])
    shown.open(f"{server}?run=unmapped&view=sentence&layer=1&sentence_scope=mean&sentence_form=matrix&sentence_heads=3")
    values = shown.assert_until(lambda: shown.data("matrix-values", "weight"), bool)
    first = [run.attention(1, 3, sequence).weights[2, 1] for sequence in range(run.num_sequences)]
    side = int(np.sqrt(len(values)))
    np.testing.assert_allclose(values[2 * side + 1], np.mean(first), atol=1e-6)
    shown.page.mouse.move(*shown.at("matrix", 1.5, -2.5))
    tip = shown.assert_until(lambda: shown.data("tip", "text"), bool)[0]
    assert f"weight: {np.mean(first) * 100:.2f} %" in tip
    assert f"{run.num_sequences} sequences have both positions" in tip
