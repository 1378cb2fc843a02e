"""The command line: every verb, its example, and its sentence when something is wrong."""

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from attnviz.cli import cli, main
from attnviz.cli.verbs import VERBS
from attnviz.metrics import METRICS
from attnviz.store import RunDirectory, layout
from tests import tiny
from tests.fakes import write_fake_run

ARCHIVE = Path(__file__).parent / "archives" / "v1" / "run"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def attnviz_command(monkeypatch, capsys):
    """Run the command's ``main`` with these words; a process of its own would load torch anew each time."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["attnviz", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Done(ended.value.code, captured.out, captured.err)

    return command


@pytest.fixture
def fake(tmp_path):
    return write_fake_run(tmp_path / "fake")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_text_model(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture
def recipe(tmp_path, model):
    (tmp_path / "lines.txt").write_text("\n".join(tiny.SENTENCES * 5))
    path = tmp_path / "tiny.toml"
    path.write_text(f'[model]\nid = "{model}"\n[data]\nsource = "{tmp_path}/lines.txt"\n[maps.pca]\n')
    return path


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_an_example_and_few_options(verb):
    shown = CliRunner().invoke(cli, [verb.name, "--help"])
    assert shown.exit_code == 0
    assert f"Example:  attnviz {verb.name}" in " ".join(shown.output.split()).replace("Example: ", "Example:  ")
    assert len([parameter for parameter in verb.params if parameter.param_type_name == "option"]) <= 8


def test_run_info_export_and_again(attnviz_command, recipe, tmp_path):
    out = tmp_path / "runs" / "tiny"
    first = attnviz_command("run", recipe, "--out", out, "--workers", "1")
    assert first.returncode == 0, first.stderr
    assert re.search(r"capture (\d+)/\1\n", first.stdout)
    assert "Traceback" not in first.stderr
    again = attnviz_command("run", recipe, "--out", out)
    assert again.returncode == 0
    assert "is finished: nothing to do" in again.stdout
    described = json.loads(attnviz_command("info", out, "--json").stdout)
    points = 2 * described["tokens"]
    assert described["maps"]["pca"]["scores"]["trustworthiness"]["mean"] > 0.5
    shown = attnviz_command("info", out)
    assert f"{points} points a head" in shown.stdout
    exported = attnviz_command("export", out, "--layers", "1", "--heads", "0,2", "--out", tmp_path / "t.csv")
    assert f"{2 * points:,} rows" in exported.stdout
    table = pd.read_csv(tmp_path / "t.csv")
    assert len(table) == 2 * points
    assert set(table["head"]) == {0, 2}


def test_info_shows_every_score_of_every_head(attnviz_command, fake):
    shown = attnviz_command("info", fake, "--heads", "--map", "umap_3d")
    assert shown.returncode == 0, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines() if re.match(r"\s+[01]\s+[0-3] ", line)]
    scores = RunDirectory(fake).scores("umap_3d")
    assert [(int(layer), int(head)) for layer, head, *_ in lines] == [*scores.index]
    assert [row[3:] for row in lines] == [[f"{value:.2f}" for value in row] for row in scores.to_numpy()]
    told = json.loads(attnviz_command("info", fake, "--heads", "--json").stdout)["head_scores"]
    assert (told["map"], len(told["heads"])) == ("pca", 8)
    assert told["heads"][0].keys() == {"layer", "head", "joint_spearman", *METRICS}
    assert "head_scores" not in json.loads(attnviz_command("info", fake, "--json").stdout)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--map", "umap"], "Give --heads too"), (["--heads", "--map", "umpa"], "did you mean 'umap'")],
)
def test_info_mistakes(attnviz_command, fake, words, sentence):
    done = attnviz_command("info", fake, *words)
    assert (done.returncode, sentence in done.stderr) == (1, True), done.stderr


def test_info_of_a_run_without_maps_and_of_an_early_one(attnviz_command, tmp_path):
    bare = attnviz_command("info", write_fake_run(tmp_path / "bare", maps=()), "--heads")
    assert (bare.returncode, "has no maps yet" in bare.stderr) == (1, True), bare.stderr
    early = attnviz_command("info", ARCHIVE, "--heads")
    assert early.returncode == 0, early.stderr
    assert "recall" in early.stdout
    assert "top1" not in attnviz_command("info", ARCHIVE).stdout


def test_check_prints_a_table_and_exits_with_the_verdict(attnviz_command, model):
    done = attnviz_command("check", model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("yes") == 2
    assert "causal" in done.stdout


def test_check_exits_1_when_attention_differs(monkeypatch, attnviz_command, model):
    import attnviz.capture  # noqa: F401

    module = sys.modules["attnviz.capture.check"]  # the package offers the function of that name
    monkeypatch.setattr(
        module, "weights", lambda query, key, info: np.zeros((4, query.shape[1], query.shape[1]), np.float32)
    )
    done = attnviz_command("check", model)
    assert done.returncode == 1
    assert "yes" not in done.stdout


def test_project_adds_a_map(attnviz_command, fake):
    done = attnviz_command("project", fake, "flat", "--method", "pca")
    assert done.returncode == 0, done.stderr
    assert "flat" in RunDirectory(fake).maps
    twice = attnviz_command("project", fake, "flat", "--method", "pca")
    assert (twice.returncode, "has a map 'flat' already" in twice.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "nowhere.toml"], "nowhere.toml does not exist"),
        (["run", "minilm_doc"], "did you mean 'minilm_docs'"),
        (["run", "minilm_docs", "data.max_token=3"], "did you mean 'max_tokens'"),
        (["info", "/nonexistent"], "holds no manifest.json"),
        (["check", "builtin:nothing"], "no built-in model 'nothing'"),
        (["check", "package:nopackage/model"], "pip install nopackage"),
        (["check", "/nonexistent/model"], "cannot be loaded"),
    ],
)
def test_mistakes_are_one_sentence(attnviz_command, words, sentence):
    done = attnviz_command(*words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "cvs"], "did you mean 'csv'"),
        (["--map", "umpa"], "did you mean 'umap'"),
        (["--layers", "7"], "holds layers 0, 1; layer 7"),
        (["--layers", "a"], "give numbers with commas"),
        (["--heads", "9"], "no such heads"),
    ],
)
def test_export_mistakes(attnviz_command, fake, words, sentence):
    done = attnviz_command("export", fake, *words)
    assert (done.returncode, sentence in done.stderr) == (1, True), done.stderr


def test_newer_schema_names_what_is_read(attnviz_command, fake):
    manifest = fake / layout.MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    done = attnviz_command("info", fake)
    assert (done.returncode, "schema_version 2; this attnviz reads 1" in done.stderr) == (1, True)


def test_a_run_on_a_read_only_place_is_a_sentence(attnviz_command, recipe, tmp_path):
    """Root may write anywhere, so the place here is one where nobody may: below a file."""
    (tmp_path / "file").write_text("")
    done = attnviz_command("run", recipe, "--out", tmp_path / "file" / "run")
    assert (done.returncode, "cannot be written" in done.stderr) == (1, True), done.stderr
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        done = attnviz_command("run", recipe, "--out", tmp_path / "locked" / "run")
        assert "Choose a folder that you may write to" in done.stderr


WITHOUT = """
import sys

class Hide:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("panel", "torch"):
            raise ModuleNotFoundError(f"No module named {name}", name=name)

sys.meta_path.insert(0, Hide())
from attnviz.cli import main
main()
"""


@pytest.mark.parametrize(("verb", "extra"), [("view", "dashboard"), ("check", "capture")])
def test_a_missing_extra_names_the_command(fake, verb, extra):
    done = subprocess.run([sys.executable, "-c", WITHOUT, verb, str(fake)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'attnviz[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_info_works_where_torch_is_not_installed(fake):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "info", str(fake)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
