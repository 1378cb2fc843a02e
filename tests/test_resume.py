"""Runs that were killed, changed or replaced: what goes on, to the same bytes, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import PIL.Image
import pytest

import attnviz
from attnviz.errors import CaptureError, DatasetError
from tests import tiny
from tests.pipeline_runs import LINES, digests, finished_run, tiny_data, tiny_model, tiny_recipe  # noqa: F401  # fixtures

KILLED = """
    import os, signal, sys
    from pathlib import Path
    import attnviz
    from attnviz.store import write

    stop_at, real = sys.argv[3], getattr(write, "write_" + sys.argv[4])

    def dies(path, *rest):
        if stop_at in str(path):
            Path(str(path) + ".partial").parent.mkdir(parents=True, exist_ok=True)
            Path(str(path) + ".partial").write_bytes(b"half a file")
            os.kill(os.getpid(), signal.SIGKILL)
        real(path, *rest)

    setattr(write, real.__name__, dies)
    import json
    attnviz.run(json.loads(Path(sys.argv[1]).read_text()), out=sys.argv[2], workers=1)
"""


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        ("vectors", "layer=1/shard-00002"),
        pytest.param("coordinates", "pca/layer=1", marks=pytest.mark.slow),
        pytest.param("coordinates", "pca_3d/layer=0", marks=pytest.mark.slow),
        pytest.param("faithfulness", "map=pca/layer=1", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(finished, recipe, tmp_path, stage, place):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    out = tmp_path / "killed"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "recipe.json"), str(out), place, stage]
    died = subprocess.run(command, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert digests(out) != digests(finished.path)
    kept = {f: f.stat().st_mtime_ns for f in (out / "vectors").rglob("shard-0000[01].parquet")}
    assert kept
    attnviz.run(recipe, out=out, workers=1)
    assert digests(out) == digests(finished.path)
    assert {f: f.stat().st_mtime_ns for f in kept} == kept  # complete shards were not made again
    assert not list(out.rglob("*.partial"))


def test_a_run_does_not_go_on_with_other_data(recipe, data, tmp_path):
    """As many texts, as many tokens each, but one word another: vectors of both would be mixed."""
    changed = tmp_path / "lines.csv"
    shutil.copy(data, changed)
    recipe["data"]["source"] = str(changed)
    out = tmp_path / "run"
    attnviz.run(recipe, out=out, workers=1)
    (out / "manifest.json").unlink()  # as if it had been killed
    next(out.rglob("shard-00003.parquet")).unlink()
    before = digests(out)
    first, other = tiny.WORDS[:2]
    text = changed.read_text()
    changed.write_text(text.replace(f" {first},", f" {other},", 1))
    assert changed.read_text() != text
    with pytest.raises(DatasetError, match=r"was begun with other data.*--force"):
        attnviz.run(recipe, out=out, workers=1)
    assert digests(out) == before
    changed.write_text(text)
    assert attnviz.run(recipe, out=out, workers=1).num_sequences == len(LINES)


def test_a_run_does_not_go_on_with_other_pictures(tmp_path):
    """The same names and sizes, but another picture."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        PIL.Image.new("RGB", (16, 16), (90 * number, 0, 0)).save(pictures / f"{number}.png")
    model = {"id": "builtin:digits-vit"}
    recipe = {"name": "p", "model": model, "data": {"source": str(pictures)}, "maps": {"pca": {}}}
    out = tmp_path / "run"
    attnviz.run(recipe, out=out, workers=1)
    (out / "manifest.json").unlink()
    PIL.Image.new("RGB", (16, 16), (0, 255, 0)).save(pictures / "2.png")
    before = digests(out)
    with pytest.raises(DatasetError, match="was begun with other data"):
        attnviz.run(recipe, out=out, workers=1)
    assert digests(out) == before


@pytest.mark.slow
def test_a_run_killed_from_outside_resumes(finished, recipe, tmp_path):
    """As a user does it: kill -9 while maps are made, then the same command."""
    recipe["maps"] |= {f"again_{i}": {"method": "pca"} for i in range(4)}
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    out = tmp_path / "killed"
    script = (
        "import attnviz, json, sys\n"
        "if __name__ == '__main__': attnviz.run(json.load(open(sys.argv[1])), out=sys.argv[2], workers=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "r.json", out], start_new_session=True)
    deadline = time.monotonic() + 120
    while not (out / "manifest.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "again_3" not in attnviz.open(out).maps
    attnviz.run(recipe, out=out, workers=1)
    assert digests(finished.path).items() <= digests(out).items()
    assert len(attnviz.open(out).maps) == 6


def test_another_recipe_into_the_same_folder_names_the_keys(finished, recipe):
    recipe["data"]["max_tokens"] = 50
    recipe["seed"] = 4
    with pytest.raises(DatasetError, match=r"data\.max_tokens was None, is 50; seed was 0, is 4"):
        attnviz.run(recipe, out=finished.path)


def test_force_replaces_when_complete_and_not_before(finished, recipe, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished.path, out)
    before = digests(out)
    broken = recipe | {"capture": {"layers": [7]}}
    with pytest.raises(CaptureError, match="asks for layer 7; the model has 0, 1"):
        attnviz.run(broken, out=out, force=True)
    assert digests(out) == before
    replaced = attnviz.run(recipe | {"capture": {"layers": 1}}, out=out, force=True, workers=1)
    assert list(replaced.layers) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
