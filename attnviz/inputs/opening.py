"""Opening a text file: what it is packed in, its encoding and its line ends, as its first bytes say.

Receives a path, gives a ``TextFile`` whose lines can be walked through again and again. gzip, bzip2 and xz are told by their
first bytes, not by the name; UTF-16 and UTF-32 by their byte-order mark. What a byte-order mark does not say is UTF-8 or is
refused: bytes above 127 look the same in Windows-1252, -1250 and a dozen others, so guessing (as ``charset_normalizer`` and
browsers do) changes letters without a word. The refusal shows how the place would read, and the key that reads it so.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from attnviz.errors import InputError

__all__ = ["TextFile", "open_text", "unpacked"]

_HEAD = 1 << 16
_PACKED: dict[bytes, tuple[str, Callable[..., Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook. Unpack it, or save the sheet as 'CSV UTF-8'",
    b"\x28\xb5\x2f\xfd": "packed with zstd, which is not read. Unpack it: zstd -d FILE",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook. Save the sheet as 'CSV UTF-8'",
    b"PAR1": "a Parquet file. Name it .parquet, or set data.format=parquet",
}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SHOWN = 24  # characters before and behind a byte that is no UTF-8


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file that can be read line by line."""

    path: Path
    encoding: str
    newline: str  # where lines end: "\n" (a "\r" before it is stripped), or "\r" where there is no other
    notes: tuple[str, ...] = ()

    def raw(self) -> Iterator[str]:
        r"""Yield every line with its end; a quoted cell of a CSV may go on in the next.

        Raises
        ------
        InputError
            Where bytes cannot be decoded, with their line, or where the file is packed and damaged.
        """
        try:
            with unpacked(self.path) as file, io.TextIOWrapper(file, self.encoding, newline=self.newline) as text:
                yield from text
        except UnicodeDecodeError as error:
            _refuse_encoding(self, error)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            raise InputError(
                f"{self.path} cannot be read to its end: {str(error).rstrip('.')}. Is it complete? Write or download it again."
            ) from error

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield number and text of every line that is not blank, counted from 1."""
        for number, line in enumerate(self.raw(), 1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def open_text(path: Path, encoding: str | None = None) -> TextFile:
    """Open a text file.

    Parameters
    ----------
    encoding
        Any that Python knows, instead of what the file's first bytes say.

    Raises
    ------
    InputError
        If it is no text file, or the encoding is unknown.
    """
    try:
        with path.open("rb") as plain:
            packing = _packing(plain.read(8))
        with unpacked(path) as file:
            head = file.read(_HEAD)
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).rstrip('.')}. Write or download it again.") from error
    foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
    if foreign is not None:
        raise InputError(f"{path} is no text file but {foreign}.")
    found = _known(path, encoding) if encoding else _told(path, head)
    newline = _line_end(head, found)
    notes = []
    if packing and path.suffix.lower() != _SUFFIXES[packing]:
        notes.append(f"{path.name} is packed with {packing}, whatever its name says")
    if found.startswith(("utf-16", "utf-32")):
        notes.append(f"{path.name} is read as {found.upper()}" + ("" if encoding else ", as its byte-order mark says"))
    if newline == "\r":
        notes.append(f"{path.name}: lines end in a lone carriage return (CR)")
    return TextFile(path, found, newline, tuple(notes))


_SUFFIXES = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz"}


def unpacked(path: Path) -> IO[bytes]:
    """Open a file for reading, through what it is packed in."""
    with path.open("rb") as file:
        head = file.read(8)
    opener = next((opened for magic, (_, opened) in _PACKED.items() if head.startswith(magic)), None)
    opened: IO[bytes] = path.open("rb") if opener is None else opener(path, "rb")
    return opened


def _packing(head: bytes) -> str | None:
    return next((name for magic, (name, _) in _PACKED.items() if head.startswith(magic)), None)


def _known(path: Path, encoding: str) -> str:
    """Return an encoding by the name that Python has for it; a byte-order mark belongs to no text."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError as error:
        raise InputError(
            f"data.encoding = {encoding!r} of {path} is unknown. Accepted are Python's: utf-8, utf-16, cp1252, cp1250, "
            "shift_jis, gb18030, …"
        ) from error
    return "utf-8-sig" if name == "utf-8" else name


def _told(path: Path, head: bytes) -> str:
    """Return the encoding that the first bytes tell, UTF-8 where they tell none."""
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if marked is None and b"\0" in head:
        _refuse_zeros(path, head)
    return marked or "utf-8-sig"


def _refuse_zeros(path: Path, head: bytes) -> NoReturn:
    """Every second byte of western text in UTF-16 is zero, and zeros are valid UTF-8."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    byte = head.index(0)
    line = head[:byte].count(b"\n") + 1
    where = f"{path}, line {line}: byte {byte} is zero, which no text holds"
    if max(even, odd) > len(head) / 8 and min(even, odd) < max(even, odd) / 4:
        name = "utf-16-le" if odd > even else "utf-16-be"
        raise InputError(f"{where}. The file looks like UTF-16 without a byte-order mark: set data.encoding={name}.")
    raise InputError(f"{where}. Is it a text file? Name it by its format, or set data.format.")


def _line_end(head: bytes, encoding: str) -> str:
    text = head.decode(encoding, errors="replace")
    return "\r" if "\r" in text and "\n" not in text else "\n"


def _refuse_encoding(file: TextFile, error: UnicodeDecodeError) -> NoReturn:
    """Find the line of what cannot be decoded, which a decoder of blocks does not know, and say how it would read."""
    path = file.path
    if file.encoding.startswith(("utf-16", "utf-32")):
        raise InputError(
            f"{path} is not {file.encoding.upper()} throughout ({error.reason}). Is it complete? Write it again, as UTF-8."
        ) from error
    number, byte, line, before = _place(file)
    start = byte - sum(len(one) for one in before)
    where = (
        f"{path}, line {number}: byte {byte} (0x{line[start]:02x}) is not {file.encoding.removesuffix('-sig').upper()}"
    )
    if file.encoding != "utf-8-sig":
        raise InputError(f"{where}. Set data.encoding to what the file was saved in, or save it as UTF-8.") from error
    if any(not one.isascii() for one in before):
        raise InputError(
            f"{where}, but the lines before it are: the file is damaged there, or put together from files of several "
            f"encodings. The place reads {_around(line, start, 'ascii')!r}. Mend that line."
        ) from error
    likely = _around(line, start, "cp1252")
    if "\ufffd" in likely:
        raise InputError(
            f"{where}, nor is it Windows-1252. Set data.encoding to what it was saved in (cp1250, shift_jis, gb18030, …), or "
            "save the file as UTF-8 (in Excel: 'CSV UTF-8')."
        ) from error
    raise InputError(
        f"{where}. Likely it is Windows-1252, as Excel saves a plain 'CSV': then the place reads {likely!r}. If that is "
        "right, set data.encoding=cp1252; if letters are wrong, set another (cp1250, cp1251, shift_jis, …) or save the file as "
        "UTF-8 (in Excel: 'CSV UTF-8')."
    ) from error


def _place(file: TextFile) -> tuple[int, int, bytes, list[bytes]]:
    """Return line number, byte, line and the lines before of the first bytes that cannot be decoded."""
    before: list[bytes] = []
    byte = 0
    end = file.newline.encode()
    with unpacked(file.path) as packed:
        for number, line in enumerate(packed.read().split(end), 1):
            whole = line + end
            try:
                whole.decode(file.encoding if number == 1 else file.encoding.removesuffix("-sig"))
            except UnicodeDecodeError as error:
                return number, byte + error.start, whole, before
            before.append(whole)
            byte += len(whole)
    raise InputError(f"{file.path} changed while it was read. Do not change the data.")


def _around(line: bytes, start: int, encoding: str) -> str:
    """Return what stands about a byte of a line."""
    return line[max(start - _SHOWN, 0) : start + _SHOWN].decode(encoding, errors="replace").strip()
