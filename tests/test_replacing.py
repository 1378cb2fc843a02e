"""A run that is replaced by force: nothing of the user's is touched, and whenever it is killed one complete run has the name."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

import attnviz
from attnviz.errors import CaptureError, DatasetError
from attnviz.store import replacing as module
from attnviz.store.replacing import recover, replacing
from tests.pipeline_runs import digests, finished_run, tiny_data, tiny_model, tiny_recipe  # noqa: F401  # fixtures


@pytest.fixture(name="desk")
def desk_with_two_runs(finished, tmp_path):
    """A folder with a run, another to replace it (which lacks a map), and what a user may have put beside them."""
    shutil.copytree(finished.path, tmp_path / "run")
    shutil.copytree(finished.path, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "maps" / "pca_3d")
    for name in ("run.old", "run.new", ".run.mine.attnviz", ".run.empty.attnviz"):
        (tmp_path / name).mkdir()
        if name != ".run.empty.attnviz":
            (tmp_path / name / "thesis.tex").write_text("years of work")
    return tmp_path


def names(desk):
    return sorted(item.name for item in desk.iterdir())


# The n-th call of a function kills the process before or after it did its work.
KILLED = """
    import os, shutil, signal, sys
    from pathlib import Path
    from attnviz.store import replacing as module

    desk, swap, function, when = Path(sys.argv[1]), sys.argv[2] == "swap", sys.argv[3], sys.argv[4]
    if not swap:
        module._swapped = lambda one, other: False
    place, name = {"rename": (Path, "rename"), "rmtree": (shutil, "rmtree"), "unlink": (Path, "unlink"),
                   "rmdir": (Path, "rmdir"), "swapped": (module, "_swapped"), "copytree": (shutil, "copytree")}[function]
    real, left = getattr(place, name), int(sys.argv[5])

    def dies(*given, **named):
        global left
        left -= 1
        own = left  # copytree calls itself
        if own == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if own == 0 and when == "amid":
            next(given[0].rglob("*.parquet")).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        done = real(*given, **named)
        if own == 0 and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(place, name, dies)
    with module.replacing(desk / "run") as new:
        shutil.copytree(desk / "other", new)
"""
STEPS = [
    ("swap", "copytree", "before", 1, "old"),
    ("swap", "copytree", "after", 1, "old"),
    ("swap", "swapped", "before", 1, "old"),
    ("swap", "swapped", "after", 1, "new"),
    ("swap", "rmtree", "amid", 1, "new"),
    ("swap", "unlink", "before", 1, "new"),
    ("renames", "rename", "after", 1, "old"),  # of the marker
    ("renames", "rename", "after", 2, "new"),  # the name is free until the next start
    ("renames", "rename", "after", 3, "new"),
    ("renames", "rmtree", "amid", 2, "new"),
]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize(("how", "function", "when", "nth", "which"), STEPS)
def test_a_kill_at_any_step_leaves_one_complete_run(desk, how, function, when, nth, which):
    if how == "swap" and sys.platform != "linux":
        pytest.skip("no call to exchange two names")
    wanted = {"old": digests(desk / "run"), "new": digests(desk / "other")}
    before = names(desk)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(desk), how, function, when, str(nth)]
    died = subprocess.run(command, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert names(desk) != before
    maps = attnviz.open(desk / "run").maps  # the next start, which reads
    assert sorted(maps) == (["pca", "pca_3d"] if which == "old" else ["pca"])
    recover(desk / "run")  # the next start, which makes
    assert digests(desk / "run") == wanted[which]
    assert names(desk) == before
    for name in ("run.old", "run.new", ".run.mine.attnviz"):
        assert (desk / name / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("swap", [True, False])
def test_the_new_run_takes_the_name_and_nothing_else_is_touched(desk, monkeypatch, swap):
    if not swap:
        monkeypatch.setattr(module, "_swapped", lambda one, other: False)
    before, wanted = names(desk), digests(desk / "other")
    with replacing(desk / "run") as new:
        shutil.copytree(desk / "other", new)
        recover(desk / "run")  # another start meanwhile: this one lives
        assert new.is_dir()
    assert digests(desk / "run") == wanted
    assert names(desk) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, CaptureError("no"), OSError(28, "No space left on device")])
def test_what_fails_leaves_the_old_run_and_no_litter(desk, error):
    before, wanted = names(desk), digests(desk / "run")
    with pytest.raises(error if isinstance(error, type) else type(error)), replacing(desk / "run") as new:  # noqa: PT012
        shutil.copytree(desk / "other", new)
        raise error
    assert digests(desk / "run") == wanted
    assert names(desk) == before


def test_the_second_of_two_renames_that_fails_is_undone(desk, monkeypatch):
    monkeypatch.setattr(module, "_swapped", lambda one, other: False)
    before, wanted = names(desk), digests(desk / "run")
    with pytest.raises(DatasetError, match="cannot be written"), replacing(desk / "run") as new:
        assert not new.exists()  # nothing was made: there is nothing to rename
    assert digests(desk / "run") == wanted
    assert names(desk) == before


def test_a_link_to_a_run_stays_a_link(desk):
    link = desk / "link"
    link.symlink_to(desk / "run")
    with replacing(link) as new:
        shutil.copytree(desk / "other", new)
    assert link.is_symlink()
    assert sorted(attnviz.open(link).maps) == ["pca"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path, finished):
    shutil.copytree(finished.path, tmp_path / "run")
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("root writes anywhere")
        with pytest.raises(DatasetError, match="cannot be written: Permission denied"), replacing(tmp_path / "run"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_force_leaves_folders_beside_the_run_alone(finished, recipe, desk):
    before = names(desk)
    for broken in (True, False):
        capture = {"capture": {"layers": [7] if broken else 1}}
        if broken:
            with pytest.raises(CaptureError):
                attnviz.run(recipe | capture, out=desk / "run", force=True)
            assert digests(desk / "run") == digests(finished.path)
        else:
            assert list(attnviz.run(recipe | capture, out=desk / "run", force=True, workers=1).layers) == [1]
        assert names(desk) == before
        assert (desk / "run.old" / "thesis.tex").read_text() == (desk / "run.new" / "thesis.tex").read_text()


def test_force_does_not_remove_what_no_run_has(recipe, desk):
    """``attnviz run recipe.toml --out . --force``: a folder with a recipe.toml need not be a run."""
    (desk / "run" / "thesis.tex").write_text("years of work")
    before = digests(desk / "run")
    with pytest.raises(DatasetError, match=r"run holds thesis\.tex, which no attnviz run has"):
        attnviz.run(recipe, out=desk / "run", force=True)
    assert digests(desk / "run") == before
    assert (desk / "run" / "thesis.tex").exists()
