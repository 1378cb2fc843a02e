"""The compiled loops of the search for neighbours: every pair of points once, for both of them.

Receives points in the order of ``blocks.arrange``, padded to whole panels; changes the best lists in place. Each function runs on
the calling thread, without the GIL, and gives the same bytes whatever runs beside it, on one type of processor. Compiled at the
first call, then kept by numba: beside this file, or in the user's cache folder where that cannot be written. numba looks at the
date of this file alone, so everything that is compiled into these loops stands here (``tests/test_numba_cache.py``). Imports
numba: import it inside functions only.

The inner loop, ``tile``, keeps the squared distances of four points to a panel of others in vector registers. It is written as
LLVM vector operations because a distance is looked at once: in registers, the 200 million of a head never reach memory, where a
BLAS product writes them to be scanned (OpenBLAS 0.20–0.30 s for the products alone, this 0.21–0.23 s with all else, 20,000 × 32,
one core, 2026-11-21). No fast-math: a distance is the same bits alone and among other threads.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from attnviz.types import FloatArray

__all__ = ["covariance", "finish", "nearest_to", "panels", "rotated", "search_both", "search_left"]

_compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(nogil=True, cache=True)

ROWS = 4
# What ROWS accumulators of it leave in registers. Where numba is told for which processor to compile (NUMBA_CPU_NAME), it must
# follow from that: what numba keeps may be used on a machine with other registers.
WIDTH = 64 if not config.CPU_NAME and binding.get_host_cpu_features().get("avx512f") else 16

_FLOAT, _LONG = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
_intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic


def panels(points: FloatArray) -> FloatArray:
    """Return ``(panels, dims, WIDTH)``: the coordinates of ``WIDTH`` points side by side; the last panel is filled with zeros."""
    count = -(-len(points) // WIDTH)
    padded = np.zeros((count * WIDTH, points.shape[1]), np.float32)
    padded[: len(points)] = points
    return np.ascontiguousarray(padded.reshape(count, WIDTH, -1).transpose(0, 2, 1))


@_intrinsic
def lowest_bit(_: Any, bits: Any) -> Any:
    """Return the place of the lowest bit that is set in a uint64 other than 0."""
    return types.intp(bits), lambda context, builder, signature, args: builder.cttz(
        args[0], ir.Constant(ir.IntType(1), 1)
    )


@_intrinsic
def tile(
    _: Any,
    left: Any,
    left_norms: Any,
    left_limits: Any,
    right: Any,
    norms: Any,
    limits: Any,
    row: Any,
    panel: Any,
    squares: Any,
    hits: Any,
) -> Any:
    """Return whether any of the ``ROWS`` points from ``row`` on is near enough to any point of ``panel``.

    Parameters
    ----------
    left
        ``(points, dims)``: -2 times the points.
    right
        ``(panels, dims, WIDTH)``: the others, as ``panels`` lays them out.
    left_norms, left_limits, norms, limits
        ``(points,)``: each point's squared norm, and up to which squared distance it cares; the larger limit of a pair counts.
    squares, hits
        ``(ROWS, WIDTH)`` float32 and ``(ROWS,)`` uint64, written only where something is near: all squared distances, and
        a bit for each that is near.
    """
    given = (left, left_norms, left_limits, right, norms, limits, row, panel, squares, hits)
    return types.boolean(*given), _emit_tile


def _emit_tile(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    arrays = [
        context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, args, strict=True)
    ]
    left, left_norms, left_limits, right, norms, limits, row, panel, squares, hits = arrays
    dims = cgutils.unpack_tuple(builder, left.shape)[1]
    sums = _products(builder, left.data, right.data, row, panel, dims)
    start = builder.mul(panel, _long(WIDTH))
    norm, limit = (_load(builder, array.data, start) for array in (norms, limits))
    near = []
    for r in range(ROWS):
        at = [builder.add(row, _long(r))]
        own = [_spread(builder, builder.load(builder.gep(a.data, at))) for a in (left_norms, left_limits)]
        sums[r] = builder.fadd(builder.fadd(sums[r], norm), own[0])
        larger = builder.select(builder.fcmp_ordered(">", limit, own[1]), limit, own[1])
        near.append(builder.bitcast(builder.fcmp_ordered("<=", sums[r], larger), ir.IntType(WIDTH)))
    union = near[0]
    for bits in near[1:]:
        union = builder.or_(union, bits)
    found = builder.icmp_unsigned("!=", union, ir.Constant(ir.IntType(WIDTH), 0))
    with builder.if_then(found, likely=False):
        for r in range(ROWS):
            place = builder.gep(squares.data, [_long(r * WIDTH)])
            builder.store(sums[r], builder.bitcast(place, _VECTOR.as_pointer()), align=4)
            bits = near[r] if WIDTH == 64 else builder.zext(near[r], _LONG)
            builder.store(bits, builder.gep(hits.data, [_long(r)]))
    return found


def _products(builder: Any, left: Any, right: Any, row: Any, panel: Any, dims: Any) -> list[Any]:
    """Emit the loop over the dimensions: each row's coordinate times the panel's, added up in registers."""
    zero = ir.Constant(_VECTOR, [0.0] * WIDTH)
    places = [cgutils.alloca_once_value(builder, zero) for _ in range(ROWS)]
    for place in places:
        builder.store(zero, place)
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    multiply_add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{WIDTH}f32")
    column = builder.mul(builder.mul(panel, dims), _long(WIDTH))
    with cgutils.for_range(builder, dims) as loop:
        others = _load(builder, right, builder.add(column, builder.mul(loop.index, _long(WIDTH))))
        for r, place in enumerate(places):
            at = builder.add(builder.mul(builder.add(row, _long(r)), dims), loop.index)
            own = _spread(builder, builder.load(builder.gep(left, [at])))
            builder.store(builder.call(multiply_add, [own, others, builder.load(place)]), place)
    return [builder.load(place) for place in places]


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


def _load(builder: Any, data: Any, start: Any) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [start]), _VECTOR.as_pointer()), align=4)


def _spread(builder: Any, value: Any) -> Any:
    """Emit a vector that holds ``value`` in every place."""
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))


@_compiled
def _insert(best: Any, who: Any, row: int, place: int, value: Any, index: Any) -> None:
    """Put a candidate into a row's list, which is sorted by (value, index) before ``place``, at ``place`` or before it."""
    while place > 0:
        before = best[row, place - 1]
        if before < value or (before == value and who[row, place - 1] < index):
            break
        best[row, place] = before
        who[row, place] = who[row, place - 1]
        place -= 1
    best[row, place] = value
    who[row, place] = index


@_compiled
def _offer(best: Any, who: Any, limits: Any, row: int, value: Any, index: Any) -> None:
    """Put a candidate into a row's list, which is sorted by (value, index), if it is better than the last."""
    last = best.shape[1] - 1
    if value < limits[row] or (value == limits[row] and index < who[row, last]):
        _insert(best, who, row, last, value, index)
        limits[row] = best[row, last]


@_compiled
def _pair(
    left: Any,
    right: Any,
    norms: Any,
    limits: Any,
    order: Any,
    best: Any,
    who: Any,
    a: int,
    b: int,
    block: int,
    work: Any,
) -> None:
    """Compare the points of block ``a`` with those of block ``b``, each pair once, for both."""
    total = len(norms)
    squares, hits = work
    for panel in range(b * block // WIDTH, min((b + 1) * block, total) // WIDTH):
        for row in range(a * block, min((a + 1) * block, total), ROWS):
            if not tile(left, norms, limits, right, norms, limits, row, panel, squares, hits):
                continue
            for r in range(ROWS):
                bits = hits[r]
                while bits:
                    column = lowest_bit(bits)
                    bits &= bits - np.uint64(1)
                    i, j = row + r, panel * WIDTH + column
                    if a != b or i < j:
                        _offer(best, who, limits, i, squares[r, column], order[j])
                        _offer(best, who, limits, j, squares[r, column], order[i])


@_compiled
def search_both(
    left: Any,
    right: Any,
    norms: Any,
    limits: Any,
    order: Any,
    best: Any,
    who: Any,
    plan: Any,
    seen: Any,
    block: int,
    first: int,
    last: int,
) -> None:
    """Compare each block with those of its ``plan`` from ``first`` up to ``last`` that were not ``seen``, and mark them."""
    work = (np.empty((ROWS, WIDTH), np.float32), np.empty(ROWS, np.uint64))
    for step in range(first, last):
        for a in range(len(plan)):
            b = plan[a, step]
            if not seen[a, b]:
                seen[a, b] = seen[b, a] = True
                _pair(left, right, norms, limits, order, best, who, a, b, block, work)


@_compiled
def search_left(
    left: Any, right: Any, offsets: Any, limits: Any, order: Any, best: Any, who: Any, plan: Any, block: int, first: int, last: int,
) -> None:  # fmt: skip
    """Compare each block of the left with those of the right that its ``plan`` names from ``first`` up to ``last``."""
    squares, hits = np.empty((ROWS, WIDTH), np.float32), np.empty(ROWS, np.uint64)
    none, nothing = np.full(len(offsets), np.float32(-np.inf)), np.zeros(len(left), np.float32)
    for a in range(len(plan)):
        for step in range(first, last):
            b = plan[a, step]
            for panel in range(b * block // WIDTH, min((b + 1) * block, len(offsets)) // WIDTH):
                for row in range(a * block, min((a + 1) * block, len(left)), ROWS):
                    if not tile(left, nothing, limits, right, offsets, none, row, panel, squares, hits):
                        continue
                    for r in range(ROWS):
                        bits = hits[r]
                        while bits:
                            column = lowest_bit(bits)
                            bits &= bits - np.uint64(1)
                            _offer(best, who, limits, row + r, squares[r, column], order[panel * WIDTH + column])


@_compiled
def _distance(points: Any, i: int, j: int) -> Any:
    """Return the distance of two points by differences: exactly 0 for coincident ones."""
    square = np.float32(0)
    for d in range(points.shape[1]):
        apart = points[i, d] - points[j, d]
        square += apart * apart
    return np.sqrt(square)


@_compiled
def finish(rows: Any, points: Any, found: Any, distances: Any) -> None:
    """Measure again what was found of the points ``rows``; sort ``found`` and ``distances`` by (distance, index)."""
    for i in range(len(found)):
        for k in range(found.shape[1]):
            index = found[i, k]
            _insert(distances, found, i, k, _distance(points, rows[i], index), index)


@_compiled
def nearest_to(
    rows: Any,
    points: Any,
    left: Any,
    left_norms: Any,
    reach: Any,
    right: Any,
    norms: Any,
    order: Any,
    best: Any,
    who: Any,
) -> None:
    """Find the points nearest to ``rows`` by differences, among those that ``tile`` puts within ``reach``."""
    squares, hits = np.empty((ROWS, WIDTH), np.float32), np.empty(ROWS, np.uint64)
    none, limits = np.full(len(norms), np.float32(-np.inf)), best[:, -1].copy()
    for panel in range(len(right)):
        for row in range(0, len(left), ROWS):
            if not tile(left, left_norms, reach, right, norms, none, row, panel, squares, hits):
                continue
            for r in range(row, min(row + ROWS, len(rows))):
                bits = hits[r - row]
                while bits:
                    index = order[panel * WIDTH + lowest_bit(bits)]
                    bits &= bits - np.uint64(1)
                    if index != rows[r]:
                        _offer(best, who, limits, r, _distance(points, rows[r], index), index)


@_compiled
def covariance(points: Any) -> Any:
    """Return the sums of products of the coordinates less their means, ``(dims, dims)`` float64."""
    dims = points.shape[1]
    sums, mean = np.zeros((dims, dims)), np.zeros(dims)
    for i in range(len(points)):
        mean += points[i]
    mean /= max(len(points), 1)
    for i in range(len(points)):
        centred = points[i] - mean
        for d in range(dims):
            sums[d] += centred[d] * centred
    return sums


@_compiled
def rotated(points: Any, directions: Any) -> Any:
    """Return ``points @ directions`` in float32, each sum in the order of the coordinates."""
    turned = np.zeros(points.shape, np.float32)
    for i in range(len(points)):
        for d in range(points.shape[1]):
            value = points[i, d]
            for e in range(points.shape[1]):
                turned[i, e] += value * directions[d, e]
    return turned
