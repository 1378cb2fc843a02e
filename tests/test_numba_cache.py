"""What numba keeps compiled is made anew when any code of ours in it changes."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import attnviz

ROOT = Path(attnviz.__file__).parent


def compiled_functions(tree):
    """Every function of a file that numba compiles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            words = " ".join(map(ast.unparse, node.decorator_list))
            if any(word in words for word in ("njit", "_compiled", "intrinsic")):
                yield node


FILES = [file for file in sorted(ROOT.rglob("*.py")) if "cache=True" in file.read_text("utf-8")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_compiled_and_kept_uses_nothing_of_other_files(file):
    """numba looks at the date of a function's own file alone: a helper or constant of another one would go stale."""
    tree = ast.parse(file.read_text("utf-8"))
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("attnviz")
        for alias in node.names
    }
    found = list(compiled_functions(tree))
    assert found
    for function in found:
        used = {node.id for statement in function.body for node in ast.walk(statement) if isinstance(node, ast.Name)}
        assert not used & ours, f"{file.name} {function.name} uses {used & ours}"


def test_all_files_that_keep_compiled_code_are_looked_at():
    assert {file.stem for file in FILES} == {"graph", "kernel", "nearest_kernel", "raster"}


SCRIPT = """
import numpy as np
from attnviz.maps import neighbors
points = np.arange(24, dtype=np.float32).reshape(12, 2) ** 2
print(neighbors(points, 2).indices.tolist())
"""


@pytest.mark.slow  # compiles twice
def test_a_change_of_the_innermost_loop_is_seen(tmp_path):
    """It was in a file of its own, whose date numba did not look at."""
    shutil.copytree(ROOT, tmp_path / "attnviz", ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def found():
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    before = found()
    assert list((tmp_path / "cache").rglob("*.nbi"))
    assert found() == before
    (changed,) = [f for f in (tmp_path / "attnviz" / "maps").glob("*.py") if "def _emit_tile" in f.read_text("utf-8")]
    text = changed.read_text("utf-8")
    wrong = text.replace('builder.fcmp_ordered("<=", sums[r], larger)', 'builder.fcmp_ordered(">", sums[r], larger)')
    assert wrong != text
    changed.write_text(wrong, "utf-8")
    assert found() != before
