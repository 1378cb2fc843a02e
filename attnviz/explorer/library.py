"""What all sessions share: opened runs and prepared walls, read once per process and never changed.

A session holds some numbers; a wall of 144 heads × 20,000 points holds 23 MB. A run that is made again is opened anew by the next
session, and keys contain the stamp of the file of a map that is written last, so a map that is made again is read anew.
"""

from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from itertools import chain, count
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.store import RunDirectory, layout
from attnviz.store.edition import FileStamp, stamp_of
from attnviz.views import (
    CHANGED,
    KEPT,
    VOCABULARIES,
    Coloring,
    PositionMean,
    Trait,
    Vocabulary,
    Wall,
    color_points,
    find_punctuation,
    head_changes,
    head_numbers,
    match_tokens,
    mean_by_position,
    patch_grids,
    prepare_wall,
    present_points,
    read_number,
    read_traits,
    read_vocabulary,
    show_text,
    what_differs,
)
from attnviz.views.dimension import DIMENSION

Stamp = FileStamp | None

__all__ = [
    "coloring",
    "grids",
    "map_names",
    "matching",
    "mean_attention",
    "number",
    "numbers",
    "open_again",
    "open_runs",
    "present",
    "punctuation",
    "scores",
    "traits",
    "wall",
]


def open_runs(runs: Iterable[RunDirectory | str | Path]) -> dict[str, RunDirectory]:
    """Open runs by name; a second run of the same name has its folder behind it, or a number.

    Raises
    ------
    DatasetError
        If none is given, or one cannot be opened.
    """
    opened: dict[str, RunDirectory] = {}
    for given in runs:
        run = given if isinstance(given, RunDirectory) else _opened(Path(given).resolve())
        opened[_free_name(run, opened)] = run
    if not opened:
        raise DatasetError("The explorer was given no run. Give it at least one run directory.")
    return opened


def _free_name(run: RunDirectory, taken: Container[str]) -> str:
    """Return what a run is called: by its recipe, else by its folder too, which tells two runs of one recipe apart."""
    folder = [f"{run.name} ({run.path.name})"] if run.path.name != run.name else []
    numbered = (f"{run.name} ({number})" for number in count(2))
    return next(name for name in chain([run.name, *folder], numbered) if name not in taken)


def open_again(runs: Mapping[str, RunDirectory]) -> dict[str, RunDirectory]:
    """Return the runs as they are now, under their names; one that cannot be opened any more stays, and says so when it is read."""
    return {name: _reopened(run) for name, run in runs.items()}


def map_names(run: RunDirectory) -> list[str]:
    """Return the names of a run's complete maps; maps that show attention come first."""
    return sorted(run.maps, key=lambda name: (not name.startswith("attention"), "3d" in name, name == "pca"))


def wall(run: RunDirectory, name: str, *, alike: bool = False) -> Wall:
    """Return the wall of a map, its heads turned alike or as they were made."""
    stamp = _map_stamp(run, name)
    made = _wall(run, name, alike, stamp)
    if _map_stamp(run, name) != stamp:
        raise DatasetError(f"Map {name} of run {run.name} was made again while it was read. Reload the page to see it.")
    return made


def scores(run: RunDirectory, name: str) -> pd.DataFrame:
    """Return the scores of a map, one row per head; see ``RunDirectory.scores``."""
    return _scores(run, name, _map_stamp(run, name))


def coloring(run: RunDirectory, name: str, heads: tuple[tuple[int, int], ...], map_name: str) -> Coloring:
    """Return a coloring of some heads on a map; one that does not depend on them is shared by all."""
    if name in KEPT:
        return _coloring(run, name, heads, map_name, _map_stamp(run, map_name))
    return _coloring(run, name, heads if name == "norm" or name.startswith(DIMENSION) else ())


@lru_cache(maxsize=8)
def grids(run: RunDirectory) -> NDArray[np.int16]:
    """Return the patch grid each token stands in; see ``views.patch_grids``."""
    return patch_grids(run)


@lru_cache(maxsize=8)
def present(run: RunDirectory) -> dict[int, NDArray[np.bool_]]:
    """Return which points each layer has; see ``views.present_points``."""
    return present_points(run)


@lru_cache(maxsize=8)
def traits(run: RunDirectory) -> tuple[Trait, ...]:
    """Return what tokens can have in common; see ``views.read_traits``."""
    return read_traits(run)


def matching(run: RunDirectory, text: str, *, how: str, where: str, case: bool) -> NDArray[np.bool_]:
    """Return which tokens match; see ``views.match_tokens``. The distinct tokens or words are read once."""
    known = _vocabulary(run, where) if where in VOCABULARIES else None
    return match_tokens(run, text, how=how, where=where, case=case, vocabulary=known)


@lru_cache(maxsize=8)
def _vocabulary(run: RunDirectory, where: str) -> Vocabulary:
    return read_vocabulary(run, where)


@lru_cache(maxsize=8)
def punctuation(run: RunDirectory) -> NDArray[np.bool_]:
    """Return which tokens are punctuation; see ``views.find_punctuation``."""
    return find_punctuation(run)


def numbers(run: RunDirectory, runs: Mapping[str, RunDirectory]) -> dict[str, str]:
    """Return the numbers of every head, name and title: the run's own, and what changed from each run it can be held against."""
    others = [name for name, other in runs.items() if other is not run and _alike(run, other)]
    return head_numbers(run) | {f"{CHANGED}{name}": f"Changed from {show_text(name, longest=40)}" for name in others}


def number(run: RunDirectory, name: str, map_name: str, runs: Mapping[str, RunDirectory]) -> "pd.Series":
    """Return a number of every head; see ``views.read_number`` and ``views.head_changes``."""
    if name.startswith(CHANGED):
        return _changed(run, runs[name.removeprefix(CHANGED)])
    owner = name.rpartition(".")[0]
    return _number(run, name, map_name, (_map_stamp(run, map_name), _map_stamp(run, owner or map_name)))


@lru_cache(maxsize=64)
def _number(run: RunDirectory, name: str, map_name: str, stamps: tuple[Stamp, Stamp]) -> "pd.Series":
    return read_number(run, name, map_name=map_name)


@lru_cache(maxsize=64)
def _changed(run: RunDirectory, other: RunDirectory) -> "pd.Series":
    return head_changes(run, other)


@lru_cache(maxsize=256)
def _alike(run: RunDirectory, other: RunDirectory) -> bool:
    try:
        return not what_differs(run, other)
    except DatasetError:  # the other run's trouble is told where it is shown
        return False


@lru_cache(maxsize=256)
def mean_attention(
    run: RunDirectory, layer: int, head: int, *, special: bool, punctuation: bool, first: bool, values: bool
) -> PositionMean:
    """Return a head's mean attention by position; see ``views.mean_by_position``."""
    return mean_by_position(run, layer, head, special=special, punctuation=punctuation, first=first, values=values)


@lru_cache(maxsize=64)
def _coloring(
    run: RunDirectory, name: str, heads: tuple[tuple[int, int], ...], map_name: str = "", stamp: Stamp = None
) -> Coloring:
    return color_points(run, name, heads=heads, map_name=map_name)


@lru_cache(maxsize=8)
def _wall(run: RunDirectory, name: str, alike: bool, stamp: Stamp) -> Wall:
    return prepare_wall(run, name, alike=alike)


def _opened(path: Path) -> RunDirectory:
    return _open(path, stamp_of(path / layout.MANIFEST_FILE))


def _reopened(run: RunDirectory) -> RunDirectory:
    try:
        run.require_same()
    except DatasetError:
        try:
            return _opened(run.path)
        except DatasetError:
            return run
    return run


@lru_cache(maxsize=32)
def _open(path: Path, stamp: Stamp) -> RunDirectory:
    return RunDirectory(path)


@lru_cache(maxsize=16)
def _scores(run: RunDirectory, name: str, stamp: Stamp) -> pd.DataFrame:
    return run.scores(name)


def _map_stamp(run: RunDirectory, name: str) -> Stamp:
    return stamp_of(layout.map_dir(run.path, name) / layout.MAP_FILE)
