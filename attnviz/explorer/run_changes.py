"""What has happened to a run since a page took what it offers: replaced, gone, or given other maps.

A page keeps tables and walls; so it says that there is something new, and shows it when it is loaded again. Nothing old is mixed
with it: whoever reads from a replaced run is refused, see ``store.edition``.
"""

import time
from pathlib import Path

from attnviz.errors import DatasetError
from attnviz.store import RunDirectory, layout
from attnviz.store.edition import FileStamp, stamp_of

__all__ = ["RunChanges"]

SECONDS = 1.0  # between two looks


class RunChanges:
    """Looks at the files of one run, at most once a second."""

    def __init__(self, run: RunDirectory) -> None:
        self._run, self._looked, self._said = run, time.monotonic(), ""
        self._maps = _map_stamps(run.path)

    def look(self, *, now: bool = False) -> str:
        """Return what has changed as a sentence, an empty one if nothing has; ``now``: even if the last look was just before."""
        if now or time.monotonic() - self._looked >= SECONDS:
            self._looked, self._said = time.monotonic(), self._say()
        return self._said

    def _say(self) -> str:
        run = self._run
        try:
            run.require_same()
        except DatasetError:
            if stamp_of(run.path / layout.MANIFEST_FILE) is None:
                return f"Run {run.name} was moved or deleted. What was read before is still shown."
            return f"Run {run.name} was replaced{_at(run.path)}. Reload to see the new one."
        maps = _map_stamps(run.path)
        made = [name for name in maps if maps[name] != self._maps.get(name)]
        gone = [name for name in self._maps if name not in maps]
        added = [name for name in made if name not in self._maps]
        again = [name for name in made if name in self._maps]
        said = [
            f"{'Map' if len(names) == 1 else 'Maps'} {', '.join(names)} {'was' if len(names) == 1 else 'were'} {what}"
            for names, what in ((added, "added"), (again, "made again"), (gone, "removed"))
            if names
        ]
        return f"{'; '.join(said)}. Reload to see the run as it is now." if said else ""


def _map_stamps(folder: Path) -> dict[str, FileStamp | None]:
    return {file.parent.name: stamp_of(file) for file in sorted((folder / "maps").glob(f"*/{layout.MAP_FILE}"))}


def _at(folder: Path) -> str:
    """Return when a folder was put where it is."""
    try:
        return time.strftime(" at %H:%M", time.localtime(folder.stat().st_ctime))
    except OSError:
        return ""
