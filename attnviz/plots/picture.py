"""Pictures: a sequence of an image run with the attention of one token laid over it, and patches as thumbnails.

Under a heat the picture is grey, and the heat is as see-through as its weight is small: where nothing is attended to one sees the
picture, and where much is, its colour. Shades grow with the root of the weight, so that small weights are seen beside large ones.

Row 0 of an RGBA array is the bottom for Bokeh, and the top for everybody else: both are turned here and nowhere else.
"""

import io
from dataclasses import dataclass

import numpy as np
from bokeh.models import ColumnDataSource, GlyphRenderer, Rect
from bokeh.palettes import YlOrRd9
from bokeh.plotting import figure
from numpy.typing import NDArray
from PIL import Image

from attnviz.plots.figure import add_image, blank_figure
from attnviz.plots.theme import Theme
from attnviz.plots.weight_bar import mark_weights, weight_bar
from attnviz.types import FloatArray

__all__ = [
    "PictureFigure",
    "add_frame",
    "decode_png",
    "frame_data",
    "grey_pixels",
    "heat_colors",
    "heat_pixels",
    "image_data",
    "packed",
    "patch_pixels",
    "picture_figure",
    "small_pixels",
]

SIDE = 326  # pixels
LEGEND = 52  # pixels
GREYS = (56, 200)  # what black and white become under a heat
STRONGEST = 0.78  # how much of the picture the largest weight covers
RAMP = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in YlOrRd9[5:1:-1]]  # from amber to red
WARM = np.stack([np.interp(np.linspace(0, 3, 256), range(4), channel) for channel in zip(*RAMP, strict=True)], axis=1)
THUMB = 24  # pixels: the least side of a patch as a thumbnail


@dataclass(frozen=True, slots=True)
class PictureFigure:
    """The figure, in units of patches with the first row on top, and what the explorer fills."""

    plot: figure
    picture: ColumnDataSource
    heat: GlyphRenderer
    frame: ColumnDataSource  # x, y: the middle of the patch; width, height


def picture_figure(grid: tuple[int, int], theme: Theme, *, top: float) -> PictureFigure:
    """Draw an empty picture of ``grid`` patches with the scale of a heat up to ``top``."""
    rows, columns = grid
    plot = blank_figure("picture", (0, columns, -rows, 0), fill=theme.surface, move=False)
    plot.update(sizing_mode="fixed", width=SIDE, height=round(SIDE * rows / columns) + LEGEND)
    picture = add_image(plot, "picture-image").data_source
    heat = add_image(plot, "heat")
    bar = weight_bar(heat_colors(), theme, across=True)
    mark_weights(bar, top)
    plot.add_layout(bar, "below")
    return PictureFigure(plot, picture, heat, add_frame(plot, theme))


def add_frame(plot: figure, theme: Theme) -> ColumnDataSource:
    """Add frames around patches, seen on any picture; ``frame_data`` fills their source."""
    frame = ColumnDataSource({"x": [], "y": [], "width": [], "height": []}, name="patch-frame")
    for color, width in ((theme.surface, 5), (theme.accent, 2.5)):
        box = Rect(x="x", y="y", width="width", height="height", fill_color=None, line_color=color, line_width=width)
        plot.add_glyph(frame, box)
    return frame


def frame_data(place: tuple[int, int], grid: tuple[int, int], within: tuple[int, int]) -> dict[str, list[float]]:
    """Return the frame around a patch of one grid on a picture in units of another, as a stage's queries and keys may differ."""
    high, wide = within[0] / grid[0], within[1] / grid[1]
    row, column = place
    return {"x": [(column + 0.5) * wide], "y": [-(row + 0.5) * high], "width": [wide], "height": [high]}


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """Return a PNG as ``(height, width, 4)``, the first row on top. Raises ``ValueError`` if it is none."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert("RGBA"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def small_pixels(pixels: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """Return a picture with at most so many pixels a side: no more is sent than is seen."""
    high, wide = pixels.shape[:2]
    share = most / max(high, wide)
    if share >= 1:
        return pixels
    size = max(1, round(wide * share)), max(1, round(high * share))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def image_data(pixels: NDArray[np.uint8], grid: tuple[int, int]) -> dict[str, list[object]]:
    """Return pixels as the data of an image glyph that fills the picture."""
    rows, columns = grid
    return {"image": [packed(pixels)], "x": [0], "y": [-rows], "dw": [columns], "dh": [rows]}


def grey_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture in shades of grey, neither black nor white: the ground of a heat, or of arrows."""
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    grey = np.empty_like(pixels)
    grey[..., :3] = (GREYS[0] + light * (GREYS[1] - GREYS[0])).astype(np.uint8)[..., None]
    grey[..., 3] = pixels[..., 3]
    return grey


def heat_pixels(weights: FloatArray, top: float | None = None) -> NDArray[np.uint8]:
    """Return weights per patch as a heat: clear where there is none, warm and nearly opaque at ``top``, or the largest."""
    most = max(float(weights.max(initial=0)) if top is None else top, 1e-12)
    shade = np.sqrt(np.clip(weights / most, 0, 1))
    pixels = np.empty((*weights.shape, 4), np.uint8)
    pixels[..., :3] = WARM[np.rint(shade * (len(WARM) - 1)).astype(int)]
    pixels[..., 3] = np.rint(255 * STRONGEST * shade).astype(np.uint8)
    return pixels


def heat_colors() -> NDArray[np.uint8]:
    """Return the scale of a heat as it is seen on a picture of middle grey, ``(shades, 3)``."""
    cover = np.linspace(0, STRONGEST, len(WARM))[:, None]
    return np.rint(WARM * cover + np.mean(GREYS) * (1 - cover)).astype(np.uint8)


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
    row, column = place
    part = pixels[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
    inside = part if row >= 0 else np.full((1, 1, 4), _rgba(fill), np.uint8)
    times = max(1, -(-THUMB // max(1, min(inside.shape[:2]))))
    inside = inside.repeat(times, axis=0).repeat(times, axis=1)
    edge = max(2, min(inside.shape[:2]) // 9)
    framed = np.empty((inside.shape[0] + 2 * edge, inside.shape[1] + 2 * edge, 4), np.uint8)
    framed[:] = _rgba(border)
    framed[edge:-edge, edge:-edge] = inside
    return packed(framed)


def packed(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return pixels as Bokeh takes them: a number for each, the last row first."""
    turned = np.ascontiguousarray(pixels[::-1])
    return turned.view(np.uint32).reshape(turned.shape[:2])


def _rgba(color: str) -> tuple[int, int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16), 255
