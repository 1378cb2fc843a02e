"""How much each head changed from one run to another of the same heads over the same tokens: before and after fine-tuning, say.

A query's attention is a distribution over the keys of its sequence, and what is left of it is the sink's. Two of them differ by
half the sum of their differences (total variation): 0 if they are the same, 1 if they share no key. A head's number is the mean
over the queries of at most 64 sequences, drawn by a seed in blocks of neighbours, because a shard is read as a whole.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnviz.attention import weights
from attnviz.errors import DatasetError
from attnviz.store import RunDirectory
from attnviz.types import FloatArray, LayerInfo
from attnviz.views.aggregate import by_sequence

__all__ = ["head_changes", "total_variation", "what_differs"]

BLOCK, BLOCKS = 8, 8  # neighbouring sequences, and how many such groups
QUERIES = 128  # of a sequence: of a longer one, evenly spaced ones


def what_differs(run: RunDirectory, other: RunDirectory) -> str:
    """Return why the heads of two runs cannot be compared one by one, as a sentence; nothing, if they can."""
    if _shape(run) != _shape(other):
        return f"Runs {run.name} and {other.name} have different layers or heads."
    same = run.num_tokens == other.num_tokens and np.array_equal(run.bounds, other.bounds)
    if not same or not _same_tokens(run.tokens, other.tokens):
        return f"Runs {run.name} and {other.name} are of different tokens."
    some = np.unique(np.linspace(0, run.num_sequences - 1, 3).astype(int)).tolist()
    if run.manifest.model.modality != "text" and any(run.image_png(i) != other.image_png(i) for i in some):
        return f"Runs {run.name} and {other.name} are of different pictures."
    return ""


def _same_tokens(tokens: pd.DataFrame, others: pd.DataFrame) -> bool:
    """Tell whether tokens are the same, by their numbers in the vocabulary, or by their texts where they have none."""
    alike = tokens["vocab_id"] == others["vocab_id"]  # an earlier version wrote some texts in another way
    alike |= tokens["text"].astype(str) == others["text"].astype(str)
    return bool(alike.all()) and tokens["stream"].astype(str).equals(others["stream"].astype(str))


def head_changes(run: RunDirectory, other: RunDirectory, *, seed: int = 0) -> "pd.Series":
    """Return how much the attention of each head differs between two runs, 0 to 1, indexed by (layer, head).

    A head whose attention cannot be rebuilt has no number.

    Raises
    ------
    DatasetError
        If the runs are not of the same heads and tokens, or no attention of theirs can be rebuilt.
    """
    if problem := what_differs(run, other):
        raise DatasetError(f"{problem} Compare two runs of one model, made from the same data.")
    chosen = _sample(run.num_sequences, seed)
    changed = {
        (layer, head): _change(run, other, layer, head, chosen)
        for layer, info in run.layers.items()
        if info.rebuilt and other.layers[layer].rebuilt
        for head in range(info.num_heads)
    }
    if not changed:
        raise DatasetError(
            f"The attention of runs {run.name} and {other.name} cannot be rebuilt, so it cannot be compared."
        )
    every = [(layer, head) for layer, info in run.layers.items() for head in range(info.num_heads)]
    index = pd.MultiIndex.from_tuples(every, names=["layer", "head"])
    return pd.Series([changed.get(place, np.nan) for place in every], index, name="changed", dtype=np.float64)


def total_variation(weights: FloatArray, other: FloatArray) -> FloatArray:
    """Return half the sum of differences of each row, ``(..., queries)``; what a row lacks to 1 counts as one more key."""
    difference = weights.astype(np.float64) - other
    apart: FloatArray = (np.abs(difference).sum(axis=-1) + np.abs(difference.sum(axis=-1))) / 2
    return apart


def _change(run: RunDirectory, other: RunDirectory, layer: int, head: int, chosen: NDArray[np.int64]) -> float:
    pairs = zip(_rows(run, layer, head, chosen), _rows(other, layer, head, chosen), strict=True)
    apart = [total_variation(own, others) for own, others in pairs]
    return float(np.concatenate(apart).mean()) if apart else float("nan")


def _rows(run: RunDirectory, layer: int, head: int, chosen: NDArray[np.int64]) -> Iterator[FloatArray]:
    """Yield attention of each chosen sequence, some of its queries alone if it is long."""
    info: LayerInfo = run.layers[layer].of_head(head)
    for _, own in by_sequence(run, layer, head, chosen):
        places = np.unique(np.linspace(0, len(own.query) - 1, min(len(own.query), QUERIES)).astype(np.int64))
        yield weights(own.query[places], own.key, info, queries=places)


def _sample(count: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers of the sequences that are read, in order."""
    if count <= BLOCK * BLOCKS:
        return np.arange(count)
    blocks = np.sort(np.random.default_rng(seed).choice(count // BLOCK, BLOCKS, replace=False))
    return np.asarray((blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel())


def _shape(run: RunDirectory) -> list[tuple[int, int, str, str]]:
    return [(info.layer, info.num_heads, info.query_stream, info.key_stream) for info in run.layers.values()]
