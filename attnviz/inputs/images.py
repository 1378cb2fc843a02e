"""Pictures: a folder of image files, or an ``.npz`` of arrays.

Files become uint8 RGB, upright as their EXIF says, whatever they were stored as; the sub-folder becomes the attribute
``label``, as image data sets are usually laid out. Arrays stay grey if they came grey. A file that cannot be decoded, or
whose header promises a decompression bomb, is a counted skip: one bad file in a thousand should not stop a run.
"""

import io
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import InputError, nearest, require
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip
from attnviz.types import Record

__all__ = ["IMAGE_EXTENSIONS", "array_rows", "decode", "lazily", "read_folder", "read_npz"]

IMAGE_EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


def decode(file: Path | bytes) -> NDArray[np.uint8] | Skip:
    """Return an image file as ``(height, width, 3)``, or why that cannot be. Animations give their first frame."""
    image_module = require("PIL.Image", "capture")
    try:
        with warnings.catch_warnings():
            # Pillow only warns of a picture of 90 to 180 million pixels, and raises above.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            with image_module.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
                return _upright_rgb(picture)
    except (image_module.DecompressionBombError, image_module.DecompressionBombWarning):
        return Skip("image too large")
    except (OSError, ValueError, SyntaxError, EOFError):  # Pillow's decoders raise each of these on broken files
        return Skip("unreadable image")


def lazily(file: Path | bytes) -> Callable[[], NDArray[np.uint8]] | Skip:
    """Return what decodes an image file later, or why that cannot be: it is tried now, and not kept."""
    tried = decode(file)
    return tried if isinstance(tried, Skip) else partial(_decode_again, file)


def _decode_again(file: Path | bytes) -> NDArray[np.uint8]:
    image = decode(file)
    if isinstance(image, Skip):
        raise InputError(
            f"{file!s:.200} was a picture when the run began and is not now ({image.reason}). Do not change the data."
        )
    return image


def _upright_rgb(picture: Any) -> NDArray[np.uint8]:
    """Return the pixels as RGB, turned as the camera was held."""
    upright = require("PIL.ImageOps", "capture").exif_transpose(picture)
    if upright.mode.startswith("I;16"):  # Pillow would clip 16 bits to white
        grey = np.asarray(upright).astype(np.uint16) >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(upright.convert("RGB"), dtype=np.uint8).copy()


def read_folder(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a folder of image files, or a single one.

    Raises
    ------
    InputError
        If the folder holds no image.
    """
    root = Path(location)
    files = [root] if root.is_file() else _image_files(root)
    if not files:
        raise InputError(
            f"{location} holds no image: accepted are {', '.join(IMAGE_EXTENSIONS)}, in the folder or in sub-folders that "
            "name their label. A folder of another kind may be a data set: hub:" + location
        )
    base = root.parent if root.is_file() else root
    labelled = any(file.parent != base for file in files)

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for index in indexes.tolist():
            yield _file_record(files[index], base, labelled=labelled)

    return Rows(len(files), take)


def _image_files(root: Path) -> list[Path]:
    """Return the image files below a folder in a fixed order; hidden files are other programs' litter."""
    found = (path for path in root.rglob("*") if path.suffix.lower() in IMAGE_EXTENSIONS and path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def _file_record(file: Path, root: Path, *, labelled: bool) -> Record | Skip:
    if isinstance(image := lazily(file), Skip):
        return image
    place = file.relative_to(root)
    folder = place.parent.as_posix()
    label = {"label": None if folder == "." else folder} if labelled else {}
    return Record(place.as_posix(), image=image, attributes=label)


def read_npz(location: str, options: DataOptions, seed: int) -> Rows:
    """Open an ``.npz`` with an array ``images``, ``(n, h, w)`` or ``(n, h, w, 3)``, uint8 or float from 0 to 1.

    Every other one-dimensional array of length n becomes an attribute; arrays of other shapes say nothing about one image
    and are left out. Pickled arrays are refused: opening them could run anything.

    Raises
    ------
    InputError
        If the file is none, or ``images`` is missing or of another shape or type.
    """
    arrays = _load(location)
    if "images" not in arrays:
        raise InputError(
            f"{location} has no array 'images': {nearest('images', arrays)} Save it with numpy.savez(images=…)."
        )
    images = _as_bytes(location, arrays.pop("images"))
    attributes = {name: array for name, array in arrays.items() if array.shape == (len(images),)}
    return array_rows(images, attributes, Path(location).name)


def _load(location: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz``; a single ``.npy`` under that name is no archive."""
    try:
        with np.load(location, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise InputError(
            f"{location} cannot be read as an .npz ({error}). Accepted: arrays of numbers or strings without pickled "
            "objects, as numpy.savez writes them."
        ) from error


def _as_bytes(location: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return images as uint8, or say what is wrong with them."""
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    if shaped and images.dtype == np.uint8:
        return images
    if shaped and images.dtype.kind == "f" and images.size and images.min() >= 0 and images.max() <= 1:
        scaled: NDArray[np.uint8] = np.rint(images * 255).astype(np.uint8)
        return scaled
    raise InputError(
        f"{location}: 'images' is {images.dtype} of shape {images.shape}. Accepted: (n, height, width) or "
        "(n, height, width, 3), uint8, or float from 0 to 1. Convert it and save it again."
    )


def array_rows(images: NDArray[np.uint8], attributes: Mapping[str, NDArray[Any]], name: str) -> Rows:
    """Return the rows of a stack of images and of the arrays aligned with it."""

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for index in indexes.tolist():
            values = {key: array[index].item() for key, array in attributes.items()}
            yield Record(f"{name}:{index}", image=partial(images.__getitem__, index), attributes=values)

    return Rows(len(images), take)
