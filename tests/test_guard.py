"""An exception that nobody expected: one sentence on the page, the traceback in the log, and the view recovers."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import write_fake_run
from tests.pace import some

pytest.importorskip("panel")

import panel as pn
from bokeh.events import Tap
from bokeh.models import ColumnDataSource

import attnviz.explorer
from attnviz.errors import DatasetError
from attnviz.explorer import Explorer, State, library
from attnviz.explorer.choices import Choices
from attnviz.explorer.controls import Press, Segments
from attnviz.explorer.guard import Guard, Guarded, sentence
from attnviz.explorer.legend import Legend
from attnviz.explorer.notices import Notices
from attnviz.explorer.page import Page
from attnviz.explorer.rows import Rows
from attnviz.explorer.squares import Squares
from attnviz.faults import fault_of

HERE = Path(attnviz.explorer.__file__).parent
WINDOW = {"x0": [-0.6], "x1": [0.6], "y0": [-0.6], "y1": [0.6], "w": [300], "h": [300]}
DEEP = {  # the address of a view, and what fails deep below it
    "view=all": "attnviz.explorer.wall.make_scene",
    "view=all&order=umap.trustworthiness": "attnviz.explorer.arranged.arrange",
    "view=head": "attnviz.explorer.headmap.turn",
    "view=head&compare=pca": "attnviz.explorer.headmap.make_scene",
    "view=model": "attnviz.explorer.model_view.lay_tiles",
    "view=neuron&token=5": "attnviz.explorer.neuron_view.choose_pair",
    "view=sentence": "attnviz.explorer.sequence_reading.read_heads",
    "view=sentence&sentence_scope=mean": "attnviz.explorer.sequence_reading.np.stack",
    "view=image": "attnviz.explorer.image_one.read_image",
    "view=image&image_form=grid": "attnviz.explorer.image_grid.image_sequences_of",
    "view=sequences&find=1": "attnviz.explorer.sequences_view.sequence_table",
}
DRAWN = {  # and what fails while its figure is made, when half of it is done
    "view=all": "attnviz.explorer.wall.wall_figure",
    "view=head": "attnviz.explorer.headmap.head_figure",
    "view=model": "attnviz.explorer.model_view.model_figure",
    "view=neuron&token=5": "attnviz.explorer.neuron_view.neuron_figure",
    "view=sentence": "attnviz.explorer.sequence_view.heads_figure",
    "view=sentence&sentence_form=matrix": "attnviz.explorer.sequence_view.MatrixPart",
    "view=image": "attnviz.explorer.image_one.image_figure",
    "view=image&image_form=grid": "attnviz.explorer.image_grid.grid_figure",
    "view=sequences&find=1": "attnviz.explorer.sequences_view.plain_table",
}
BESIDE = {  # of what stands around a view
    "attnviz.explorer.nearest.nearest_partners": "the nearest points",
    "attnviz.explorer.selection.selection_table": "the selection",
    "attnviz.explorer.beside.read_exchange": "the panel beside the head",
    "attnviz.explorer.picture.heat_of": "the panel beside the head",
    "attnviz.explorer.markup.legend": "the side bar",
    "attnviz.explorer.markup.brand": "the page",
    "attnviz.explorer.app.score_phrases": "the page",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_fake_run(tmp_path_factory.mktemp("guard") / "text", image=True, layers=2)


@pytest.fixture
def explorer(path):
    return Explorer([path])


def fail(*given, **named):
    raise ValueError("planted")


def plant(monkeypatch, name):
    if name.endswith("image_sequences_of"):
        name = "attnviz.explorer.image_grid.sequences_to_show"
    monkeypatch.setattr(name, fail)


def told(explorer):
    return explorer.__panel__().select(Notices)[0].notices


def texts(explorer):
    """What is said of the open view and in it."""
    (plate,) = (plate for plate in explorer._plates.values() if plate.visible)
    inside = [str(pane.object) for pane in plate.select(pn.pane.HTML) if pane.visible]
    return [explorer._title.object, explorer._summary.object, *inside]


def plots(explorer):
    """The figures of the open view."""
    (plate,) = (plate for plate in explorer._plates.values() if plate.visible)
    return [pane.object for pane in plate.select(pn.pane.Bokeh) if pane.visible and pane.object is not None]


def sources(plot, name):
    return [source for source in plot.references() if isinstance(source, ColumnDataSource) and source.name == name]


def look(explorer):
    """Let the browser tell the size of every canvas."""
    for plot in plots(explorer):
        for source in sources(plot, "window-sent"):
            source.data = {} if source.data else dict(WINDOW)
            source.data = dict(WINDOW)


def pictures(explorer):
    """All that the figures of the open view hold."""
    plain = lambda value: value.tolist() if isinstance(value, np.ndarray) else value  # noqa: E731
    found = [[renderer.data_source.data for renderer in plot.renderers] for plot in plots(explorer)]
    return json.loads(json.dumps(found, default=plain))


def assert_told(explorer, place, caplog):
    (notice,) = told(explorer)
    text, does, details = notice
    assert text.startswith("Something went wrong in ")
    assert place in text
    assert "ValueError: planted. This is a fault of attnviz; the rest of the page goes on." in text
    assert does == "copy"
    assert "attnviz 0" in details or "attnviz 1" in details
    assert "test_guard.py" in details
    logged = [record for record in caplog.records if record.exc_info and "planted" in str(record.exc_info[1])]
    assert logged
    assert logged[0].exc_info[2] is not None


FAULTS = [(address, deep, opened) for address, deep in [*DEEP.items(), *DRAWN.items()] for opened in (True, False)]
FAST = [
    fault for number, fault in enumerate(FAULTS) if number % 4 in (0, 3)
]  # each fault once, half of them while open


@pytest.mark.parametrize(
    ("address", "deep", "opened"),
    some(FAULTS, *FAST),
    ids=[f"{address}-{deep[17:]}-{'while open' if opened else 'on opening'}" for address, deep, opened in FAULTS],
)
def test_a_view_that_fails_says_so_and_recovers(path, explorer, address, deep, opened, monkeypatch, caplog):
    state = explorer.state
    view = address.split("&")[0].removeprefix("view=")
    title = next(title for title, name in state.param.view.objects.items() if name == view)
    other = "sequences" if view != "sequences" else "model"
    state.view = other
    if opened:
        state.restore(f"?{address}&layer=0")
        look(explorer)
        assert told(explorer) == []
    with monkeypatch.context() as patch:
        plant(patch, deep)
        state.param.update(layer=1, head=1, find="2") if opened else state.restore(f"?{address}&layer=1")
        state.theme = "dark"
        look(explorer) if plates(explorer) else None
        assert_told(explorer, title, caplog)
        state.view = other  # which works
        assert told(explorer) == []
        assert plates(explorer) == [other]
        assert explorer._summary.object != ""
        state.view = view
        assert_told(explorer, title, caplog)
        assert view not in plates(explorer)  # no picture rather than an old one
    state.top_k = 11  # any change
    assert told(explorer) == []
    assert plates(explorer) == [view]
    look(explorer) if plots(explorer) else None
    fresh = Explorer([path])
    fresh.state.restore(state.address())
    look(fresh)
    assert texts(explorer) == texts(fresh)
    assert pictures(explorer) == pictures(fresh)


def plates(explorer):
    return [name for name, plate in explorer._plates.items() if plate.visible]


@pytest.mark.parametrize(("deep", "place"), BESIDE.items(), ids=lambda value: value.removeprefix("attnviz.explorer."))
def test_what_stands_around_a_view_fails_by_itself(path, explorer, deep, place, monkeypatch, caplog):
    state = explorer.state
    state.restore("?view=head&token=5")
    state.choose(np.arange(4))
    look(explorer)
    with monkeypatch.context() as patch:
        plant(patch, deep)
        state.param.update(layer=1, head=2)
        assert_told(explorer, place, caplog)
        assert plates(explorer) == ["head"]
        assert pictures(explorer)[0]
    state.top_k = 11
    assert told(explorer) == []


@pytest.mark.parametrize(
    ("view", "deep"),
    [
        ("all", "attnviz.explorer.wall.describe_token"),
        ("all", "attnviz.explorer.wall.place_tip"),
        ("head", "attnviz.explorer.headmap.describe_token"),
        ("model", "attnviz.explorer.model_view.layer_name"),
        ("neuron&token=5", "attnviz.explorer.neuron_view.place_tip"),
        ("sentence", "attnviz.explorer.sequence_view.own_lines"),
        ("image", "attnviz.explorer.image_one.place_tip"),
        ("image&image_form=grid", "attnviz.explorer.image_grid.place_tip"),
    ],
)
def test_a_pointer_that_meets_a_fault_is_answered_and_works_again(explorer, view, deep, monkeypatch, caplog):
    explorer.state.restore(f"?view={view}")
    look(explorer)
    (plot, *_) = plots(explorer)
    (sent,) = sources(plot, "pointer-sent")
    x, y = {"sentence": (0.1, -1.0), "neuron&token=5": (1.5, 0.0)}.get(view, (0.31, -0.32))
    if view == "head":
        run = explorer.state.directory
        wall = library.wall(run, explorer.state.map)
        x, y = map(float, wall.points[wall.index(explorer.state.layer, explorer.state.head)][3])
    elif view == "all":
        wall = library.wall(explorer.state.directory, explorer.state.map)
        x, y = (float(v) for v in wall.points[0][3] + wall.centers[0])
    (answered,) = sources(plot, "pointer-answered")
    before = answered.data["n"][0]
    with monkeypatch.context() as patch:
        plant(patch, deep)
        sent.data = {"x": [x], "y": [y]}
        assert answered.data["n"][0] == before + 1  # or the browser would wait
        assert_told(explorer, "", caplog)
        count = len(caplog.records)
        sent.data = {"x": [x + 1e-9], "y": [y]}
        assert len(caplog.records) == count  # told once, however often the pointer moves
        assert plates(explorer) == [view.split("&")[0]]
    sent.data = {"x": [x], "y": [y]}
    assert told(explorer) == []


def test_a_click_that_fails_is_told_and_the_next_change_takes_it_away(explorer, monkeypatch, caplog):
    state = explorer.state
    state.view = "head"
    look(explorer)
    monkeypatch.setattr(State, "select", fail)
    (plot, *_) = plots(explorer)
    plot._trigger_event(Tap(plot, sx=1, sy=1, x=30.0, y=30.0))
    assert_told(explorer, "One head", caplog)
    state.theme = "dark"
    assert told(explorer) == []


def test_an_expected_error_keeps_its_sentence(explorer, monkeypatch):
    def refuse(*given, **named):
        raise DatasetError("There is no such thing. Choose another.")

    monkeypatch.setattr("attnviz.explorer.headmap.make_scene", refuse)
    explorer.state.view = "head"
    assert explorer.state.problem == "There is no such thing. Choose another."
    assert told(explorer) == []


def test_a_run_that_fails_to_open_leaves_the_other_on_the_page(path, tmp_path, monkeypatch, caplog):
    other = write_fake_run(tmp_path / "other")
    explorer = Explorer([path, other])
    with monkeypatch.context() as patch:
        plant(patch, "attnviz.explorer.state.colorings")
        explorer.state.run = "other"
        assert_told(explorer, "", caplog)
        assert explorer.state.problem == "Run other cannot be shown."
        assert explorer.state.directory.name == "text"
    explorer.state.run = "text"
    explorer.state.run = "other"
    assert (explorer.state.problem, told(explorer)) == ("", [])
    assert explorer.state.directory.name == "other"


def test_saving_that_fails_answers_the_menu_and_hands_no_empty_file_over(explorer, monkeypatch, caplog):
    explorer.state.view = "head"
    explorer.state.choose(np.arange(4))
    saver, answers = explorer._saver, []
    monkeypatch.setattr(type(saver), "_send_msg", lambda self, msg: answers.append(msg))
    monkeypatch.setattr("attnviz.explorer.saver.head_page", fail)
    saver._handle_msg("head")
    assert answers == [{"problem": "This could not be done. The page says why."}]
    assert_told(explorer, "saving", caplog)
    explorer.state.theme = "dark"
    monkeypatch.setitem(attnviz.explorer.selection.TARGETS, "csv", fail)
    (file, *_) = explorer.__panel__().select(pn.widgets.FileDownload)
    file._clicks += 1
    assert_told(explorer, "", caplog)
    assert file.data is None


@pytest.fixture
def guard():
    return Guard(refuse=lambda text: None, about=lambda: {"view": "a test"})


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda act: Press(act=act), "press"),
        (lambda act: Segments(options=["a", "b"], choose=act), 1),
        (Rows, 0),
        (Legend, [0, True]),
        (lambda act: Squares(pick=act, colors=["red"]), {"head": 0}),
        (lambda act: Choices(choose=act, items=[("a", "", 0, False)]), 0),
        (lambda act: Page(key=act, back=act), "t"),
        (lambda act: Page(key=act, back=act), "?view=all"),
    ],
)
def test_every_component_is_guarded(guard, made, message):
    component = made(guard(fail))
    if isinstance(component, Rows):
        component.items = [{}]
    component._handle_msg(message)
    (fault,) = guard.faults
    assert (fault.place, fault.error) == ("a test", "ValueError: planted")
    for name, value in component.param.values().items():
        if isinstance(value, Guarded):
            with pytest.raises(ValueError, match="Guarded"):
                setattr(component, name, fail)


def test_faults_of_several_parts_are_one_sentence():
    faults = [fault_of(ValueError(text), {"in": place}) for place, text in (("A", "x"), ("B", "x"), ("C", "y"))]
    assert sentence(faults) == (
        "Something went wrong in A and in B: ValueError: x (and 1 more). "
        "This is a fault of attnviz; the rest of the page goes on."
    )


def test_details_tell_no_places_of_this_machine():
    try:
        Path("/nowhere/at/all").read_text()
    except OSError as error:
        fault = fault_of(error, {"in": "A", "run": "text"})
    assert str(Path.home()) not in fault.details
    assert str(Path(attnviz.__file__).parents[1]) not in fault.details
    assert "tests/test_guard.py" in fault.details
    long = fault_of(ValueError("x" * 5000 + "\n<script>"), {"in": "A"})
    assert len(long.error) < 300
    assert "\n" not in long.error


REGISTERS = {
    *("on_event", "on_change", "on_click", "watch", "bind", "onload", "on_session_created", "on_session_destroyed"),
    *("execute", "schedule_task", "add_periodic_callback", "add_next_tick_callback", "add_timeout_callback", "link"),
}
PAST = {  # where a handler is registered that is guarded already, or calls what is
    *(("acts.py", "execute"), ("follow.py", "watch"), ("wires.py", "on_event"), ("wires.py", "on_change")),
    *(("tables.py", "on_click"), ("controls.py", "watch"), ("state.py", "watch")),
}


def is_guard(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "guard"


@pytest.mark.parametrize("file", sorted(HERE.glob("*.py")), ids=lambda file: file.name)
def test_no_handler_is_registered_past_the_guard(file):
    tree = ast.parse(file.read_text("utf-8"))
    guards = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_guard(node.value)
        for target in node.targets
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in REGISTERS:
            guarded = any(is_guard(given) or getattr(given, "id", None) in guards for given in node.args)
            assert guarded or (file.name, node.func.attr) in PAST, f"{file.name}:{node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "param.Callable":
            assert file.name == "saver.py", f"{file.name}:{node.lineno}: a component takes Guarded handlers"
        if isinstance(node, ast.FunctionDef) and any("depends" in ast.unparse(own) for own in node.decorator_list):
            decorated = {ast.unparse(own) for own in node.decorator_list}
            known = {"_forget_problem", "_transfer"}  # which sets a text; which runs in the guard
            assert "guarded" in decorated or node.name in known, f"{file.name}:{node.lineno}"


def test_what_bokeh_calls_on_the_page_is_panels_or_goes_through_the_wires(explorer):
    for view in explorer.state.param.view.objects.values():
        explorer.state.param.update(view=view, token=5)
    models = explorer.__panel__().get_root().references()
    called = [
        act
        for model in models
        for acts in (*model._callbacks.values(), *model._event_callbacks.values())
        for act in acts
    ]
    homes = {getattr(getattr(act, "func", act), "__module__", "?") for act in called}
    ours = {home for home in homes if home.startswith("attnviz")}
    assert ours == {"attnviz.explorer.wires"}
    assert all(home.partition(".")[0] in {"attnviz", "panel", "bokeh", "param", "functools"} for home in homes)
