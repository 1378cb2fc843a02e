"""The command line: every verb, its example, and its sentence when something is wrong."""

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from attnviz.cli import cli, main
from attnviz.cli.verbs import VERBS
from attnviz.metrics import METRICS
from attnviz.schema import SCHEMA_VERSION
from attnviz.store import RunDirectory, layout
from attnviz.types import ModelSpec
from tests import tiny
from tests.fakes import write_fake_run

ARCHIVE = Path(__file__).parent / "archives" / "v1" / "run"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(name="attnviz_command")
def command_line(monkeypatch, capsys):
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
    named = {field.name for field in fields(ModelSpec)}  # what names a model is a recipe's [model], told once
    options = [one for one in verb.params if one.param_type_name == "option" and one.name not in named]
    assert len(options) <= 8


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
    told = re.search(
        r"check      attention is within (\S+) of the model's own from vectors as it had\s+them, (\S+) as\s+stored \(float16\)",
        shown.stdout,
    )
    exact, stored = map(float, told.groups())
    assert exact < 1e-5 < stored < 1e-2
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
    shown = attnviz_command("info", ARCHIVE).stdout
    assert "top1" not in shown
    assert re.search(r"check      rebuilt attention is within \S+ as stored \(float16\) of the model's own", shown)


def test_check_prints_a_table_and_exits_with_the_verdict(attnviz_command, model):
    done = attnviz_command("check", model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("yes") == 2
    assert "causal" in done.stdout


def test_check_exits_1_when_attention_differs(monkeypatch, attnviz_command, model):
    import attnviz.capturing  # noqa: F401

    module = sys.modules["attnviz.capturing.check"]  # the package offers the function of that name
    monkeypatch.setattr(module, "weights", lambda query, key, info, queries: np.zeros((4, len(queries), key.shape[1])))
    done = attnviz_command("check", model)
    assert done.returncode == 1
    assert "yes" not in done.stdout
    done = attnviz_command("check", "--all-families", "--only", "llama")
    assert done.returncode == 1
    assert "0 of 1 families exact" in done.stdout


def test_check_takes_what_a_recipe_says_of_a_model(attnviz_command, model):
    done = attnviz_command("check", model, "--dtype", "bfloat16", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["model"] == str(model)
    assert [layer["layer"] for layer in told["layers"]] == ["0", "1"]
    assert all(layer["ok"] and 1e-6 < layer["max_difference"] < 3e-2 for layer in told["layers"])
    before = json.loads(attnviz_command("check", model, "--rope", "before", "--json").stdout)
    assert all(layer["ok"] and layer["rebuilt"] and layer["rope"] == "before" for layer in before["layers"])


def test_check_all_families_in_three_ways(attnviz_command):
    chosen = ["check", "--all-families", "--only", "mistral", "--only", "beit", "--only", "longformer"]
    done = attnviz_command(*chosen)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert re.search(r"decoder +interface +2 4/2 +causal, window +\d\.\de-\d\d yes", rows["mistral"])
    assert re.search(r"vision +interface +2 4/4 +bias +\d\.\de-\d\d yes", rows["beit"])
    assert "longformer" in done.stdout
    assert "2 of 2 families exact" in done.stdout
    told = json.loads(attnviz_command(*chosen, "--json").stdout)
    assert [(one["name"], one["ok"]) for one in told["families"]] == [("mistral", True), ("beit", True)]
    assert [one["name"] for one in told["refused"]] == ["longformer"]
    table = attnviz_command(*chosen, "--table").stdout
    assert re.search(r"^\| transformers \| decoder \| 1 \| \d\.\de-\d\d \| mistral \|$", table, flags=re.M)


def test_check_shows_the_family_that_differs_and_why(monkeypatch, attnviz_command):
    from attnviz.errors import CaptureError
    from attnviz.pipeline import checking

    def changed(*_, **__):
        raise CaptureError("Capturing changes the output of tiny/llama by 1.0e+00: it cannot be trusted.")

    monkeypatch.setattr(checking, "check", changed)
    done = attnviz_command("check", "--all-families", "--only", "llama")
    assert done.returncode == 1
    assert "no  Capturing changes the output of tiny/llama" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "was given neither"),
        (["gpt2", "--all-families"], "was given MODEL 'gpt2' and --all-families"),
        (["gpt2", "--only", "llama"], "--only goes with --all-families"),
        (["gpt2", "--table"], "--table goes with --all-families"),
        (["--all-families", "--dtype", "float16"], "--dtype goes with a MODEL"),
        (["--all-families", "--table", "--json"], "Give one of them"),
        (["--all-families", "--only", "lama"], "did you mean 'llama'"),
    ],
)
def test_check_mistakes(attnviz_command, words, sentence):
    done = attnviz_command("check", *words)
    assert (done.returncode, sentence in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_project_adds_a_map(attnviz_command, fake):
    done = attnviz_command("project", fake, "flat", "--method", "pca")
    assert done.returncode == 0, done.stderr
    assert "flat" in RunDirectory(fake).maps
    twice = attnviz_command("project", fake, "flat", "--method", "pca")
    assert (twice.returncode, "has a map 'flat' already" in twice.stderr) == (1, True)


def test_a_device_can_be_chosen(monkeypatch, attnviz_command, recipe, fake, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run, project = ("run", recipe, "--out", tmp_path / "tiny"), ("project", fake, "flat", "--method", "pca")
    for words in (run, project):
        without = attnviz_command(*words, "--device", "cuda")
        assert (without.returncode, "'cuda', and torch is not installed or sees no GPU" in without.stderr) == (1, True)
        assert "Traceback" not in without.stderr
        unknown = attnviz_command(*words, "--device", "tpu")
        assert (unknown.returncode, "'auto', 'cpu', 'cuda'" in unknown.stderr) == (2, True)
        done = attnviz_command(*words, "--device", "cpu", "--workers", "1")
        assert done.returncode == 0, done.stderr
    assert RunDirectory(tmp_path / "tiny").maps["pca"].device == RunDirectory(fake).maps["flat"].device == "cpu"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "nowhere.toml"], "nowhere.toml does not exist"),
        (["run", "minilm_doc"], "did you mean 'minilm_docs'"),
        (["run", "minilm_docs", "data.max_token=3"], "did you mean 'max_tokens'"),
        (["info", "/nonexistent"], "holds no manifest.json"),
        (["check", "builtin:nothing"], "no built-in model 'nothing'"),
        (["check", "package:nopackage/model"], "pip install nopackage"),
        (["check", "/nonexistent/model"], "There is no folder /nonexistent/model."),
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
    ours = f'"schema_version": {SCHEMA_VERSION}'
    manifest.write_text(manifest.read_text().replace(ours, '"schema_version": 99'))
    done = attnviz_command("info", fake)
    assert (done.returncode, "schema_version 99; this attnviz reads 1, 2, 3." in done.stderr) == (1, True)


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


def broken(*given, **named):
    raise KeyError("planted in a\nlibrary")


@pytest.mark.parametrize("words", [["info"], ["export", "--to", "csv"], ["view"]])
def test_an_unexpected_error_is_one_sentence_with_its_details_in_a_file(
    attnviz_command, fake, words, monkeypatch, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("ATTNVIZ_DEBUG", raising=False)
    monkeypatch.setattr("attnviz.store.read.read_manifest", broken)
    done = attnviz_command(words[0], fake, *words[1:])
    (file,) = tmp_path.glob("attnviz-*.txt")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: KeyError: 'planted in a\\nlibrary'. This is a fault of attnviz, or of what it runs on. "
        f"To report it, send the details in {file}; attnviz --debug shows them at once.\n"
    )
    details = file.read_text("utf-8")
    assert "Traceback (most recent call last)" in details
    assert f"command: attnviz {words[0]}" in details
    assert file.stat().st_mode & 0o077 == 0  # it may tell what the data is called


@pytest.mark.parametrize("asked", ["option", "variable", "no folder for the file"])
def test_the_traceback_is_shown_to_whoever_asks(attnviz_command, fake, asked, monkeypatch, tmp_path):
    monkeypatch.setenv("ATTNVIZ_DEBUG", "1" if asked == "variable" else "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    monkeypatch.setattr("attnviz.store.read.read_manifest", broken)
    done = attnviz_command(*(["--debug"] if asked == "option" else []), "info", fake)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.endswith("This is a fault of attnviz, or of what it runs on.\n")


def test_stopping_is_no_error(attnviz_command, fake, monkeypatch):
    def stop(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("attnviz.store.read.read_manifest", stop)
    done = attnviz_command("info", fake)
    assert (done.returncode, done.stderr.strip()) == (130, "Stopped. Give the same command again to go on.")
