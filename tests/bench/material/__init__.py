"""What the benches of maps measure: the heads of captured runs, in their joint space, and the peers that they are compared with.

Runs are captured once into ``data/runs/bench_*`` and found again by the next bench.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from attnviz.api import default_folder
from attnviz.normalize import joint
from attnviz.pipeline.run import run_recipe
from attnviz.recipe import load_recipe
from attnviz.store import RunDirectory
from attnviz.types import Joint, Sequences

HEADS = {"minilm_docs": 72, "docs_llama": 32, "digits_vit": 16}


def captured(recipe: str, tokens: int) -> RunDirectory:
    """Return a run of a shipped recipe over about so many tokens, with a map that costs nothing."""
    name = f"bench_{recipe}_{tokens}"
    wanted = load_recipe(recipe, {"name": name, "data.max_tokens": tokens, "maps": {"pca": {}}})
    return run_recipe(wanted, default_folder(name), workers=2, progress=lambda *_: None)


def heads(run: RunDirectory, every: int = 1) -> Iterator[tuple[tuple[int, int], Joint]]:
    """Give every so manieth head of a run with its joint space."""
    pairs = [(info, head) for info in run.layers.values() for head in range(info.num_heads)]
    for info, head in pairs[::every]:
        vectors = run.vectors(info.layer, head)
        yield (info.layer, head), joint(vectors.query, vectors.key, Sequences(run.bounds, info))


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)


def umap_learn(points: np.ndarray, **options: Any) -> np.ndarray:
    """Return umap-learn's map with its own defaults, unseeded, so that it uses all cores."""
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        placed: np.ndarray = umap.UMAP(**options).fit_transform(points)
    return placed


def attentionviz() -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
    """Return the three methods of AttentionViz's recipe (Yeh et al., 2023, from its published notebook), as ``f(points, dims)``.

    t-SNE by scikit-learn, cosine, perplexity 50, 300 iterations; UMAP by umap-learn, cosine, from a random start; PCA.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    return {
        "tsne": lambda points, dims: TSNE(dims, metric="cosine", perplexity=50, max_iter=300, n_jobs=-1).fit_transform(
            points
        ),
        "umap": lambda points, dims: umap_learn(points, n_components=dims, metric="cosine", init="random"),
        "pca": lambda points, dims: PCA(dims).fit_transform(points),
    }
