"""Heads by number: which numbers there are of heads, and the wall laid out by one of them in reading order.

A wall that is arranged keeps its points and the numbers of its tiles; what moves is where each tile lies, and a tile that is left
out lies nowhere. So the 23 MB of a wall of 144 heads are never copied for an order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.metrics import HEADLINES
from attnviz.store import RunDirectory
from attnviz.types import FloatArray
from attnviz.views.wall import Tile, Wall

__all__ = ["Arrangement", "arrange", "head_numbers", "read_number"]

SHOWN = "map:"  # before a score of whichever map is shown
ASPECT = 1.5  # of a wall in reading order, about that of a window
PLAIN = ("kv_head", "head_dim")  # numbers that order nothing


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A wall in the order of a number."""

    wall: Wall
    title: str  # of the number
    numbers: FloatArray  # (tiles,), NaN where a head has none


def head_numbers(run: RunDirectory) -> dict[str, str]:
    """Return the numbers that heads can be ordered by: name and title, those of the shown map first."""
    maps = run.maps
    scores = dict.fromkeys(metric for info in maps.values() for metric in info.metrics)
    first = [name for name in HEADLINES if name in scores]
    numbers = {f"{SHOWN}{name}": _words(name) for name in dict.fromkeys([*first, *scores])}
    numbers |= {name: f"{_words(name)}, of vectors" for name in _own(run.heads)}
    if len(maps) > 1:
        numbers |= {
            f"{name}.{score}": f"{_words(score)}, {name}" for name, info in maps.items() for score in info.metrics
        }
    return numbers


def read_number(run: RunDirectory, name: str, *, map_name: str) -> "pd.Series":
    """Return a number of every head, indexed by (layer, head).

    Raises
    ------
    DatasetError
        If the run, or the map that is shown, does not have it.
    """
    if name in _own(run.heads):
        return run.heads[name]
    owner, _, score = (map_name, "", name.removeprefix(SHOWN)) if name.startswith(SHOWN) else name.rpartition(".")
    scores = run.scores(owner)
    if score not in scores:
        raise DatasetError(
            f"Map {owner!r} of run {run.name} has no score {score!r}. Order the heads by another number, or by layer and head."
        )
    return scores[score]


def arrange(
    wall: Wall,
    numbers: "pd.Series",
    title: str,
    *,
    ascending: bool = False,
    least: float | None = None,
    most: float | None = None,
) -> Arrangement:
    """Lay the tiles out in the order of a number, row by row; heads without one come last.

    Parameters
    ----------
    least, most
        Heads below and above are left out, and if either is given, so are those without a number.

    Raises
    ------
    DatasetError
        If no head is left.
    """
    values = np.array([numbers.get((tile.layer, tile.head), np.nan) for tile in wall.tiles], np.float32)
    kept = np.flatnonzero(_within(values, least, most))
    if not len(kept):
        low, high = ("any" if limit is None else f"{limit:g}" for limit in (least, most))
        raise DatasetError(f"No head has a number between {low} and {high} ({title}). Widen the range of heads.")
    ranked = kept[np.argsort(values[kept] if ascending else -values[kept], kind="stable")]
    return Arrangement(replace(wall, tiles=tuple(_laid_out(wall.tiles, ranked))), title, values)


def _laid_out(tiles: tuple[Tile, ...], ranked: NDArray[np.int64]) -> Iterator[Tile]:
    columns = int(np.ceil(np.sqrt(len(ranked) * ASPECT)))
    places = {int(number): divmod(place, columns) for place, number in enumerate(ranked)}
    for number, tile in enumerate(tiles):
        row, column = places.get(number, (0, 0))
        yield replace(tile, row=row, column=column, room=0.0, out=number not in places)


def _within(values: FloatArray, least: float | None, most: float | None) -> NDArray[np.bool_]:
    inside = np.ones(len(values), bool)
    if least is not None:
        inside &= values >= least
    if most is not None:
        inside &= values <= most
    return inside


def _own(heads: pd.DataFrame) -> list[str]:
    return [str(name) for name in heads.select_dtypes("number") if name not in PLAIN]


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return words[0].upper() + words[1:]
