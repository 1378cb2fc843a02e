"""Which files of a folder are its pictures, and what the others are.

Receives a folder, gives its pictures in a fixed order, and a count of everything that was left out by a reason that names it.
What other programs leave behind (``.ipynb_checkpoints``, ``__MACOSX``, ``Thumbs.db``) would become labels and duplicates.
Linked folders are entered, because data sets are often put together from links: each real folder and file once, and under its
own name where it has one in the folder.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from attnviz.inputs.pixels import picture_extensions

__all__ = ["METADATA", "Found", "find", "plain"]

METADATA = ("metadata.csv", "metadata.jsonl")
"""What ``datasets`` calls a table that says more of the pictures beside it."""

_LITTER_FOLDERS = frozenset(
    {"#recycle", "$recycle.bin", "@eadir", "__macosx", "__pycache__", "lost+found", "system volume information"}
)
_LITTER_FILES = frozenset({"desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"})
# People take these for pictures too, so each is named; the rest of a folder is no picture to anybody.
_ALSO_PICTURES = frozenset(
    ".3fr .ai .arw .avif .avifs .avi .cr2 .cr3 .dcm .djvu .dng .emf .eps .exr .hdr .heic .heif .hif .jp2 .jxl .jxr .mkv .mov .mp4 "
    ".mpeg .mpg .nef .nii .nrrd .orf .pdf .ps .psb .raf .raw .rw2 .svg .svgz .svs .webm .webp .wmf .xcf".split()
)
_EXAMPLES = 3  # names in a reason


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds, by paths from it."""

    pictures: tuple[Path, ...]
    metadata: tuple[Path, ...]
    left_out: dict[str, int]


def find(root: Path) -> Found:
    """Walk through a folder and all below it."""
    walk = _Walk(root, os.path.realpath(root))
    walk.folder(Path())
    while walk.links:
        links, walk.links = sorted(walk.links), []
        for link in links:
            walk.link(link)
    return Found(tuple(sorted(walk.pictures)), tuple(sorted(walk.metadata)), walk.left_out())


def plain(name: str) -> str:
    r"""Return a name as text that can be stored: bytes that are no UTF-8 become ``\xe9``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass(slots=True)
class _Walk:
    """A walk under way."""

    root: Path
    real_root: str
    pictures: list[Path] = field(default_factory=list)
    read: set[str] = field(default_factory=set)  # real paths of pictures
    metadata: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)  # followed when every real folder was seen
    entered: set[str] = field(default_factory=set)  # real paths of folders
    reasons: Counter[str] = field(default_factory=Counter)
    named: dict[str, Counter[str]] = field(default_factory=dict)  # reasons that need examples

    def folder(self, place: Path) -> None:
        """Enter a folder, and those below it."""
        real = os.path.realpath(self.root / place)
        if real in self.entered:
            self.reasons["linked folder that is read already"] += 1
            return
        self.entered.add(real)
        try:
            with os.scandir(self.root / place) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            self.reasons["folder that cannot be opened"] += 1
            return
        for entry in found:
            if entry.is_symlink():
                self.links.append(place / entry.name)
            elif not entry.is_dir():
                self.file(place / entry.name, os.path.join(real, entry.name))
            elif _is_litter(entry.name, _LITTER_FOLDERS):
                files = sum(len(names) for _, _, names in os.walk(entry.path))
                self.name("in hidden folders", entry.name, files)
            else:
                self.folder(place / entry.name)

    def file(self, place: Path, real: str) -> None:
        """Sort a file in."""
        extension = place.suffix.lower()
        if _is_litter(place.name, _LITTER_FILES):
            self.name("hidden files", place.name)
        elif place.name in METADATA:
            self.metadata.append(place)
        elif extension in picture_extensions():
            self.pictures.append(place)
            self.read.add(real)
        elif extension in _ALSO_PICTURES:
            self.reasons[f"{extension} is not read: convert to .png"] += 1
        else:
            self.name("no picture", extension or "no extension")

    def link(self, place: Path) -> None:
        """Follow a link, unless it leads to what is read already or to a folder that holds all of this."""
        path = self.root / place
        real = os.path.realpath(path)
        if _is_litter(place.name, _LITTER_FOLDERS | _LITTER_FILES):
            self.name("hidden files", place.name)
        elif path.is_dir():
            if self.real_root.startswith(os.path.join(real, "")):
                self.reasons["linked folder that leads back up"] += 1
            else:
                self.folder(place)
        elif not path.is_file():
            self.reasons["broken link"] += 1
        elif real in self.read:
            self.reasons["link to a file that is read already"] += 1
        else:
            self.file(place, real)

    def name(self, reason: str, example: str, count: int = 1) -> None:
        """Count under a reason that gives examples."""
        self.named.setdefault(reason, Counter())[plain(example)] += count

    def left_out(self) -> dict[str, int]:
        """Return how many files were left out, by reason."""
        counts = dict(self.reasons)
        for reason, examples in self.named.items():
            names = [name for name, _ in examples.most_common(_EXAMPLES)]
            more = ", …" if len(examples) > len(names) else ""
            counts[f"{reason} ({', '.join(names)}{more})"] = examples.total()
        return {reason: count for reason, count in counts.items() if count}


def _is_litter(name: str, known: frozenset[str]) -> bool:
    """Tell what is hidden, or known to be of the system and not of the user."""
    return name.startswith(".") or name.lower() in known
