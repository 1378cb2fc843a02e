"""Pages as servers make them, of a run that the pipeline wrote: none is empty or a traceback, and an idle one notices its run."""

import logging
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest

import attnviz
from tests import tiny

pytest.importorskip("panel")

from panel.io.application import build_single_handler_application

from attnviz.explorer import Explorer, run_changes
from tests.sessions import session_of, text_of

DASHBOARD = Path(__file__).parent.parent / "dashboards/explorer.py"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two runs of one model as the pipeline writes them, of the same lines in another order."""
    folder = tmp_path_factory.mktemp("served")
    lines = [f"{line} {word}" for word in tiny.WORDS[:2] for line in tiny.SENTENCES]
    model = str(tiny.save_text_model(folder / "model", "bert"))
    for name, own in (("words", lines), ("other", lines[::-1])):
        pd.DataFrame({"text": own}).to_csv(folder / f"{name}.csv", index=False)
        recipe = {"name": "words", "model": {"id": model}, "data": {"source": str(folder / f"{name}.csv")}}
        attnviz.run(recipe | {"maps": {"pca": {}}}, out=folder / name, workers=1)
    return folder


@pytest.fixture(scope="module")
def written(both):
    return both / "words"


@pytest.fixture(scope="module")
def other(both):
    return both / "other"


@pytest.fixture
def path(written, tmp_path):
    return shutil.copytree(written, tmp_path / "words")


def fail(*given, **named):
    raise ValueError("planted")


def dashboard(*paths):
    """What ``panel serve dashboards/explorer.py --args PATH…`` makes for a browser: its document and its session."""
    return session_of(build_single_handler_application(str(DASHBOARD), [str(path) for path in paths]))


def test_a_page_without_a_run_says_so(path, tmp_path):
    assert "holds no manifest.json: it is no attnviz run" in text_of(dashboard(tmp_path / "none")[0])
    (path / "tokens.parquet").write_bytes(b"PAR1")
    assert "tokens.parquet is damaged" in text_of(dashboard(path)[0])


@pytest.mark.parametrize("deep", ["attnviz.explorer.state.colorings", "attnviz.explorer.app.Sidebar"])
def test_a_page_that_cannot_be_made_says_so(path, deep, monkeypatch, caplog):
    monkeypatch.setattr(deep, fail)
    shown = text_of(dashboard(path)[0])
    assert "Something went wrong in making the page: ValueError: planted. This is a fault of attnviz" in shown
    assert "test_served_pages.py" in shown  # the details to copy
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["attnviz.explorer"]


def test_an_idle_page_notices_that_its_run_was_replaced_and_the_next_shows_the_new_one(path, other):
    """Nobody touches the page: Bokeh calls what the session asked it to call every few seconds."""
    document, _session = dashboard(path)
    assert "All heads" in text_of(document)
    (looks,) = document.session_callbacks
    assert 1000 <= looks.period <= 10_000
    looks.callback()
    assert "Reload to see" not in text_of(document)
    path.rename(path.with_name("gone"))
    shutil.copytree(other, path)
    time.sleep(run_changes.SECONDS)
    looks.callback()
    assert "was replaced at" in text_of(document)
    document, _ = dashboard(path)
    assert "was replaced at" not in text_of(document)
    assert "was replaced since" not in text_of(document)


@pytest.mark.parametrize("damaged", ["tokens", "vectors/layer=1/"])
def test_a_page_lives_on_when_files_of_its_run_are_damaged(path, damaged):
    """What the page has read already may be shown; what it must read now is one sentence, in the view that needs it."""
    files = [file for file in path.rglob("*.parquet") if str(file.relative_to(path)).startswith(damaged)]
    explorer, said = Explorer([path]), set()
    for file in files:
        file.write_bytes(file.read_bytes()[:50])
    for view in ("head", "neuron", "sentence", "model"):
        explorer.state.param.update(view=view, layer=1, head=1, token=5)
        said.add(explorer.state.problem)
    assert files
    assert all("is damaged or not from attnviz" in sentence for sentence in said - {""})
    assert said != {""} or damaged == "tokens"  # which were read when the page was made
    assert explorer._notices.notices == []  # expected, and no fault of attnviz


@pytest.fixture(scope="module")
def explorer(written):
    return Explorer([written])


@pytest.mark.parametrize(("view", "deep"), [
    ("head", "attnviz.explorer.headmap.make_scene"),
    ("model", "attnviz.explorer.model_view.lay_tiles"),
    ("neuron", "attnviz.explorer.neuron_view.choose_pair"),
    ("sentence", "attnviz.explorer.sequence_reading.read_heads"),
    ("sequences", "attnviz.explorer.sequences_view.sequence_table"),
])  # fmt: skip
def test_a_view_of_a_written_run_that_fails_says_so_and_recovers(explorer, view, deep, monkeypatch):
    state = explorer.state
    with monkeypatch.context() as patch:
        patch.setattr(deep, fail)
        state.param.update(view=view, layer=1 - state.layer, token=5, find=f"the{view}")
        ((text, does, details),) = explorer._notices.notices
        assert text.endswith("ValueError: planted. This is a fault of attnviz; the rest of the page goes on.")
        assert (does, "test_served_pages.py" in details) == ("copy", True)
    state.theme = "dark" if state.theme == "light" else "light"
    assert explorer._notices.notices == []
    assert [plate.visible for plate in explorer._plates.values()].count(True) == 1
