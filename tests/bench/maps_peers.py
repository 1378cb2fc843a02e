"""How much faster a head gets AttentionViz's six kinds of map, and the attention map besides.

    python tests/bench/maps_peers.py

MiniLM over documentation, 10,000 points a head, three heads. AttentionViz's recipe: scikit-learn's t-SNE (cosine, perplexity 50,
300 iterations), umap-learn (cosine, random start) and PCA, each in 2-D and 3-D, after its normalisation, one head after the
other on all cores. Ours: neg_tsne, umap, pca, each in 2-D and 3-D, and attention, as many heads at once as there are cores. Both
are warm. ``speedup_tsne`` compares the t-SNE kinds alone: theirs is Barnes-Hut t-SNE, ours Neg-t-SNE.
"""

import json
from functools import partial
from statistics import median

from material import attentionviz, captured, heads, timed

from attnviz.api import cores
from attnviz.maps import HeadWork, map_heads
from attnviz.normalize import joint
from attnviz.pipeline.placing import LoadHead
from attnviz.types import MapSpec

EVERY = 24
REPEATS = 3
KINDS = tuple(MapSpec(f"{method}{dims}", method, dims) for method in ("neg_tsne", "umap", "pca") for dims in (2, 3))


def unjudged(vectors, neighbors, seed):
    return lambda placed: ({}, placed)


def ours(run, pairs, specs) -> float:
    """Return seconds a head: the median of repeats over as many heads as the cores take at once, several times over."""
    work = HeadWork(LoadHead(run.path), partial(joint), specs, unjudged)
    seconds = []
    for _ in range(REPEATS + 1):
        with timed(seconds):
            list(map_heads(pairs, work, workers=cores()))
    return median(seconds[1:]) / len(pairs)


def main() -> None:
    run = captured("minilm_docs", 5_000)
    sampled = dict(heads(run, EVERY))
    pairs = [(layer, head) for layer in run.layers for head in (0, 6)]
    all_seconds = ours(run, pairs, (*KINDS, MapSpec("attention", "attention")))
    tsne_seconds = ours(run, pairs, tuple(spec for spec in KINDS if spec.method == "neg_tsne"))

    theirs = attentionviz()
    small = next(iter(sampled.values())).points[:1000]
    seconds = {(name, dims): [] for name in theirs for dims in (2, 3)}
    for (name, dims), taken in seconds.items():
        theirs[name](small, dims)
        for vectors in sampled.values():
            with timed(taken):
                theirs[name](vectors.points, dims)
        print(f"AttentionViz {name} {dims}-D: {', '.join(f'{value:.1f}' for value in taken)} s")
    their_tsne = sum(median(taken) for (name, _), taken in seconds.items() if name == "tsne")
    their_all = sum(map(median, seconds.values()))
    print(
        f"{2 * run.num_tokens:,} points a head: theirs {their_all:.1f} s (t-SNE {their_tsne:.1f} s), ours {all_seconds:.2f} s"
    )
    result = {"speedup": round(their_all / all_seconds, 1), "speedup_tsne": round(their_tsne / tsne_seconds, 1)}
    print(f"RESULT {json.dumps(result)}")


if __name__ == "__main__":
    main()
