"""The architecture, enforced: imports point one way, heavy libraries stay in their rooms, the house stays small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import attnviz

ROOT = Path(attnviz.__file__).parent
RANKS = {
    "errors": 0,
    "faults": 0,
    "types": 0,
    "schema": 0,
    "resources": 1,
    "attention": 1,
    "normalize": 1,
    "token_text": 1,
    "maps": 2,
    "metrics": 2,
    "inputs": 2,
    "models": 2,
    "capturing": 3,
    "store": 3,
    "recipe": 3,
    "pipeline": 4,
    "info": 4,
    "views": 4,
    "plots": 5,
    "export": 6,
    "explorer": 7,
    "api": 8,
    "cli": 9,
    "": 10,  # the package itself only resolves names
}
HEAVY = {
    "torch": {"capturing", "models", "maps/torch.py"},
    "transformers": {"capturing", "models"},
    "timm": {"capturing", "models"},
    "panel": {"explorer"},
    "bokeh": {"plots", "explorer"},
    "datashader": {"plots", "explorer"},
    "umap": {"maps"},
    "openTSNE": {"maps"},
    "numba": {"maps", "plots/raster.py"},
    "datasets": {"inputs"},
}


def modules():
    """Every file with the room it lies in."""
    files = [file for file in sorted(ROOT.rglob("*.py")) if "share" not in file.relative_to(ROOT).parts]
    return [(file, file.relative_to(ROOT).with_suffix("").parts[0].removesuffix("__init__")) for file in files]


def imports(file):
    """Every module that a file imports, anywhere in it, as dotted names."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the direction"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "attnviz" else [node.module]
            )
            yield from names


def test_every_room_has_a_rank():
    assert {room for _, room in modules()} <= set(RANKS)


@pytest.mark.parametrize(("file", "room"), modules(), ids=lambda value: getattr(value, "stem", value))
def test_imports_point_one_way(file, room):
    if not room:
        return
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "attnviz" and len(parts) > 1 and parts[1] in RANKS and parts[1] != room:
            assert RANKS[parts[1]] < RANKS[room], (
                f"{file.name} (rank {RANKS[room]}) imports {name} (rank {RANKS[parts[1]]})"
            )


@pytest.mark.parametrize(("file", "room"), modules(), ids=lambda value: getattr(value, "stem", value))
def test_heavy_libraries_stay_in_their_rooms(file, room):
    for name in imports(file):
        if (library := name.split(".")[0]) in HEAVY:
            places = {room, file.relative_to(ROOT).as_posix()}  # a whole room, or one file of it
            assert places & HEAVY[library], f"{file} imports {library}"


@pytest.mark.parametrize(
    "what", ["import attnviz", "import attnviz.cli", "import attnviz.recipe", "import attnviz; attnviz.open"]
)
def test_importing_loads_nothing_heavy(what):
    script = f"{what}\nimport sys\nprint([m for m in {sorted(HEAVY)} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_starts_without_pandas():
    """Pandas and pyarrow alone would make ``attnviz --help`` three times as slow."""
    script = "import attnviz.cli, sys; print([m for m in ('pandas', 'pyarrow', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names():
    assert attnviz.__all__ == [
        "Attention",
        "AttnvizError",
        "Recipe",
        "Run",
        "__version__",
        "capture",
        "load_recipe",
        "open",
        "run",
    ]
    for name in attnviz.__all__:
        value = getattr(attnviz, name)
        assert name == "__version__" or value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        attnviz.nothing  # noqa: B018


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_the_house_measure():
    lengths = []
    for file, _ in modules():
        text = file.read_text("utf-8")
        assert text.count("\n") <= 400, f"{file} has {text.count(chr(10))} lines"
        for node in functions(ast.parse(text)):
            length = node.end_lineno - node.lineno + 1
            assert length <= 80, f"{file}:{node.lineno} {node.name} has {length} lines"
            lengths.append(length)
    lengths.sort()
    assert lengths[len(lengths) // 2] <= 12
    assert lengths[len(lengths) * 9 // 10] <= 50


@pytest.mark.parametrize(("file", "room"), modules(), ids=lambda value: getattr(value, "stem", value))
def test_every_module_says_what_it_is_and_what_it_offers(file, room):
    tree = ast.parse(file.read_text("utf-8"))
    assert ast.get_docstring(tree), f"{file} has no docstring"
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    assert "__all__" in names, f"{file} has no __all__"
    for node in functions(tree):
        unannotated = [
            arg.arg for arg in node.args.args if arg.annotation is None and arg.arg not in ("self", "cls", "_")
        ]
        assert not unannotated or isinstance(node, ast.Lambda), f"{file}:{node.lineno} {node.name}: {unannotated}"
