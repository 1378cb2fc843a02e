"""As in a notebook: a page of somebody else's, of which the explorer has one cell. Keys, frame, title and background stay there."""

import socket
import subprocess
import sys

import pytest

from attnviz.explorer.notebook import framed
from tests.browser.conftest import _wait

SERVE = """
import sys
import panel as pn
from attnviz.explorer import Explorer
pn.extension("tabulator")
explorer = Explorer(sys.argv[1:2])  # made where no server asks for it, as in a notebook
page = lambda: pn.Column(pn.widgets.TextInput(name="Cell"), explorer, pn.pane.HTML("<p class=below>below</p>", height=900))
pn.serve(page, port=int(sys.argv[2]), show=False, title="a notebook", threaded=False)
"""
KEYS = ["2", "3", "?", "ArrowRight", "t", "m", "/"]


@pytest.fixture(scope="module")
def notebook(runs):
    """Yield the address of a page with an input and an explorer."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        free_port = found.getsockname()[1]
    command = [sys.executable, "-c", SERVE, str(runs["text"]), str(free_port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = f"http://localhost:{free_port}/"
    try:
        _wait(address, process)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=20)


def read(page):
    """What is ours and what is the page's: title of the view, theme, help, box; title, address, history, background."""
    return page.evaluate("""() => {
      const all = function* (root) {
        for (const e of root.querySelectorAll('*')) { yield e; if (e.shadowRoot) yield* all(e.shadowRoot) }
      }
      const find = (selector) => [...all(document)].find((e) => e.matches(selector))
      const box = find('.av').getBoundingClientRect(), style = getComputedStyle(find('.av'))
      return {
        ours: {h1: find('h1')?.textContent, dark: find('.av').classList.contains('dark'), help: find('.help-dialog').open},
        box: {height: box.height, position: style.position, below: find('.below').getBoundingClientRect().y >= box.bottom},
        page: [document.title, location.href, history.length,
          document.body.style.background, document.documentElement.style.background],
      }
    }""")


def test_the_cell_is_the_explorers_and_the_rest_is_not(desk, notebook):
    page = desk.new_page()
    page.goto(notebook)
    page.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
    cell = page.locator(".av").first
    cell.wait_for()
    page.get_by_text("Layers down, heads across").wait_for()
    before = read(page)
    assert before["box"] == {"height": 720, "position": "relative", "below": True}
    assert before["page"][0] == "a notebook"
    assert before["page"][3:] == ["", ""]
    page.get_by_label("Cell").click()
    for key in KEYS:
        page.keyboard.press(key)
    page.keyboard.press("Tab")  # and where nothing is typed into
    page.evaluate("document.activeElement.blur()")
    for key in KEYS:
        page.keyboard.press(key)
    page.wait_for_timeout(600)
    assert read(page) == before
    page.get_by_text("Layers down, heads across").click()
    page.keyboard.press("2")
    page.get_by_text("Layer 0 · Head 0").wait_for()
    page.keyboard.press("?")
    after = read(page)
    assert after["ours"]["help"]
    assert page.evaluate("document.querySelector(':modal')") is None
    assert (after["page"], after["box"]) == (before["page"], before["box"])
    page.keyboard.press("Escape")
    assert not read(page)["ours"]["help"]


def test_without_a_kernel_the_note_is_what_is_seen(desk):
    page = desk.new_page()
    page.set_content(framed({"text/html": "<div style='height: 300px'>a dead picture</div>"}, "mine")["text/html"])
    assert page.get_by_text("run this cell again").is_visible()
    box = page.get_by_text("a dead picture").bounding_box()
    top = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).closest('.attnviz-note') != null", [box["x"] + 9, box["y"] + 200]
    )
    assert top
