"""Patches as the points: crops of the pictures, with an outline in the colour that the point would have."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.explorer import library
from attnviz.plots.picture import decode_png, patch_pixels
from attnviz.plots.raster import Window
from attnviz.plots.theme import Theme, hex_color
from attnviz.store import RunDirectory
from attnviz.types import FloatArray

__all__ = ["pixels", "pixels_or_none", "thumbnails"]

NOTHING = np.zeros((1, 1, 4), np.uint8)


@lru_cache(maxsize=512)
def pixels(run: RunDirectory, sequence: int) -> NDArray[np.uint8]:
    """Return the picture of a sequence, ``(height, width, 4)``. Raises ``DatasetError`` if it is missing or damaged."""
    data = run.image_png(sequence)
    try:
        return decode_png(data)
    except ValueError as error:
        raise DatasetError(f"The picture of sequence {sequence} of run {run.name} is damaged: {error}.") from error


def pixels_or_none(run: RunDirectory, sequence: int) -> NDArray[np.uint8] | None:
    """Return the picture of a sequence, or None where it is missing or damaged: what stands on it can still be shown."""
    try:
        return pixels(run, sequence)
    except DatasetError:
        return None


def thumbnails(
    run: RunDirectory, rows: NDArray[np.int64], placed: FloatArray, window: Window, theme: Theme, colors: FloatArray
) -> dict[str, list[object]]:
    """Return the data of an image glyph for some points; a class token is an empty square, and so is a picture that is lost.

    Parameters
    ----------
    colors
        Of the outlines, ``(rows, 3)``.
    """
    columns = ["sequence_id", "patch_row", "patch_col"]
    places = run.tokens[columns].iloc[rows % run.num_tokens].fillna(-1).to_numpy(np.int64)
    side = float(np.clip(420 / max(len(rows), 1) ** 0.5, 18, 46)) * window.unit
    grids = np.maximum(library.grids(run)[rows % run.num_tokens], 1).tolist()
    images: list[object] = []
    for (sequence, row, column), color, grid in zip(places.tolist(), colors, grids, strict=True):
        picture = pixels_or_none(run, sequence) if row >= 0 else None
        place, whole = ((row, column), picture) if picture is not None else ((-1, -1), NOTHING)
        images.append(patch_pixels(whole, place, grid=tuple(grid), border=hex_color(color), fill=theme.surface))
    x, y = (placed[rows, axis] - side / 2 for axis in (0, 1))
    sides = [side] * len(rows)
    return {"image": images, "x": x.tolist(), "y": y.tolist(), "dw": list(sides), "dh": list(sides)}
