"""How much faster our UMAP is than umap-learn, on the same vectors in the same run, and whether its maps are as trustworthy.

    python tests/bench/maps_speed.py

MiniLM over documentation, 72 heads, 20,000 points a head. Ours: all heads, neighbours and layout, one thread a head and as
many heads at once as there are cores; the loop is warm (one head before the clock) and runs three times. umap-learn: a loop over
every ninth head with its defaults, warm, unseeded, so that its own parallelism is on; the median of its heads, times 72.
Judging is outside of both clocks; trustworthiness is the mean over those heads.
"""

import json
from contextlib import closing
from functools import partial
from statistics import mean, median

from material import captured, heads, timed, umap_learn

from attnviz.api import cores
from attnviz.maps import HeadWork, map_heads
from attnviz.metrics import METRICS
from attnviz.normalize import joint
from attnviz.pipeline.placing import LoadHead
from attnviz.types import MapSpec

EVERY = 9
REPEATS = 3


def unjudged(vectors, neighbors, seed):
    return lambda placed: ({}, placed)


def main() -> None:
    run = captured("minilm_docs", 10_000)
    trust = METRICS["trustworthiness"]
    work = HeadWork(LoadHead(run.path), partial(joint), (MapSpec("umap", "umap"),), unjudged)
    pairs = [(info.layer, head) for info in run.layers.values() for head in range(info.num_heads)]
    sampled = dict(heads(run, EVERY))

    list(map_heads(pairs[:2], work, workers=cores()))
    ours, placed = [], {}
    for _ in range(REPEATS):
        with timed(ours), closing(map_heads(pairs, work, workers=cores())) as results:
            placed = {(result.layer, result.head): result.coordinates["umap"] for result in results}
    trust_ours = mean(trust(vectors, placed[pair]) for pair, vectors in sampled.items())

    theirs, trusts = [], []
    umap_learn(next(iter(sampled.values())).points)
    for vectors in sampled.values():
        with timed(theirs):
            their_map = umap_learn(vectors.points)
        trusts.append(trust(vectors, their_map))
    seconds = median(theirs) * len(pairs)
    print(f"{len(pairs)} heads × {2 * run.num_tokens:,} points, {cores()} cores")
    print(f"ours        {median(ours):6.1f} s for all ({', '.join(f'{value:.1f}' for value in ours)})")
    print(
        f"umap-learn  {seconds:6.1f} s for all, from {len(theirs)} heads ({', '.join(f'{value:.1f}' for value in theirs)})"
    )
    result = {
        "speedup": round(seconds / median(ours), 2),
        "trust_ours": round(trust_ours, 4),
        "trust_umap_learn": round(mean(trusts), 4),
    }
    print(f"RESULT {json.dumps(result)}")


if __name__ == "__main__":
    main()
