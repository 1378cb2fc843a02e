"""The wall: every head of a map as one tile of a grid, layers down and heads across, ready to be rastered.

A tile is one unit wide and high. Each head is centred in its tile and scaled by one factor for all axes, because the
distances are what the map is about; heads differ in scale, so distances compare within a tile only. How a map is turned means
nothing either: on request every head is turned and flipped to lie like the one before it. The points lie as
``(tiles, points, dims)`` in float32, so that a zoomed window touches nothing but the tiles it shows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnviz.maps import align_heads
from attnviz.store import RunDirectory
from attnviz.types import FloatArray

__all__ = ["FILL", "Tile", "Wall", "prepare_wall", "turn"]

FILL = 0.88  # of a tile's side; the rest is the space between neighbours


@dataclass(frozen=True, slots=True)
class Tile:
    """Where one head lies on the wall."""

    layer: int
    head: int
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class Wall:
    """All heads of one map. Read-only: sessions share it."""

    tiles: tuple[Tile, ...]
    points: FloatArray  # (tiles, points, dims), each head around 0 and within half a unit

    @property
    def rows(self) -> int:
        """How many layers lie below each other."""
        return self.tiles[-1].row + 1

    @property
    def columns(self) -> int:
        """How many heads the widest layer has."""
        return max(tile.column for tile in self.tiles) + 1

    @property
    def dims(self) -> int:
        """2 or 3."""
        return int(self.points.shape[2])

    @property
    def centers(self) -> FloatArray:
        """Return the middle of every tile, ``(tiles, 2)``; y points up, so the first layer has the largest."""
        return np.array([(tile.column + 0.5, -tile.row - 0.5) for tile in self.tiles], np.float32)

    def index(self, layer: int, head: int) -> int | None:
        """Return the number of a head's tile, or None."""
        return next((i for i, tile in enumerate(self.tiles) if (tile.layer, tile.head) == (layer, head)), None)

    def tile_at(self, x: float, y: float) -> int | None:
        """Return the number of the tile under a place, or None between the last tile and the edge."""
        place = int(np.floor(-y)), int(np.floor(x))
        return next((i for i, tile in enumerate(self.tiles) if (tile.row, tile.column) == place), None)

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
        layer above. Distances within a head stay.

    Raises
    ------
    DatasetError
        If the run has no such map or a file of it is missing.
    """
    tiles, placed = [], []
    layers = (run.coordinates(name, layer) for layer in run.layers)
    for row, (layer, heads) in enumerate(zip(run.layers, align_heads(layers) if alike else layers, strict=True)):
        for head, points in enumerate(heads):
            tiles.append(Tile(layer, head, row, head))
            placed.append(_fit(points))
    points = np.stack(placed)
    points.setflags(write=False)
    return Wall(tuple(tiles), points)


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
