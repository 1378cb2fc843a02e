"""Files of lines: plain text, a line a sequence, and JSON lines, an object a line.

Opening walks through the file once, to count rows and to find a wrong encoding before any model is loaded; reading
walks through it again, so that memory holds the sample and not the file. Blank lines are layout, not rows. A file that is one
JSON document instead is read whole, by ``attnviz.inputs.documents``.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from attnviz.errors import InputError
from attnviz.inputs.columns import Columns, choose, to_record
from attnviz.inputs.documents import document_rows, row_of
from attnviz.inputs.opening import TextFile, open_text
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip, pick
from attnviz.types import Record

__all__ = ["read_json_lines", "read_text"]

_ROWS_FOR_COLUMNS = 100  # objects may leave out what they have nothing to say about


def read_text(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a text file, a line a sequence."""
    path = Path(location)
    file = open_text(path, options.encoding)

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for number, text in pick(file.lines(), indexes):
            yield Record(f"{path.name}:{number}", text)

    return Rows(sum(1 for _ in file.lines()), take, file.notes)


def read_json_lines(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a file of JSON lines, or of one JSON document. A line that is no JSON object is a counted skip.

    Raises
    ------
    InputError
        If the text column is in none of the first objects, or if a document is no table.
    """
    path = Path(location)
    file = open_text(path, options.encoding)
    if _is_document(file):
        return document_rows(file, options)
    count = sum(1 for _ in file.lines())
    names = _names(file)
    if count and not names:
        raise InputError(
            f"{path} is no file of JSON objects, one a line, nor one JSON document of rows, which is what is read. If objects "
            f"go over several lines: jq -c . {path.name} > rows.jsonl"
        )
    columns = choose(str(path), names, options) if names else Columns("text")

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for number, text in pick(file.lines(), indexes):
            place = f"{path.name}:{number}"
            item = _parse(text, place)
            yield item if isinstance(item, Skip) else to_record(place, item, columns)

    return Rows(count, take, file.notes)


def _is_document(file: TextFile) -> bool:
    """Tell one JSON document from JSON lines, of which a few may be bad: most of its lines are no JSON by themselves."""
    first = [text.lstrip("\ufeff \t") for _, text in islice(file.lines(), _ROWS_FOR_COLUMNS)]
    if not first or not first[0].startswith(("[", "{")):
        return False
    if len(first) > 1:
        return 2 * sum(_loaded(text) is not None for text in first) < len(first)
    item = _loaded(first[0])
    return not isinstance(item, dict) or any(isinstance(value, list | dict) for value in item.values())


def _names(file: TextFile) -> list[str]:
    """Return the columns of the first objects."""
    objects = (item for _, text in file.lines() if isinstance(item := _parse(text, ""), dict))
    return list(dict.fromkeys(name for item in islice(objects, _ROWS_FOR_COLUMNS) for name in item))


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parse(text: str, place: str) -> dict[str, Any] | Skip:
    try:
        item = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Skip("malformed JSON", place, f"{error}")
    return row_of(item, place) if "\\ud" in text.lower() or not isinstance(item, dict) else item
