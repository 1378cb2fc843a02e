"""The first stage: from what the user names to Records.

Receives one or several sources, gives ``Inputs``: the Records in their original order and, by reason, how many rows were
skipped. A sample is drawn uniformly with the seed over all sources together, never "the first n": files are often sorted,
and the first thousand reviews of a file may all be bad ones. A skipped row is replaced by the next of the same draw.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attnviz.errors import InputError, nearest
from attnviz.inputs.builtin import BUILTINS, read_builtin
from attnviz.inputs.columns import free_name
from attnviz.inputs.delimited import read_csv, read_tsv
from attnviz.inputs.hub import read_hub
from attnviz.inputs.images import IMAGE_EXTENSIONS, read_folder, read_npz
from attnviz.inputs.lines import read_json_lines, read_text
from attnviz.inputs.parquet import read_parquet
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip
from attnviz.types import Record

__all__ = ["READERS", "Inputs", "Reader", "read"]

Reader = Callable[[str, DataOptions, int], Rows]
"""Called with location, options and seed; only data made up at random has a use for the seed."""

READERS: dict[str, Reader] = {
    "builtin": read_builtin,
    "csv": read_csv,
    "hub": read_hub,
    "images": read_folder,
    "jsonl": read_json_lines,
    "npz": read_npz,
    "parquet": read_parquet,
    "text": read_text,
    "tsv": read_tsv,
}
"""Format → its reader. A new format is a function, a line here, and perhaps an extension below."""

_EXTENSIONS = {
    ".csv": "csv",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".npz": "npz",
    ".parquet": "parquet",
    ".tsv": "tsv",
    ".txt": "text",
    **dict.fromkeys(IMAGE_EXTENSIONS, "images"),
}
_PREFIXES = ("builtin", "hub")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was read: the Records, and how many rows were skipped for each reason."""

    records: tuple[Record, ...]
    skipped: Mapping[str, int]


def read(source: str | Sequence[str], *, options: DataOptions, seed: int) -> Inputs:
    """Read the Records of one or several sources.

    Parameters
    ----------
    source
        ``builtin:NAME``, ``hub:NAME``, or the path of a text, JSON lines, CSV, TSV, Parquet or ``.npz`` file or of a folder
        of images. Of several, every Record says in its attribute ``source`` where it came from.
    options
        Format, columns, split, and how many rows at most.
    seed
        Of the sample, and of data that is made up at random.

    Raises
    ------
    InputError
        If a source is missing, of an unknown format, cannot be read, or holds no usable row.
    """
    sources = [source] if isinstance(source, str) else list(source)
    limit = options.max_sequences
    if not sources or (limit is not None and limit < 1):
        raise InputError(
            f"{len(sources)} sources and data.max_sequences = {limit} were given. At least one of each is needed."
        )
    tables = [_open(name, options, seed) for name in sources]
    items, skipped = _sample(tables, limit, seed)
    if not items:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in skipped.items()) or "it is empty"
        raise InputError(f"{', '.join(sources)} holds no usable row: {reasons}. At least one text or image is needed.")
    named = sources if len(sources) > 1 else [None]
    return Inputs(tuple(_tagged(record, named[table]) for table, record in items), dict(skipped))


def _open(source: str, options: DataOptions, seed: int) -> Rows:
    """Return the rows of one source, opened by the reader of its prefix, of ``options.format``, or of its extension."""
    prefix, _, name = source.partition(":")
    if prefix in _PREFIXES and name:
        return READERS[prefix](name, options, seed)
    path = Path(source).expanduser()
    return READERS[_format(source, path, options.format)](str(path), options, seed)


def _format(source: str, path: Path, given: str | None) -> str:
    """Return the format of a path, or say what is wrong with it."""
    if not source or not path.exists():  # an empty name would be the current folder
        raise InputError(
            f"{source} is no file or folder. A data set of the hub is written hub:{path.name}, built-in data "
            f"builtin:NAME with one of {', '.join(BUILTINS)}."
        )
    form = given or ("images" if path.is_dir() else _EXTENSIONS.get(path.suffix.lower()))
    if form is None:
        raise InputError(
            f"{source}: the extension {path.suffix!r} says no format. Accepted: {', '.join(_EXTENSIONS)}. "
            f"Otherwise say it with data.format: {', '.join(READERS)}."
        )
    if form not in READERS:
        raise InputError(f"data.format = {form!r} is unknown: {nearest(form, READERS)}")
    return form


def _sample(tables: Sequence[Rows], limit: int | None, seed: int) -> tuple[list[tuple[int, Record]], Counter[str]]:
    """Return table number and Record of the sampled usable rows in their order, and the reasons of those skipped."""
    total = sum(table.count for table in tables)
    order = np.arange(total) if limit is None else np.random.default_rng(seed).permutation(total)
    wanted = total if limit is None else min(limit, total)
    kept: dict[int, tuple[int, Record]] = {}
    skipped: Counter[str] = Counter()
    tried = 0
    while len(kept) < wanted and tried < total:
        batch = np.sort(order[tried : tried + wanted - len(kept)]).astype(np.int64)
        tried += len(batch)
        for index, table, item in _take(tables, batch):
            if isinstance(item, Skip):
                skipped[item.reason] += 1
            else:
                kept[index] = table, item
    return [kept[index] for index in sorted(kept)], skipped


def _take(tables: Sequence[Rows], indexes: Indexes) -> Iterator[tuple[int, int, Record | Skip]]:
    """Yield row number, table number and item of rows counted through all tables."""
    first = 0
    for number, table in enumerate(tables):
        here = indexes[(indexes >= first) & (indexes < first + table.count)]
        if len(here):
            yield from (
                (index, number, item) for index, item in zip(here.tolist(), table.take(here - first), strict=True)
            )
        first += table.count


def _tagged(record: Record, source: str | None) -> Record:
    """Return the Record with its source as an attribute; a column of the user's by that name steps aside."""
    if source is None:
        return record
    others = {free_name(name, ["source"], record.attributes): value for name, value in record.attributes.items()}
    return replace(record, attributes={**others, "source": source})
