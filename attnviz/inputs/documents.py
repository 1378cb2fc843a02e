"""A file that is one JSON document: the table that programs write when nobody asked them for JSON lines.

Receives an opened file, gives its rows. Read are: an array of objects, or of texts; ``{"data": [{…}, …]}``, the rows under one
key beside what is said of them; an object of columns, each a list (``Dataset.to_dict``) or an object by row (``pandas.to_json``);
pandas' other forms, ``split`` and ``index``. Which it is follows from the shape alone, and is noted. A document is held in
memory whole; JSON lines are not. ``pandas.read_json`` knows these forms when it is told which, and makes floats of
identifiers with a gap, so the standard library reads them here (2026-11-28).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from attnviz.errors import InputError
from attnviz.inputs.columns import choose, to_record
from attnviz.inputs.opening import TextFile
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip
from attnviz.types import Record

__all__ = ["document_rows", "row_of"]


def document_rows(file: TextFile, options: DataOptions) -> Rows:
    """Return the rows of a document.

    Raises
    ------
    InputError
        If it is no JSON, or no table.
    """
    path = file.path
    what, items = _table(file, _document(file), options)
    if not items:
        return Rows(0, lambda indexes: iter(()))
    names = list(dict.fromkeys(name for item in items if isinstance(item, dict) for name in item))
    if not names:
        raise _no_table(file)
    columns = choose(str(path), names, options)

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for index in indexes.tolist():
            place, item = f"{path.name}:{index}", items[index]
            checked = row_of(item, place)
            yield checked if isinstance(checked, Skip) else to_record(place, checked, columns)

    return Rows(
        len(items), take, (*file.notes, f"{path.name} is one JSON document: {what}, read as {len(items):,} rows")
    )


def row_of(item: Any, place: str) -> dict[str, Any] | Skip:
    r"""Return what JSON gave as a row, or why it is none; a lone "\ud800" is half of a character, which no file can hold."""
    if not isinstance(item, dict):
        return Skip("not a JSON object", place, f"it is {item!r:.60}")
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Skip("half a character (a lone surrogate)", place)
    return item


def _document(file: TextFile) -> Any:
    try:
        return json.loads("".join(file.raw()))
    except ValueError as error:
        raise InputError(
            f"{file.path} is neither JSON lines nor one JSON document: {error}. If objects go over several lines: "
            f"jq -c . {file.path.name} > rows.jsonl"
        ) from error
    except RecursionError as error:
        raise InputError(f"{file.path} is nested too deeply to be a table. Give a list of objects.") from error


def _table(file: TextFile, document: Any, options: DataOptions) -> tuple[str, list[Any]]:
    """Return what a document is, in words, and its rows."""
    if isinstance(document, list):
        if document and all(isinstance(item, str) for item in document):
            return "an array of texts", [{"text": item} for item in document]
        return "an array", document
    values = list(document.values())
    if isinstance(document.get(options.column or "text"), str):
        return "a single object", [document]
    if {"columns", "data"} <= document.keys() and all(isinstance(row, list) for row in document["data"]):
        return "pandas' split form", [dict(zip(document["columns"], row, strict=False)) for row in document["data"]]
    has_text = isinstance(document.get(options.column or "text"), list)
    if values and all(isinstance(value, list) for value in values) and (has_text or not _lists_of_rows(document)):
        return "an object of columns", _of_columns(file, document)
    if values and all(isinstance(value, dict) for value in values):
        return _by_name(document, options.column or "text")
    rows = _lists_of_rows(document)
    if len(rows) == 1:
        return f"the rows are under {rows[0]!r}", document[rows[0]]
    if len(rows) > 1:
        raise InputError(
            f"{file.path} has rows under {', '.join(map(repr, rows))}. Choose: jq -c '.{rows[0]}[]' {file.path.name} > rows.jsonl"
        )
    if values and not any(isinstance(value, list | dict) for value in values):
        return "a single object", [document]
    raise _no_table(file)


def _lists_of_rows(document: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, value in document.items()
        if isinstance(value, list) and any(isinstance(item, dict) for item in value)
    ]


def _of_columns(file: TextFile, document: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return the rows of columns. Raises ``InputError`` if these are not of one length."""
    lengths = {name: len(column) for name, column in document.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name}: {length:,}" for name, length in lengths.items())
        raise InputError(
            f"{file.path} is an object of columns of different lengths ({told}). Write a value, or null, for each row."
        )
    return [dict(zip(document, row, strict=True)) for row in zip(*document.values(), strict=True)]


def _by_name(document: Mapping[str, dict[str, Any]], column: str) -> tuple[str, list[Any]]:
    """Return the rows of an object of objects: by column, where the text's column is a key of the outer one, else by row."""
    if column not in document:
        return "an object of rows", list(document.values())
    keys = dict.fromkeys(key for values in document.values() for key in values)
    return "an object of columns", [{name: values.get(key) for name, values in document.items()} for key in keys]


def _no_table(file: TextFile) -> InputError:
    return InputError(
        f"{file.path} is one JSON document, but no table. Read are an array of objects, an object with one list of objects, "
        "and an object of columns; or JSON lines, an object a line."
    )
