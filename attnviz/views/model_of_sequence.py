"""All heads of a model over one sequence: a thumbnail of attention for each, averaged down to the pixels it gets.

A thumbnail is the weight matrix, queries down and keys across. Where every key is a patch, it is the picture's grid instead,
with what one query gives to each patch: the chosen one, else the class token, else the mean of all. Of a very long sequence
only evenly spaced queries are rebuilt, and ``Thumbnail.step`` says so; their keys are all there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnviz.attention import weights
from attnviz.store import Points, RunDirectory
from attnviz.types import FloatArray, LayerInfo
from attnviz.views.sequence import patch_weights

__all__ = ["Thumbnail", "average_down", "read_thumbnails", "weights_of_query"]

SIDE = 128  # the most pixels of a thumbnail's side
MOST_QUERIES = 1024  # of a sequence: of a longer one every n-th is rebuilt


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """The attention of one head over one sequence, small; read-only, because sessions share it."""

    values: FloatArray  # (rows, columns): mean weights
    points: Points  # of the sequence in this layer, as rows of the run's tokens
    query: int | None = None  # on a picture: the query that gives these weights; None: the mean of all
    places: NDArray[np.int64] | None = None  # on a picture: which of the keys each cell is, or -1; None: it is a matrix
    step: int = 1  # every so many queries were rebuilt

    def pair_at(self, x: float, y: float) -> tuple[int | None, int] | None:
        """Return the tokens of the query and the key at a place (0…1 from the left and from the top), or None."""
        if not (0 <= x < 1 and 0 <= y < 1):
            return None
        if self.places is None:
            return int(self.points.query[int(y * len(self.points.query))]), int(
                self.points.key[int(x * len(self.points.key))]
            )
        rows, columns = self.places.shape
        place = int(self.places[int(y * rows), int(x * columns)])
        return None if place < 0 else (self.query, int(self.points.key[place]))

    def value_at(self, x: float, y: float) -> float:
        """Return the mean weight at a place."""
        rows, columns = self.values.shape
        return float(self.values[min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)])


def read_thumbnails(run: RunDirectory, sequence: int, token: int | None = None) -> dict[tuple[int, int], Thumbnail]:
    """Rebuild the attention of every head over one sequence.

    Parameters
    ----------
    token
        Whose attention a picture shows, in layers where it has a query.

    Returns
    -------
    A thumbnail by (layer, head); none for layers whose attention cannot be rebuilt, or that have no token of the sequence.
    """
    rows = run.token_slice(sequence)
    found = {}
    for layer, info in run.layers.items():
        points = run.points(layer).within(rows.start, rows.stop)
        if info.rebuilt and len(points.query) and len(points.key):
            for head in range(info.num_heads):
                found[layer, head] = _thumbnail(run, info, head, points, token)
    return found


def weights_of_query(run: RunDirectory, layer: int, head: int, query: int) -> FloatArray:
    """Return what one query gives to each key of its sequence, ``(keys,)``."""
    rows = run.token_slice(int(run.tokens["sequence_id"].iloc[query]))
    points = run.points(layer).within(rows.start, rows.stop)
    vectors = run.vectors(layer, head, rows)
    place = np.flatnonzero(points.query == query)
    given: FloatArray = weights(vectors.query[place], vectors.key, run.layers[layer].of_head(head), queries=place)[0]
    return given


def average_down(values: FloatArray, side: int = SIDE) -> FloatArray:
    """Return a matrix of at most ``side`` rows and columns; each number is the mean of those it stands for."""
    for axis in (0, 1):
        count = values.shape[axis]
        if count > side:
            first = np.arange(side) * count // side
            sizes = np.diff(np.append(first, count)).astype(np.float32)
            values = (np.add.reduceat(values, first, axis=axis) / np.expand_dims(sizes, 1 - axis)).astype(np.float32)
    return values


def _thumbnail(run: RunDirectory, info: LayerInfo, head: int, points: Points, token: int | None) -> Thumbnail:
    rows = run.token_slice(int(run.tokens["sequence_id"].iloc[points.key[0]]))
    vectors, step = run.vectors(info.layer, head, rows), -(-len(points.query) // MOST_QUERIES)
    queries = np.arange(0, len(points.query), step)
    picture = _picture(run, points)
    chosen = None if picture is None else _chosen(run, points, token)
    if chosen is not None:
        queries, step = np.flatnonzero(points.query == chosen), 1
    given = weights(vectors.query[queries], vectors.key, info.of_head(head), queries=queries)
    if picture is None:
        return Thumbnail(_frozen(average_down(given)), points, step=step)
    grid = picture.max(axis=0) + 1
    places = np.full(grid, -1, np.int64)
    patches = np.flatnonzero((picture >= 0).all(axis=1))
    places[tuple(picture[patches].T)] = patches
    heat = patch_weights(given.mean(axis=0), picture[:, 0], picture[:, 1], grid=(int(grid[0]), int(grid[1])))
    return Thumbnail(_frozen(average_down(heat)), points, chosen, places, step)


def _picture(run: RunDirectory, points: Points) -> NDArray[np.int16] | None:
    """Return row and column of each key on the picture, -1 for a special token; None if a key is of text, or none is a patch."""
    keys = run.tokens[["modality", "patch_row", "patch_col"]].iloc[points.key]
    places: NDArray[np.int16] = keys[["patch_row", "patch_col"]].fillna(-1).to_numpy(np.int16)
    return places if (keys["modality"] == "image").all() and (places >= 0).any() else None


def _chosen(run: RunDirectory, points: Points, token: int | None) -> int | None:
    """Return the query that a picture is about: the token, or the first special one, or none."""
    if token is not None and token in points.query:
        return token
    special = points.query[run.tokens["is_special"].to_numpy()[points.query]]
    return int(special[0]) if len(special) else None


def _frozen(values: FloatArray) -> FloatArray:
    values = np.ascontiguousarray(values, np.float32)
    values.setflags(write=False)
    return values
