"""Seconds and peak memory of a head's UMAP and attention map at 5,000 to 320,000 points.

    python tests/bench/maps_scale.py

Each size in a fresh process, on one thread: vectors of MiniLM's heads, those of many heads one after the other where one has too
few (a mixture of heads is more spread out than a head, which makes nothing easier), warmed on 2,000 points. Exact neighbours cost
the square of the points, 0.4 s of 20,000; above the limit in ``maps/nearest.py`` an index finds them. ``exponent`` is the slope
of log time over log points for both maps together, over all four sizes.
"""

import json
import resource
import subprocess
import sys
import time

import numpy as np
from material import captured, heads

from attnviz.maps import neighbors, num_neighbors, place
from attnviz.normalize import joint
from attnviz.types import MapSpec

SIZES = (5_000, 20_000, 80_000, 320_000)
SPECS = (MapSpec("umap", "umap"), MapSpec("attention", "attention"))


def vectors(points: int):
    run, parts, tokens = captured("minilm_docs", 10_000), [], 0
    for _, head in heads(run):
        parts.append((head.query, head.original_key))
        tokens += len(head.query)
        if tokens >= points // 2:
            break
    query, key = (np.concatenate(part)[: points // 2] for part in zip(*parts, strict=True))
    return joint(query, key)


def once(points: int) -> dict[str, float]:
    """Return the seconds of each step for one head of so many points."""
    space, seconds = vectors(points), {}
    start = time.perf_counter()
    near = neighbors(space.points, max(map(num_neighbors, SPECS)))
    seconds["neighbors"] = time.perf_counter() - start
    for spec in SPECS:
        start = time.perf_counter()
        place(spec, space, neighbors=near)
        seconds[spec.name] = time.perf_counter() - start
    return seconds | {"recall": near.recall}


def main() -> None:
    if len(sys.argv) > 1:
        once(2_000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        measured = once(int(sys.argv[1]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(measured | {"peak_mb": peak, "before_mb": before}))
        return
    captured("minilm_docs", 10_000)
    totals = []
    for size in SIZES:
        runs = []
        for _ in range(3 if size <= 80_000 else 1):
            done = subprocess.run([sys.executable, __file__, str(size)], capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
        middle = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
        totals.append(sum(middle[name] for name in ("neighbors", *(spec.name for spec in SPECS))))
        print(f"{size:7,} points  " + " · ".join(f"{name} {value:.2f}" for name, value in middle.items()), flush=True)
    exponent = np.polyfit(np.log(SIZES), np.log(totals), 1)[0]
    print(f"RESULT {json.dumps({'exponent': round(float(exponent), 3)})}")


if __name__ == "__main__":
    main()
