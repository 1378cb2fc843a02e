"""How much of attention and of neighbourhoods each kind of map keeps: ours against AttentionViz's recipes.

    python tests/bench/maps_faithful.py

MiniLM, our Llama, our digits transformer, about 5,000 tokens each, every head; AttentionViz's two recipes, and our reference for
t-SNE, take minutes a head and are judged on every twenty-fourth. Printed are the mean over heads and the mean of the worst tenth.
"""

import json
from collections import defaultdict

import numpy as np
from material import HEADS, attentionviz, captured, heads

from attnviz.maps import neighbors, num_neighbors, place
from attnviz.metrics import METRICS
from attnviz.types import MapSpec

TOKENS = 5_000
EVERY = 24
JUDGED = ("attention_recall", "attention_top1", "attention_spearman", "trust_query", "trust_key")
OURS = tuple(MapSpec(name, name) for name in ("pca", "umap", "neg_tsne", "attention"))


def judged(vectors, placed) -> list[float]:
    return [METRICS[name](vectors, placed) for name in JUDGED]


def measure(recipe: str) -> dict[str, np.ndarray]:
    """Return for every kind of map ``(heads, metrics)``."""
    run, found = captured(recipe, TOKENS), defaultdict(list)
    theirs = attentionviz()
    for number, (_, vectors) in enumerate(heads(run)):
        near = neighbors(vectors.points, max(map(num_neighbors, OURS)))
        for spec in OURS:
            found[spec.name].append(judged(vectors, place(spec, vectors, neighbors=near, seed=number)))
        if number % EVERY == 0:
            for name in ("tsne", "umap"):
                found[f"AttentionViz {name}"].append(judged(vectors, theirs[name](vectors.points, 2)))
    return {name: np.array(rows) for name, rows in found.items()}


def worst(values: np.ndarray, better: str) -> float:
    ascending = np.sort(values if better == "higher" else -values)
    return float(ascending[: max(len(values) // 10, 1)].mean()) * (1 if better == "higher" else -1)


def show(recipe: str, found: dict[str, np.ndarray]) -> None:
    print(f"{recipe}, {HEADS[recipe]} heads: mean (worst tenth)")
    for name, rows in found.items():
        cells = [
            f"{metric} {rows[:, i].mean():.2f} ({worst(rows[:, i], METRICS[metric].better):.2f})"
            for i, metric in enumerate(JUDGED)
        ]
        print(f"  {name:18s} {len(rows):3d} heads  {' · '.join(cells)}", flush=True)


def main() -> None:
    measured = {}
    for recipe in HEADS:
        measured[recipe] = measure(recipe)
        show(recipe, measured[recipe])
    ours = dict(zip(JUDGED, measured["minilm_docs"]["attention"].mean(axis=0), strict=True))
    theirs = max(measured["minilm_docs"][f"AttentionViz {name}"][:, 0].mean() for name in ("tsne", "umap"))
    result = {
        "recall": ours["attention_recall"],
        "top1": ours["attention_top1"],
        "trust_query": ours["trust_query"],
        "trust_key": ours["trust_key"],
        "recall_attentionviz": theirs,
    }
    print(f"RESULT {json.dumps({name: round(float(value), 3) for name, value in result.items()})}")


if __name__ == "__main__":
    main()
