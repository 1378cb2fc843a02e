"""``hub:NAME``: a data set of the Hugging Face hub, or a local data-set folder, through ``datasets``.

Receives a name as ``datasets.load_dataset`` takes it, or a folder that ``save_to_disk`` wrote. Gives Records whose class
labels are names instead of numbers, since a legend that reads "7" helps nobody. Pictures stay encoded until they are
chosen. The whole split is downloaded: a stream could not be sampled uniformly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attnviz.errors import InputError, nearest, require
from attnviz.inputs.columns import choose, to_record
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip
from attnviz.types import Record

__all__ = ["read_hub"]


def read_hub(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a data set by its name or folder.

    Raises
    ------
    InputError
        If it cannot be loaded, or lacks the split or the column.
    """
    table = _encoded(_load(location, options))
    pictures = _columns_of(table, "Image")
    columns = choose(f"hub:{location}", table.column_names, options, images=pictures)
    table = table.remove_columns([name for name in pictures if name not in columns.shown])
    labels = {name: table.features[name].int2str for name in _columns_of(table, "ClassLabel")}

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for index in indexes.tolist():
            row = {name: _named(value, labels.get(name)) for name, value in table[index].items()}
            yield to_record(f"{location}:{index}", row, columns)

    return Rows(len(table), take)


def _load(location: str, options: DataOptions) -> Any:
    """Return one split, from disk where ``save_to_disk`` wrote it, else as ``load_dataset`` finds it."""
    datasets = require("datasets", "capture")
    folder = Path(location)
    saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
    try:
        with _quiet(datasets):
            if not saved:
                return datasets.load_dataset(location, options.config, split=options.split)
            loaded = datasets.load_from_disk(location)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).rstrip(".")
        raise InputError(
            f"hub:{location} cannot be loaded with split {options.split!r} and config {options.config!r}: {reason}. "
            "Check the name, data.split and data.config, and that the hub can be reached (or that the data set is cached)."
        ) from error
    if not isinstance(loaded, dict):
        return loaded
    if options.split not in loaded:
        raise InputError(
            f"hub:{location} has no split {options.split!r}: {nearest(options.split, loaded)} Choose with data.split."
        )
    return loaded[options.split]


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Switch the progress bars of ``datasets`` off for a while: the library never prints."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _columns_of(table: Any, feature: str) -> list[str]:
    return [name for name, kind in table.features.items() if type(kind).__name__ == feature]


def _encoded(table: Any) -> Any:
    """Return the table with its pictures as bytes, which ``attnviz`` decodes like any other file."""
    image = require("datasets", "capture").Image
    for name in _columns_of(table, "Image"):
        table = table.cast_column(name, image(decode=False))
    return table


def _named(value: Any, name_of: Any) -> Any:
    """Return a class label's name; unlabelled rows are None or −1."""
    if name_of is None:
        return value
    return None if value is None or value < 0 else name_of(value)
