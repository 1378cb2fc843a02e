"""From a row with named columns to a Record: shared by every reader of tables.

Receives a mapping of column names to values, gives a Record or the reason why there is none. The text, pair and image columns
become the Record's, an image as bytes or as a path from the folder of the table; everything else rides along as attributes,
with the types it came with. Once all records are there, ``name_columns`` gives a trailing underscore to a name that the run's
``sequences.parquet`` needs for itself, rather than an error: it is the user's data.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attnviz.errors import InputError, nearest
from attnviz.inputs.pictures import Picture
from attnviz.inputs.rows import DataOptions, Skip
from attnviz.schema import SEQUENCES
from attnviz.types import Record

__all__ = ["Columns", "choose", "free_name", "name_columns", "require_distinct", "to_record"]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are shown to the model."""

    main: str
    pair: str | None = None
    image: str | None = None  # beside a text; a table of images alone has them in ``main``
    folder: Path = Path()  # what paths of images start from

    @property
    def shown(self) -> tuple[str | None, ...]:
        """All of them: the others are the user's own."""
        return self.main, self.pair, self.image


def choose(place: str, names: Iterable[str], options: DataOptions, *, images: Iterable[str] = ()) -> Columns:
    """Return the columns to read of a table at ``place``, the path of a file or the name of a data set.

    Raises
    ------
    InputError
        If a column that was asked for is not there; the message names the nearest. If two have one name.
    """
    known = list(names)
    require_distinct(place, known)
    picture = options.image_column or next(iter(images), None)
    main = options.column or (picture if picture and "text" not in known else "text")
    for column in (main, options.pair_column, options.image_column):
        if column is not None and column not in known:
            raise InputError(
                f"{place} has no column {column!r}: {nearest(column, known)} Choose with data.column, data.pair_column and "
                "data.image_column."
            )
    return Columns(main, options.pair_column, options.image_column, Path(place).parent)


def require_distinct(place: str, names: Sequence[str]) -> None:
    """Raise ``InputError`` if columns share a name: of a row by names, all but one would be lost."""
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise InputError(
            f"{place} has several columns of the name {', '.join(twice)}. Give each column a name of its own."
        )


def to_record(reference: str, row: Mapping[str, Any], columns: Columns) -> Record | Skip:
    """Return the Record of one row, or why there is none.

    A missing second text is no reason to skip: the row is read as a single text.
    """
    main = row.get(columns.main)
    pair = row.get(columns.pair) if columns.pair else None
    shown = columns.shown
    attributes = {str(name): value for name, value in row.items() if name not in shown}
    if columns.main == columns.image or _is_picture(main):
        image = _image(main, columns.folder)
        if isinstance(image, Skip):
            return replace(image, place=reference)
        return Record(reference, image=image, attributes=attributes)
    if main is None or (isinstance(main, str) and not main.strip()):
        return Skip("empty text", reference)
    if not isinstance(main, str):
        return Skip("not a text", reference, f"{columns.main} is {main!r:.60}")
    beside = _image(row.get(columns.image), columns.folder) if columns.image else None
    if isinstance(beside, Skip):
        return replace(beside, place=reference)
    return Record(reference, main, pair if isinstance(pair, str) and pair.strip() else None, beside, attributes)


def _is_picture(value: Any) -> bool:
    """Tell a picture as ``datasets`` stores it."""
    return isinstance(value, Mapping) and {"bytes", "path"} <= value.keys()


def _image(value: Any, folder: Path) -> Picture | Skip:
    """Return a picture: its bytes, or the file at a path from ``folder``."""
    if _is_picture(value):
        value = value["bytes"] if value["bytes"] is not None else value["path"]
    if isinstance(value, bytes):
        return Picture(value)
    if not isinstance(value, str) or not value.strip():
        return Skip("no image")
    return Picture(folder / value)


def name_columns(
    records: Sequence[Record], reserved: Collection[str] = SEQUENCES.names
) -> tuple[list[Record], tuple[str, ...]]:
    """Return the same records, the user's columns under names that are free in all of them, and with the source of each of several.

    It takes all records to do so: in JSON lines one row lacks what another has, and of two columns of like names each keeps one
    name in every row. What has another name than it came with is told in a note.
    """
    given = dict.fromkeys(name for record in records for name in record.attributes)
    several = any(record.source for record in records)
    reserved = [*reserved, *(["source"] if several else [])]
    free: dict[str, str] = {}
    for name in given:
        free[name] = free_name(name, reserved, {*given, *free.values()})
    others = [(name, named) for name, named in free.items() if name != named]
    notes = tuple(f"column {name!r} is called {named!r}: the run needs its name for itself" for name, named in others)
    if not several and not others:
        return list(records), notes
    return [replace(record, attributes=_named(record, free)) for record in records], notes


def _named(record: Record, free: Mapping[str, str]) -> dict[str, Any]:
    own = {free[name]: value for name, value in record.attributes.items()}
    return own | {"source": record.source} if record.source else own


def free_name(name: str, reserved: Iterable[str], taken: Iterable[str]) -> str:
    """Return ``name``, with trailing underscores where it is reserved and until nobody else has it."""
    blocked = set(reserved)
    if name not in blocked:
        return name
    blocked.update(taken)
    while name in blocked:
        name += "_"
    return name
