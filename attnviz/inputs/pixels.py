"""What one image file holds: its values as they were stored, before anything is scaled to eight bits.

Receives a path or bytes; gives ``Seen``: the values, upright as the EXIF says, what is transparent, and what the file says of its
darkest and brightest value. Pillow decides what can be read. Files of eight bits become RGB here, by their colour profile where
they have one: two pictures that look alike should be alike. Pillow keeps one byte of two of 16-bit colour; such a file is
decoded twice, once for each byte, which a round trip through its own decoders shows to be exact (2026-11-28).
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import require
from attnviz.inputs.rows import Skip

__all__ = ["Range", "Seen", "picture_extensions", "see", "stores_wide"]

Range = tuple[float, float]

# Documents, video and containers that Pillow knows of. Ghostscript would run what an EPS file says.
_NOT_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"})
_FULL = (0.0, 65535.0)
_LOW_BYTES = {  # raw modes of which Pillow keeps the high byte → those under which it keeps the low one
    "LA;16B": "RGBA",
    **{f"{mode};16B": f"{mode};16L" for mode in ("RGB", "RGBA", "RGBX")},
    **{f"{mode};16L": f"{mode};16B" for mode in ("RGB", "RGBA", "RGBX")},
    **{f"{mode};16N": f"{mode};16{'B' if np.little_endian else 'L'}" for mode in ("RGB", "RGBA", "RGBX")},
}
_ROUNDING = 2  # levels by which sRGB differs from itself on its way through littlecms
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT, _LOWEST, _HIGHEST = 258, 262, 339, 340, 341  # tags of TIFF


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture as it was stored."""

    values: NDArray[Any]  # (height, width) or (height, width, 3); uint8, or wider and still to be scaled
    alpha: NDArray[np.uint8] | None = None  # (height, width): 0 where nothing is, 255 where the picture is
    says: Range | None = None  # the file's own word on what is black and what is white
    significant: int | None = None  # bits that count, by the file's own word
    negative: bool = False  # whether the lowest value is white
    notes: tuple[str, ...] = ()

    @property
    def range(self) -> Range:
        """From the darkest value to the brightest: what the file says, or else what it holds. NaN where it holds none."""
        if self.says is not None:
            return self.says
        finite = self.values[np.isfinite(self.values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
        if self.significant is None:
            return low, high
        # PNG wants few bits spread over 16; cameras' software often leaves them at the lower end.
        return (0.0, 2.0**self.significant - 1) if high < 2**self.significant else _FULL


@lru_cache(maxsize=1)
def picture_extensions() -> frozenset[str]:
    """Return the extensions of the pictures that the installed Pillow reads, such as ``.png``."""
    image = require("PIL.Image", "capture")
    known = image.registered_extensions().items()
    return frozenset(extension for extension, name in known if name in image.OPEN and name not in _NOT_PICTURES)


@lru_cache(maxsize=64)
def _formats(extension: str) -> tuple[str, ...]:
    """Return the formats that a file may be of: those told by their first bytes, and the one that its extension names."""
    image = require("PIL.Image", "capture")
    named = image.registered_extensions().get(extension)
    return tuple(
        name for name in image.ID if name not in _NOT_PICTURES and (image.OPEN[name][1] is not None or name == named)
    )


@contextmanager
def _opened(file: Path | bytes) -> Iterator[Any]:
    """Open a picture. Pillow only warns of one of 90 to 180 million pixels, and raises above: here both raise."""
    image = require("PIL.Image", "capture")
    extension = "" if isinstance(file, bytes) else file.suffix.lower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", image.DecompressionBombWarning)
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        with image.open(source, formats=_formats(extension)) as picture:
            yield picture


def see(file: Path | bytes) -> Seen | Skip:
    """Decode a picture, or say why that cannot be. Of several frames the first is seen."""
    image = require("PIL.Image", "capture")
    try:
        with _opened(file) as picture:
            return _seen(picture, file)
    except (image.DecompressionBombError, image.DecompressionBombWarning):
        return Skip("image too large")
    except Exception:  # on broken files Pillow's decoders raise whatever their authors did not think of
        return Skip("unreadable image")


def stores_wide(file: Path | bytes) -> bool:
    """Tell from its header whether a picture holds values of more than eight bits."""
    try:
        with _opened(file) as picture:
            return _is_wide(picture)
    except Exception:  # as above; who decodes it says so
        return False


def _is_wide(picture: Any) -> bool:
    return picture.mode.startswith("I") or picture.mode == "F" or _low_mode(picture) is not None


def _low_mode(picture: Any) -> str | None:
    """Return the raw mode that gives the low bytes of 16-bit colour; None for any other picture."""
    modes = {tile.args if isinstance(tile.args, str) else (tile.args or [None])[0] for tile in picture.tile}
    return _LOW_BYTES.get(modes.pop()) if len(modes) == 1 else None


def _seen(picture: Any, file: Path | bytes) -> Seen:
    wide = _is_wide(picture)
    seen = (_wide if wide else _eight_bits)(picture, file)
    return replace(seen, notes=(*seen.notes, *_frames(picture)))


def _frames(picture: Any) -> tuple[str, ...]:
    """Say that only the first of several frames was read. Layers and a phone's second exposure are no frames."""
    try:
        several = getattr(picture, "is_animated", False) and picture.format not in ("MPO", "PSD")
    except Exception:  # what is broken lies behind the first frame, which is there
        several = False
    return ("first of several frames or pages",) if several else ()


def _upright(picture: Any) -> Any:
    """Return a picture turned as the camera was held."""
    return require("PIL.ImageOps", "capture").exif_transpose(picture)


def _wide(picture: Any, file: Path | bytes) -> Seen:
    """Return values of more than eight bits as they are, with what the file says of them."""
    tags = getattr(picture, "tag_v2", {})
    low, bits = _low_mode(picture), _significant_bits(file) if picture.format == "PNG" else None
    # Pillow spreads what a PGM holds over all 16 bits where its header names a lower maximum.
    spread = picture.mode == "I" and any(tile.codec_name.startswith("ppm") for tile in picture.tile)
    upright = _upright(picture)
    if low is not None:
        values, alpha = _sixteen_bit_colour(upright, _low_bytes(file, low, picture.mode), low)
    else:
        values, alpha = _numbers(upright, tags), None
        if (blank := upright.info.get("transparency")) is not None:
            alpha = np.where(values == blank, 0, 255).astype(np.uint8)
    return Seen(values, alpha, _FULL if spread else _declared(tags), bits, tags.get(_PHOTOMETRIC) == 0)


def _numbers(picture: Any, tags: Any) -> NDArray[Any]:
    """Return grey values in the type that they were stored in."""
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        return values.astype(np.uint16)
    unsigned = _first(tags.get(_BITS_PER_SAMPLE)) == 32 and _first(tags.get(_SAMPLE_FORMAT, 1)) == 1
    return values.view(np.uint32) if unsigned and values.dtype == np.int32 else values.copy()


def _low_bytes(file: Path | bytes, raw: str, mode: str) -> NDArray[np.uint8]:
    """Decode 16-bit colour a second time, keeping the byte that Pillow leaves out."""
    with _opened(file) as picture:
        tiles = picture.tile
        args = [raw if isinstance(tile.args, str) else (raw, *tile.args[1:]) for tile in tiles]
        picture.tile = [tile._replace(args=new) for tile, new in zip(tiles, args, strict=True)]
        if picture.mode != mode:
            raise ValueError(f"{mode} became {picture.mode}")
        return np.asarray(_upright(picture))


def _sixteen_bit_colour(
    picture: Any, low: NDArray[np.uint8], raw: str
) -> tuple[NDArray[np.uint16], NDArray[np.uint8] | None]:
    """Join high and low bytes; eight bits of alpha are enough."""
    high = np.asarray(picture)
    if raw == "RGBA":  # grey and alpha: all four bytes of a pixel came at once
        return _joined(low[..., 0], low[..., 1]), low[..., 2]
    return _joined(high[..., :3], low[..., :3]), high[..., 3] if picture.mode == "RGBA" else None


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return (high.astype(np.uint16) * 256 + low).astype(np.uint16)


def _declared(tags: Any) -> Range | None:
    """Return what a TIFF says of its darkest and brightest value."""
    low, high = _first(tags.get(_LOWEST)), _first(tags.get(_HIGHEST))
    if low is not None and high is not None and float(low) < float(high):
        return float(low), float(high)
    bits = _first(tags.get(_BITS_PER_SAMPLE))
    return (0.0, 2.0**bits - 1) if bits is not None and 8 < bits < 16 else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _significant_bits(file: Path | bytes) -> int | None:
    """Return what the chunk sBIT of a PNG says, which Pillow does not read; None without one."""
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4])
            if head[4:] == b"sBIT":
                bits = max(stream.read(length), default=0)
                return bits if 8 < bits < 16 else None
            stream.seek(length + 4, io.SEEK_CUR)
    return None


def _eight_bits(picture: Any, _: Path | bytes) -> Seen:
    """Return a picture of eight bits as RGB, with its transparency."""
    profile = picture.info.get("icc_profile")
    upright, alpha = _upright(picture), None
    if upright.mode == "La":
        upright = upright.convert("LA")
    space = _SPACES.get(upright.mode, "RGB")
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        alpha = np.asarray(upright.getchannel("A"))
    base = upright if upright.mode == space else upright.convert("L" if space == "L" else "RGB")
    rgb, notes = _srgb(base, profile)
    return Seen(np.asarray(rgb, dtype=np.uint8).copy(), alpha, notes=notes)


_SPACES = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK", "LAB": "LAB"}
"""Mode of a picture → the mode of its colours, where it is not RGB."""
_OF_PROFILE = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK", "LAB": "Lab "}


def _srgb(picture: Any, profile: bytes | None) -> tuple[Any, tuple[str, ...]]:
    """Return a picture as RGB by its colour profile; without one, as Pillow computes it."""
    note: tuple[str, ...] = ()
    if profile or picture.mode == "LAB":
        try:
            transform = _transform(profile or b"", picture.mode)
            if transform is not None:
                made = transform.apply(picture)
                return made, ("colours converted to sRGB by their profile",) if profile else ()
        except Exception:  # littlecms and its wrapper raise several kinds, none of them documented
            note = ("its colour profile cannot be read, and was not used",)
    return picture.convert("RGB"), note


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Any:
    """Return what converts a mode to sRGB; None where it is that already. A profile is of one mode."""
    cms = require("PIL.ImageCms", "capture")
    given = cms.ImageCmsProfile(io.BytesIO(profile) if profile else cms.createProfile("LAB"))
    if given.profile.xcolor_space != _OF_PROFILE[mode]:
        raise ValueError(f"a profile of {given.profile.xcolor_space} in a picture of {mode}")
    transform = cms.buildTransform(given, cms.createProfile("sRGB"), mode, "RGB")
    return transform if _changes(transform, mode) else None


def _changes(transform: Any, mode: str) -> bool:
    """Tell whether a profile makes other colours than none would: most are sRGB, under one name or another."""
    if mode not in ("L", "RGB"):
        return True
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    values = levels[None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), -1).reshape(64, 64, 3)
    probe = require("PIL.Image", "capture").fromarray(values)
    moved = np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB"))
    return int(np.abs(moved).max()) > _ROUNDING
