"""A head, a token or a cell that is not found is a fault that is told: nothing of the first one is drawn in its place.

Each look-up is made to fail by itself. On a page the fault is logged and told; in Python it is raised.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import attnviz
from tests.fakes import write_fake_run

pytest.importorskip("panel")

from bokeh.models import ColumnDataSource

from attnviz.explorer import Explorer
from attnviz.explorer.offline import chosen_state, head_page
from attnviz.explorer.sequence_matrix import MatrixPart
from attnviz.explorer.sequence_numbers import pair_table, side_of
from attnviz.explorer.sequence_reading import read_sequence
from attnviz.views import Exchange, Wall
from attnviz.views.neuron import choose_pair

NO_HEAD = "The wall has no layer 1, head 2"
NO_ROW = "Token 5 has no query here"
WINDOW = {"x0": [-0.6], "x1": [0.6], "y0": [-0.6], "y1": [0.6], "w": [300], "h": [300]}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lookups")
    return {
        "text": write_fake_run(folder / "text", layers=2),
        "image": write_fake_run(folder / "image", layers=2, image=True),
    }


def finds_nothing(monkeypatch, owner, name, where):
    """Let a look-up find nothing where one module asks; elsewhere it finds what is there."""
    whole = getattr(owner, name)

    def asked(self, *given):
        frame = sys._getframe(1)
        while frame.f_code.co_name in ("points_of", "row_of"):
            frame = frame.f_back
        return None if frame.f_globals["__name__"].endswith(where) else whole(self, *given)

    monkeypatch.setattr(owner, name, asked)


PAGES = {  # module that asks: what it asks for, of which run, and what it then says
    ".headmap": (Wall, "index", "text", NO_HEAD),
    ".nearest": (Wall, "index", "text", NO_HEAD),
    ".selection": (Wall, "index", "text", NO_HEAD),
    ".beside": (Exchange, "place", "text", NO_ROW),
    ".sentence": (Exchange, "place", "text", NO_ROW),
    ".picture": (Exchange, "place", "image", NO_ROW),
}


@pytest.mark.parametrize("where", PAGES)
def test_a_page_says_that_it_did_not_find_what_it_shows(paths, where, monkeypatch, caplog):
    owner, name, run, message = PAGES[where]
    explorer = Explorer([paths[run]])
    explorer.state.choose(np.arange(4))
    finds_nothing(monkeypatch, owner, name, where)
    explorer.state.restore("?view=head&layer=1&head=2&token=5")
    raised = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert any(message in text for text in raised)


def test_a_saved_page_does_not_draw_another_head(paths, monkeypatch):
    run = attnviz.open(paths["text"])
    state = chosen_state(run, layer=1, head=2, token=5)
    for owner, name, message in ((Wall, "index", NO_HEAD), (Exchange, "place", NO_ROW)):
        with monkeypatch.context() as patch:
            finds_nothing(patch, owner, name, ".offline")
            with pytest.raises(KeyError, match=message):
                head_page(state)


def test_a_key_without_a_row_gets_no_query_of_another(paths, monkeypatch):
    run = attnviz.open(paths["text"])
    finds_nothing(monkeypatch, Exchange, "place", ".neuron")
    with pytest.raises(KeyError, match="Token 5 has no key here"):
        choose_pair(run, (1, 2), 5, "key", None)


@pytest.fixture
def several(paths):
    """Three heads of a sequence as small matrices."""
    state = Explorer([paths["text"]]).state
    state.restore("?view=sentence&sentence_heads=0-2&sentence_form=matrix&layer=1")
    return SimpleNamespace(state=state, shown=read_sequence(state))


def test_a_place_of_no_row_and_no_column_has_no_numbers(several):
    with pytest.raises(ValueError, match="neither a row nor a column"):
        side_of((None, None))
    with pytest.raises(ValueError, match="neither a row nor a column"):
        pair_table(several.state, several.shown, (None, None))


def test_small_matrices_frame_no_cell_of_the_first_for_want_of_a_number(several):
    part = MatrixPart(several.state, several.shown, ("q", "k"), ["#aa0000"] * 3)
    with pytest.raises(ValueError, match="which of the small matrices"):
        part.frame(1, 2, None, [])
    part.frame(1, 2, 2, [])
    assert "Head 2" in str([source.data for source in part.plot.references() if isinstance(source, ColumnDataSource)])
