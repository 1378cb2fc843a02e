"""Attention on a picture: what one token gives to each patch or gets from it, and flows from patch to patch.

Queries and keys may stand on grids of their own, and tokens that are no patch (a class token, registers, words) have no place in
the picture; whoever draws puts them beside it. What is not shown is always said: the weight below a threshold, and what a query
gives to no key at all, because its layer has a sink.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from attnviz.attention import weights
from attnviz.store import Points, RunDirectory
from attnviz.types import KINDS, Attention, FloatArray
from attnviz.views.sequence import PARTNER, Exchange, patch_weights, read_exchange

__all__ = [
    "Flows",
    "GridHeat",
    "Heat",
    "ImageAttention",
    "flows_above",
    "grid_heats",
    "has_images",
    "heat_of",
    "image_marks",
    "image_sequences",
    "on_picture",
    "read_image",
    "strongest_flows",
]

Places = NDArray[np.int16]
Rows = NDArray[np.int64]
MOST_FLOWS = 3000
COLUMNS = ["patch_row", "patch_col"]


@dataclass(frozen=True, slots=True, eq=False)
class ImageAttention:
    """The attention of one head over the sequence of an image, and where its queries and keys lie in the picture."""

    exchange: Exchange
    places: Mapping[str, Places]  # by kind: row and column of each token, (tokens, 2); -1 of one that is no patch
    special: Mapping[str, NDArray[np.bool_]]  # by kind: whether a token is special, and none of a text

    @property
    def weights(self) -> FloatArray:
        """The weights, ``(queries, keys)``."""
        return self.exchange.attention.weights

    def grid(self, kind: str) -> tuple[int, int] | None:
        """Return how many rows and columns of patches the queries, or keys, have; None if there are none."""
        return _grid(self.places[kind])

    def patches(self, kind: str) -> NDArray[np.bool_]:
        """Return which queries, or keys, are patches."""
        return np.asarray(self.places[kind][:, 0] >= 0)

    def is_patch(self, token: int) -> bool:
        """Tell whether a query or key is a patch."""
        found = (self.patches(kind)[self.exchange.tokens(kind) == token].any() for kind in KINDS)
        return any(found)

    def at(self, kind: str, place: tuple[int, int]) -> int | None:
        """Return the token at a row and column of the grid of queries, or of keys."""
        found = np.flatnonzero((self.places[kind] == place).all(axis=1))
        return int(self.exchange.tokens(kind)[found[0]]) if len(found) else None


@dataclass(frozen=True, slots=True, eq=False)
class Heat:
    """What one token, or the mean of several, gives to the tokens of the other kind, or gets from them."""

    kind: str
    source: int | None  # the token; None: the mean
    averaged: int  # how many tokens it is the mean of
    weights: FloatArray  # (partners,)
    grid: FloatArray | None  # (rows, columns) of the partners' grid; None if no partner is a patch
    on_patches: float
    beside: float  # to tokens that are no patch
    own: float  # to itself
    sink: float  # of a query: to no key


@dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """Some of the weights, the weakest first: rows and columns of ``ImageAttention.weights``."""

    query: Rows
    key: Rows
    weight: FloatArray
    total: float  # of all weights
    above: int  # how many there were; more than these, if they were too many to draw
    own: NDArray[np.bool_]  # which are of a token to itself

    @property
    def left_out(self) -> float:
        """The share of all weight that is not among these."""
        return max(0.0, 1 - float(self.weight.sum(dtype=np.float64)) / self.total) if self.total > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class GridHeat:
    """The heat of one image among many."""

    sequence: int
    source: int | None  # the token; None: the mean
    grid: FloatArray | None  # None: this image has no such token, or no patches
    on_patches: float


def has_images(run: RunDirectory) -> bool:
    """Tell whether a run holds images."""
    return "image" in run.manifest.model.modality.split("+")


def image_sequences(run: RunDirectory) -> Rows:
    """Return the sequences that have an image, ascending."""
    patches = run.tokens["patch_row"].notna().to_numpy()
    return np.unique(run.tokens["sequence_id"].to_numpy(np.int64)[patches])


def read_image(run: RunDirectory, layer: int, head: int, sequence: int) -> ImageAttention:
    """Return the attention of one head over one image. Raises ``DatasetError`` if it cannot be rebuilt."""
    return on_picture(run, read_exchange(run, layer, head, sequence))


def on_picture(run: RunDirectory, exchange: Exchange) -> ImageAttention:
    """Return where the queries and keys of an exchange lie in the picture of their sequence."""
    places, special = {}, {}
    for kind in KINDS:
        rows = run.tokens[[*COLUMNS, "is_special", "modality"]].iloc[exchange.tokens(kind)]
        places[kind] = rows[COLUMNS].fillna(-1).to_numpy(np.int16)
        special[kind] = (rows["is_special"] & (rows["modality"] == "image")).to_numpy(bool)
    return ImageAttention(exchange, places, special)


def heat_of(image: ImageAttention, kind: str, token: int | None = None) -> Heat:
    """Return the heat of a token; without one of the first special token, or the mean of all where there is none.

    Parameters
    ----------
    kind
        ``"query"``: what the token gives to each key; ``"key"``: what it gets from each query.
    """
    rows = _sources(image, kind, token)
    source = int(image.exchange.tokens(kind)[rows[0]]) if len(rows) == 1 else None
    whole = image.weights[rows] if kind == "query" else image.weights[:, rows].T
    mean: FloatArray = whole.mean(axis=0, dtype=np.float64).astype(np.float32)
    partner = PARTNER[kind]
    grid, patches = image.grid(partner), image.patches(partner)
    places = image.places[partner]
    heat = None if grid is None else patch_weights(mean, places[:, 0], places[:, 1], grid=grid)
    own = image.exchange.tokens(partner) == source
    sink = max(0.0, 1 - float(mean.sum(dtype=np.float64))) if kind == "query" else 0.0
    there, beside, itself = (float(mean[mask].sum(dtype=np.float64)) for mask in (patches, ~patches, own))
    return Heat(kind, source, len(rows), mean, heat, there, beside, itself, sink)


def strongest_flows(image: ImageAttention, kind: str, *, token: int | None = None) -> Flows:
    """Return for every patch of a kind its strongest partner; for every token, where none of that kind is a patch.

    Parameters
    ----------
    token
        Has its flow among them, even if it is no patch.
    """
    patches = image.patches(kind)
    rows = np.flatnonzero(patches) if patches.any() else np.arange(len(patches))
    if token is not None and (place := image.exchange.place(token, kind)) is not None:
        rows = np.union1d(rows, [place])
    best = (image.weights[rows].argmax(axis=1) if kind == "query" else image.weights[:, rows].argmax(axis=0)).astype(
        np.int64
    )
    return _flows(image, *((rows, best) if kind == "query" else (best, rows)))


def flows_above(image: ImageAttention, least: float, *, most: int = MOST_FLOWS) -> Flows:
    """Return all weights from ``least`` on, at most so many, the largest."""
    query, key = np.nonzero(image.weights >= max(least, 1e-9))
    return _flows(image, query, key, most=most)


def image_marks(image: ImageAttention, most: int, *, token: int | None = None) -> tuple[Rows, int]:
    """Return tokens that are no patch, to be drawn beside the picture, and how many more there are.

    Special tokens come before words; of words, those that give patches most or get most from them. All are in the order of the
    sequence.
    """
    wanted: dict[int, float] = {}
    for kind in KINDS:
        beside = ~image.patches(kind)
        partners = image.patches(PARTNER[kind])
        exchanged = image.weights[:, partners].sum(axis=1) if kind == "query" else image.weights[partners].sum(axis=0)
        score = exchanged + 1e6 * image.special[kind] + 2e6 * (image.exchange.tokens(kind) == token)
        for own, value in zip(image.exchange.tokens(kind)[beside].tolist(), score[beside].tolist(), strict=True):
            wanted[own] = max(value, wanted.get(own, 0.0))
    kept = sorted(sorted(wanted, key=lambda own: -wanted[own])[:most])
    return np.array(kept, np.int64), len(wanted) - len(kept)


def grid_heats(
    run: RunDirectory, layer: int, head: int, sequences: Sequence[int], kind: str, *, like: int | None = None
) -> list[GridHeat]:
    """Return the heat of many images under one head, each file read once.

    Parameters
    ----------
    like
        A token: in every image the heat of the one that stands at its place is taken. None: as ``heat_of`` does without a token.

    Raises
    ------
    DatasetError
        If the layer's attention cannot be rebuilt.
    """
    made: dict[int, GridHeat] = {}
    bounds = [*run.manifest.shards, run.num_tokens]
    run.attention(layer, head, int(sequences[0])) if len(sequences) else None  # says why, if it cannot be rebuilt
    for first, last in pairwise(bounds):
        here = sorted({int(number) for number in sequences if first <= run.bounds[number] < last})
        if here:
            made |= _heats_of_shard(run, layer, head, here, kind, like)
    return [made[int(number)] for number in sequences]


def _heats_of_shard(
    run: RunDirectory, layer: int, head: int, here: list[int], kind: str, like: int | None
) -> dict[int, GridHeat]:
    start, stop = int(run.bounds[here[0]]), int(run.bounds[here[-1] + 1])
    read, info = run.vectors(layer, head, slice(start, stop)), run.layers[layer].of_head(head)
    every, texts = run.points(layer).within(start, stop), run.tokens["text"].to_numpy()
    made = {}
    for number in here:
        points = run.points(layer).within(int(run.bounds[number]), int(run.bounds[number + 1]))
        own = [np.searchsorted(all_of, part) for all_of, part in ((every.query, points.query), (every.key, points.key))]
        given = weights(read.query[own[0]], read.key[own[1]], info)
        attention = Attention(given, tuple(texts[points.query]), tuple(texts[points.key]))
        made[number] = _one_of_grid(run, on_picture(run, Exchange(attention, points)), number, kind, like)
    return made


def _one_of_grid(run: RunDirectory, image: ImageAttention, number: int, kind: str, like: int | None) -> GridHeat:
    token = None if like is None else _alike(run, image, kind, like)
    if (like is not None and token is None) or not image.weights.size:
        return GridHeat(number, None, None, 0.0)
    heat = heat_of(image, kind, token)
    return GridHeat(number, heat.source, heat.grid, heat.on_patches)


def _alike(run: RunDirectory, image: ImageAttention, kind: str, like: int) -> int | None:
    """Return the token of an image that stands where another one stands in its own: at its patch, or at its position."""
    row = run.tokens.iloc[like]
    if row.modality == "image" and not row.isna()["patch_row"]:
        return image.at(kind, (int(row.patch_row), int(row.patch_col)))
    tokens = image.exchange.tokens(kind)
    same = run.tokens["text"].to_numpy()[tokens] == row.text
    if not row.is_special:
        same &= run.tokens["position"].to_numpy()[tokens] == row.position
    return int(tokens[np.flatnonzero(same)[0]]) if same.any() else None


def _grid(places: Places) -> tuple[int, int] | None:
    if not (places >= 0).any():
        return None
    rows, columns = places.max(axis=0) + 1
    return int(rows), int(columns)


def _sources(image: ImageAttention, kind: str, token: int | None) -> Rows:
    """Return the rows (of queries) or columns (of keys) that a heat is of."""
    place = None if token is None else image.exchange.place(token, kind)
    if place is not None:
        return np.array([place])
    special = np.flatnonzero(image.special[kind])
    return special[:1] if len(special) else np.arange(len(image.exchange.tokens(kind)))


def _flows(image: ImageAttention, query: Rows, key: Rows, *, most: int = MOST_FLOWS) -> Flows:
    found = image.weights[query, key]
    kept = np.argsort(found, kind="stable")[-most:]
    query, key = query[kept], key[kept]
    points: Points = image.exchange.points
    own = points.query[query] == points.key[key]
    total = float(image.weights.sum(dtype=np.float64))
    return Flows(query, key, found[kept], total, len(found), np.asarray(own))
