"""One server with some small runs, one browser; every test gets a page of its own and reads back what it shows."""

import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import attnviz
from tests import fakes
from tests.browser.chromium import find_browser

HOSTILE = [
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "\"'&amp;",
    "$$\\frac{1}{2}$$",
    "\x07",
]
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SERVE = """
import sys; from attnviz.explorer import serve; serve(sys.argv[1:], port=0, ready=lambda a: print(a, flush=True))
"""
BUSY = """  # each message takes its time, as Bokeh's own developers do to find what depends on the order of messages
import asyncio
from bokeh.server.views.ws import WSHandler
write = WSHandler.write_message
async def write_slowly(handler, message, *given, **options):
    if isinstance(message, str) and not message.startswith('{"id"'):  # buffers have headers of their own
        await asyncio.sleep(0.02)
    return await write(handler, message, *given, **options)
WSHandler.write_message = write_slowly
"""


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Text, picture, hostile, unmapped and encoder-decoder runs, by name."""
    folder = tmp_path_factory.mktemp("runs")
    made = {"text": fakes.write_fake_run(folder / "text", layers=3, sequences=30)}
    made["picture"] = fakes.write_fake_run(folder / "picture", image=True)
    made["hostile"] = _hostile(folder / "hostile")
    prices = pa.array([Decimal(i) if i % 2 else None for i in range(12)], pa.decimal128(6, 2))
    made["unmapped"] = fakes.write_fake_run(folder / "unmapped", maps=(), label=prices)
    made["pair"] = fakes.write_fake_streams(folder / "pair", "pair")
    made["broken"] = fakes.write_fake_run(folder / "broken")
    (made["broken"] / "maps/umap/layer=1/part-0.parquet").unlink()
    return made


def _hostile(path):
    words, fakes.WORDS = fakes.WORDS, HOSTILE
    try:
        fakes.write_fake_run(path)
    finally:
        fakes.WORDS = words
    table = pq.read_table(path / "sequences.parquet", partitioning=None)
    labels = [f"<script>window.hacked=1</script> {i % 3}" for i in range(table.num_rows)]
    table = table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels))
    pq.write_table(table, path / "sequences.parquet")
    return path


@contextmanager
def serving(runs, *, busy=False, before="", fails=False):
    """Serve run directories in a process of its own, over a busy line or not, after some code; it must end without our error.

    Where it ``fails`` on purpose, it must end with one.
    """
    command = [sys.executable, "-c", before + (BUSY + SERVE if busy else SERVE), *map(str, runs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = f"{process.stdout.readline().strip()}/"
        _wait(address, process)
        yield address
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
    ours = str(Path(attnviz.__file__).parent / "explorer")
    assert (ours in errors) == fails, errors  # tornado's own complaints about closed pages are no matter


@pytest.fixture(scope="session")
def server(runs):
    """Yield the address of an explorer in a process of its own."""
    with serving(runs.values()) as address:
        yield address


def _wait(address, process):
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"the server ended: {process.stderr.read()}")
        try:
            urllib.request.urlopen(f"{address}favicon.ico", timeout=2).close()
        except OSError as error:
            if getattr(error, "code", None) is not None:
                error.close()
                return  # it answers
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def browser():
    """Yield a headless browser."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = find_browser()
    if path is None:
        pytest.fail("There is no browser. `python tests/browser/chromium.py` installs one.")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Shown:
    """A page, and what can be read from it."""

    def __init__(self, page):
        self.page = page
        self.errors = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._local(request.url))
        page.on("websocket", self._listen)
        self._heard = 0.0

    def _local(self, url):
        if not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")):
            self.errors.append(f"asked for {url}")

    def _listen(self, socket):
        for way in ("framesent", "framereceived"):
            socket.on(way, lambda frame: setattr(self, "_heard", time.monotonic()))

    def open(self, address):
        self.page.goto(address)
        self.page.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
        return self

    def data(self, name, column):
        """A column of the data source of this name (the latest made, where there were several)."""
        code = """([name, column]) => {
          const found = [...Bokeh.documents[0]._all_models.values()].filter((m) => m.name === name && m.data)
          if (!found.length) return null
          const data = found[found.length - 1].data
          return Array.from(data instanceof Map ? data.get(column) ?? [] : data[column] ?? [])
        }"""
        return self.page.evaluate(code, [name, column])

    def assert_until(self, read, wanted, seconds=20):
        """Read until ``wanted(value)`` holds, and return the value."""
        end = time.monotonic() + seconds
        while not wanted(value := read()):
            assert time.monotonic() < end, f"last seen: {json.dumps(value, default=str)[:600]}"
            self.page.wait_for_timeout(60)
        return value

    def rest(self):
        """Wait until all that was done is answered and drawn: the line is still, and the page waits for nothing.

        The page asks the server 90 ms after a change whether it has drawn, and shows after 150 ms that it waits.
        """
        self.page.wait_for_timeout(60)  # so long Panel holds a change back
        signs = self.page.locator(".loading, .drawing")

        def still():
            return time.monotonic() - self._heard > 0.25 and signs.evaluate_all("(all) => all.every((e) => e.hidden)")

        self.assert_until(still, bool)

    def goes_to(self, words):
        """Wait until the address has these words, and return it."""
        return self.assert_until(lambda: self.page.url, lambda address: words in address)

    def painted(self, name):
        """Wait until a raster or marks of this name have arrived."""
        return self.assert_until(lambda: self.data(name, "x"), bool)

    def at(self, figure, x, y):
        """Where a place of a figure lies on the page."""
        code = """([name, x, y]) => {
          const seek = (views) => { for (const v of views) { if (v.model.name === name) return v
            const inner = seek(v.child_views ?? []); if (inner) return inner } }
          const view = seek(Object.values(Bokeh.index.roots ?? Bokeh.index))
          const box = view.canvas_view.el.getBoundingClientRect()
          const frame = view.frame
          return [box.x + frame.x_scale.compute(x), box.y + frame.y_scale.compute(y)]
        }"""
        return self.page.evaluate(code, [figure, float(x), float(y)])

    def text(self, selector):
        """The visible text of an element and of the shadow roots inside it."""
        code = """(element) => {
          const read = (node) => node.nodeType === 3 ? node.textContent : ['STYLE', 'SCRIPT'].includes(node.tagName) ? ''
            : [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].map(read).join('')
          return read(element)
        }"""
        return self.page.locator(selector).first.evaluate(code)


@pytest.fixture(scope="session")
def desk(browser):
    """Yield what pages share: a desktop's size, and the compiled scripts, which cost each page of its own 1.2 s of a core."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script("localStorage.setItem('attnviz-hint', 'seen')")  # no card for a first visit
    yield context
    context.close()


@pytest.fixture
def shown(desk):
    """Yield a page of desktop size; at the end it must have had no error and asked for nothing beyond this machine."""
    shown = Shown(desk.new_page())
    yield shown
    for page in desk.pages:
        page.close()
    assert shown.errors == []
