"""Pictures: a sequence of an image run with the attention of one patch laid over it, and patches as thumbnails.

Row 0 of an RGBA array is the bottom for Bokeh, and the top for everybody else: both are turned here and nowhere else.
"""

import io
from dataclasses import dataclass

import numpy as np
from bokeh.models import ColumnDataSource, Rect
from bokeh.plotting import figure
from numpy.typing import NDArray
from PIL import Image

from attnviz.plots.figure import add_image, blank_figure
from attnviz.plots.theme import Theme
from attnviz.types import FloatArray

__all__ = ["PictureFigure", "decode_png", "frame_data", "heat_pixels", "image_data", "patch_pixels", "picture_figure"]

SIDE = 326  # pixels


@dataclass(frozen=True, slots=True)
class PictureFigure:
    """The figure, in units of patches with the first row on top, and what the explorer fills."""

    plot: figure
    picture: ColumnDataSource
    heat: ColumnDataSource
    frame: ColumnDataSource  # x, y: the middle of the patch; width, height


def picture_figure(grid: tuple[int, int], theme: Theme) -> PictureFigure:
    """Draw an empty picture of ``grid`` patches."""
    rows, columns = grid
    plot = blank_figure("picture", (0, columns, -rows, 0), fill=theme.surface, move=False)
    plot.update(sizing_mode="fixed", width=SIDE, height=round(SIDE * rows / columns))
    picture = add_image(plot, "picture-image").data_source
    heat = add_image(plot, "heat").data_source
    frame = ColumnDataSource({"x": [], "y": [], "width": [], "height": []}, name="patch-frame")
    for color, width in ((theme.surface, 5), (theme.accent, 2.5)):
        box = Rect(x="x", y="y", width="width", height="height", fill_color=None, line_color=color, line_width=width)
        plot.add_glyph(frame, box)
    return PictureFigure(plot, picture, heat, frame)


def frame_data(place: tuple[int, int], grid: tuple[int, int], within: tuple[int, int]) -> dict[str, list[float]]:
    """Return the frame around a patch of one grid on a picture in units of another, as a stage's queries and keys may differ."""
    high, wide = within[0] / grid[0], within[1] / grid[1]
    row, column = place
    return {"x": [(column + 0.5) * wide], "y": [-(row + 0.5) * high], "width": [wide], "height": [high]}


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """Return a PNG as ``(height, width, 4)``, the first row on top."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGBA"))


def image_data(pixels: NDArray[np.uint8], grid: tuple[int, int]) -> dict[str, list[object]]:
    """Return pixels as the data of an image glyph that fills the picture."""
    rows, columns = grid
    return {"image": [_packed(pixels)], "x": [0], "y": [-rows], "dw": [columns], "dh": [rows]}


def heat_pixels(weights: FloatArray) -> NDArray[np.uint8]:
    """Return weights per patch as a see-through heat map: dark where there is none, clear and warm where there is most."""
    share = weights / max(float(weights.max()), 1e-12)
    pixels = np.empty((*weights.shape, 4), np.uint8)
    pixels[..., :3] = (np.sqrt(share)[..., None] * [255, 120, 30]).astype(np.uint8)
    pixels[..., 3] = (185 - 70 * share).astype(np.uint8)
    return pixels


def patch_pixels(
    pixels: NDArray[np.uint8], place: tuple[int, int], *, grid: tuple[int, int], border: str, fill: str
) -> NDArray[np.uint32]:
    """Cut one patch out of a picture and frame it, packed for Bokeh.

    Parameters
    ----------
    place
        Row and column of the patch; (-1, -1) for a token that is none, which becomes ``fill``.
    border, fill
        Colours; the border is part of the pixels, so that what lies above covers it too.
    """
    high, wide = pixels.shape[0] // grid[0], pixels.shape[1] // grid[1]
    edge = max(1, high // 9)
    framed = np.empty((high + 2 * edge, wide + 2 * edge, 4), np.uint8)
    framed[:] = _rgba(border)
    row, column = place
    inside = pixels[row * high : (row + 1) * high, column * wide : (column + 1) * wide] if row >= 0 else _rgba(fill)
    framed[edge:-edge, edge:-edge] = inside
    return _packed(framed)


def _rgba(color: str) -> tuple[int, int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16), 255


def _packed(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    turned = np.ascontiguousarray(pixels[::-1])
    return turned.view(np.uint32).reshape(turned.shape[:2])
