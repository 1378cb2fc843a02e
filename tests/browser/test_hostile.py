"""A run that means harm, in a browser: nothing of it runs, everything goes on working; and two visitors do not meet."""

import re
from urllib.parse import quote

import pytest

from tests.browser.conftest import Shown, serving
from tests.hostile import write_hostile_run
from tests.pace import some


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory):
    """Yield the address of a server of a text and an image run, all of whose texts are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    runs = [write_hostile_run(folder / name, image=name == "image") for name in ("text", "image")]
    with serving(runs) as address:
        yield address


@pytest.fixture
def visitor(browser):
    """Make pages that tell whether anything of a run became code."""
    contexts, pages, told = [], [], []

    def make(width=1440):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        shown = Shown(context.new_page())
        shown.page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
        pages.append(shown)
        return shown

    yield make
    for shown in pages:
        assert shown.page.evaluate("window.hacked") is None
        assert shown.errors == []
    assert told == []
    for context in contexts:
        context.close()


@pytest.mark.parametrize("number", some([0, 1], 0))
@pytest.mark.parametrize("view", some(["all", "head"], "all"))
def test_nothing_of_a_hostile_run_becomes_code_and_the_page_goes_on(visitor, hostile_server, view, number):
    shown = visitor()
    shown.open(hostile_server)
    run = shown.page.evaluate("""() => [...Bokeh.documents[0]._all_models.values()]
      .filter((m) => m.options?.length === 2 && m.options.flat().some((o) => String(o).includes('window.hacked')))
      .map((m) => m.options.flat())[0]""")
    name = "&run=" + quote(run[number]) if run and len(run[number]) < 200 else ""
    shown.open(f"{hostile_server}?view={view}&layer=1&head=2&token=5&search=%3Cscript{name}")
    shown.assert_until(lambda: shown.data("wall-image" if view == "all" else "sequence", "x"), bool)
    for step in range(6):
        shown.page.mouse.move(600 + 40 * step, 420 + 12 * step)
        shown.page.wait_for_timeout(60)
    assert shown.page.locator("img[src=x], svg[onload]").count() == 0
    if view == "head":
        shown.page.keyboard.press("ArrowLeft")
        shown.assert_until(lambda: shown.page.url, lambda url: "head=1" in url)
    width = shown.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 1440  # a name of 5,000 characters pushes nothing off the page


def test_a_saved_page_of_a_hostile_head_runs_none_of_it(visitor, hostile_server, tmp_path):
    shown = visitor()
    shown.open(f"{hostile_server}?view=head&layer=1&head=2&token=5")
    shown.assert_until(lambda: shown.data("sequence", "x"), bool)
    shown.page.get_by_text("Save", exact=True).click()
    for what in ("Page of this head", "Page of this sequence"):
        with shown.page.expect_download() as waiting:
            shown.page.get_by_role("button", name=what).click()
        file = tmp_path / "saved.html"
        waiting.value.save_as(file)
        assert re.fullmatch(r"[\w.-]+\.html", waiting.value.suggested_filename)
        saved = visitor()
        saved._local = lambda url: None
        saved.page.goto(file.as_uri())
        saved.page.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
        saved.errors[:] = [error for error in saved.errors if not error.startswith("asked for file:")]


def test_two_visitors_do_not_see_each_other(visitor, server):
    one, other = visitor(), visitor()
    one.open(f"{server}?run=text&map=pca&view=head&layer=1&head=2").painted("dots")
    other.open(f"{server}?run=picture&map=umap").painted("wall-image")
    before = other.page.url
    one.page.keyboard.press("ArrowRight")
    one.assert_until(lambda: one.page.url, lambda url: "head=3" in url)
    other.page.wait_for_timeout(500)
    assert other.page.url == before
    assert "picture" in other.text(".brand")
    assert "text" in one.text(".brand")
