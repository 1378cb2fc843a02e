"""The compiled kernel: points pulled along the edges of a graph and pushed from random others, one head on one thread.

Receives a start, a weighted graph and a curve; gives coordinates. The loops of ``maps/settle.py`` stand below: numba keeps what
it compiled until the function's own file changes, so that all which shares ``power`` is in one (``tests/test_numba_cache.py``).
It is UMAP's optimisation (McInnes, Healy and Melville, 2018; negative sampling after Tang et al., *LargeVis*, 2016) arranged for
speed: vertices in turn, each moved on its own edges with twice the pull, in place of both ends of every edge; and the points that
push it a *block of neighbours in memory*, which the processor handles eight or sixteen at once. Points lie in a random order, so
that a block is a random sample.

20,000 points × 15 neighbours, one core of two shared ones, 2026-11-21, six heads of MiniLM, mean trustworthiness:
umap-learn with its defaults 0.936 in 4.1–5.6 s on both cores; here, Cauchy curve, rounds / pushing points for each pull /
spread of the start: 50/5/10 0.935 in 0.19 s · 50/8/10 0.939 in 0.23 s · 50/8/20 0.942 · 75/8/20 0.948 in 0.34 s · 100/8/10 0.945 in
0.46 s · 100/15/10 0.950 in 0.63 s · 30/15/20 and twice the rate 0.925 · 200/5/2.5 0.938 in 0.75 s. A narrow start
(2.5) lost 0.3 to 1 %. Vertices in random order with single pushing points took 0.93 s for 100 rounds: the blocks are what
gains. The (a, b) curve takes 0.61 s where Cauchy's takes 0.28 s, with the same trustworthiness (0.9415 and 0.9410).

All 72 heads of MiniLM, 20,000 points each, neighbours and layout, two cores: 27.0 s (three times), umap-learn with its defaults
382 s: 14 times faster, trustworthiness 0.953 against 0.948 (tests/bench/maps_speed.py). One head, one thread, neighbours · UMAP
· attention map in seconds (maps_scale.py): 5,000 points 0.05 · 0.3 · 0.6; 20,000 0.3 · 0.6 · 1.6; 80,000 2.2 · 2.5 · 7.8;
320,000 27 · 9.5 · 52, with 0.5 GB: time grows as points^1.08. AttentionViz's six kinds of map take 57.7 s for a head of 10,000
points, ours and the attention map 1.96 s: 29 times faster (maps_peers.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic
from scipy.sparse import csr_array

from attnviz.types import FloatArray

__all__ = ["CAUCHY", "Curve", "layout", "power", "select", "settle_points"]

# What the compiler may assume. It may neither reorder sums, nor fuse a product with a sum, nor take an estimate for a division:
# each of those rounds by the processor, and a last bit grows to another map: compiled for one without AVX, single heads' scores
# differed by up to 0.23, the means of eight heads by up to 0.07 (1,000 tokens, 2026-11-28). Now the bytes are the same, for a third
# more time (20,000 points, 50 rounds: 0.44 s before, 0.59 s). Sums are in one order that registers of any width can follow
# (``_total``). "nnan" and "ninf" are left out too: coordinates that run away must be seen by the caller.
FAST = {"nsz"}
# What it may do in ``settle``, whose new points go to rest: there a last bit stays a last bit.
_RELAXED = {"contract", "arcp", "reassoc", "nsz"}
# Pulls before the points that push have their turn. When all push at once, hubs with thousands of pulls are thrown 10 to 45 times
# as far out as the 99th percentile, and attention recall is 0.50 instead of 0.58 (six heads, 20,000 points, 2026-11-21).
_TOGETHER = 8
# Of the way to the other point, at most so much at once. With twice the pull it was up to four times the way: two points that
# are each other's nearest leapt over each other and ran out of the map together, up to 4 times as far as the 99th percentile; now
# 1.3 times at most. Half of the way and three quarters gave the same recall and trustworthiness.
_FARTHEST = np.float32(1)
_LONGEST = np.float32(4)  # the longest step along an axis for one pull or push, as in UMAP
_PUSHING = 128  # how many old points push a new one in one round
_AWAY = np.float32(1)  # the farthest that they do


@dataclass(frozen=True, slots=True)
class Curve:
    """How strongly two points at distance d want to be one: 1 / (1 + a d^(2b))."""

    a: float
    b: float


CAUCHY = Curve(1.0, 1.0)
"""The curve of t-SNE; it needs no powers and has the heavier tail."""


def layout(
    start: FloatArray,
    graph: csr_array,
    curve: Curve = CAUCHY,
    *,
    epochs: int,
    negatives: int,
    seed: int,
    rate: float = 1.0,
) -> FloatArray:
    """Return where the points of a graph come to lie, ``(points, dims)``.

    Parameters
    ----------
    start
        ``(points, dims)``, dims 2 or 3, some 10 units wide.
    graph
        Symmetric weights, ``(points, points)``. An edge is pulled in a share of the rounds: its weight over the largest.
    epochs
        Rounds over all points. The steps shorten to nothing.
    negatives
        How many random points push for each pull.
    seed
        Equal arguments give equal bytes, on any processor tried: x86 with and without AVX2 and FMA.
    rate
        Length of the first steps.
    """
    points, dims = start.shape
    rng = np.random.default_rng(seed)
    order = rng.permutation(points)
    shuffled = csr_array(graph[order][:, order])
    shuffled.sort_indices()
    axes = np.ascontiguousarray(start[order].T, dtype=np.float32)
    every = _rounds_between(shuffled.data, epochs)
    curve32 = np.float32(curve.a), np.float32(curve.b)
    state = np.array([rng.integers(1, 2**63)], np.uint64)
    run = _compiled(dims, curve == CAUCHY)
    run(axes, shuffled.indptr, shuffled.indices, every, epochs, negatives, state, np.float32(rate), *curve32)
    placed = np.empty((points, dims), np.float32)
    placed[order] = axes.T
    return placed


def _rounds_between(weights: FloatArray, epochs: int) -> FloatArray:
    """Return after how many rounds each edge is pulled again: 1 for the heaviest, infinity for those too light to count."""
    if len(weights) == 0:
        return weights.astype(np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        every = weights.max() / weights
    return np.where(every <= epochs, every, np.inf).astype(np.float32)


@intrinsic
def _bits(context: Any, value: Any) -> Any:
    """Read a float32's bits as an int32."""
    return numba.int32(numba.float32), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.IntType(32)
    )


@intrinsic
def _float(context: Any, value: Any) -> Any:
    """Read an int32's bits as a float32."""
    return numba.float32(numba.int32), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.FloatType()
    )


@numba.njit(inline="always", fastmath=FAST)
def power(base: Any, exponent: Any) -> Any:
    """Return ``base ** exponent`` of a positive float32 within 3e-4, without a call, so that loops over it are vectorised.

    The exponent's bits give the whole part of the logarithm, polynomials the rest; the library's function took 20 times as long.
    """
    f = np.float32
    bits = _bits(base)
    whole = f((bits >> np.int32(23)) - np.int32(127))
    m = _float((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000))
    log = whole + (
        (((f(-0.07915817) * m + f(0.62887365)) * m + f(-2.08121425)) * m + f(4.02854804)) * m + f(-2.4968461)
    )
    product = min(max(exponent * log, f(-100)), f(100))
    floor = np.floor(product)
    rest = product - floor
    scale = _float((np.int32(floor) + np.int32(127)) << np.int32(23))
    return (((f(0.07902041) * rest + f(0.22412837)) * rest + f(0.69683624)) * rest + f(0.99981246)) * scale


def _forces(cauchy: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return what multiplies the difference of two points in a pull and in a push, of their squared distance, a and b."""
    one, two, near, least = np.float32(1), np.float32(2), np.float32(1e-3), np.float32(1e-12)

    @numba.njit(inline="always", fastmath=FAST)
    def pull(squared: Any, a: Any, b: Any) -> Any:
        if cauchy:
            return two / (one + squared)
        some = max(squared, least)
        raised = power(some, b)
        return two * a * b * raised / (some * (one + a * raised))

    @numba.njit(inline="always", fastmath=FAST)
    def push(squared: Any, a: Any, b: Any) -> Any:
        if cauchy:
            return two / ((near + squared) * (one + squared))
        return two * b / ((near + squared) * (one + a * power(max(squared, least), b)))

    return pull, push


@numba.njit(inline="always", fastmath=FAST)
def _clip(step: Any, longest: Any) -> Any:
    return min(max(step, -longest), longest)


@numba.njit(inline="always", fastmath=FAST)
def _total(values: Any, count: Any) -> Any:
    """Return the sum of the first numbers, which it overwrites: the further half is added to the nearer until one is left."""
    while count > 1:
        half = (count + 1) >> 1
        for place in range(count - half):
            values[place] += values[half + place]
        count = half
    return values[0]


@lru_cache
def _compiled(dims: int, cauchy: bool) -> Callable[..., None]:
    """Return the kernel for 2 or 3 dimensions and for one of the two curves."""
    pull, push = _forces(cauchy)
    two = np.float32(2)

    @numba.njit(inline="always", fastmath=FAST)
    def pushed(
        axes: Any, pushes: Any, here_x: Any, here_y: Any, here_z: Any, block: Any, state: Any, a: Any, b: Any
    ) -> Any:
        """Return the sum of what a random block of points pushes, and draw the next block."""
        number = state[0]
        number ^= number << np.uint64(13)
        number ^= number >> np.uint64(7)
        number ^= number << np.uint64(17)
        state[0] = number
        first = np.int64((number >> np.uint64(11)) % np.uint64(axes.shape[1] - block + 1))
        x, y, z = axes[0], axes[1], axes[dims - 1]
        push_x, push_y, push_z = pushes[0], pushes[1], pushes[dims - 1]
        for j in range(block):
            dx, dy, dz = here_x - x[first + j], here_y - y[first + j], here_z - z[first + j]
            squared = dx * dx + dy * dy
            if dims == 3:
                squared += dz * dz
            force = push(squared, a, b)
            push_x[j] = _clip(force * dx, _LONGEST)
            push_y[j] = _clip(force * dy, _LONGEST)
            if dims == 3:
                push_z[j] = _clip(force * dz, _LONGEST)
        total_x, total_y = _total(push_x, block), _total(push_y, block)
        return total_x, total_y, _total(push_z, block) if dims == 3 else np.float32(0)

    @numba.njit(nogil=True, fastmath=FAST, boundscheck=False, cache=True)
    def run(
        axes: Any,
        indptr: Any,
        indices: Any,
        every: Any,
        epochs: Any,
        negatives: Any,
        state: Any,
        rate: Any,
        a: Any,
        b: Any,
    ) -> None:
        """Move every point in each round: by the edges that are due, and after every eighth pull by what pushes."""
        due, most = every.copy(), min(_TOGETHER * negatives, axes.shape[1])
        pushes = np.empty((dims, most), np.float32)
        x, y, z = axes[0], axes[1], axes[dims - 1]
        for epoch in range(epochs):
            now, step = np.float32(epoch), rate * np.float32(1 - epoch / epochs)
            for i in range(axes.shape[1]):
                here_x, here_y, here_z = x[i], y[i], z[i]
                pulls, last = 0, indptr[i + 1] - 1
                for edge in range(indptr[i], indptr[i + 1]):
                    if due[edge] <= now:
                        due[edge] += every[edge]
                        pulls += 1
                        j = indices[edge]
                        dx, dy, dz = x[j] - here_x, y[j] - here_y, z[j] - here_z
                        squared = dx * dx + dy * dy
                        if dims == 3:
                            squared += dz * dz
                        share = min(step * two * pull(squared, a, b), _FARTHEST)
                        here_x += _clip(share * dx, step * _LONGEST)
                        here_y += _clip(share * dy, step * _LONGEST)
                        here_z += _clip(share * dz, step * _LONGEST)
                    if pulls == _TOGETHER or (edge == last and pulls > 0):
                        block = min(pulls * negatives, most)
                        push_x, push_y, push_z = pushed(axes, pushes, here_x, here_y, here_z, block, state, a, b)
                        here_x += step * push_x
                        here_y += step * push_y
                        here_z += step * push_z
                        pulls = 0
                x[i], y[i] = here_x, here_y
                if dims == 3:
                    z[i] = here_z

    compiled: Callable[..., None] = run
    return compiled


@numba.njit(nogil=True, cache=True)
def select(
    left: Any, right: Any, products: Any, half: Any, margins: Any, by_product: Any, found: Any, values: Any
) -> None:
    """Reckon anew what a rounded product may leave among the first: the result is the same whatever was multiplied with it."""
    k, dims = found.shape[1], right.shape[1]
    best, who = np.empty(k), np.empty(k, np.int64)
    for i in range(len(left)):
        limit = _limit(half, products[i], best, who) + margins[i]
        best[:], who[:] = np.inf, len(right)
        for j in range(len(right)):
            if half[j] - products[i, j] <= limit:
                exact = 0.0
                for d in range(dims):
                    exact += -left[i, d] * right[j, d] if by_product else (left[i, d] - right[j, d]) ** 2
                if exact < best[k - 1]:
                    _insert(best, who, exact, j)
        for n in range(k):
            found[i, n] = who[n]
            values[i, n] = -best[n] if by_product else np.sqrt(best[n])


@numba.njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def _limit(half: Any, products: Any, best: Any, who: Any) -> Any:
    """Return a value that at least ``len(best)`` are not above: so many parts of the row have their least one below it."""
    best[:] = np.inf
    part = max(len(half) // (4 * len(best)), 1)
    for first in range(0, len(half), part):
        least = half[first] - products[first]
        for j in range(first, min(first + part, len(half))):
            least = min(least, half[j] - products[j])
        if least < best[-1]:
            _insert(best, who, np.float64(least), first)
    return best[-1]


@numba.njit(nogil=True, cache=True)
def _insert(best: Any, who: Any, value: Any, index: Any) -> None:
    """Put a value into an ascending list, equal ones by index, and drop the last."""
    place = len(best) - 1
    while place > 0 and (best[place - 1] > value or (best[place - 1] == value and who[place - 1] > index)):
        best[place], who[place] = best[place - 1], who[place - 1]
        place -= 1
    best[place], who[place] = value, index


@numba.njit(inline="always", fastmath=FAST)
def _raised(squared: Any, b: Any) -> Any:
    return squared if b == 1 else power(squared, b)


@numba.njit(nogil=True, cache=True, fastmath=_RELAXED)
def settle_points(
    settled: Any, x: Any, y: Any, z: Any, starts: Any, indices: Any, weights: Any, rounds: Any, negatives: Any, state: Any,
    a: Any, b: Any,
) -> None:  # fmt: skip
    """Let new points come to rest, one after the other; ``settled`` is ``(new, 3)``, the rest as ``maps.settle.settle`` has it."""
    one, two, least, near = np.float32(1), np.float32(2), np.float32(1e-12), np.float32(1e-3)
    block = min(_PUSHING, len(x))
    for i in range(len(settled)):
        number = state
        first_edge, last_edge = starts[i], starts[i + 1]
        total, here_x, here_y, here_z = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for edge in range(first_edge, last_edge):
            j, weight = indices[edge], weights[edge]
            total += weight
            here_x += weight * x[j]
            here_y += weight * y[j]
            here_z += weight * z[j]
        total = max(total, least)
        here_x, here_y, here_z = here_x / total, here_y / total, here_z / total
        for turn in range(rounds):
            strength = least
            to_x, to_y, to_z = np.float32(0), np.float32(0), np.float32(0)
            for edge in range(first_edge, last_edge):
                j = indices[edge]
                dx, dy, dz = x[j] - here_x, y[j] - here_y, z[j] - here_z
                squared = max(dx * dx + dy * dy + dz * dz, least)
                raised = a * _raised(squared, b)
                force = weights[edge] * two * two * b * raised / (squared * (one + raised))  # from both ends of an edge
                strength += force
                to_x += force * dx
                to_y += force * dy
                to_z += force * dz
            number ^= number << np.uint64(13)
            number ^= number >> np.uint64(7)
            number ^= number << np.uint64(17)
            first = np.int64((number >> np.uint64(11)) % np.uint64(len(x) - block + 1))
            away_x, away_y, away_z = np.float32(0), np.float32(0), np.float32(0)
            for j in range(first, first + block):
                dx, dy, dz = here_x - x[j], here_y - y[j], here_z - z[j]
                squared = dx * dx + dy * dy + dz * dz
                force = two * b / ((near + squared) * (one + a * _raised(max(squared, least), b)))
                away_x += force * dx
                away_y += force * dy
                away_z += force * dz
            share = total * negatives / (block * strength)
            far = share * np.sqrt(away_x * away_x + away_y * away_y + away_z * away_z)
            share *= min(one, _AWAY / max(far, least))
            step = one - np.float32(turn) / np.float32(rounds)
            here_x += step * (to_x / strength + share * away_x)
            here_y += step * (to_y / strength + share * away_y)
            here_z += step * (to_z / strength + share * away_z)
        settled[i, 0], settled[i, 1], settled[i, 2] = here_x, here_y, here_z
