"""The raster: any number of points in, one RGBA image of the visible window out.

A compiled loop sums the colours of the points that fall on each pixel; a pixel shows their mean, the more opaque the more points
lie there. Only the tiles that the window shows are handed over.

Datashader sums as well, and was given up here because it needs all points in one table first. On 1,150 × 760 pixels, medians of
five in turn, 2 shared cores, 2026-11-21 (`tests/bench/explorer.py`): 144 heads × 20,000 points 35 ms here, shading included,
43 ms for its sums alone; 1,024 heads 159 and 276; one head of 10 million 118 and 357, where 300 ms are all there is. Shading
in numpy took 60 ms more than in the compiled loop. The density is still Datashader's.

In two threads, a picture of 10 million points took 207 and 235 ms on the server, in one 321 and 294 (in turn, medians of 20).
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numba import njit
from numpy.typing import NDArray

from attnviz.types import FloatArray

__all__ = ["Layer", "Window", "draw", "glyph_data", "spread_for", "warm"]

LARGE = 2_000_000  # points of a raster, from which on they are summed in parts at the same time
PARTS = 2  # and not as many as there are cores: the last bits of a picture depend on it
HANDS = ThreadPoolExecutor(PARTS, thread_name_prefix="raster")


@dataclass(frozen=True, slots=True)
class Window:
    """What a figure shows: a rectangle in map units, and how many pixels it has."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: int
    height: int

    @property
    def unit(self) -> float:
        """How wide one pixel is, in map units."""
        return (self.x1 - self.x0) / self.width

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """``(x0, x1, y0, y1)``."""
        return self.x0, self.x1, self.y0, self.y1

    def holds(self, places: FloatArray) -> NDArray[np.bool_]:
        """Tell which places, ``(points, 2)``, lie inside."""
        x, y = places.T
        inside: NDArray[np.bool_] = (x >= self.x0) & (x <= self.x1) & (y >= self.y0) & (y <= self.y1)
        return inside


@dataclass(frozen=True, slots=True)
class Layer:
    """Points to draw over what is there already.

    Parameters
    ----------
    rows
        Numbers of the points to draw, the same in every tile.
    codes
        ``(1, points)`` or ``(tiles, points)``: rows of ``table``.
    table
        ``(codes, 3)``, colours in 0…1.
    radius
        Of a point, in pixels; 0 is one pixel.
    strength
        Multiplies the opacity.
    """

    rows: NDArray[np.int32]
    codes: NDArray[np.uint8]
    table: FloatArray
    radius: float = 0.0
    strength: float = 1.0


def draw(
    points: FloatArray, centers: FloatArray, *, tiles: NDArray[np.int32], window: Window, layers: list[Layer]
) -> NDArray[np.uint32]:
    """Raster some tiles.

    Parameters
    ----------
    points, centers
        ``(tiles, points, 2)`` around 0, and ``(tiles, 2)`` where 0 lies.
    tiles
        Numbers of the tiles to draw.

    Returns
    -------
    ``(height, width)``, each pixel four bytes R, G, B, A; row 0 is the bottom, as Bokeh wants it.
    """
    image = np.zeros((window.height, window.width, 4), np.float32)
    for layer in layers:
        _lay_over(_sums(points, centers, tiles, window, layer), layer.strength, image)
    return (image * 255).astype(np.uint8).view(np.uint32).reshape(window.height, window.width)


def _sums(
    points: FloatArray, centers: FloatArray, tiles: NDArray[np.int32], window: Window, layer: Layer
) -> FloatArray:
    """Return the sums of a layer's colours and how many points they are, ``(height, width, 4)``."""
    codes, disc = np.ascontiguousarray(layer.codes, np.uint8), _disc(layer.radius)
    frame = np.array([window.x0, window.y0, 1 / window.unit, window.height / (window.y1 - window.y0)], np.float32)

    def of(rows: NDArray[np.int32]) -> FloatArray:
        sums = np.zeros((window.height, window.width, 4), np.float32)
        _sum(points, centers, tiles, rows, codes, layer.table, disc, frame, sums)
        return sums

    parts = PARTS if len(tiles) * len(layer.rows) > LARGE else 1
    return reduce(np.add, HANDS.map(of, np.array_split(layer.rows, parts)))


def glyph_data(image: NDArray[np.uint32], window: Window) -> dict[str, list[object]]:
    """Return a raster as the data of an image glyph that fills the window it was drawn for."""
    x0, x1, y0, y1 = window.bounds
    return {"image": [image], "x": [x0], "y": [y0], "dw": [x1 - x0], "dh": [y1 - y0]}


def spread_for(visible: float, window: Window) -> float:
    """Return the radius in pixels at which ``visible`` points cover about a twelfth of the window, 0 to 3.5."""
    area = window.width * window.height / 12
    return float(np.clip(np.sqrt(area / max(visible, 1.0) / np.pi), 0.0, 3.5))


def warm() -> None:
    """Let the loops compile, so that the first visitor does not wait for it."""
    points = np.zeros((1, 2, 2), np.float32)
    layer = Layer(np.zeros(1, np.int32), np.zeros((1, 2), np.uint8), np.zeros((2, 3), np.float32))
    window = Window(-1, 1, -1, 1, 2, 2)
    draw(points, np.zeros((1, 2), np.float32), tiles=np.zeros(1, np.int32), window=window, layers=[layer])


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _sum(
    points: FloatArray,
    centers: FloatArray,
    tiles: NDArray[np.int32],
    rows: NDArray[np.int32],
    codes: NDArray[np.uint8],
    table: FloatArray,
    disc: NDArray[np.int64],
    frame: FloatArray,
    sums: FloatArray,
) -> None:
    """Add every point's colour, and 1, to the pixels of its disc that lie in the window; ``sums`` is ``(height, width, 4)``."""
    height, width = sums.shape[:2]
    for tile in tiles:
        own = codes[tile % len(codes)]
        x0, y0 = frame[0] - centers[tile, 0], frame[1] - centers[tile, 1]
        for row in rows:
            x, y = (points[tile, row, 0] - x0) * frame[2], (points[tile, row, 1] - y0) * frame[3]
            if not (-8 < x < width + 8 and -8 < y < height + 8):  # nor is a place that is no number
                continue
            color = table[own[row]]
            for i in range(len(disc)):
                across, up = int(np.floor(x)) + disc[i, 0], int(np.floor(y)) + disc[i, 1]
                if 0 <= across < width and 0 <= up < height:
                    pixel = sums[up, across]
                    pixel[0] += color[0]
                    pixel[1] += color[1]
                    pixel[2] += color[2]
                    pixel[3] += 1


def _disc(radius: float) -> NDArray[np.int64]:
    """Return the pixels of a disc around its own; an even diameter is possible, and no size looks like a cross."""
    diameter = max(1, round(2 * radius))
    middle = (diameter - 1) / 2
    y, x = np.mgrid[0:diameter, 0:diameter] - middle
    inside = x**2 + y**2 <= (diameter / 2) ** 2
    return np.stack([np.floor(x[inside] + 0.5), np.floor(y[inside] + 0.5)], axis=1).astype(np.int64)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _lay_over(sums: FloatArray, strength: float, image: FloatArray) -> None:
    """Lay mean colours over an image; opacity grows with the logarithm of the count, up to 4 times its mean.

    Parameters
    ----------
    sums
        Sums of the points' colours and how many they are, ``(height, width, 4)``.
    image
        What is there already, ``(height, width, 4)`` in 0…1; changed.
    """
    pixels, under = sums.reshape(-1, 4), image.reshape(-1, 4)
    covered = np.count_nonzero(pixels[:, 3])
    if covered == 0:
        return
    mean = pixels[:, 3].sum() / covered
    full = np.log1p(4 * mean - 3)
    least = min(0.95, max(0.42, 1.15 - 0.2 * mean))  # alone, a point must be seen; in a crowd it must not hide density
    for i in range(len(pixels)):
        count = pixels[i, 3]
        if count == 0:
            continue
        alpha = strength * min(1.0, least + (1 - least) * np.log(count) / full if full > 0 else 1.0)
        grey = (pixels[i, 0] + pixels[i, 1] + pixels[i, 2]) / (3 * count)
        vivid = 1.0 + 0.5 * (1 - 1 / count)  # a mean of many colours is duller than each of them
        below = under[i, 3] * (1 - alpha)
        for channel in range(3):
            color = min(1.0, max(0.0, grey + (pixels[i, channel] / count - grey) * vivid))
            under[i, channel] = (color * alpha + under[i, channel] * below) / (alpha + below)
        under[i, 3] = alpha + below
