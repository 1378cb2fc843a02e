"""What a reader gives: how many rows a source holds, and a way to read the chosen ones.

Sampling is decided before anything is decoded, so a million pictures or a file larger than memory cost what the sample
costs. A row that cannot be used is a value, ``Skip``, not an exception: the caller counts it and goes on. What a reader had
to assume (a delimiter, an encoding) is a note, which the run keeps and tells.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import InputError
from attnviz.types import Record

__all__ = ["DataOptions", "Indexes", "Rows", "Skip", "Source", "pick"]

Indexes = NDArray[np.int64]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class DataOptions:
    """How to read the user's data; what a format has no use for, it does not look at."""

    format: str | None = None  # a name in READERS; None = by prefix or file extension
    column: str | None = None  # of the text or the image; None = "text", or else the first image column
    pair_column: str | None = None  # of the second text
    image_column: str | None = None  # of an image that belongs to the text: a file's path from the table, or its bytes
    split: str = "train"  # of a Hugging Face data set
    config: str | None = None  # of a Hugging Face data set
    background: str = "white"  # what transparent pictures are laid on: white, black or #rrggbb
    max_sequences: int | None = None  # a uniform sample of so many usable rows, in their original order
    encoding: str | None = None  # of a text file; None = as its byte-order mark says, or UTF-8
    delimiter: str | None = None  # of a CSV or TSV; None = what the file shows


@dataclass(frozen=True, slots=True)
class Source:
    """One of several sources, and its part of the draw. A plain name is a source without a part of its own.

    As soon as one source has a weight, the draw is shared by weights, and a source without one has 1; if none has, every row of
    all sources is as likely as any other. Neither does anything where no limit makes a draw: then all rows are read.

    Raises
    ------
    InputError
        If ``weight`` or ``at_least`` is none.
    """

    name: str
    weight: float | None = None  # of the sequences that are drawn; only ratios matter
    at_least: int = 0  # so many sequences are drawn of it before any other is

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if self.weight is not None and not (0 < self.weight < math.inf):
            raise InputError(f"The weight of {self.name} is {self.weight}; it must be a number above 0, such as 2.0.")
        if self.at_least < 0:
            raise InputError(f"at_least of {self.name} is {self.at_least}; it must be 0, or a number of sequences.")


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that cannot be used, and why: a reason that several rows can share."""

    reason: str
    place: str = ""  # of the row, for people; the draw names the source and the row where a reader says nothing
    words: str = ""  # what there is to say of this row alone


@dataclass(frozen=True, slots=True)
class Rows:
    """An opened source. ``take`` receives ascending row numbers and yields one item for each, in that order."""

    count: int
    take: Callable[[Indexes], Iterator[Record | Skip]]
    notes: tuple[str, ...] = ()  # what was assumed of the source, a sentence each
    left_out: Mapping[str, int] = field(default_factory=dict)  # what is no row, by reason: counted with the skipped


def pick(items: Iterable[_Item], indexes: Indexes) -> Iterator[_Item]:
    """Yield the items at ascending positions of something that can only be walked through."""
    remaining = iter(items)
    position = 0
    for index in indexes.tolist():
        yield next(islice(remaining, index - position, None))
        position = index + 1
