"""The figure of a model over one sequence: a thumbnail of attention for every head, all of them one image."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnviz.plots.raster import Window
from attnviz.plots.theme import Theme
from attnviz.plots.wall import WallFigure, wall_figure
from attnviz.plots.weight_bar import mark_weights, weight_bar
from attnviz.types import FloatArray
from attnviz.views import Wall

__all__ = ["SIDE", "draw_thumbnails", "model_figure", "top_weight", "weight_colors"]

SIDE = 0.86  # of a tile: the thumbnail; the rest is the space between neighbours
SHADES = 256


def model_figure(wall: Wall, top: float, theme: Theme) -> WallFigure:
    """Draw the empty wall with its colour scale; the shades grow with the root of the weight, so that small ones are seen."""
    made = wall_figure(wall, theme)
    made.plot.name = "model"
    made.image.data_source.name = "model-image"
    bar = weight_bar(weight_colors(theme)[:, :3], theme)
    mark_weights(bar, top)
    made.plot.add_layout(bar, "right")
    return made


def top_weight(thumbnails: Mapping[int, FloatArray]) -> float:
    """Return the weight that has the strongest colour: the largest of all heads, so that heads compare."""
    return max((float(values.max()) for values in thumbnails.values()), default=1.0) or 1.0


def draw_thumbnails(
    thumbnails: Mapping[int, FloatArray], wall: Wall, *, window: Window, theme: Theme, top: float
) -> NDArray[np.uint32]:
    """Raster the thumbnails that the window shows, by the numbers of their tiles; each pixel is the mean of what it covers.

    Returns
    -------
    ``(height, width)`` pixels of R, G, B, A; row 0 is the bottom, as Bokeh wants it.
    """
    image = np.zeros((window.height, window.width), np.uint32)
    colors = weight_colors(theme).view(np.uint32)[:, 0]
    for tile in wall.inside(window.bounds).tolist():
        if tile not in thumbnails:
            continue
        x, y = wall.tiles[tile].center
        (left, right, wide), (low, high, tall) = (
            _span(x, window.x0, window.unit, window.width),
            _span(-y, -window.y1, (window.y1 - window.y0) / window.height, window.height),  # down, as pictures count
        )
        if right > left and high > low:
            values = _resized(thumbnails[tile], wide, tall, (right - left, high - low))
            shade = (np.sqrt(np.clip(values / top, 0, 1)) * (SHADES - 1)).astype(np.uint8)
            image[low:high, left:right] = colors[shade]
    return np.ascontiguousarray(image[::-1])


def weight_colors(theme: Theme) -> NDArray[np.uint8]:
    """Return the scale of weights, ``(shades, 4)``: from the paper over the accent to ink."""
    ends = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (theme.surface, theme.accent, theme.ink)]
    place = np.linspace(0, 1, SHADES)
    channels = [np.interp(place, [0, 0.7, 1], [end[channel] for end in ends]) for channel in range(3)]
    return np.stack([*channels, np.full(SHADES, 255)], axis=1).astype(np.uint8)


def _span(middle: float, start: float, unit: float, pixels: int) -> tuple[int, int, tuple[float, float]]:
    """Return the first pixel of a thumbnail along one side, the one after the last, and which share of it they show."""
    first, last = ((middle + sign * SIDE / 2 - start) / unit for sign in (-1, 1))
    begin, end = max(0, round(first)), min(pixels, round(last))
    size = max(last - first, 1e-9)
    return begin, end, (max(0.0, (begin - first) / size), min(1.0, (end - first) / size))


def _resized(
    values: FloatArray, wide: tuple[float, float], tall: tuple[float, float], size: tuple[int, int]
) -> FloatArray:
    rows, columns = values.shape
    box = (wide[0] * columns, tall[0] * rows, wide[1] * columns, tall[1] * rows)
    small = Image.fromarray(np.ascontiguousarray(values)).resize(size, Image.Resampling.BOX, box=box)
    return np.asarray(small, np.float32)
