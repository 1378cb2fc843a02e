"""Whatever a run holds is shown as text, and whatever it lacks is a sentence: never code that runs, never a traceback."""

import re
from html.parser import HTMLParser

import panel as pn
import pytest
from click.testing import CliRunner

import attnviz
from attnviz.cli import cli
from attnviz.errors import AttnvizError, DatasetError
from attnviz.explorer import Explorer
from attnviz.explorer.app import VIEWS
from attnviz.plots.raster import Window
from attnviz.views import colorings
from tests import fakes
from tests.hostile import FLAG, TEXTS, pieces, without, write_hostile_run

KNOWN = {"p", "span", "b", "i", "em", "div", "h1", "h2", "h3", "br", "table", "tr", "td", "th", "thead", "tbody"}
KNOWN |= {"button", "label", "kbd", "dl", "dt", "dd", "ul", "ol", "li", "a", "strong", "small", "code", "mark", "hr"}


class Elements(HTMLParser):
    """Collects what a browser would make of a text."""

    def __init__(self):
        super().__init__()
        self.bad = []

    def handle_starttag(self, tag, attributes):
        named = [
            name for name, value in attributes if name.startswith("on") or (FLAG in (value or "") and name != "title")
        ]
        if tag not in KNOWN or named:
            self.bad.append((tag, attributes))


def bad_elements(html):
    found = Elements()
    found.feed(html)
    return found.bad


def written_html(explorer):
    """Everything that the explorer gives a browser as HTML."""
    page = explorer.__panel__()
    for pane in page.select(pn.pane.HTML):
        yield str(pane.object or "")
    for pane in page.select(pn.pane.Markdown):
        pytest.fail(f"Markdown shows {pane.object!r}: it makes HTML of what looks like HTML")


@pytest.fixture(scope="module", params=["text", "image"])
def hostile(request, tmp_path_factory):
    return write_hostile_run(tmp_path_factory.mktemp("hostile") / "run", image=request.param == "image")


def draw(shown):
    if shown._wires is not None:
        shown._wires.window = Window(-0.6, 0.6, -0.6, 0.6, 300, 300)
        shown._draw(shown._wires.window)


@pytest.mark.parametrize("view", VIEWS)
def test_every_text_of_a_run_is_shown_as_text(hostile, view):
    explorer = Explorer([hostile])
    state = explorer.state
    state.restore(f"?view={view}&layer=1&head=2&token=3&search=%3Cscript%3E")
    for color in list(colorings(state.directory))[-4:]:  # hostile columns
        state.color = color
        draw(explorer._views[view])
        state.select(7, "key")
        for html in written_html(explorer):
            assert bad_elements(html) == []
        assert state.problem == ""


def test_titles_and_sentences_of_a_run_stay_short(hostile):
    explorer = Explorer([hostile])
    explorer.state.restore("?view=head&layer=1&head=2&token=3")
    for html in written_html(explorer):
        assert not re.search(r"(long){20}|n{200}|m{200}", re.sub(r'title="[^"]*"', "", html)), html[:300]


def test_pages_to_keep_hold_hostile_texts_as_data(hostile):
    run = attnviz.open(hostile)
    for page in (run.head(1, 2).view(token=3, color=f"data:{TEXTS[1]}"), run.sequence_view(4)):
        assert page.html.count("</script>") == page.html.count("<script")
        assert bad_elements(re.search(r"<h1>.*</p>", page.html, re.S)[0]) == []
        assert bad_elements(page._repr_html_().replace("<iframe", "<p").replace("srcdoc", "title")) == []
        assert len(page.html.encode()) < 5_000_000


def test_the_command_line_shows_hostile_names(hostile, tmp_path):
    for command in (["info", str(hostile)], ["export", str(hostile), "--out", str(tmp_path / "x.csv")]):
        done = CliRunner().invoke(cli, command)
        assert done.exception is None or isinstance(done.exception, AttnvizError)


WHOLE = ["text", "image", "pair"]


def look(path):
    """Do everything a visitor does; return the sentences that were shown instead."""
    try:
        explorer = Explorer([path])
    except DatasetError as error:
        return [str(error)]
    state, told = explorer.state, []
    for view in ("all", "head"):
        for address in (f"?view={view}&map=pca", f"?view={view}&map=umap&layer=1&head=1&token=4"):
            state.restore(address)
            for color in ("kind", "neighbors_kept"):
                state.color = color
                told.append(state.problem)
                if not state.problem:
                    try:
                        draw(explorer._views[view])
                    except DatasetError as error:  # what the page's handlers turn into the banner
                        told.append(str(error))
    return [sentence for sentence in told if sentence]


@pytest.mark.parametrize("kind", WHOLE)
def test_a_run_with_any_piece_missing_is_shown_or_refused_with_a_sentence(kind, tmp_path):
    whole = tmp_path / "whole"
    if kind == "pair":
        fakes.write_fake_streams(whole, "pair", sink=True)
    else:
        fakes.write_fake_run(whole, image=kind == "image", maps=("pca", "umap"))
    assert look(whole) == []
    needed = ("manifest.json", "tokens.parquet", "sequences.parquet", "maps/pca/layer")
    for number, piece in enumerate(pieces(whole)):
        told = look(without(whole, piece, tmp_path / f"broken{number}"))
        if str(piece).startswith(needed):
            assert told, f"{piece} is missing and nothing is said"
        for sentence in told:
            assert sentence[-1] in ".`", sentence
            assert "Traceback" not in sentence
