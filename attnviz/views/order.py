"""Heads by number: which numbers there are of heads, and the wall laid out by one of them in reading order.

A wall that is arranged keeps its points and the numbers of its tiles; what moves is where each tile lies, and a tile that is left
out lies nowhere. So the 23 MB of a wall of 144 heads are never copied for an order.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.metrics import HEADLINES
from attnviz.store import RunDirectory
from attnviz.types import FloatArray
from attnviz.views.wall import Tile, Wall

__all__ = ["CHANGED", "Arrangement", "arrange", "head_numbers", "include", "order_labels", "read_number"]

SHOWN = "map:"  # before a score of whichever map is shown
CHANGED = "changed:"  # before the name of another run: how much a head changed from it
FAITHFUL = "attention_recall"  # the score that says it best, where a map has it
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
    numbers |= {name: f"{_words(name)}, of vectors" for name in _own(run)}
    if len(maps) > 1:
        numbers |= {
            f"{name}.{score}": f"{_words(score)}, {name}" for name, info in maps.items() for score in info.metrics
        }
    return numbers


def order_labels(numbers: dict[str, str]) -> dict[str, str]:
    """Return what the orders by some numbers are called: name and label, with what is asked for most first."""
    faithful = [SHOWN + score for score in (FAITHFUL, *HEADLINES) if SHOWN + score in numbers][:1]
    most = {name: f"Most faithful: {_lower(numbers[name])}" for name in faithful}
    most |= {name: f"Most {_lower(title)}" for name, title in numbers.items() if name.startswith(CHANGED)}
    return most | {name: title for name, title in numbers.items() if name not in most}


def read_number(run: RunDirectory, name: str, *, map_name: str) -> "pd.Series":
    """Return a number of every head, indexed by (layer, head).

    Raises
    ------
    DatasetError
        If the run, or the map that is shown, does not have it.
    """
    if name in _own(run):
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
    kept = np.flatnonzero(_within(values, least, most) & [not tile.out for tile in wall.tiles])
    if not len(kept):
        low, high = ("any" if limit is None else f"{limit:g}" for limit in (least, most))
        raise DatasetError(f"No head has a number between {low} and {high} ({title}). Widen the range of heads.")
    ranked = kept[np.argsort(values[kept] if ascending else -values[kept], kind="stable")]
    return Arrangement(replace(wall, tiles=tuple(_laid_out(wall.tiles, ranked))), title, values)


def include(
    run: RunDirectory, wall: Wall, *, layers: Collection[int] | None = None, heads: Collection[int] | None = None
) -> Wall:
    """Lay out some of the heads as before, without gaps.

    Parameters
    ----------
    layers, heads
        Their numbers, those of layers counted in their stack; None: all.

    Raises
    ------
    DatasetError
        If no head is left.
    """
    if layers is None and heads is None:
        return wall
    numbers = {layer: layer if info.number is None else info.number for layer, info in run.layers.items()}
    kept = [
        (layers is None or numbers[tile.layer] in layers) and (heads is None or tile.head in heads)
        for tile in wall.tiles
    ]
    if not any(kept):
        raise DatasetError("The layers and heads to show name none of this run. Give numbers and ranges, as 0-3,8.")
    shown = [tile for tile, own in zip(wall.tiles, kept, strict=True) if own]
    rows, columns = (
        {place: number for number, place in enumerate(sorted(set(places)))}
        for places in zip(*[(tile.row, tile.column) for tile in shown], strict=True)
    )
    tiles = (
        replace(tile, row=rows[tile.row], column=columns[tile.column]) if own else replace(tile, out=True)
        for tile, own in zip(wall.tiles, kept, strict=True)
    )
    return replace(wall, tiles=tuple(tiles))


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


def _own(run: RunDirectory) -> list[str]:
    """Return the numbers of the vectors; none where their file is missing, which nothing else needs."""
    try:
        return [str(name) for name in run.heads.select_dtypes("number") if name not in PLAIN]
    except DatasetError:
        return []


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return words[0].upper() + words[1:]
