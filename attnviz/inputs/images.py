"""Pictures: a folder of image files, or an ``.npz`` of arrays.

Gives Records whose pictures are decoded, scaled and laid on a background later (``attnviz.inputs.pictures``). The folder of a
file becomes the attribute ``label``, as image data sets are usually laid out; a table beside the files that ``datasets`` would
read, ``metadata.csv`` or ``metadata.jsonl`` with a column ``file_name``, gives them more. Arrays stay grey if they came grey.
"""

import posixpath
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import InputError, nearest
from attnviz.inputs.delimited import read_csv
from attnviz.inputs.folders import Found, find, plain
from attnviz.inputs.lines import read_json_lines
from attnviz.inputs.pictures import Picture
from attnviz.inputs.pixels import picture_extensions
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip
from attnviz.types import Record

__all__ = ["array_rows", "read_folder", "read_npz"]


def read_folder(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a folder of image files, or a single one.

    Raises
    ------
    InputError
        If the folder holds no image.
    """
    root = Path(location)
    if root.is_file():
        return _folder_rows(root.parent, [Path(root.name)], {}, {})
    found = find(root)
    if not found.pictures:
        reasons = "".join(f" {count} × {reason}." for reason, count in found.left_out.items())
        raise InputError(
            f"{location} holds no image.{reasons} Accepted are {', '.join(sorted(picture_extensions()))}, in the folder or in "
            f"sub-folders that name their label. A folder of another kind may be a data set: hub:{location}"
        )
    left_out = Counter(found.left_out)
    described = _described(root, found, left_out)
    return _folder_rows(root, found.pictures, described, left_out)


def _folder_rows(
    root: Path, pictures: Sequence[Path], described: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, int]
) -> Rows:
    names = dict.fromkeys(name for row in described.values() for name in row)
    depth = max(len(place.parts) for place in pictures) - 1

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for index in indexes.tolist():
            place = pictures[index]
            attributes = _places(place, depth, labelled="label" in names)
            attributes |= described.get(place.as_posix(), dict.fromkeys(names))
            yield Record(plain(place.as_posix()), image=Picture(root / place), attributes=attributes)

    return Rows(len(pictures), take, left_out=left_out)


def _places(place: Path, depth: int, *, labelled: bool) -> dict[str, str | None]:
    """Return what the place of a file says: its folder's name, and all folders where there are several or others name the label."""
    if not depth:
        return {}
    folder = place.parent
    label = {} if labelled else {"label": plain(folder.name) or None}
    return label | ({"folder": plain(folder.as_posix())} if depth > 1 or labelled else {})


def _described(root: Path, found: Found, left_out: Counter[str]) -> dict[str, Mapping[str, Any]]:
    """Return what tables beside the pictures say of them, by path from ``root``; a table that says nothing is left out."""
    described: dict[str, Mapping[str, Any]] = {}
    pictures = {place.as_posix() for place in found.pictures}
    for table in found.metadata:
        name = plain(table.as_posix())
        reader = read_csv if table.suffix == ".csv" else read_json_lines
        try:
            rows = reader(str(root / table), DataOptions(column="file_name"), 0)
            items = list(rows.take(np.arange(rows.count)))
        except InputError as error:
            why = str(error).partition(": ")[0].replace(str(root / table), name)
            left_out[f"{why}, so it is not read"] += 1
            continue
        for item in items:
            place = "" if isinstance(item, Skip) else _beside(table, item.text or "")
            if isinstance(item, Record) and place in pictures:
                described[place] = item.attributes
            else:
                left_out[f"rows of {name} without their picture"] += 1
    return described


def _beside(table: Path, name: str) -> str:
    """Return the path of a picture that a table names from its own folder."""
    return posixpath.normpath(posixpath.join(table.parent.as_posix(), name.replace("\\", "/")))


def read_npz(location: str, options: DataOptions, seed: int) -> Rows:
    """Open an ``.npz`` with an array ``images``, ``(n, h, w)`` or ``(n, h, w, 3)``, of real numbers.

    uint8 is kept; other numbers are scaled as those of files are. Every other one-dimensional array of length n becomes an
    attribute; arrays of other shapes say nothing about one image and are left out. Pickled arrays are refused: opening them
    could run anything.

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
    images = _require_images(location, arrays.pop("images"))
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


def _require_images(location: str, images: NDArray[Any]) -> NDArray[Any]:
    """Return images that have pixels, or say what is wrong with them."""
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    if shaped and images.dtype.kind in "buif" and all(images.shape[1:]):
        return images
    raise InputError(
        f"{location}: 'images' is {images.dtype} of shape {images.shape}. Accepted: (n, height, width) or "
        "(n, height, width, 3), of whole numbers, floats or booleans. Convert it and save it again."
    )


def array_rows(images: NDArray[Any], attributes: Mapping[str, NDArray[Any]], name: str) -> Rows:
    """Return the rows of a stack of images and of the arrays aligned with it."""

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for index in indexes.tolist():
            values = {key: array[index].item() for key, array in attributes.items()}
            yield Record(f"{name}:{index}", image=Picture(images[index]), attributes=values)

    return Rows(len(images), take)
