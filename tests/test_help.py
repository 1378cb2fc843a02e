"""Help, keys and looks, without a browser."""

import numpy as np
import pytest

from tests.fakes import write_fake_run

pytest.importorskip("panel")

import pandas as pd
import panel as pn

from attnviz.explorer import Explorer, State, library
from attnviz.explorer.help import SHORTCUTS, VIEW_HELP, help_sections
from attnviz.explorer.marks import MOST_LINES, line_data, lines_left
from attnviz.explorer.tables import plain_table
from attnviz.plots.theme import THEMES


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_fake_run(tmp_path_factory.mktemp("help") / "run", layers=2, sequences=60)


@pytest.fixture
def state(path):
    return State(library.open_runs([path]))


def controls(viewable):
    """Everything on a page that is made from a parameter of the state."""
    for item in viewable.select():
        if hasattr(item, "description") or type(item).__name__ in ("Tick", "Segments", "Press"):
            yield item


def test_every_view_has_help_and_every_control_in_it_a_sentence(state):
    for view in state.param.view.objects.values():
        state.view = view
        sections = help_sections(state)
        rows = [row for _, rows in sections for row in rows]
        assert VIEW_HELP[view].shows in [said for _, said in rows]
        assert [row for row in rows if not row[1].strip().endswith(".")] == []
    assert {"?", "/", "t"} <= {keys for keys, _ in SHORTCUTS}


def test_every_control_on_the_page_is_named_and_explained(path):
    explorer = Explorer([path])
    explorer.state.view = "head"
    found = list(controls(explorer.__panel__()))
    assert len(found) > 30
    for item in found:
        if isinstance(item, pn.widgets.FileDownload):
            continue
        assert item.label or getattr(item, "text", ""), item
        assert item.description, item


def test_keys_do_what_the_help_says(path):
    explorer = Explorer([path])
    state = explorer.state
    views = list(state.param.view.objects.values())
    for number, view in enumerate(views, 1):
        explorer._press(str(number))
        assert state.view == view
    explorer._press("2")
    for key, drag in (("b", "box"), ("l", "lasso"), ("m", "move")):
        explorer._press(key)
        assert state.drag == drag
    explorer._press("t")
    assert state.theme == "dark"
    state.select(3)
    explorer._press("Escape")
    assert (state.token, state.view) == (None, "head")
    explorer._views["head"].fit = lambda: state.param.update(top_k=7)
    explorer._press("0")
    assert state.top_k == 7
    for key in ("9", "8" * 5000, "x", "", "Enter", "²"):
        explorer._press(key)  # a message of the browser may be anything
    assert state.view == "head"


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("theme", THEMES.values(), ids=lambda theme: theme.name)
@pytest.mark.parametrize("ink", ["ink", "muted", "faint", "accent"])
def test_text_stands_out_against_every_ground(theme, ink):
    for ground in (theme.page, theme.surface, theme.raised):
        low, high = sorted((luminance(getattr(theme, ink)), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_lines_that_are_left_out_are_spoken_of(state):
    run = state.directory
    state.param.update(view="head", layer=1, head=0, top_k=50, threshold=0.0)
    placed = library.wall(run, "pca").points[0]
    assert lines_left(state) == ""
    state.choose(np.arange(5))
    assert lines_left(state) == ""
    state.choose(np.arange(2 * run.num_tokens))
    sentence = lines_left(state)
    assert "from the first 40 of 60 sequences" in sentence
    drawn = len(line_data(state, placed)["x0"])
    assert drawn == MOST_LINES
    assert f"the {MOST_LINES:,} strongest of " in sentence
    lengths = run.sequences["num_tokens"].to_numpy()[:40]
    pairs = int((lengths * (lengths + 1) / 2).sum())  # causal: the others have no weight
    every = int((lengths**2).sum())
    count = int(sentence.split("strongest of ")[1].split(", from")[0].replace(",", ""))
    assert 2 * pairs <= count <= 2 * every


def test_a_table_gives_each_column_what_it_needs_and_the_text_the_rest():
    frame = pd.DataFrame({"#": range(3), "<b>.x": ["a"] * 3, "Text": ["word " * 40] * 3, "long": ["y" * 300] * 3})
    table = plain_table(frame, lambda event: None, stretch="Text", least=180, page_size=5, place="tall")
    assert set(table.widths) == {"c0", "c1", "c3"}
    assert table.widths["c0"] < table.widths["c1"] < table.widths["c3"] < 200
    assert table.titles["c1"] == "&lt;b&gt;.x"
    columns = {column["field"]: column for column in table._configuration["columns"]}
    assert columns["c2"]["minWidth"] == 180
    assert "responsiveLayout" not in table._configuration  # no column is left out: the table scrolls
