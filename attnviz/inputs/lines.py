"""Files of lines: plain text, a line a sequence, and JSON lines, an object a line.

Opening walks through the file once, to count rows and to find a wrong encoding before any model is loaded; reading
walks through it again, so that memory holds the sample and not the file. Blank lines are layout, not rows.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from attnviz.errors import InputError
from attnviz.inputs.columns import Columns, choose, to_record
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip, pick
from attnviz.types import Record

__all__ = ["lines", "read_json_lines", "read_text"]

_ROWS_FOR_COLUMNS = 100  # objects may leave out what they have nothing to say about


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line that is not blank, counted from 1.

    Raises
    ------
    InputError
        At the first line that is not UTF-8, with its number and byte.
    """
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                _refuse_encoding(path, number, start + error.start, error)
            start += len(line)
            if text.strip():
                yield number, text.rstrip("\r\n")


def _refuse_encoding(path: Path, number: int, byte: int, error: UnicodeDecodeError) -> NoReturn:
    likely = "utf-16" if error.object.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin1"
    raise InputError(
        f"{path}, line {number}: byte {byte} is not UTF-8, the encoding that is read. "
        f"Convert the file, for instance: iconv -f {likely} -t utf-8 {path.name} > utf8-{path.name}"
    ) from error


def read_text(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a text file, a line a sequence."""
    path = Path(location)

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for number, text in pick(lines(path), indexes):
            yield Record(f"{path.name}:{number}", text)

    return Rows(sum(1 for _ in lines(path)), take)


def read_json_lines(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a file of JSON lines. A line that is no JSON object is a counted skip.

    Raises
    ------
    InputError
        If the text column is in none of the first objects.
    """
    path = Path(location)
    count = sum(1 for _ in lines(path))
    names = _names(path)
    if count and not names:
        raise InputError(
            f"{path} is no file of JSON objects, one a line, which is what is read. Convert an array with: "
            f"jq -c '.[]' {path.name} > rows.jsonl"
        )
    columns = choose(str(path), names, options) if names else Columns("text")

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for number, text in pick(lines(path), indexes):
            item = _parse(text)
            yield item if isinstance(item, Skip) else to_record(f"{path.name}:{number}", item, columns)

    return Rows(count, take)


def _names(path: Path) -> list[str]:
    """Return the columns of the first objects; none for an array, even if its items happen to stand one a line."""
    first = next((text for _, text in lines(path)), "")
    if first.lstrip().startswith("["):
        return []
    objects = (item for _, text in lines(path) if isinstance(item := _parse(text), dict))
    return list(dict.fromkeys(name for item in islice(objects, _ROWS_FOR_COLUMNS) for name in item))


def _parse(text: str) -> dict[str, Any] | Skip:
    try:
        item = json.loads(text)
    except (ValueError, RecursionError):
        return Skip("malformed JSON")
    return item if isinstance(item, dict) else Skip("not a JSON object")
