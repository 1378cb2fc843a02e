"""One point's partners over the whole run: those with the largest q·k beside those that lie nearest on the map.

Both lists are of the other kind, a query's keys and a key's queries, so that they answer one question: how much of what the dot
product brings together does the map bring together.
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from attnviz.attention import rotated
from attnviz.errors import DatasetError
from attnviz.store import RunDirectory
from attnviz.types import FloatArray
from attnviz.views.sequence import PARTNER

__all__ = ["NEAR", "nearest_partners", "partner_products"]

NEAR = 50
"""The rank up to which a partner counts as near on the map."""


def partner_products(run: RunDirectory, layer: int, head: int, token: int, kind: str) -> FloatArray:
    """Return q·k of a point with every partner of its head, in the order of ``run.points(layer)``.

    Raises
    ------
    DatasetError
        If the stored vectors do not give the model's dot products.
    """
    info = run.layers[layer]
    if not info.rebuilt:
        raise DatasetError(
            f"Layer {info.label} keeps vectors from before RoPE, so q·k across sequences is not known here. "
            "Capture with rope = 'after' to see it."
        )
    own = run.vectors(layer, head, slice(token, token + 1))
    position = run.tokens["position"].to_numpy()
    of_head, tokens = info.of_head(head), dict(run.points(layer).by_kind())[PARTNER[kind]]
    vector = rotated(own.query if kind == "query" else own.key, position[[token]], of_head)[0]
    products = []
    for start, stop in pairwise([*run.manifest.shards, run.num_tokens]):
        shard = run.vectors(layer, head, slice(start, stop))
        there = tokens[slice(*np.searchsorted(tokens, (start, stop)))]
        others = rotated(shard.key if kind == "query" else shard.query, position[there], of_head)
        # In float64, rounded: a float32 product gives equal vectors unequal numbers at the edges of its blocks.
        products.append((others.astype(np.float64) @ vector.astype(np.float64)).astype(np.float32))
    return np.concatenate(products)


def nearest_partners(
    run: RunDirectory, layer: int, head: int, token: int, kind: str, *, placed: FloatArray, count: int = 10
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the strongest partners of a point and its nearest on the map.

    Parameters
    ----------
    placed
        Where the map puts every point of the head, ``(points, dims)``.

    Returns
    -------
    Two frames with ``token``, ``product`` (q·k), ``product_rank`` and ``map_rank`` (1 is the best) among all partners: the first by
    product, the second by distance.
    """
    tokens = dict(run.points(layer).by_kind())[PARTNER[kind]]
    products = partner_products(run, layer, head, token, kind)
    first, other = (0, run.num_tokens) if kind == "query" else (run.num_tokens, 0)
    distance = ((placed[tokens + other] - placed[token + first]) ** 2).sum(axis=1)
    orders = np.argsort(-products, kind="stable"), np.argsort(distance, kind="stable")
    ranks = [np.empty(len(tokens), np.int64) for _ in orders]
    for rank, order in zip(ranks, orders, strict=True):
        rank[order] = np.arange(1, len(tokens) + 1)
    frames = [
        pd.DataFrame(
            {
                "token": tokens[best],
                "product": products[best],
                "product_rank": ranks[0][best],
                "map_rank": ranks[1][best],
            }
        )
        for best in (order[:count] for order in orders)
    ]
    return frames[0], frames[1]
