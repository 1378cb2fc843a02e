"""Whether a run is still the one that was opened.

A run is replaced by another under its name (``attnviz run --force``, a folder that is renamed), and maps are added to it, while
somebody reads it. The manifest is written once and last, so its file tells one edition of a run from the next; a ``_map.json``
does the same for a map. Tables are kept in memory and vectors are not, so each read is followed by a check: whatever was read
before a replacement counts. A check costs one ``stat``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from attnviz.errors import DatasetError
from attnviz.store import layout
from attnviz.store.manifest import Manifest, read_manifest

__all__ = ["Edition", "FileStamp", "stamp_of"]


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What changes when a file is written anew or another is put in its place."""

    mtime_ns: int
    inode: int
    size: int


def stamp_of(file: Path) -> FileStamp | None:
    """Return the stamp of a file; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return FileStamp(found.st_mtime_ns, found.st_ino, found.st_size)


class Edition:
    """The run that was opened in a folder.

    Parameters
    ----------
    folder, manifest
        The run.
    stamp
        Of the manifest's file before it was read; None where it is not written yet, and there is nothing to compare with.
    """

    def __init__(self, folder: Path, manifest: Manifest, stamp: FileStamp | None) -> None:
        self._folder, self._manifest, self._stamp = folder, manifest, stamp

    def require(self) -> None:
        """Make sure that the folder still holds this run. Raises ``DatasetError`` if another is in its place, or none."""
        file = self._folder / layout.MANIFEST_FILE
        now = stamp_of(file)
        if self._stamp is None or now == self._stamp:
            return
        name = f"Run {self._manifest.name}"
        if now is None:
            raise DatasetError(f"{name} is no longer at {self._folder}: it was moved or deleted since it was opened.")
        if read_manifest(file) != self._manifest:
            raise DatasetError(
                f"{name} at {self._folder} was replaced since it was opened, and old and new must not be mixed. Open it again."
            )
        self._stamp = now  # copied or touched: the same run

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Turn whatever goes wrong while reading ``path`` into one sentence: that the run is another, or what is wrong with it."""
        try:
            yield
        except FileNotFoundError as error:
            self.require()
            raise DatasetError(
                f"{path} is missing from the run. Give its `attnviz run` command again to make it."
            ) from error
        except (pa.ArrowException, OSError, KeyError, IndexError, ValueError) as error:
            self.require()
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DatasetError(
                f"{path} is damaged or not from attnviz: {reason}. Delete it and give the run's command again."
            ) from error
        self.require()
