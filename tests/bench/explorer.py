"""How fast the explorer answers, on the server and in headless Chromium, at sizes that the peers cannot open.

    python tests/bench/explorer.py

Synthetic runs of 12 × 12 and 32 × 32 heads with 20,000 points each, and of one head with 10 million, written through the real
writers. On the server: from a change of the state to the new image, for zooms and moves, colours and searches in turn. In the
browser: from the wheel's turn, the choice in the list or the Enter key to the second frame after the new image has arrived, so
encoding, websocket, decoding and painting (in software) are counted. p95 over all of them, after each kind was done once:
a colour that differs between heads is read from the disk the first time, which is told beside it.

The first picture is timed from the navigation's start, on a server that has been asked before. Memory is the growth of the
server's resident size for each of eight further pages on the large wall, all open; and over 150 switches of heads after 50.
The raster is timed against Datashader's sums of the same points in turn, which it replaced (attnviz/plots/raster.py).
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import datashader as ds
import numpy as np
import pandas as pd
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from attnviz.explorer import Explorer  # noqa: E402
from attnviz.explorer.state import State  # noqa: E402
from attnviz.plots.raster import Layer, Window, draw, warm  # noqa: E402
from attnviz.store import RunDirectory  # noqa: E402
from tests import fakes  # noqa: E402
from tests.browser.chromium import find_browser  # noqa: E402
from tests.browser.conftest import ARGUMENTS  # noqa: E402

RUNS = {"grid144": (12, 12, 1_053), "grid1024": (32, 32, 1_053), "head10m": (1, 1, 526_500)}
COLORS = ("position", "norm", "data:label", "kind")
WORDS = ("cat", "birds", "the", "")
SIZE = (1_150, 760)
WATCH = """
(() => {
  const shown = () => {
    if (!window.Bokeh || !Bokeh.documents.length) return []
    return [...Bokeh.documents[0]._all_models.values()].filter((m) => /^(wall|head)-image$/.test(m.name) && m.data)
  }
  const filled = (source) => (source.data instanceof Map ? source.data.get('image') : source.data.image)?.[0]
  let seen = null  // the first image may be of a size that the style sheet changes: the last one counts
  const frame = () => {
    const image = shown().map(filled).find(Boolean)
    if (image && image !== seen) [seen, window.first] = [image, performance.now()]
    if (!window.first || performance.now() < window.first + 1000) requestAnimationFrame(frame)
  }
  requestAnimationFrame(frame)
  for (const kind of ['wheel', 'input', 'keydown', 'pointerdown'])
    document.addEventListener(kind, () => { window.began = performance.now() }, true)
  window.awaited = (changed) => { window.answer = new Promise((done) => changed(() =>
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - window.began))))) }
  window.image = () => window.awaited((done) => {
    for (const source of shown()) {
      const told = () => { source.change.disconnect(told); if (filled(source)) done() }
      source.change.connect(told)
    }
  })
  window.sentence = (pattern) => {  // the words beside the point, and the lines of its sentence: both have to be new
    const models = [...Bokeh.documents[0]._all_models.values()]
    const read = () => models.map((m) => m.text ?? '').filter((t) => pattern.test(t)).join()
    const lines = () => models.filter((m) => m.name === 'weights').map((m) => m.data)
    const was = {words: read(), lines: lines()}
    window.awaited((done) => {
      const told = () => {
        const words = read(), late = lines().every((data, i) => data === was.lines[i])
        words && words !== was.words && !late ? done() : requestAnimationFrame(told)
      }
      told()
    })
  }
})()
"""


def main() -> None:
    """Print every measurement, and the line of results."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for name, (layers, heads, sequences) in RUNS.items():
            size = {"layers": layers, "heads": heads, "sequences": sequences, "head_dim": 4}
            runs[name] = fakes.write_fake_run(Path(folder) / name, maps=("umap",), **size)
        result = against_datashader() | on_the_server(runs) | in_the_browser(runs)
    names = (
        "first_ms grid144_server_p95_ms grid144_browser_p95_ms grid1024_server_p95_ms grid1024_browser_p95_ms".split()
    )
    names += ["head10m_ms", "click_ms", "session_mb"]
    print("RESULT", json.dumps({name: round(result[name], 1) for name in names}))


def against_datashader() -> dict[str, float]:
    """Return nothing; print the raster's time against the same sums by Datashader, in turn."""
    warm()
    rng = np.random.default_rng(0)
    for layers, heads, points in ((12, 12, 20_000), (32, 32, 20_000), (1, 1, 10_000_000)):
        places = (rng.standard_normal((layers * heads, points, 2), np.float32) * 0.12).clip(-0.46, 0.46)
        centers = np.stack(np.meshgrid(np.arange(heads), -np.arange(layers)), -1).reshape(-1, 2).astype(np.float32)
        codes, table = rng.integers(0, 26, (1, points), np.uint8), rng.random((26, 3), np.float32)
        layer = Layer(np.arange(points, dtype=np.int32), codes, table)
        window, tiles = (
            Window(-0.5, heads - 0.5, 0.5 - layers, 0.5, *SIZE),
            np.arange(layers * heads, dtype=np.int32),
        )
        ways = {
            "ours": lambda: draw(places, centers, tiles=tiles, window=window, layers=[layer]),  # noqa: B023
            "datashader": lambda: datashader_sums(places, centers, table[codes[0]], window),  # noqa: B023
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(6):
            for name, way in ways.items():
                spent[name].append(seconds(way))
        ours, theirs = (1000 * median(spent[name][1:]) for name in ways)
        print(f"raster of {layers * heads} x {points:,}: {ours:.0f} ms, Datashader {theirs:.0f} ms", flush=True)
    return {}


def datashader_sums(places: np.ndarray, centers: np.ndarray, colors: np.ndarray, window: Window) -> None:
    """Sum the colours of all points on each pixel, without shading them."""
    frame = pd.DataFrame({axis: (places[:, :, i] + centers[:, None, i]).ravel() for i, axis in enumerate("xy")})
    for channel, name in enumerate(("red", "green", "blue")):
        frame[name] = np.broadcast_to(colors[:, channel], places.shape[:2]).ravel()
    sums = ds.summary(red=ds.sum("red"), green=ds.sum("green"), blue=ds.sum("blue"), count=ds.count("red"))
    canvas = ds.Canvas(window.width, window.height, (window.x0, window.x1), (window.y0, window.y1))
    canvas.points(frame, "x", "y", sums)


def seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def told(name: str, spent: list[float]) -> float:
    """Print the median and the 95th percentile of some seconds; return the latter in ms."""
    middle, most = 1000 * median(spent), 1000 * float(np.quantile(spent, 0.95))
    print(f"{name}: median {middle:.0f} ms, p95 {most:.0f} ms of {len(spent)}", flush=True)
    return most


def on_the_server(runs: dict[str, Path]) -> dict[str, float]:
    """Return the 95th percentiles from a change to the new image, in ms."""
    result = {}
    for name in ("grid144", "grid1024"):
        state, zoom = opened(runs[name], "all")
        first = {color: seconds(lambda: state.param.update(color=color)) for color in COLORS}  # noqa: B023
        print(f"{name}, colours for the first time:", {color: f"{s:.2f} s" for color, s in first.items()})
        result[f"{name}_server_p95_ms"] = told(f"{name} on the server", changes(state, zoom))
    state, zoom = opened(runs["head10m"], "head")
    spent = [seconds(lambda: zoom(1 - 0.02 * i)) for i in range(21)]  # noqa: B023
    told("one head of 10 M points on the server", spent[1:])
    result["head10m_ms"] = 1000 * median(spent[1:])
    return result


def opened(path: Path, view: str) -> tuple[State, Callable[[float], None]]:
    """Open a run without a browser; return its state, and what draws a window of a part of its width."""
    explorer = Explorer([RunDirectory(path)])
    state = explorer.state
    state.view = view
    shown = explorer._views[view]
    x0, x1, y0, y1 = shown._figure.home

    def zoom(part: float) -> None:
        shown._wires.window = Window(x0, x0 + part * (x1 - x0), y1 - part * (y1 - y0), y1, *SIZE)
        shown._draw(shown._wires.window)

    zoom(1.0)
    return state, zoom


def changes(state: State, zoom: Callable[[float], None]) -> list[float]:
    """Zoom and move, colour and search, ten rounds after the first."""
    spent = []
    for turn in range(10):
        spent += [seconds(lambda: zoom(1 - 0.04 * i)) for i in range(len(COLORS))]  # noqa: B023
        spent += [seconds(lambda: state.param.update(color=color)) for color in COLORS]  # noqa: B023
        spent += [seconds(lambda: state.param.update(search=word)) for word in WORDS[turn % 2 :]]  # noqa: B023
    return spent


@contextmanager
def served(runs: dict[str, Path]):
    """Serve some runs in a process of its own; yield its address and its number."""
    program = "import sys; from attnviz.explorer import serve; serve(sys.argv[1:], port=0, ready=lambda a: print(a, flush=True))"
    command = [sys.executable, "-c", program, *map(str, runs.values())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            yield next(iter(server.stdout)).strip(), server.pid
        finally:
            server.terminate()


def in_the_browser(runs: dict[str, Path]) -> dict[str, float]:
    """Return what a reader waits for, in ms, and what a page costs, in MB."""
    result = {}
    with served(runs) as (address, process), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)

        def visit(run: str, **state: object) -> Page:
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            page.add_init_script(WATCH)
            page.goto(f"{address}/?{urlencode({'run': run, **state})}")
            page.wait_for_function("window.first && Bokeh.documents[0].is_idle", timeout=120_000)
            page.wait_for_function("performance.now() > window.first + 1000")
            return page

        for run in ("grid144", "grid1024"):
            visit(run).context.close()  # reads the run
            firsts = []
            for _ in range(5):
                page = visit(run)
                firsts.append(page.evaluate("window.first") / 1000)
                page.context.close()
            told(f"{run}, first picture", firsts)
            result["first_ms"] = max(result.get("first_ms", 0), 1000 * median(firsts))
            page = visit(run)
            result[f"{run}_browser_p95_ms"] = told(f"{run} in the browser", handled(page))
            page.context.close()
        page = visit("head10m", view="head")
        told("one head of 10 M points in the browser", [wheel(page, -60) for _ in range(12)][2:])
        page.context.close()
        page = visit("grid144", view="head", layer=3, head=4)
        told("click on a point while another is chosen", clicks(page, clear=False))
        spent = clicks(page, clear=True)
        told("click on a point, with nothing chosen", spent)
        result["click_ms"] = 1000 * median(spent)
        switches(page, process)
        page.context.close()
        result["session_mb"] = sessions(lambda: visit("grid1024"), process)
        browser.close()
    return result


def answered(page: Page) -> float:
    return page.evaluate("window.answer") / 1000


def wheel(page: Page, delta: float) -> float:
    """Turn the wheel over the figure; return the seconds to the new picture."""
    page.mouse.move(760, 420)
    page.wait_for_timeout(150)
    page.evaluate("window.image()")
    page.mouse.wheel(0, delta)
    return answered(page)


def handled(page: Page) -> list[float]:
    """Do what a reader does, and return the seconds until each is seen."""
    color, seek = page.get_by_label("Colour", exact=True), page.get_by_label("Search", exact=True)

    def choose(value: str) -> float:
        page.evaluate("window.image()")
        color.select_option(value)
        return answered(page)

    def search(word: str) -> float:
        seek.fill(word)
        page.evaluate("window.image()")
        seek.press("Enter")
        return answered(page)

    titles = [page.evaluate("([e, n]) => e.options[n].value", [color.element_handle(), n]) for n in (4, 1, 5, 0)]
    spent = []
    for turn in range(6):
        done = [wheel(page, -40), wheel(page, 40)] + [choose(t) for t in titles] + [search(w) for w in WORDS]
        spent += done if turn else []
    return spent


def clicks(page: Page, *, clear: bool) -> list[float]:
    """Click points of a head; return the seconds until their sentences are drawn beside the map, with their weights in words."""
    spent = []
    for turn in range(12):
        x, y = 700 + 13 * turn, 420 + 7 * turn
        page.mouse.move(x, y)
        page.wait_for_timeout(300)
        if (seconds := click(page, x, y)) is not None:
            spent.append(seconds)
        if clear:
            page.keyboard.press("Escape")
            page.wait_for_timeout(400)
    return spent[2:]


def click(page: Page, x: int, y: int) -> float | None:
    """Return the seconds to the new sentence, or None where the click met no other point."""
    page.evaluate("window.sentence(/This (query|key) (attends to|is attended)/)")
    page.mouse.click(x, y)
    late = page.evaluate("Promise.race([window.answer, new Promise((done) => setTimeout(done, 3000))])")
    return None if late is None else late / 1000


def resident(process: int) -> float:
    """Return the resident size of a process in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


def sessions(visit: Callable[[], Page], process: int, count: int = 8) -> float:
    """Return by how many MB the server grows for each page that is opened beside others."""
    first = visit()
    before = resident(process)
    pages = [visit() for _ in range(count)]
    grown = (resident(process) - before) / count
    print(f"each further page on 1,024 heads: {grown:.1f} MB", flush=True)
    for page in (first, *pages):
        page.context.close()
    return grown


def switches(page: Page, process: int) -> None:
    """Print what 150 switches of heads leave behind, after 50."""
    count = "Bokeh.documents[0]._all_models.size"
    seen = []
    for turn in range(201):
        if turn in (50, 200):
            page.wait_for_timeout(1000)
            seen.append((resident(process), page.evaluate(count)))
        page.evaluate("window.image()")
        page.keyboard.press("ArrowRight" if turn % 20 < 10 else "ArrowLeft")
        page.evaluate("Promise.race([window.answer, new Promise((done) => setTimeout(done, 1500))])")
    (before, models), (after, more) = seen
    print(f"150 switches of heads: server {after - before:+.1f} MB, models of the page {more - models:+d}", flush=True)


if __name__ == "__main__":
    main()
