"""The raster: any number of points in, one RGBA image of the visible window out.

Datashader sums the colours of the points that fall on each pixel; a pixel shows their mean, the more opaque the more points lie
there. Only the tiles that the window shows are handed over. 72 heads × 20,000 points on 1,150 × 760 pixels take 88 ms, 144
heads 129 ms, four of them 45 ms; the first call 1.4 s more, for compiling (2 shared cores, 2026-11-21). A numba kernel of our
own took 23 ms for the 72 and was given up: a well-kept library is worth the difference.
"""

from dataclasses import dataclass

import datashader as ds
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnviz.types import FloatArray

__all__ = ["Layer", "Window", "draw", "glyph_data", "spread_for", "warm"]

_SUMS = ds.summary(red=ds.sum("red"), green=ds.sum("green"), blue=ds.sum("blue"), count=ds.count("red"))


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
        sums = _canvas(window).points(_frame(points, centers, tiles, layer, window), "x", "y", _SUMS)
        count = sums["count"].data
        covered = np.nonzero(count)
        color = np.stack([sums[name].data[covered] for name in ("red", "green", "blue")], axis=1, dtype=np.float32)
        image[covered] = _lay_over(color, count[covered][:, None].astype(np.float32), layer.strength, image[covered])
    return (image * 255).astype(np.uint8).view(np.uint32).reshape(window.height, window.width)


def glyph_data(image: NDArray[np.uint32], window: Window) -> dict[str, list[object]]:
    """Return a raster as the data of an image glyph that fills the window it was drawn for."""
    x0, x1, y0, y1 = window.bounds
    return {"image": [image], "x": [x0], "y": [y0], "dw": [x1 - x0], "dh": [y1 - y0]}


def spread_for(visible: float, window: Window) -> float:
    """Return the radius in pixels at which ``visible`` points cover about a twelfth of the window, 0 to 3.5."""
    area = window.width * window.height / 12
    return float(np.clip(np.sqrt(area / max(visible, 1.0) / np.pi), 0.0, 3.5))


def warm() -> None:
    """Let Datashader compile, so that the first visitor does not wait for it."""
    points = np.zeros((1, 2, 2), np.float32)
    layer = Layer(np.zeros(1, np.int32), np.zeros((1, 2), np.uint8), np.zeros((2, 3), np.float32))
    window = Window(-1, 1, -1, 1, 2, 2)
    draw(points, np.zeros((1, 2), np.float32), tiles=np.zeros(1, np.int32), window=window, layers=[layer])


def _canvas(window: Window) -> ds.Canvas:
    return ds.Canvas(window.width, window.height, (window.x0, window.x1), (window.y0, window.y1))


def _frame(
    points: FloatArray, centers: FloatArray, tiles: NDArray[np.int32], layer: Layer, window: Window
) -> pd.DataFrame:
    """Return the points of some tiles with their colours; a larger point is several, one on each pixel of its disc."""
    whole = len(layer.rows) == points.shape[1]  # the usual case, in which nothing need be picked
    own = points[tiles] if whole else points[np.ix_(tiles, layer.rows)]
    codes = layer.codes[tiles] if len(layer.codes) > 1 else layer.codes
    colors = layer.table[codes if whole else codes[:, layer.rows]]
    disc = _disc(layer.radius) * np.array([window.unit, (window.y1 - window.y0) / window.height])
    columns = {}
    for axis, name in enumerate("xy"):
        places = own[:, :, axis] + centers[tiles, None, axis]
        columns[name] = (
            np.add.outer(disc[:, axis].astype(np.float32), places).ravel() if len(disc) > 1 else places.ravel()
        )
    shape = (len(disc), *own.shape[:2])
    for channel, name in enumerate(("red", "green", "blue")):
        columns[name] = np.broadcast_to(colors[:, :, channel], shape).ravel()
    return pd.DataFrame(columns, copy=False)


def _disc(radius: float) -> NDArray[np.float64]:
    """Return the pixels of a disc around its own; an even diameter is possible, and no size looks like a cross."""
    diameter = max(1, round(2 * radius))
    middle = (diameter - 1) / 2
    y, x = np.mgrid[0:diameter, 0:diameter] - middle
    inside = x**2 + y**2 <= (diameter / 2) ** 2
    return np.stack([np.floor(x[inside] + 0.5), np.floor(y[inside] + 0.5)], axis=1)


def _lay_over(color: FloatArray, count: FloatArray, strength: float, under: FloatArray) -> FloatArray:
    """Lay mean colours over ``under``; opacity grows with the logarithm of the count, up to 4 times its mean.

    Parameters
    ----------
    color
        Sums of the points' colours, ``(pixels, 3)``.
    count
        ``(pixels, 1)``, at least 1.
    under
        What is there already, ``(pixels, 4)`` in 0…1.
    """
    mean = count.mean() if len(count) else 1.0
    full = np.log1p(4 * mean - 3)
    least = min(0.95, max(0.42, 1.15 - 0.2 * mean))  # alone, a point must be seen; in a crowd it must not hide density
    alpha = strength * np.minimum(1, least + (1 - least) * np.log(count) / full if full > 0 else np.ones(count.shape))
    color = color / count
    grey = color.mean(axis=1, keepdims=True)
    vivid = 1.0 + 0.5 * (1 - 1 / count)  # a mean of many colours is duller than each of them
    color = np.clip(grey + (color - grey) * vivid, 0, 1)
    below = under[:, 3:] * (1 - alpha)
    both = alpha + below
    return np.concatenate([(color * alpha + under[:, :3] * below) / both, both], axis=1).astype(np.float32)
