"""What the explorer shows of a classification head: the class, its probability, the given label; names are never read as HTML."""

import numpy as np
import pytest

import attnviz
from attnviz.store import RunDirectory
from tests import tiny
from tests.fakes import write_fake_run
from tests.test_classes import NAMES, classes_data, classes_finished, classes_model, pictures, recipe_of  # noqa: F401  # fixtures

pytest.importorskip("panel")

from attnviz.explorer import State, library
from attnviz.explorer.class_list import class_line, class_list
from attnviz.explorer.image_view import ImageView
from attnviz.explorer.sequence_view import SentenceView
from attnviz.explorer.sequences_view import SequenceTable


@pytest.fixture
def state(finished):
    return State(library.open_runs([finished.path]))


@pytest.fixture
def neutral(finished):
    """The number of a sequence whose class is written like a tag."""
    return int(np.flatnonzero(finished.sequences["predicted"] == NAMES[1])[0])


def test_the_sentence_view_says_the_class_and_lists_the_classes(state, finished, neutral):
    state.param.update(view="sentence", layer=0, sequence=neutral)
    view = SentenceView(state)
    chances = finished.class_probabilities().iloc[neutral].sort_values(ascending=False)
    _, rest = view.heading()
    assert rest.startswith(
        f"Predicted <b>neutral</b> ({chances.iloc[0] * 100:.1f} %), given {NAMES[neutral % 3]}. Queries"
    )
    html = view._classes.object
    assert "<b>" not in html
    assert "&lt;b&gt;neutral&lt;/b&gt;" in html
    places = [html.index(f"{chance * 100:.1f} %</td>") for chance in chances]
    assert places == sorted(places)
    assert f"width:{chances.iloc[0] * 100:.1f}%" in html
    state.sentence_scope = "mean"  # of all sequences: of no class
    assert not view._classes.visible
    assert "Predicted" not in view.heading()[1]


def test_the_sequence_table_shows_the_class(state):
    state.view = "sequences"
    view = SequenceTable(state)
    assert {"given", "predicted", "predicted_probability"} <= set(view._frame.columns)


def test_the_image_view_says_the_class(tmp_path):
    folder = tiny.save_image_classifier(tmp_path / "model", tuple("0123456789"[:7]))
    run = attnviz.run(recipe_of(folder, pictures(tmp_path / "pictures")), out=tmp_path / "run", workers=1)
    state = State(library.open_runs([run.path]))
    state.param.update(view="image", layer=0, head=1, sequence=4)
    view = ImageView(state)
    chances = run.class_probabilities().iloc[4].sort_values(ascending=False)
    said = f"Image of sequence 4, predicted {chances.index[0]} ({chances.iloc[0] * 100:.1f} %), given {run.sequences['given'][4]}"
    assert view.heading()[1] == said
    listed = ", ".join(f"{name}: {chance * 100:.1f} %" for name, chance in chances.iloc[:5].items())
    assert f"Classes: {listed}." in view._said.object
    assert "The most likely of 7 classes." in class_list(run, 4)


def test_a_model_without_a_head_says_nothing_of_classes(tmp_path):
    run = RunDirectory(write_fake_run(tmp_path / "fake"))
    assert (class_list(run, 0), class_line(run, 0)) == ("", "")
    state = State(library.open_runs([run.path]))
    state.param.update(view="sentence", layer=0, sequence=1)
    view = SentenceView(state)
    assert not view._classes.visible
    assert view.heading()[1].startswith("Queries left")
