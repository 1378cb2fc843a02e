"""Squared distances of four points to a panel of others in vector registers: the inner loop of ``nearest_kernel``.

Receives points laid out by ``panels``; gives to compiled code ``tile``, which computes 4 × ``WIDTH`` squared distances and says
which are small, and ``lowest_bit``, which finds those. Written as LLVM vector operations because a distance is looked at once:
kept in registers, the 200 million of a head never reach memory, where a BLAS product writes them to be scanned (OpenBLAS 0.20–0.30
s for the products alone, this 0.21–0.23 s with all else, 20,000 × 32, one core, 2026-11-21). No fast-math: a distance is the
same bits alone and among other threads. Imports numba: import it inside functions only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from attnviz.types import FloatArray

__all__ = ["ROWS", "WIDTH", "lowest_bit", "panels", "tile"]

ROWS = 4
WIDTH = 64 if binding.get_host_cpu_features().get("avx512f") else 16  # what ROWS accumulators of it leave in registers

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
