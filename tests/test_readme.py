"""The README is true: its commands and its Python are executed, its links exist.

They run in an empty folder as written, with less data: ``attnviz run`` gets a few overrides appended, and maps get few epochs.
``make`` targets are looked up, not run, since this test is itself run by one of them.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from attnviz.cli import main
from attnviz.cli.verbs import VERBS
from attnviz.recipe import load_recipe
from tests import tiny

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
LESS = {
    "minilm_docs": [
        "data.source=builtin:sentences",
        "data.max_tokens=120",
        "capture.layers=[0,1,3]",
        "maps.umap.n_epochs=11",
        "maps.attention.n_epochs=11",
    ],
    "reviews.toml": ["maps.umap.n_epochs=11", "maps.umap_3d.n_epochs=11"],
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


COMMANDS = [line.split(" #")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder with what the README says a reader has: reviews.csv, reviews.toml, and a model in place of the hub's."""
    folder = tmp_path_factory.mktemp("reader")
    pd.DataFrame({"review": tiny.SENTENCES * 5, "stars": [1, 2, 3, 4] * 5}).to_csv(folder / "reviews.csv", index=False)
    (folder / "reviews.toml").write_text(blocks("toml")[0], "utf-8")
    tiny.save_text_model(folder / "model", "bert")
    return folder


@pytest.fixture
def execute(place, monkeypatch, capsys):
    """Run a command line in the reader's folder, in this process: UMAP compiles once, not once per command."""
    monkeypatch.chdir(place)

    def run(command):
        words = shlex.split(command)
        if words[:2] == ["attnviz", "run"]:
            words[3:3] = [*LESS[words[2]], "--workers=1"]
            words += ["model.id=model"] if words[2] == "reviews.toml" else []
        words += ["n_epochs=11", "--workers=1"] if words[1] == "project" else []
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return run


def test_commands_do_what_the_readme_says(place, execute):
    for command in COMMANDS:
        if command.startswith("attnviz ") and not command.startswith("attnviz view"):
            assert execute(command) == (0, ""), command
    assert (place / "data/runs/minilm_docs-pca.csv").is_file()
    assert (place / "data/runs/reviews/maps/umap_3d/_map.json").is_file()
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], cwd=place, check=True, timeout=120)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("attnviz view")])
def test_view_serves_a_page(command, place):
    import urllib.request

    from tests.fakes import write_fake_run

    write_fake_run(place / "viewed" / "data/runs/minilm_docs")
    words = [*shlex.split(command)[1:], "--port", "0"]
    program = [sys.executable, "-u", "-c", "from attnviz.cli import main; main()", *words]
    with subprocess.Popen(program, cwd=place / "viewed", stdout=subprocess.PIPE, text=True) as server:
        try:
            address = next(
                word for line in server.stdout for word in line.split() if word.startswith("http://127.0.0.1:")
            )
            with urllib.request.urlopen(address, timeout=60) as page:
                assert b"attnviz" in page.read()
        finally:
            server.terminate()


def test_panel_serves_the_dashboard(tmp_path):
    import urllib.request

    from tests.fakes import write_fake_run

    assert "panel serve dashboards/explorer.py --args" in README
    run = write_fake_run(tmp_path / "run")
    program = [
        sys.executable,
        "-m",
        "panel",
        "serve",
        str(ROOT / "dashboards/explorer.py"),
        "--port",
        "0",
        "--args",
        str(run),
    ]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = next(line for line in server.stderr if "http://localhost" in line)
            address = re.search(r"http://localhost:\d+/explorer", line)[0]
            with urllib.request.urlopen(address, timeout=60) as page:
                assert b"attnviz" in page.read()
        finally:
            server.terminate()


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    asked = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    assert {"demo", "test", "setup", "lint", "bench"} <= asked
    assert asked <= targets


def test_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == {"capture", "maps", "dashboard", "demo", "all", "dev"}
    for extra in ("capture", "maps", "dashboard", "demo"):
        assert f"`{extra}`" in README


def test_links_and_pictures_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len([link for link in links if link.endswith(".png")]) >= 3
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_verb_and_recipe_is_mentioned():
    for verb in VERBS:
        assert f"attnviz {verb.name}" in README or f"make {verb.name}" in README, verb.name
    for path in (ROOT / "pipelines").glob("*.toml"):
        assert path.stem in README
        load_recipe(path)
