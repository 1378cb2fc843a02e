"""What a GPU gains: neighbours and UMAP layout of 12 heads × 20,000 points × 32 dims, on the GPU and by the CPU's kernels.

    python tests/bench/gpu.py [--cpu]

Synthetic heads: 40 clusters, each within 8 of the 32 dimensions. Both take 14 neighbours and 75 rounds from the same start and the
same graph; the CPU maps 2 of the heads, one thread, and is scaled to 12. Trustworthiness of one head tells whether the maps are as
good. The first run of each is thrown away. ``--cpu`` measures tensors of the CPU where there is no GPU. Prints ``RESULT {json}``.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from attnviz.maps.graph import fuzzy
from attnviz.maps.kernel import CAUCHY
from attnviz.maps.kernel import layout as kernel
from attnviz.maps.nearest import neighbors as nearest
from attnviz.maps.pca import initial
from attnviz.maps.threads import single_thread
from attnviz.maps.torch import layout, neighbors
from attnviz.metrics import METRICS
from attnviz.normalize import joint
from attnviz.types import FloatArray

HEADS, POINTS, DIMS, K = 12, 20_000, 32, 14
LAYOUT: dict[str, Any] = {"epochs": 75, "negatives": 8}
ON_CPU = 2  # heads that the CPU's kernels map


def head(seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    centres, axes = rng.normal(size=(40, DIMS)), rng.normal(size=(40, 8, DIMS)) / 3
    points = [middle + rng.normal(size=(POINTS // 40, 8)) @ own for middle, own in zip(centres, axes, strict=True)]
    return rng.permutation(np.concatenate(points)).astype(np.float32)


def timed(work: Callable[[], Any], device: str = "cpu") -> tuple[Any, float]:
    """Run twice; return the second result and its seconds."""
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and "--cpu" not in sys.argv:
        print("RESULT", json.dumps({"gpu": False}))
        return
    points = np.stack([head(seed) for seed in range(HEADS)])
    near, seconds_near = timed(lambda: neighbors(points, K, device), device)
    starts = np.stack([initial(of_head, 2, spread=20, seed=seed) for seed, of_head in enumerate(points)])
    graphs = [fuzzy(of_head) for of_head in near]
    seeds = range(HEADS)
    placed, seconds_layout = timed(lambda: layout(starts, graphs, CAUCHY, seeds=seeds, device=device, **LAYOUT), device)
    with single_thread():
        of_cpu, cpu_near = timed(lambda: [nearest(points[number], K) for number in range(ON_CPU)])
        maps, cpu_layout = timed(lambda: [kernel(starts[n], graphs[n], seed=n, **LAYOUT) for n in range(ON_CPU)])
    halves = joint(points[0, : POINTS // 2], points[0, POINTS // 2 :])
    same = [of_device.indices == of_head.indices for of_device, of_head in zip(near, of_cpu, strict=False)]
    result = {
        "gpu": torch.cuda.get_device_name() if device == "cuda" else False,
        "neighbors_s": round(seconds_near, 3),
        "layout_s": round(seconds_layout, 3),
        "cpu_neighbors_s": round(cpu_near * HEADS / ON_CPU, 3),
        "cpu_layout_s": round(cpu_layout * HEADS / ON_CPU, 3),
        "same_neighbors": float(np.mean(same)),
        "trustworthiness": round(METRICS["trustworthiness"](halves, placed[0]), 4),
        "cpu_trustworthiness": round(METRICS["trustworthiness"](halves, maps[0]), 4),
    }
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
