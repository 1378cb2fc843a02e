"""In a notebook each view is one line: what it returns shows itself, needs no server, and saves itself."""

import re
import subprocess
import sys
from html import unescape

import panel as pn
import pytest
from bokeh.models import ImportedStyleSheet

import attnviz
from attnviz.errors import DatasetError
from attnviz.explorer.notebook import framed
from tests import fakes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return attnviz.open(fakes.write_fake_run(tmp_path_factory.mktemp("notebook") / "text"))


@pytest.mark.parametrize("make", [lambda run: run.head(1, 3).view(), lambda run: run.sequence_view(5)])
def test_a_view_shows_itself_in_a_frame_that_cannot_reach_the_notebook(run, make, tmp_path):
    shown = make(run)
    frame = shown._repr_html_()
    assert re.match(r'<iframe sandbox="allow-scripts" ', frame)  # without allow-same-origin
    assert unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == shown.html
    assert shown.save(tmp_path / "view.html").read_text("utf-8") == shown.html
    assert shown.html.startswith("<!DOCTYPE html>")
    assert len(repr(shown)) < 400


def test_the_head_of_an_opened_run_reads_as_before(run):
    head = run.head(1, 3)
    assert head.vectors().query.shape == (run.num_tokens, 8)
    assert len(head.map("pca")) == 2 * run.num_tokens
    with pytest.raises(DatasetError, match="heads 0 to 3"):
        run.head(1, 4)


def test_the_explorer_shows_and_saves_itself(run, tmp_path):
    explorer = run.explore()
    assert callable(explorer._repr_mimebundle_)
    explorer.state.open_head(1, 2)
    assert "Layer 1, head 2" in explorer.save(tmp_path / "now.html").read_text("utf-8")
    explorer.state.view = "all"
    with pytest.raises(DatasetError, match="Open a head first"):
        explorer.save(tmp_path / "now.html")


@pytest.fixture
def shown(run, monkeypatch):
    """The explorer, and what it hands to the notebook."""
    monkeypatch.setattr(pn.config, "console_output", "disable")
    monkeypatch.setattr(pn.config, "inline", False)
    pn.state._views.clear()  # what other tests of this process showed
    explorer = run.explore()
    yield explorer, explorer._repr_mimebundle_()[0]
    pn.state._views.clear()


def addresses(text):
    """The addresses beyond this machine from which a browser would load something."""
    return set(re.findall(r"https?://(?:cdn\.|unpkg|[\w.]*jsdelivr)[^\"'\\\s]*", text))


def test_a_notebook_asks_the_network_for_nothing(shown):
    explorer, bundle = shown
    assert addresses(bundle["text/html"]) == set()
    assert pn.config.inline
    for view in ("head", "sequences", "model", "sentence", "neuron"):
        explorer.state.view = view
    models = [model for _, model, _, _ in pn.state._views.values()]
    sheets = {str(sheet.url) for model in models for sheet in model.select({"type": ImportedStyleSheet})}
    assert sheets
    assert [sheet[:60] for sheet in sheets if not sheet.startswith("data:")] == []


def test_a_saved_notebook_says_what_to_do_without_a_kernel(shown):
    before, note, _ = shown[1]["text/html"].partition("is drawn by the notebook's kernel")
    assert note
    assert "<script" not in before
    assert "text" in before
    for said in ("run this cell again", "run.view()", "attnviz export RUN --to html"):
        assert said in shown[1]["text/html"]
    assert "<b>" not in framed({"text/html": ""}, "<b>x")["text/html"]


def test_the_address_of_a_notebook_is_its_own(shown):
    explorer, _ = shown
    before = pn.state._location.search if pn.state._location else ""
    explorer.state.open_head(1, 2)
    assert (pn.state._location.search if pn.state._location else "") == before
    assert "in-cell" in explorer._root.css_classes
    assert explorer._page.in_cell


def test_opening_a_run_and_asking_for_a_head_loads_no_dashboard(run):
    script = f"import attnviz, sys; attnviz.open({str(run.path)!r}).head(0, 1); print('panel' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
