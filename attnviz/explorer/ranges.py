"""Whole numbers as a short text: ``3-9,12``. So thousands of neighbours fit into an address."""

import re
from collections.abc import Iterable

__all__ = ["as_ranges", "in_ranges"]

PART = re.compile(r"([0-9]{1,11})(?:-([0-9]{1,11}))?", re.ASCII)


def as_ranges(numbers: Iterable[int]) -> str:
    """Return numbers as a text, in ascending order."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def in_ranges(text: str, start: int, stop: int) -> frozenset[int]:
    """Return the numbers from ``start`` to ``stop - 1`` that a text names; what names none is left out, as anyone may write it."""
    spans = [found for part in text.split(",") if (found := PART.fullmatch(part.strip()))]
    return frozenset(
        number for span in spans for number in range(max(int(span[1]), start), min(int(span[2] or span[1]) + 1, stop))
    )
