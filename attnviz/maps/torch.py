"""The engine for GPUs: neighbours and layouts of all heads of a layer at once, by torch. The only file of maps that knows torch.

Receives points, or starts, graphs and curves, as numpy has them; gives what ``maps.nearest`` and ``maps.kernel`` give. The
layout has the kernel's objective and moves *all points together*: where the kernel pulls an edge in a share of the rounds, here
it pulls in each, by that share. Pulls that are added up instead of taken in turn overshoot; so a step ends where the pulls,
taken as springs, would leave it (``move``: a damped implicit step in the point's own place), however many edges a point has.
Sums over a point's edges are sums of integers, which no order of adding changes; all else goes element by element: equal
arguments give equal bytes on equal devices, alone or among other heads. Its bytes are not the kernel's; its maps are as
good.

Not run or measured on a GPU: none was to be had (2026-11-21). So ``auto`` means the CPU; ``--device cuda`` or ``device="cuda"``
chooses the GPU, and ``tests/bench/gpu.py`` measures it. On CPU tensors, kernel → here, with the damping of ``_DAMPING``:
  UMAP, 20,000 points, 75 rounds, trustworthiness: two heads of MiniLM, one of 40 clusters   0.989 0.860 0.973 → 0.988 0.853 0.969
  the same with a damping of 0.5 · 0.7 · 1       0.990 0.861 0.982 · 0.988 0.849 0.964 · 0.987 0.831 0.946; 1 needs 150 rounds
  6,000 points, 200 rounds, means of 3 heads: UMAP 0.942 → 0.945; attention map, recall@10/50 · top-1   0.79 · 0.76 → 0.77 · 0.74
  the same with a damping of 0.5 · 1             0.945, 0.76 · 0.73;  0.946, 0.80 · 0.75
  64 pushing points → 16 · 32 · 128              recall 0.80 → 0.72 · 0.78 · 0.83 (damping 1); 4 or 8 parts in turn gain nothing
  12 heads × 20,000 × 32 on two shared, busy cores: layout 24 s, the kernel 4.1 s on one; without a GPU this engine is no gain
"""

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import MapError, require
from attnviz.normalize import unit
from attnviz.types import FloatArray, Neighbors

if TYPE_CHECKING:
    import torch

    from attnviz.maps.kernel import Curve

__all__ = ["choose_device", "idle_gpu", "layout", "neighbors"]

_SLACK = 8  # found beyond k, so that rounding seldom leaves a doubt
_PUSHING = 64  # points that push each point in a round, a power of two; weighed as if they were negatives × pulls
_DAMPING = 0.6  # with 1 no point passes the mean of what pulls it, which takes more rounds; measured above
_FIXED = 2.0**32  # what a pull is multiplied by to become an integer; 2^63 holds the sum of any point's
_CLIP = 4.0  # the longest step along an axis for one pull or push, as in the kernel
_STIFFEST = 1024.0  # of one pull: curves with b < 1 have none at distance 0
_BUDGET = 2 << 30  # bytes that a computation holds at once, where the device does not tell how many it has


def choose_device(wanted: str = "auto") -> str:
    """Return ``"cuda"`` or ``"cpu"``; ``"auto"`` is the CPU until this engine has been measured on a GPU.

    Raises
    ------
    MapError
        If ``wanted`` is none of these, or a GPU that is not there.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise MapError(f"device is {wanted!r}; maps are made on 'auto', 'cpu' or 'cuda'.")
    if wanted != "cuda":
        return "cpu"
    if find_spec("torch") is not None and _has_driver() and _torch().cuda.is_available():
        return "cuda"
    raise MapError(
        "device is 'cuda', and torch is not installed or sees no GPU. Use device = 'auto' or 'cpu', which are the same, or "
        "install a torch built for your GPU."
    )


def idle_gpu(wanted: str) -> bool:
    """Tell whether there seems to be a GPU that ``wanted`` leaves idle; torch is asked only where it is loaded already."""
    if wanted != "auto" or find_spec("torch") is None or not _has_driver():
        return False
    return "torch" not in sys.modules or bool(_torch().cuda.is_available())


def _has_driver() -> bool:
    """Return whether torch could find a GPU at all: where no driver is, loading torch (2 to 4 s) would only say so."""
    if sys.platform != "linux":
        return sys.platform != "darwin"
    if any(Path(of_amd_or_wsl).exists() for of_amd_or_wsl in ("/dev/kfd", "/dev/dxg")):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")  # torch's own CUDA calls go through it
    except OSError:
        return False
    return True


def neighbors(points: FloatArray, k: int, device: str) -> list[Neighbors]:
    """Return for each head what ``maps.nearest`` gives: the ``k`` points nearest to each point, exact.

    Parameters
    ----------
    points
        ``(heads, points, dims)``, finite.
    k
        How many; one less than there are points where that is fewer.
    device
        ``"cuda"``, or ``"cpu"`` for the same arithmetic without a GPU.
    """
    count = points.shape[1]
    k = min(k, max(count - 1, 0))
    if k == 0:
        return [Neighbors(np.empty((count, 0), np.int32), np.empty((count, 0), np.float32)) for _ in points]
    return [_neighbors(np.asarray(of_head, np.float32), k, device) for of_head in points]


def layout(
    starts: FloatArray,
    graphs: Sequence[Any],
    curve: "Curve",
    *,
    epochs: int,
    negatives: int,
    seeds: Sequence[int],
    device: str,
    rate: float = 1.0,
) -> FloatArray:
    """Return where the points of several graphs come to lie, ``(heads, points, dims)``; a head is not moved by the others.

    Parameters
    ----------
    starts
        ``(heads, points, dims)``, dims 2 or 3.
    graphs
        One for each head, ``csr_array`` ``(points, points)``, symmetric.
    curve, epochs, negatives, rate
        As for ``maps.kernel.layout``.
    seeds
        One for each head.
    device
        As for ``neighbors``.
    """
    edges = [_Edges.of(graph, epochs) for graph in graphs]
    # An edge: weight, two ends, and about 14 numbers of 4 and 8 bytes on the way; a pushing pair: 6 numbers an axis.
    sizes = [150 * len(of_head.weights) + 24 * 3 * _PUSHING * starts.shape[1] for of_head in edges]
    placed = np.empty(starts.shape, np.float32)
    for heads in _groups(sizes, _budget(device)):
        group = _Group(starts[heads], edges[heads], curve, negatives, seeds[heads], epochs, device)
        for epoch in range(epochs):
            group.move(epoch, rate * (1 - epoch / epochs))
        placed[heads] = _numpy(group.places).transpose(1, 2, 0)
    return placed


@dataclass(frozen=True, slots=True)
class _Edges:
    """The edges of one graph that are pulled at all, row by row."""

    weights: FloatArray  # (edges,): of the heaviest
    columns: NDArray[np.int32]  # (edges,)
    counts: NDArray[np.int64]  # (points,): edges of each
    pulls: FloatArray  # (points,): sums of their weights

    @classmethod
    def of(cls, graph: Any, epochs: int) -> "_Edges":
        """Return the edges of a graph that are not too light to be pulled once in so many rounds."""
        weights = graph.data.astype(np.float32) / max(graph.data.max(initial=0), np.finfo(np.float32).tiny)
        kept = weights * epochs >= 1
        before = np.concatenate([[0], np.cumsum(kept)])
        sums = np.concatenate([[0.0], np.cumsum(np.where(kept, weights, 0), dtype=np.float64)])
        pulls = np.diff(sums[graph.indptr]).astype(np.float32)
        return cls(weights[kept], graph.indices[kept].astype(np.int32), np.diff(before[graph.indptr]), pulls)


class _Group:
    """Heads that are moved together. Tensors are ``(dims, heads, points)``: an axis at a time."""

    def __init__(
        self,
        starts: FloatArray,
        edges: Sequence[_Edges],
        curve: "Curve",
        negatives: int,
        seeds: Sequence[int],
        epochs: int,
        device: str,
    ) -> None:
        heads, points, self.dims = starts.shape
        self.curve = curve
        self.places = _tensor(starts.transpose(2, 0, 1), device)
        self.weights = _tensor(np.concatenate([of_head.weights for of_head in edges]), device)
        columns = [of_head.columns + np.int32(points * head) for head, of_head in enumerate(edges)]
        counts = np.concatenate([of_head.counts for of_head in edges])
        self.far = _tensor(np.concatenate(columns), device)
        self.near = _tensor(np.repeat(np.arange(heads * points, dtype=np.int32), counts), device)
        first = np.concatenate([[0], np.cumsum(counts)])
        self.bounds = _tensor(first + len(self.far) * np.arange(self.dims + 1)[:, None], device)
        pulls = np.stack([of_head.pulls for of_head in edges])
        self.pushes = _tensor(pulls * np.float32(negatives / _PUSHING), device)
        generators = [np.random.default_rng(seed) for seed in seeds]
        self.order = _tensor(np.stack([rng.permutation(points) for rng in generators]), device)
        self.offsets = _tensor(np.stack([rng.integers(points, size=(epochs, _PUSHING)) for rng in generators]), device)

    def move(self, epoch: int, step: float) -> None:
        """Move every point once: by what pulls and pushes, less the stiffer its pulls are."""
        if not len(self.far):
            return
        pulled = self._pulled()
        force = pulled[:-1] + self._pushed(epoch)
        self.places = self.places + force * step / (pulled[-1] * (step * _DAMPING) + 1)

    def _pulled(self) -> "torch.Tensor":
        """Return what pulls each point along each axis, and how stiffly, ``(dims + 1, heads, points)``."""
        places = self.places.flatten(1)
        apart = places.index_select(1, self.far) - places.index_select(1, self.near)
        stiff = (2 * _pull(_squared(apart), self.curve)).clamp_(max=_STIFFEST)
        sums = self.bounds.new_zeros(apart.numel() + len(stiff) + 1)
        parts = sums[1:].view(self.dims + 1, -1)
        for axis, along in enumerate(apart):
            parts[axis] = (along * stiff).clamp_(-_CLIP, _CLIP) * self.weights * _FIXED
        parts[-1] = stiff * self.weights * _FIXED
        totals: torch.Tensor = sums.cumsum_(0)[self.bounds].diff(dim=1).to(places.dtype) / _FIXED
        return totals.view(self.dims + 1, *self.places.shape[1:])

    def _pushed(self, epoch: int) -> "torch.Tensor":
        """Return what pushes each point, ``(dims, heads, points)``.

        The points that push are those some random places further on in a random order of the head's.
        """
        shuffled = self.places.gather(2, self.order.expand_as(self.places))
        # (dims, heads, places further on, points), a view
        further = _cat([shuffled, shuffled], dim=2).unfold(2, self.places.shape[2], 1)
        each = _range(range(self.places.shape[1]), self.places)[:, None]
        apart = self.places[:, :, None] - further[:, each, self.offsets[:, epoch]]
        forces = apart.mul_(_push(_squared(apart), self.curve)).clamp_(-_CLIP, _CLIP)
        while forces.shape[2] > 1:  # in one order on every device
            half = forces.shape[2] // 2
            forces = forces[:, :, :half] + forces[:, :, half:]
        pushed: torch.Tensor = forces[:, :, 0] * self.pushes
        return pushed


def _squared(apart: "torch.Tensor") -> "torch.Tensor":
    total = apart[0] * apart[0]
    for along in apart[1:]:
        total += along * along
    return total


def _pull(squared: "torch.Tensor", curve: "Curve") -> "torch.Tensor":
    """Return the pull at these distances, over the distance; as in the kernel."""
    if (curve.a, curve.b) == (1, 1):
        return 2 / (1 + squared)
    squared = squared.clamp_min(1e-12)
    power = _power(squared, curve.b)
    return 2 * curve.a * curve.b * power / (squared * (1 + curve.a * power))


def _push(squared: "torch.Tensor", curve: "Curve") -> "torch.Tensor":
    """Return the push at these distances, over the distance; as in the kernel."""
    if (curve.a, curve.b) == (1, 1):
        return 2 / ((1e-3 + squared) * (1 + squared))
    return 2 * curve.b / ((1e-3 + squared) * (1 + curve.a * _power(squared.clamp_min(1e-12), curve.b)))


def _power(base: "torch.Tensor", exponent: float) -> "torch.Tensor":
    """Return ``base ** exponent`` within 3e-4 as the kernel does: torch's own differs by where in memory a number stands."""
    torch = _torch()
    bits = base.view(torch.int32)
    whole = ((bits >> 23) - 127).to(torch.float32)
    m = ((bits & 0x7FFFFF) | 0x3F800000).view(torch.float32)
    log = whole + ((((-0.07915817 * m + 0.62887365) * m - 2.08121425) * m + 4.02854804) * m - 2.4968461)
    product = (log * exponent).clamp_(-100, 100)
    floor = product.floor()
    rest = product - floor
    scale = ((floor.to(torch.int32) + 127) << 23).view(torch.float32)
    return (((0.07902041 * rest + 0.22412837) * rest + 0.69683624) * rest + 0.99981246) * scale


def _neighbors(points: FloatArray, k: int, device: str) -> Neighbors:
    scaled, power = unit(np.ascontiguousarray(points, dtype=np.float32))
    tensor = _tensor(scaled, device)
    centred = _tensor(scaled - scaled.mean(axis=0), device)
    step = _rows(device, len(points))
    starts = range(0, len(points), step)
    with _exact_products():
        chunks = [_nearest(tensor, centred, range(start, min(start + step, len(points))), k) for start in starts]
    found, squares = (_numpy(_cat(parts)) for parts in zip(*chunks, strict=True))
    # Not torch's root: on some processors its last bit differs from IEEE's, and so from the CPU's neighbours.
    return Neighbors(found.astype(np.int32), np.sqrt(squares) * power)


def _nearest(
    points: "torch.Tensor", centred: "torch.Tensor", rows: range, k: int
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the nearest points to those of ``rows`` and their squared distances, ``(rows, k)`` each.

    Products find more than are asked for. Where their rounding leaves a doubt whether one is missing, all differences decide.
    """
    count, dims = points.shape
    taken = min(k + 1 + _SLACK, count)
    norms = centred.square().sum(dim=1)
    own = slice(rows.start, rows.stop)
    rounded = norms[own, None] + norms - 2 * (centred[own] @ centred.T)
    rounded[_range(rows, points) - rows.start, _range(rows, points)] = -np.inf
    least, found = rounded.topk(taken, dim=1, largest=False)
    del rounded
    found, squares = _ordered(points, points[own], found[:, 1:], k)
    if taken < count:
        wrong = (dims + 8) * 2.0**-23 * (norms[own].sqrt() + norms.max().sqrt()).square()
        doubt = (squares[:, -1] + wrong >= least[:, -1]).nonzero()[:, 0]
        for some in _split(doubt, _rows(str(points.device), 4 * count)):
            every, numbers = _range(range(count), points), some + rows.start
            others = every.expand(len(some), -1)[every != numbers[:, None]].view(len(some), count - 1)
            found[some], squares[some] = _ordered(points, points[numbers], others, k)
    return found, squares


def _ordered(
    points: "torch.Tensor", own: "torch.Tensor", found: "torch.Tensor", k: int
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the ``k`` of ``found`` nearest to ``own`` by distance, then by index, and their squared distances."""
    found = found.sort(dim=1).values
    squares = points.new_zeros(found.shape)
    # One coordinate after the other, as the CPU's search adds them up.
    for along, here in zip(points.T.contiguous(), own.T, strict=True):
        squares += (along[found] - here[:, None]).square_()
    squares, order = squares.sort(dim=1, stable=True)
    return found.gather(1, order)[:, :k], squares[:, :k]


def _groups(sizes: Sequence[int], budget: int) -> Iterator[slice]:
    """Cut heads into runs that fit a budget of bytes together; a head that is larger is alone."""
    first, total = 0, 0
    for head, size in enumerate(sizes):
        if head > first and total + size > budget:
            yield slice(first, head)
            first, total = head, 0
        total += size
    if first < len(sizes):
        yield slice(first, len(sizes))


def _budget(device: str) -> int:
    """Return how many bytes may be held at once: half of what a GPU has free."""
    return int(_torch().cuda.mem_get_info(device)[0] // 2) if device.startswith("cuda") else _BUDGET


def _rows(device: str, numbers: int) -> int:
    """Return how many rows of so many numbers, each held three times, are a sixteenth of the budget."""
    return int(max(_budget(device) // (16 * 12 * numbers), 1))


@contextmanager
def _exact_products() -> Iterator[None]:
    """Have products of matrices in float32, not rounded to TF32, inside the block."""
    torch = _torch()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _tensor(array: NDArray[Any], device: str) -> "torch.Tensor":
    # A copy: what is computed in place must not be the caller's.
    tensor: torch.Tensor = _torch().tensor(np.ascontiguousarray(array), device=device)
    return tensor


def _numpy(tensor: "torch.Tensor") -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array


def _range(numbers: range, like: "torch.Tensor") -> "torch.Tensor":
    tensor: torch.Tensor = _torch().arange(numbers.start, numbers.stop, device=like.device)
    return tensor


def _cat(tensors: Sequence["torch.Tensor"], dim: int = 0) -> "torch.Tensor":
    joined: torch.Tensor = _torch().cat(list(tensors), dim=dim)
    return joined


def _split(tensor: "torch.Tensor", rows: int) -> Iterator["torch.Tensor"]:
    return (tensor[start : start + rows] for start in range(0, len(tensor), rows))


def _torch() -> Any:
    return require("torch", "capture")
