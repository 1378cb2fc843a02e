"""One query and one key, dimension by dimension: what each adds to their product, and what becomes of the sum.

The steps are those of ``attnviz.attention``, taken apart: vectors with the RoPE they lacked, ``q∘k``, its sum, scaling,
soft-capping, bias, mask, and the weight that softmax makes of it beside the other keys and the sink.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnviz.attention import bias, logits, rotated, weights
from attnviz.errors import DatasetError
from attnviz.store import Points, RunDirectory
from attnviz.types import FloatArray, LayerInfo
from attnviz.views.sequence import read_exchange

__all__ = ["Pair", "QueryView", "choose_pair", "read_query"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One query and one key of a head."""

    query: FloatArray  # (head_dim,), rotated where the layer does that
    key: FloatArray
    scaling: float
    softcap: float | None
    bias: float | None  # None: the layer adds none
    logit: float  # what softmax is given; -inf: the mask hides the key
    weight: float

    @property
    def product(self) -> FloatArray:
        """What each dimension adds to q·k, ``(head_dim,)``."""
        return self.query * self.key

    @property
    def dot(self) -> float:
        """The sum, q·k."""
        return float(self.product.sum(dtype=np.float64))

    @property
    def scaled(self) -> float:
        """The sum times the layer's scaling."""
        return self.dot * self.scaling

    @property
    def capped(self) -> float | None:
        """The scaled sum after soft-capping; None where the layer does not cap."""
        return None if self.softcap is None else float(self.softcap * np.tanh(self.scaled / self.softcap))

    def order(self, by: str) -> NDArray[np.int64]:
        """Return the dimensions from 0 on, or for ``"contribution"`` the one that adds most first and the most negative last."""
        if by == "dimension":
            return np.arange(len(self.query))
        return np.argsort(-self.product, kind="stable")


@dataclass(frozen=True, slots=True)
class QueryView:
    """One query against all keys of its sequence."""

    token: int
    points: Points  # of the sequence, as rows of the run's tokens
    place: int  # of the query among the queries
    query: FloatArray  # (head_dim,), rotated
    keys: FloatArray  # (keys, head_dim), rotated
    logits: FloatArray  # (keys,)
    weights: FloatArray  # (keys,)
    bias: FloatArray | None  # (keys,)
    layer: LayerInfo  # as the head sees it

    def pair(self, key: int) -> Pair:
        """Return the query with the key of a token that is among ``points.key``."""
        place = int(np.searchsorted(self.points.key, key))
        return Pair(
            self.query,
            self.keys[place],
            self.layer.scaling,
            self.layer.softcap,
            None if self.bias is None else float(self.bias[place]),
            float(self.logits[place]),
            float(self.weights[place]),
        )

    def strongest(self, count: int) -> NDArray[np.int64]:
        """Return the places of the keys with most weight, the largest first."""
        return np.argsort(-self.weights, kind="stable")[:count]

    @property
    def sink(self) -> float:
        """The share that no key gets."""
        return max(0.0, 1 - float(self.weights.sum()))


def read_query(run: RunDirectory, layer: int, head: int, token: int) -> QueryView:
    """Take one query of a head apart.

    Raises
    ------
    DatasetError
        If the token has no query in this layer, or its attention cannot be rebuilt.
    """
    info = run.head(layer, head).layer
    rows = run.token_slice(int(run.tokens["sequence_id"].iloc[token]))
    points = run.points(layer).within(rows.start, rows.stop)
    place = np.flatnonzero(points.query == token)
    if not info.rebuilt:
        raise DatasetError(
            f"Layer {info.label} of run {run.name} keeps vectors from before RoPE, in a way that q·k cannot be rebuilt from. "
            "Capture with rope = 'after' to see it."
        )
    if not len(place):
        raise DatasetError(f"Token {token} has no query in layer {info.label} of run {run.name}.")
    own, vectors = info.of_head(head), run.vectors(layer, head, rows)
    columns = np.arange(len(points.key))
    added = None if own.terms is None else bias(place, columns, own.terms)
    query = vectors.query[place]
    return QueryView(
        token,
        points,
        int(place[0]),
        rotated(query, place, own)[0],
        rotated(vectors.key, columns, own),
        logits(query, vectors.key, own, queries=place)[0],
        weights(query, vectors.key, own, queries=place)[0],
        None if added is None else added[0],
        own,
    )


def choose_pair(
    run: RunDirectory, place: tuple[int, int], token: int | None, kind: str, partner: int | None, *, sequence: int = 0
) -> tuple[QueryView, int] | None:
    """Return the query to look at and the token of its key; None where the token has neither in the layer.

    Parameters
    ----------
    place
        Layer and head.
    token, kind, partner
        What was chosen. Without a partner the strongest is taken; without a token, a query amid ``sequence``.
    """
    layer, head = place
    if token is None:
        rows = run.token_slice(sequence)
        queries = run.points(layer).within(rows.start, rows.stop).query
        if not len(queries):
            return None
        token = int(queries[len(queries) // 2])
        kind = "query"
    rows = run.token_slice(int(run.tokens["sequence_id"].iloc[token]))
    points = run.points(layer).within(rows.start, rows.stop)
    if token in points.query and (kind == "query" or token not in points.key):
        seen = read_query(run, layer, head, token)
        return seen, partner if partner is not None and partner in points.key else _strongest_key(seen)
    if token not in points.key or not len(points.query):
        return None
    if partner is not None and partner in points.query:
        return read_query(run, layer, head, partner), token
    exchange = read_exchange(run, layer, head, int(run.tokens["sequence_id"].iloc[token]))
    given = exchange.weights(exchange.row_of(token, "key"), "key")
    return read_query(run, layer, head, int(points.query[int(np.argmax(given))])), token


def _strongest_key(seen: QueryView) -> int:
    return int(seen.points.key[int(np.argmax(seen.weights))])
