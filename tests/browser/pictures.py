"""Take the README's pictures of the demo runs: ``python tests/browser/pictures.py`` after ``make demo NO_SERVE=1``.

Each picture is an address of the explorer, so it shows what a reader sees who opens that address.
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import find_browser

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "dashboards" / "pictures"
RUNS = ("data/runs/minilm_docs", "data/runs/digits_vit")
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
MINILM = {"run": "minilm_docs", "map": "attention"}
DIGITS = {"run": "digits_vit", "map": "umap"}
TOKEN = {"layer": 2, "head": 0, "token": 1003}
PATCH = {"layer": 2, "head": 1, "token": 1011}
VIEWS = {
    "all": MINILM,
    "head": MINILM | TOKEN,
    "model": MINILM | TOKEN,
    "neuron": MINILM | TOKEN,
    "sentence": MINILM | TOKEN,
    "sequences": MINILM,
    "image": DIGITS | PATCH,
}
"""What each view is shown with, in both themes."""

PICTURES = {
    **{
        f"{view}-{theme}": ({"view": view, "theme": theme, **state}, DESK)
        for view, state in VIEWS.items()
        for theme in ("light", "dark")
    },
    "all-umap": (MINILM | {"map": "umap", "color": "position"}, DESK),
    "all-search": (MINILM | {"search": "array"}, DESK),
    "head-compared": (MINILM | {"view": "head", "compare": "umap"} | TOKEN, DESK),
    "head-digits": (DIGITS | {"view": "head", "color": "data:label"} | PATCH, DESK),
    "sentence-matrix": (MINILM | {"view": "sentence", "sentence_form": "matrix"} | TOKEN, DESK),
    "image-flows": (DIGITS | {"view": "image", "image_show": "flows"} | PATCH, DESK),
    "image-grid": (DIGITS | {"view": "image", "image_form": "grid"} | PATCH, DESK),
    "all-phone": (MINILM, PHONE),
    "head-phone": (MINILM | {"view": "head"} | TOKEN, PHONE),
    "sentence-phone": (MINILM | {"view": "sentence"} | TOKEN, PHONE),
}


def take(page: Page, address: str, name: str) -> None:
    state, size = PICTURES[name]
    page.set_viewport_size(size)
    page.goto(f"{address}/?{urlencode(state)}")
    page.wait_for_function("() => window.Bokeh && Bokeh.documents.length && Bokeh.documents.every(d => d.is_idle)")
    page.wait_for_timeout(4000)  # the raster comes after the page
    page.screenshot(path=FOLDER / f"{name}.png")
    print(FOLDER / f"{name}.png")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    program = [sys.executable, "-u", "-c", "from attnviz.cli import main; main()", "view", *RUNS, "--port", "0"]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = re.search(r"http://\S+", next(iter(server.stdout)))[0]
            with sync_playwright() as playwright:
                options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
                browser = playwright.chromium.launch(executable_path=find_browser(), args=options)
                page = browser.new_page()
                page.add_init_script("localStorage.setItem('attnviz-hint', 'seen')")  # no card for a first visit
                for name in sys.argv[1:] or PICTURES:
                    take(page, address, name)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
