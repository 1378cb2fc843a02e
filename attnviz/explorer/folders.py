"""Which runs a path stands for: itself, or, of a folder of runs, all of them. Looked up once, when the server starts."""

from collections.abc import Iterable
from pathlib import Path

from attnviz.errors import DatasetError
from attnviz.store import RunDirectory, layout

__all__ = ["runs_in"]


def runs_in(paths: Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the run directories that some paths stand for, and a sentence for each that is left out because it cannot be opened.

    A path that is no folder of runs is returned as it is, so that whoever opens it says what is wrong with it.
    """
    found: list[Path] = []
    left_out = []
    for path in map(Path, paths):
        inside = [] if (path / layout.MANIFEST_FILE).is_file() else _below(path)
        for folder in inside:
            try:
                found.append(RunDirectory(folder).path)
            except DatasetError as error:
                left_out.append(f"{folder.name} is left out: {error}")
        if not inside or not found:
            found.append(path)
    return list(dict.fromkeys(found)), left_out


def _below(path: Path) -> list[Path]:
    """Return the run directories that lie directly in a folder."""
    try:
        return sorted(file.parent for file in path.glob(f"*/{layout.MANIFEST_FILE}"))
    except OSError:
        return []
