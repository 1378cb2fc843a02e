"""The wall: every head of a map as one tile of a grid, layers down and heads across, ready to be rastered.

A tile is one unit wide and high. Each head is centred in its tile and scaled by one factor for all axes, because the
distances are what the map is about; heads differ in scale, so distances compare within a tile only. How a map is turned means
nothing either: on request every head is turned and flipped to lie like the one before it. The points lie as
``(tiles, points, dims)`` in float32, so that a zoomed window touches nothing but the tiles it shows; a point that a head does
not have, because its layer attends in another stream, is NaN there.

The layers of a stack (encoder, decoder, cross, a stage) lie together, with a little room between the stacks, although the
model runs a decoder's self and cross attention in turn: one compares a layer with the next of its kind.
"""

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from attnviz.maps import align_heads
from attnviz.store import RunDirectory
from attnviz.types import FloatArray, LayerInfo

__all__ = ["FILL", "Tile", "Wall", "in_rows", "lay_tiles", "look_closer", "prepare_wall", "turn"]

FILL = 0.88  # of a tile's side; the rest is the space between neighbours
FRAME = 0.95  # of a tile's side: how far a magnified head may reach
ROOM = 0.2  # tiles, between two stacks


@dataclass(frozen=True, slots=True)
class Tile:
    """Where one head lies on the wall."""

    layer: int
    head: int
    row: int
    column: int
    label: str  # of its layer, at the left of its row
    room: float = 0.0  # that lies between stacks above it
    out: bool = False  # left out: it lies nowhere

    @property
    def center(self) -> tuple[float, float]:
        """Its middle; y points up, so the first row has the largest. NaN if it is left out."""
        return (math.nan, math.nan) if self.out else (self.column + 0.5, -self.row - 0.5 - self.room)


@dataclass(frozen=True, slots=True)
class Wall:
    """All heads of one map. Read-only: sessions share it."""

    tiles: tuple[Tile, ...]
    points: FloatArray  # (tiles, points, dims), each head around 0 and within half a unit

    @property
    def shown(self) -> tuple[Tile, ...]:
        """The tiles that are not left out."""
        return tuple(tile for tile in self.tiles if not tile.out)

    @property
    def rows(self) -> int:
        """How many rows of tiles lie below each other."""
        return max(tile.row for tile in self.shown) + 1

    @property
    def height(self) -> float:
        """How high the wall is, in tiles."""
        return 0.5 - min(tile.center[1] for tile in self.shown)

    @property
    def columns(self) -> int:
        """How many tiles the widest row has."""
        return max(tile.column for tile in self.shown) + 1

    @property
    def dims(self) -> int:
        """2 or 3."""
        return int(self.points.shape[2])

    @property
    def centers(self) -> FloatArray:
        """Return the middle of every tile, ``(tiles, 2)``."""
        return np.array([tile.center for tile in self.tiles], np.float32)

    def index(self, layer: int, head: int) -> int | None:
        """Return the number of a head's tile, or None."""
        return next((i for i, tile in enumerate(self.tiles) if (tile.layer, tile.head) == (layer, head)), None)

    def points_of(self, layer: int, head: int) -> FloatArray:
        """Return where a head's points lie in its tile, ``(points, dims)``. Raises ``KeyError`` if there is no such head."""
        if (number := self.index(layer, head)) is None:
            raise KeyError(f"The wall has no layer {layer}, head {head}.")
        own: FloatArray = self.points[number]
        return own

    def tile_at(self, x: float, y: float) -> int | None:
        """Return the number of the tile under a place, or None between the last tile and the edge."""
        away = np.abs(self.centers - np.array([x, y])).max(axis=1)
        nearest = int(np.argmin(np.nan_to_num(away, nan=np.inf)))
        return nearest if away[nearest] <= 0.5 else None

    def inside(self, window: tuple[float, float, float, float]) -> NDArray[np.int32]:
        """Return the numbers of the tiles that a window ``(x0, x1, y0, y1)`` touches."""
        x0, x1, y0, y1 = window
        x, y = self.centers.T
        return np.flatnonzero((x > x0 - 0.5) & (x < x1 + 0.5) & (y > y0 - 0.5) & (y < y1 + 0.5)).astype(np.int32)


def prepare_wall(run: RunDirectory, name: str, *, alike: bool = False) -> Wall:
    """Read a map and place every head in its tile.

    Parameters
    ----------
    alike
        Whether each head is turned and flipped to lie like the one to its left, and the first of a layer like the first of the
        layer above in its stack: heads of different stacks share no points, or only half. Distances within a head stay.

    Raises
    ------
    DatasetError
        If the run has no such map or a file of it is missing.
    """
    placed = []
    for _, group in groupby(in_rows(run), key=_stack):
        layers = (run.coordinates(name, info.layer) for info in group)
        for heads in align_heads(layers) if alike else layers:
            placed += [_fit(points) for points in heads]
    points = np.stack(placed)
    points.setflags(write=False)
    return Wall(lay_tiles(run), points)


def lay_tiles(run: RunDirectory) -> tuple[Tile, ...]:
    """Return where every head of a run lies on a wall, row by row."""
    tiles: list[Tile] = []
    for stack, (_, group) in enumerate(groupby(in_rows(run), key=_stack)):
        for info in group:
            row = tiles[-1].row + 1 if tiles else 0
            tiles += [Tile(info.layer, head, row, head, info.label, ROOM * stack) for head in range(info.num_heads)]
    return tuple(tiles)


def in_rows(run: RunDirectory) -> list[LayerInfo]:
    """Return the layers of a run in the order in which they lie on the wall: stack by stack."""
    infos = list(run.layers.values())
    stacks = list(dict.fromkeys(map(_stack, infos)))
    return sorted(infos, key=lambda info: stacks.index(_stack(info)))


def _stack(info: LayerInfo) -> tuple[str, str, str]:
    return info.stack, info.query_stream, info.key_stream


def turn(points: FloatArray, azimuth: float, elevation: float) -> FloatArray:
    """Look at points from an angle: ``(..., 3)`` to ``(..., 2)`` by orthographic projection; 2-D points stay.

    Parameters
    ----------
    azimuth, elevation
        In degrees: around the vertical axis, then towards the viewer. (0, 0) shows x against y.
    """
    if points.shape[-1] == 2:
        return points
    a, e = np.radians([azimuth, elevation])
    right = [np.cos(a), 0, np.sin(a)]
    up = [np.sin(a) * np.sin(e), np.cos(e), -np.cos(a) * np.sin(e)]
    return np.asarray(points @ np.array([right, up], np.float32).T, np.float32)


def look_closer(points: FloatArray, x: float, y: float, zoom: float) -> FloatArray:
    """Magnify the same part of every head, ``(tiles, points, 2)``: what is around (x, y) fills the tile, the rest is NaN."""
    if zoom <= 1.0:
        return points
    half = np.float32(FRAME / 2 / zoom)
    middle = np.array([x, y], np.float32)
    inside = (np.abs(points - middle) <= half).all(axis=-1)
    return np.where(inside[..., None], (points - middle) * np.float32(zoom), np.float32(np.nan))


def _fit(points: FloatArray) -> FloatArray:
    """Centre a head and scale it into its tile; in 3-D by its radius, so that turning never leaves the tile."""
    finite = points[np.isfinite(points).all(axis=1)]
    if not len(finite):
        return points
    low, high = finite.min(axis=0), finite.max(axis=0)
    middle = (low + high) / 2
    size = (high - low).max() if points.shape[1] == 2 else 2 * np.linalg.norm(finite - middle, axis=1).max()
    fitted: FloatArray = (points - middle) * np.float32(FILL / max(float(size), 1e-12))
    return fitted
