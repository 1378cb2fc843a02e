"""What a reader gives: how many rows a source holds, and a way to read the chosen ones.

Sampling is decided before anything is decoded, so a million pictures or a file larger than memory cost what the sample
costs. A row that cannot be used is a value, ``Skip``, not an exception: the caller counts it and goes on.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from attnviz.types import Record

__all__ = ["DataOptions", "Indexes", "Rows", "Skip", "pick"]

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
    max_sequences: int | None = None  # a uniform sample of so many usable rows, in their original order


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that cannot be used, and why: a reason that several rows can share."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """An opened source. ``take`` receives ascending row numbers and yields one item for each, in that order."""

    count: int
    take: Callable[[Indexes], Iterator[Record | Skip]]


def pick(items: Iterable[_Item], indexes: Indexes) -> Iterator[_Item]:
    """Yield the items at ascending positions of something that can only be walked through."""
    remaining = iter(items)
    position = 0
    for index in indexes.tolist():
        yield next(islice(remaining, index - position, None))
        position = index + 1
