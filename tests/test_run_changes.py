"""A run that is replaced or grows while it is open: said on the page, refused in Python, and never mixed."""

import shutil
import time

import pandas as pd
import pytest

import attnviz
from attnviz.errors import DatasetError
from attnviz.store import RunDirectory
from tests import tiny

pytest.importorskip("panel")

import panel as pn

from attnviz.explorer import Explorer, library, run_changes
from attnviz.explorer.new_page import Pages
from attnviz.explorer.notices import Notices

LINES = [f"{sentence} {word}" for word in tiny.WORDS[:3] for sentence in tiny.SENTENCES]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs of one model, of the same lines in another order, as the pipeline writes them."""
    folder = tmp_path_factory.mktemp("changes")
    model = tiny.save_text_model(folder / "model", "bert")
    runs = {}
    for name, lines in (("before", LINES), ("after", LINES[::-1])):
        pd.DataFrame({"text": lines}).to_csv(folder / f"{name}.csv", index=False)
        recipe = {"name": "words", "model": {"id": str(model)}, "data": {"source": str(folder / f"{name}.csv")}}
        recipe |= {"maps": {"pca": {}}}
        runs[name] = attnviz.run(recipe, out=folder / name, workers=1).path
        runs[f"{name} recipe"] = recipe
    return runs


@pytest.fixture
def path(made, tmp_path):
    return shutil.copytree(made["before"], tmp_path / "words")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(run_changes, "SECONDS", 0.0)


def replace(path, made):
    """As ``run --force`` does it: the finished run beside is renamed."""
    shutil.copytree(made["after"], path.with_name("beside"))
    path.rename(path.with_name("gone"))
    path.with_name("beside").rename(path)


def told(explorer):
    return [text for text, *_ in explorer.__panel__().select(Notices)[0].notices]


READS = {
    "vectors": lambda run: run.vectors(0, 0),
    "norms": lambda run: run.norms(0, 0),
    "attention": lambda run: run.attention(0, 0, 1),
    "coordinates": lambda run: run.coordinates("pca", 0, 0),
    "faithfulness": lambda run: run.faithfulness("pca", 0, 0),
    "scores": lambda run: run.scores("pca"),
    "maps": lambda run: run.maps,
    "sequences": lambda run: run.sequences,
    "head.map": lambda run: run.head(0, 0).map("pca"),
    "view": lambda run: run.view(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_an_open_run_never_joins_its_tokens_to_the_vectors_of_another(path, made, read):
    run = attnviz.open(path)
    assert run.tokens["text"].iloc[1] == RunDirectory(made["before"]).tokens["text"].iloc[1]
    replace(path, made)
    with pytest.raises(DatasetError, match=r"Run words at .* was replaced since it was opened.* Open it again"):
        read(run)
    assert "replaced" in repr(run)
    read(attnviz.open(path))


def test_a_run_that_is_gone_says_so_and_the_same_run_put_back_is_the_same(path, tmp_path):
    run = attnviz.open(path)
    path.rename(tmp_path / "away")
    with pytest.raises(DatasetError, match="is no longer at"):
        run.vectors(0, 0)
    shutil.copytree(tmp_path / "away", path)
    (path / "manifest.json").touch()  # another file with the same words
    assert len(run.vectors(0, 0).query)
    assert len(run.tokens)


def test_force_replaces_a_run_under_an_open_page(path, made, tmp_path):
    """The pipeline itself: with ``force``, over a run that a page shows."""
    pages = Pages(library.open_runs([path]))
    explorer = pages.make()
    explorer.state.restore("?view=head&layer=0&token=5")
    summary = explorer._summary.object
    recipe = made["after recipe"]
    attnviz.run(recipe, out=path, workers=1, force=True)
    explorer.state.select(7)
    (sentence,) = told(explorer)
    clock = time.strftime("%H:%M", time.localtime(path.stat().st_ctime))
    assert sentence == f"Run words was replaced at {clock}. Reload to see the new one."
    assert "was replaced since it was opened" in explorer.state.problem  # of what had to be read
    after = pages.make()
    assert told(after) == []
    after.state.restore("?view=head&layer=0&token=5")
    assert after.state.problem == ""
    assert after._summary.object != summary
    new = RunDirectory(path)
    assert str(new.tokens["text"].iloc[5]) in after._summary.object


@pytest.mark.parametrize("view", ["all", "head", "model", "neuron", "sentence", "sequences"])
def test_every_view_of_a_replaced_run_says_so_and_draws_nothing_mixed(path, made, view):
    explorer = Explorer([path])
    explorer.state.restore(f"?view={view}&layer=0&token=5")
    replace(path, made)
    explorer.state.param.update(layer=1, head=1, color="norm", find="a", sequence=1)
    assert told(explorer)
    assert "was replaced" in told(explorer)[0]
    assert explorer.state.problem == "" or "was replaced" in explorer.state.problem


def test_a_map_that_is_added_is_told_and_there_on_the_next_page(path):
    pages = Pages(library.open_runs([path]))
    explorer = pages.make()
    assert list(explorer.state.param.map.objects) == ["pca"]
    attnviz.open(path).project("pca_3d", method="pca", dims=3, workers=1)
    explorer.state.theme = "dark"
    assert told(explorer) == ["Map pca_3d was added. Reload to see the run as it is now."]
    assert explorer.state.problem == ""
    explorer.state.layer = 1  # and goes on
    assert explorer.state.problem == ""
    assert list(pages.make().state.param.map.objects) == ["pca", "pca_3d"]
    shutil.rmtree(path / "maps/pca")
    explorer.state.theme = "light"
    assert told(explorer) == ["Map pca_3d was added; Map pca was removed. Reload to see the run as it is now."]


def test_a_map_that_is_made_again_is_told(path):
    explorer = Explorer([path])
    for folder in ("maps/pca", "scores/map=pca", "faithfulness/map=pca"):
        shutil.rmtree(path / folder)
    attnviz.open(path).project("pca", workers=1)
    explorer.state.theme = "dark"
    assert told(explorer) == ["Map pca was made again. Reload to see the run as it is now."]


def test_a_look_costs_nothing_within_a_second(path, made, monkeypatch):
    monkeypatch.setattr(run_changes, "SECONDS", 60.0)
    changes = run_changes.RunChanges(RunDirectory(path))
    replace(path, made)
    assert changes.look() == ""
    assert "was replaced" in changes.look(now=True)


def test_a_run_keeps_the_name_of_its_addresses_when_another_of_other_name_takes_its_place(path, made, tmp_path):
    other = shutil.copytree(made["after"], tmp_path / "other")
    pages = Pages(library.open_runs([path, other]))
    assert list(pages.make().state.param.run.objects) == ["words", "words (other)"]
    replace(path, made)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "words"', '"name": "renamed"'))
    state = pages.make().state
    assert list(state.param.run.objects) == ["words", "words (other)"]
    assert state.run == "words"
    assert state.directory.manifest.name == "renamed"


def test_a_page_opens_though_one_of_its_runs_is_gone(path, made, tmp_path):
    other = shutil.copytree(made["after"], tmp_path / "other")
    pages = Pages(library.open_runs([path, other]))
    shutil.rmtree(path)
    explorer = pages.make()
    assert list(explorer.state.param.run.objects) == ["words", "words (other)"]
    assert explorer.state.run == "words (other)"
    explorer.state.run = "words"
    assert "is no longer at" in explorer.state.problem
    shutil.rmtree(other)
    assert "is no longer at" in pages.make().state.problem  # nothing is left: a sentence, not a traceback


def refuse(*given, **named):
    raise DatasetError("There is nothing here. Make the run again.")


def test_a_page_that_cannot_be_made_says_so(path, monkeypatch, caplog):
    def fail(*given, **named):
        raise ValueError("planted")

    monkeypatch.setattr("attnviz.explorer.new_page.Explorer", fail)
    shown = Pages(library.open_runs([path])).make()
    ((text, does, details),) = shown.select(Notices)[0].notices
    assert text.startswith("Something went wrong in making the page: ValueError: planted.")
    assert (does, "planted" in details) == ("copy", True)
    assert caplog.records[-1].exc_info
    monkeypatch.setattr("attnviz.explorer.new_page.Explorer", refuse)
    shown = Pages(library.open_runs([path])).make()
    assert "Make the run again." in shown.select(pn.pane.HTML)[0].object
