"""Replacing one run by another: in one step, touching nothing that is not ours, and to its end even if it was killed on the way.

The new run is made in a hidden folder of its own beside the old one, ``.NAME.XXXXXXXX.attnviz``; a marker file in it says which
run it is for and is locked while its maker lives. When the new run is complete, the two change places: at once where the system
can (Linux, ``renameat2``), else by two renames. Then the folder is removed, marker last. A maker that fails or is interrupted
removes it too and leaves the old run. One that was killed leaves it to the next start (``recover``): if the run's name is free,
because the kill came between the two renames, the new run gets it.
"""

import ctypes
import glob
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attnviz.errors import DatasetError
from attnviz.store import layout
from attnviz.store.write import explain, sync

try:
    import fcntl
except ImportError:  # on Windows a second start cannot tell that the first still lives
    fcntl = None  # type: ignore[assignment]

__all__ = ["recover", "replacing", "require_replaceable"]

_MARKER = "replaces.json"
_NEW, _OLD = "new", "old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_BY_THE_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini"}  # which file managers leave anywhere


def require_replaceable(run: Path) -> None:
    """Make sure that a folder is a run and holds nothing else, so that removing it loses nothing. Raises ``DatasetError``."""
    if not (run / layout.RECIPE_FILE).is_file():
        raise DatasetError(
            f"{run} is no attnviz run, so --force does not replace it. Choose another folder with --out."
        )
    names = sorted(item.name for item in run.iterdir() if not item.name.endswith(layout.PARTIAL))
    if strange := [name for name in names if name not in layout.TOP_LEVEL | _BY_THE_SYSTEM]:
        raise DatasetError(
            f"{run} holds {', '.join(strange[:3])}{' …' if len(strange) > 3 else ''}, which no attnviz run has, so --force does "
            "not replace it. Move that elsewhere, or choose another folder with --out."
        )


@contextmanager
def replacing(run: Path) -> Iterator[Path]:
    """Give a folder to make a new run in; when the block ends, it takes the place of ``run``, which is removed.

    On any error in the block, Ctrl-C included, ``run`` stays as it was and what was made is removed.

    Raises
    ------
    DatasetError
        If nothing can be written beside the run, or the two cannot change places.
    """
    run = run.resolve()  # of a link, what it points to
    try:
        stage, lock = _begin(run)
    except OSError as error:
        raise DatasetError(explain(run.parent, error)) from error
    try:
        yield stage / _NEW
        try:
            _exchange(stage, run)
        except OSError as error:
            raise DatasetError(explain(run, error)) from error
    finally:
        _end(stage, run, lock)


def recover(run: Path) -> None:
    """Bring to its end what was begun with ``replacing`` and killed; leave what another process is at.

    Raises
    ------
    DatasetError
        If the run cannot be moved back to its name.
    """
    run = run.resolve()
    for stage in run.parent.glob(f".{glob.escape(run.name)}.*{layout.STAGE}"):
        lock = _lock(stage / _MARKER) if _is_for(stage, run) else None
        if lock is None:
            continue
        try:
            if not run.exists():
                _restore(stage, run)
        except OSError as error:
            os.close(lock)
            raise DatasetError(
                f"{run} was being replaced when that was killed, and cannot be put back: {error.strerror or error}. It lies in "
                f"{stage}: move it to {run}."
            ) from error
        _end(stage, run, lock)


def _begin(run: Path) -> tuple[Path, int]:
    """Make the hidden folder; its marker is locked before it gets its name."""
    stage = Path(tempfile.mkdtemp(prefix=f".{run.name}.", suffix=layout.STAGE, dir=run.parent))
    unnamed = stage / f".{_MARKER}"
    unnamed.write_text(json.dumps({"attnviz replaces": run.name}), "utf-8")
    lock = _lock(unnamed)
    assert lock is not None, "nobody else knows this file"
    unnamed.rename(stage / _MARKER)
    return stage, lock


def _exchange(stage: Path, run: Path) -> None:
    new, old = stage / _NEW, stage / _OLD
    if not _swapped(new, run):
        try:
            run.rename(old)
            new.rename(run)
        except BaseException:
            if not run.exists() and old.exists():
                old.rename(run)
            raise
    sync(run.parent)


def _swapped(one: Path, other: Path) -> bool:
    """Let two folders change places in one step, and tell whether the system could."""
    if sys.platform != "linux":
        return False
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    return call is not None and call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def _restore(stage: Path, run: Path) -> None:
    """Give the new run its place if it was killed between the two renames: only then are both runs in the hidden folder."""
    if (stage / _NEW).exists() and (stage / _OLD).exists():
        (stage / _NEW).rename(run)


def _end(stage: Path, run: Path, lock: int) -> None:
    """Remove the hidden folder: what is in it, then the marker, so that one that is half removed is known as ours."""
    if run.exists():  # else the only complete run is in here
        for part in (_NEW, _OLD):
            shutil.rmtree(stage / part, ignore_errors=True)
    os.close(lock)
    if not any((stage / part).exists() for part in (_NEW, _OLD)):
        (stage / _MARKER).unlink(missing_ok=True)
        with suppress(OSError):  # what else lies there is not ours
            stage.rmdir()


def _is_for(stage: Path, run: Path) -> bool:
    """Tell whether a folder is one of ours, for this run."""
    try:
        told = json.loads((stage / _MARKER).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("attnviz replaces") == run.name


def _lock(file: Path) -> int | None:
    """Lock a file until the process ends or closes it; None if another one has it."""
    handle = os.open(file, os.O_RDWR)
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # a file system without locks
            return handle
    return handle
