"""Patches as the points: crops of the pictures, with a border that says query or key."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from attnviz.explorer import library
from attnviz.plots.picture import decode_png, patch_pixels
from attnviz.plots.raster import Window
from attnviz.plots.theme import Theme
from attnviz.store import RunDirectory
from attnviz.types import FloatArray

__all__ = ["pixels", "thumbnails"]


@lru_cache(maxsize=512)
def pixels(run: RunDirectory, sequence: int) -> NDArray[np.uint8]:
    """Return the picture of a sequence, ``(height, width, 4)``."""
    return decode_png(run.image_png(sequence))


def thumbnails(
    run: RunDirectory, rows: NDArray[np.int64], placed: FloatArray, window: Window, theme: Theme
) -> dict[str, list[object]]:
    """Return the data of an image glyph for some points; a class token is an empty square."""
    columns = ["sequence_id", "patch_row", "patch_col"]
    places = run.tokens[columns].iloc[rows % run.num_tokens].fillna(-1).to_numpy(np.int64)
    side = float(np.clip(420 / max(len(rows), 1) ** 0.5, 18, 46)) * window.unit
    colors = np.where(rows >= run.num_tokens, theme.key, theme.query).tolist()
    grids = np.maximum(library.grids(run)[rows % run.num_tokens], 1).tolist()
    images: list[object] = [
        patch_pixels(pixels(run, sequence), (row, column), grid=tuple(grid), border=color, fill=theme.surface)
        for (sequence, row, column), color, grid in zip(places.tolist(), colors, grids, strict=True)
    ]
    x, y = (placed[rows, axis] - side / 2 for axis in (0, 1))
    sides = [side] * len(rows)
    return {"image": images, "x": x.tolist(), "y": y.tolist(), "dw": list(sides), "dh": list(sides)}
