"""Which products of queries and keys count as the largest, and which as equal: one answer, whoever asks and on any processor.

A matrix product rounds as its kernel does. OpenBLAS's for Haswell and Zen gives two *equal* keys products that differ in their last
bit, because they stand in different columns of a tile; its others do not; and a sum over gathered rows rounds a third way. While
scores and shares compared such numbers, which keys counted as equal to the tenth was a matter of the processor (recall 0.2363
against 0.2375 on an AMD EPYC, 2026-11-26).

So a product is defined by its two vectors alone: the float64 sum of the products of their float32 coordinates, in the order of the
coordinates. Each of those is exact in float64 (24 bits times 24), so that neither fused multiply-add, nor the width of vector
registers, nor what else is computed can change a bit. Two keys are equal to a query where this number is the same, as it always
is for equal vectors; there is no tolerance. Float32 matrix products only propose: what their rounding leaves in doubt is
computed by the definition. Equal vectors are compared once: in layers where the first token of every sequence has one
key, hundreds are equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnviz.metrics.space import Points, candidates
from attnviz.normalize import unit
from attnviz.types import FloatArray, Joint

__all__ = ["Distinct", "Products", "exact"]

_ROWS = 500  # of products at once
_LARGEST = 1e30  # product that float32 holds with room for sums
_ROUNDING = 2.0**-24  # of one operation in float32

Exact = NDArray[np.float64]


def exact(left: Exact, right: Exact, rows: Points, columns: Points) -> Exact:
    """Return the products of pairs of vectors, by the definition above.

    Parameters
    ----------
    left, right
        ``(head_dim, vectors)``: what float32 vectors hold, turned round so that a coordinate of all stands together.
    rows, columns
        Which pairs; shapes that broadcast.
    """
    total = np.zeros(np.broadcast_shapes(rows.shape, columns.shape))
    for of_left, of_right in zip(left, right, strict=True):
        total += of_left[rows] * of_right[columns]
    return total


@dataclass(frozen=True, slots=True)
class Distinct:
    """Vectors without repetitions."""

    vectors: FloatArray  # (distinct, head_dim)
    which: Points  # (vectors,): where each of the given vectors stands
    counts: NDArray[np.int64]  # (distinct,): how often each was given
    turned: Exact  # (head_dim, distinct)
    lengths: Exact  # (distinct,)

    @classmethod
    def of(cls, vectors: FloatArray) -> "Distinct":
        """Return the distinct ones of ``(vectors, head_dim)``."""
        whole = np.ascontiguousarray(vectors, np.float32) + np.float32(0)  # which makes −0 a 0
        rows = whole.view(f"V{whole.dtype.itemsize * whole.shape[1]}")[:, 0]
        _, first, which, counts = np.unique(rows, return_index=True, return_inverse=True, return_counts=True)
        kept = whole[first]
        turned = np.ascontiguousarray(kept.T, np.float64)
        return cls(
            kept, which.astype(np.int64), counts.astype(np.int64), turned, np.sqrt(np.square(turned).sum(axis=0))
        )


class Products:
    """The products of each row with all columns, times ``factor`` and less a number of each column.

    Parameters
    ----------
    rows, columns
        Their vectors.
    factor
        What every product is multiplied by, above 0.
    less
        ``(distinct columns,)``: subtracted from the products with each.
    """

    def __init__(self, rows: Distinct, columns: Distinct, *, factor: float = 1.0, less: Exact | None = None) -> None:
        self.rows, self.columns = rows, columns
        self.factor = factor
        self.less = np.zeros(len(columns.vectors)) if less is None else less
        self._scaled = columns.vectors * np.float32(factor), self.less.astype(np.float32)
        dims, longest = rows.vectors.shape[1], float(columns.lengths.max())
        of_sum = (dims + 8) * _ROUNDING * factor * longest * rows.lengths
        self._error: Exact = of_sum + 4 * _ROUNDING * (factor * longest * rows.lengths + np.abs(self.less).max())

    @classmethod
    def of(cls, joint: Joint) -> "Products":
        """Return a head's q·k as the model has them, times a power of two: of all queries with all keys before they were moved."""
        return cls(Distinct.of(unit(joint.query)[0]), Distinct.of(unit(joint.original_key)[0]))

    def at(self, rows: Points, columns: Points) -> Exact:
        """Return the products of pairs of the given vectors; shapes that broadcast."""
        return self._at(self.rows.which[rows], self.columns.which[columns])

    def rounded(self, wanted: Points | None = None) -> Iterator[tuple[Points, FloatArray]]:
        """Yield numbers of distinct rows and their products with all distinct columns, as float32 rounds them; some at once."""
        wanted = np.arange(len(self.rows.vectors)) if wanted is None else wanted
        columns, less = self._scaled
        for start in range(0, len(wanted), _ROWS):
            some = wanted[start : start + _ROWS]
            products = self.rows.vectors[some] @ columns.T
            products -= less
            yield some, products

    def kth_largest(self, rows: Points, rounded: FloatArray, k: int) -> Exact:
        """Return the ``k``-th largest product of each of the rows that ``rounded`` gave; equal columns count one by one."""
        row, column = candidates(rounded, k, 2 * self._error[rows])
        values, counts = self._at(rows[row], column), self.columns.counts[column]
        order = np.lexsort((-values, row))
        row, values, counts = row[order], values[order], counts[order]
        reached = np.cumsum(counts)
        first = np.searchsorted(row, np.arange(len(rows)))
        reached -= (reached - counts)[first][row]
        largest: Exact = values[(reached >= k) & (reached - counts < k)]
        return largest

    def least_of_largest(self, rows: Points, k: int) -> Exact:
        """Return the least product that counts as one of the ``k`` largest of each of some given rows, ``(rows,)``."""
        distinct, back = np.unique(self.rows.which[rows], return_inverse=True)
        parts = [self.kth_largest(some, rounded, k) for some, rounded in self.rounded(distinct)]
        return np.concatenate(parts)[back]

    def reached(self, rows: Points, near: Points, least: Exact) -> NDArray[np.bool_]:
        """Return which of the columns ``near`` ``(rows, n)`` have a product of at least ``least`` ``(rows,)`` with their row."""
        rows, near = self.rows.which[rows], self.columns.which[near]
        found = np.empty(near.shape, np.bool_)
        for start in range(0, len(rows), _ROWS):
            some = slice(start, start + _ROWS)
            found[some] = self._reached(rows[some], near[some], least[some])
        return found

    def largest(self, row: int, columns: slice) -> NDArray[np.bool_]:
        """Return which of some columns, given in a row, have the largest product with a given row: several where it is the same."""
        own, others = int(self.rows.which[row]), self.columns.which[columns]
        rounded = self._scaled[0][others] @ self.rows.vectors[own] - self._scaled[1][others]
        best: NDArray[np.bool_] = rounded >= rounded.max() - 2 * self._error[own]
        if (doubtful := np.flatnonzero(best)).size > 1:
            values = self._at(np.array([own]), others[doubtful])
            best[doubtful] = values == values.max()
        return best

    def _reached(self, rows: Points, near: Points, least: Exact) -> NDArray[np.bool_]:
        columns, less = self._scaled
        rounded = np.einsum("ij,ikj->ik", self.rows.vectors[rows], columns[near]) - less[near]
        above = rounded - least[:, None]
        found: NDArray[np.bool_] = above >= 0
        row, place = np.nonzero(np.abs(above) <= self._error[rows][:, None])
        found[row, place] = self._at(rows[row], near[row, place]) >= least[row]
        return found

    def _at(self, rows: Points, columns: Points) -> Exact:
        return exact(self.rows.turned, self.columns.turned, rows, columns) * self.factor - self.less[columns]
