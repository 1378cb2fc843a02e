"""The first stage: from what the user names to Records.

Receives one or several sources, gives ``Inputs``: the Records in their original order and, by reason, how many rows were
skipped; or a ``Draw``, which reads rows as they are asked for. A sample is drawn uniformly with the seed over all sources
together, or shared among them as they say, never "the first n": files are often sorted, and the first thousand reviews of a
file may all be bad ones. A skipped row is replaced by the next of the same draw.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnviz.errors import InputError, nearest
from attnviz.inputs.builtin import BUILTINS, read_builtin
from attnviz.inputs.columns import name_columns
from attnviz.inputs.delimited import read_csv, read_tsv
from attnviz.inputs.drawing import Draw
from attnviz.inputs.hub import read_hub
from attnviz.inputs.images import read_folder, read_npz
from attnviz.inputs.lines import read_json_lines, read_text
from attnviz.inputs.parquet import read_parquet
from attnviz.inputs.pictures import developed
from attnviz.inputs.pixels import picture_extensions
from attnviz.inputs.rows import DataOptions, Rows, Source
from attnviz.types import Record

__all__ = ["READERS", "Inputs", "Reader", "draw", "nothing_usable", "read"]

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
}
_PREFIXES = ("builtin", "hub")
_PACKED = (".gz", ".bz2", ".xz")
_TEXTS = frozenset({"csv", "jsonl", "text", "tsv"})
_SHEET = "Save the sheet as 'CSV UTF-8' and give that. "
_ADVICE = {
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".numbers"), _SHEET),
    **dict.fromkeys((".zip", ".zst", ".tar", ".tgz"), "Unpack it and give what is in it. "),
    **dict.fromkeys((".feather", ".arrow", ".pkl", ".sav", ".dta"), "Save the table as .parquet and give that. "),
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was read: the Records, how many rows were skipped for each reason, and what was assumed of the sources."""

    records: tuple[Record, ...]
    skipped: Mapping[str, int]
    notes: tuple[str, ...] = ()
    not_drawn: int = 0  # rows beyond the limit


def read(source: str | Source | Sequence[str | Source], *, options: DataOptions, seed: int) -> Inputs:
    """Read the Records of one or several sources.

    Parameters
    ----------
    source
        ``builtin:NAME``, ``hub:NAME``, or the path of a text, JSON lines, CSV, TSV, Parquet or ``.npz`` file or of a folder
        of images; a ``Source`` where it has a part of its own in the draw. Of several, every Record says in its attribute
        ``source`` where it came from.
    options
        Format, columns, split, and how many rows at most.
    seed
        Of the sample, and of data that is made up at random.

    Raises
    ------
    InputError
        If a source is missing, of an unknown format, cannot be read, or holds no usable row.
    """
    limit = options.max_sequences
    drawn = draw(source, options=options, seed=seed, limited=limit is not None)
    records = drawn.collect(
        lambda record: record, lambda: drawn.rows if limit is None else limit - int(drawn.used.sum())
    )
    if not records:
        raise InputError(nothing_usable(drawn))
    named, notes = name_columns(records)
    return Inputs(tuple(named), dict(drawn.skipped), (*drawn.notes(), *notes), drawn.not_drawn)


def draw(source: str | Source | Sequence[str | Source], *, options: DataOptions, seed: int, limited: bool) -> Draw:
    """Open sources, so that rows can be drawn of them; parameters and errors as of ``read``."""
    given = [source] if isinstance(source, str | Source) else list(source)
    limit = options.max_sequences
    if not given or (limit is not None and limit < 1):
        raise InputError(
            f"{len(given)} sources and data.max_sequences = {limit} were given. At least one of each is needed."
        )
    sources = [Source(one) if isinstance(one, str) else one for one in given]
    tables = [developed(_open(one.name, options, seed), options.background) for one in sources]
    return Draw(tables, sources, seed=seed, limited=limited)


def nothing_usable(drawn: Draw) -> str:
    """Return in words that no row could be used, and why."""
    names = ", ".join(source.name for source in drawn.sources)
    return f"{names} holds no usable row: {drawn.reasons() or 'it has no row'}. At least one text or image is needed."


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
    suffix = path.suffix.lower()
    if suffix in _PACKED and not path.is_dir():
        suffix = Path(path.stem).suffix.lower()
        suffix = suffix if _EXTENSIONS.get(suffix) in _TEXTS else path.suffix
    form = given or ("images" if path.is_dir() else _EXTENSIONS.get(suffix))
    if form is None and suffix in picture_extensions():
        return "images"
    if form is None:
        raise InputError(
            f"{source}: the extension {suffix!r} says no format. {_ADVICE.get(suffix, '')}Accepted: {', '.join(_EXTENSIONS)}; "
            f"texts also with {', '.join(_PACKED)} behind; and pictures. Otherwise say it with data.format: {', '.join(READERS)}."
        )
    if form not in READERS:
        raise InputError(f"data.format = {form!r} is unknown: {nearest(form, READERS)}")
    return form
