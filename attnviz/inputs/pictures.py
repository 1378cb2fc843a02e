"""From pictures as they were stored to uint8 RGB: what is transparent gets a background, wide values get a scale.

Receives the Rows of a source, gives them *developed*: every picture tried, with notes on what was done to it. Values of more than
eight bits are scaled once per source and number type, by what the files say of their range or else by what they hold, over a
bounded sample: so two pictures of a source stay comparable, and which rows a run draws changes no pixel. The sample has a seed of
its own, for the same reason.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import InputError
from attnviz.inputs.pixels import Range, Seen, see, stores_wide
from attnviz.inputs.rows import Indexes, Rows, Skip
from attnviz.types import Record

__all__ = ["Picture", "background_color", "developed"]

Color = tuple[int, int, int]
_NAMED: dict[str, Color] = {"black": (0, 0, 0), "white": (255, 255, 255)}
_LOOKED_AT = 1024  # rows whose headers are read to find wide values
_MEASURED = 64  # pictures of wide values that are decoded to find their range
_SPREAD = 0.1  # fractions that use less of 0 to 1 than this are scaled by what they hold


def background_color(text: str) -> Color:
    """Return a colour that is written as white, black or ``#rrggbb``. Raises ``InputError``."""
    if text in _NAMED:
        return _NAMED[text]
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise InputError(f"data.background is {text!r}; accepted: white, black or a color as #rrggbb.")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


@dataclass(slots=True, eq=False)
class _Light:
    """What all pictures of a source are developed under."""

    background: str = "white"
    rows: Rows | None = None  # of the source, not developed; None: each picture is a source of its own
    ranges: dict[str, Range] | None = None  # by number type; None: not measured yet

    def range_of(self, seen: Seen) -> Range:
        """Return which value is black and which is white."""
        if self.ranges is None:
            self.ranges = self._measured()
        kind = seen.values.dtype
        # A type that the sample has not met is too rare for a range of the source.
        return _convention(kind, self.ranges.get(kind.name, seen.range))

    def _measured(self) -> dict[str, Range]:
        """Return the range of each number type, over a sample that depends on nothing but how many rows there are."""
        found: dict[str, list[Range]] = {}
        rows = self.rows or Rows(0, lambda indexes: iter(()))
        order = np.random.default_rng(0).permutation(rows.count)[:_LOOKED_AT].astype(np.int64)
        for first in range(0, len(order), _MEASURED):
            for item in rows.take(np.sort(order[first : first + _MEASURED])):
                if isinstance(item, Record) and isinstance(item.image, Picture) and (seen := item.image.wide()):
                    found.setdefault(seen.values.dtype.name, []).append(seen.range)
            if sum(map(len, found.values())) >= _MEASURED:
                break
        return {
            kind: (float(np.nanmin(ranges)), float(np.nanmax(ranges))) for kind, ranges in found.items() if _any(ranges)
        }


def _any(ranges: list[Range]) -> bool:
    return bool(np.isfinite(ranges).any())


def _convention(kind: np.dtype[Any], given: Range) -> Range:
    """Return the range to scale by: fractions from 0 to 1 keep their meaning, and what is constant is not stretched."""
    low, high = given
    if np.isnan(low):
        return 0.0, 1.0
    if kind.kind == "f" and low >= 0 and high <= 1 and (high - low >= _SPREAD or low == high):
        return 0.0, 1.0
    if low == high:
        top = float(np.iinfo(kind).max) if kind.kind in "iu" and kind.itemsize == 2 else 1.0
        return min(low, 0.0), max(high, top)
    return low, high


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture of a source, decoded when it is called: ten thousand photographs fit in no memory."""

    source: Path | bytes | NDArray[Any]  # an array is (height, width) or (height, width, 3)
    light: _Light = field(default_factory=_Light)

    def __call__(self) -> NDArray[np.uint8]:
        """Return the pixels, ``(height, width)`` or ``(height, width, 3)``."""
        made = self.develop()
        if isinstance(made, Skip):
            raise InputError(
                f"{self.source!s:.200} was a picture when the run began and is not now ({made.reason}). Do not change the data."
            )
        return made[0]

    def develop(self) -> tuple[NDArray[np.uint8], tuple[str, ...]] | Skip:
        """Return the pixels and what was done to them, or why there are none."""
        seen = self._seen()
        return seen if isinstance(seen, Skip) else _developed(seen, self.light)

    def wide(self) -> Seen | None:
        """Return what the picture holds if that has more than eight bits."""
        if not isinstance(self.source, np.ndarray) and not stores_wide(self.source):
            return None
        seen = self._seen()
        return None if isinstance(seen, Skip) or seen.values.dtype == np.uint8 else seen

    def _seen(self) -> Seen | Skip:
        return Seen(self.source) if isinstance(self.source, np.ndarray) else see(self.source)


def developed(rows: Rows, background: str) -> Rows:
    """Return the rows of a source with every picture tried; one that cannot be decoded becomes a counted skip."""
    background_color(background)  # a wrong one is refused before anything is read
    light = _Light(background, rows)

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        """Yield these rows with their pictures tried."""
        for item in rows.take(indexes):
            yield (
                _tried(item, item.image, light)
                if isinstance(item, Record) and isinstance(item.image, Picture)
                else item
            )

    return replace(rows, take=take)


def _tried(record: Record, picture: Picture, light: _Light) -> Record | Skip:
    picture = replace(picture, light=light)
    made = picture.develop()
    if isinstance(made, Skip):
        return replace(made, place=record.reference)
    return replace(record, image=picture, notes=(*record.notes, *made[1]))


def _developed(seen: Seen, light: _Light) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Scale, then lay on the background; return the pixels and what was done."""
    values, notes = seen.values, list(seen.notes)
    alpha = None if seen.alpha is None or seen.alpha.min(initial=255) == 255 else seen.alpha
    if alpha is not None:
        notes.append(f"transparent, laid on {light.background}")
    if values.dtype == np.bool_:
        values = values * np.uint8(255)
    if values.dtype != np.uint8:
        low, high = light.range_of(seen)
        black, white = ("white", "black") if seen.negative else ("black", "white")
        notes.append(f"{values.dtype.name} values scaled: {low:.6g} is {black}, {high:.6g} is {white}")
        there = _finite(values)
        values = _scaled(values, low, high, negative=seen.negative)
        if not there.all():
            notes.append(f"pixels without a value (NaN or infinite) became {light.background}")
            alpha = np.where(there, 255 if alpha is None else alpha, 0).astype(np.uint8)
    if alpha is not None:
        values = _laid(values, alpha, background_color(light.background))
    return values, tuple(notes)


def _finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which pixels have a value in every channel, ``(height, width)``."""
    finite: NDArray[np.bool_] = np.isfinite(values).reshape(*values.shape[:2], -1)
    pixels: NDArray[np.bool_] = np.logical_and.reduce(finite, axis=2)
    return pixels


def _scaled(values: NDArray[Any], low: float, high: float, *, negative: bool) -> NDArray[np.uint8]:
    """Return values as bytes, from ``low`` to ``high``; halves, because the range of float64 itself overflows."""
    finite = np.where(np.isfinite(values), values, low).astype(np.float64)
    shares = np.clip((finite / 2 - low / 2) / (high / 2 - low / 2), 0, 1)
    return np.rint((1 - shares if negative else shares) * 255).astype(np.uint8)


def _laid(values: NDArray[np.uint8], alpha: NDArray[np.uint8], background: Color) -> NDArray[np.uint8]:
    """Lay a picture on a background, ``(height, width, 3)``."""
    over = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    share = alpha[..., None].astype(np.float64) / 255
    return np.rint(over * share + np.array(background) * (1 - share)).astype(np.uint8)
