"""New tokens on maps that exist: how fast they land, and whether they land where a map of everything would have put them.

    python tests/bench/transform.py [RUN]

Six heads of MiniLM, 10,000 tokens of documentation. One sequence in fifty is held out, a map is made of the rest, and the held-out
tokens land on it. Two maps cannot be laid over each other, so neighbourhoods are compared: of a held-out point's 15 nearest old
points on the map, the share among its 100 nearest in the joint space; of a held-out query's ten largest q·k, the share among its
fifty nearest keys on the map. The same is asked of a map of all tokens, of the same points. "back" is how far from its old
place an old vector lands, over the distance of two points of the map (medians).
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from material import captured
from sklearn.neighbors import NearestNeighbors

from attnviz.maps import neighbors, num_neighbors, place, prepare_landing
from attnviz.normalize import joint
from attnviz.store import RunDirectory
from attnviz.types import Joint, MapSpec, Sequences

TOKENS = 10_000
HEADS = [(0, 2), (1, 7), (2, 0), (3, 8), (4, 5), (5, 3)]
SPECS = [MapSpec(name, name) for name in ("umap", "neg_tsne", "attention")]
SPECS.append(MapSpec("umap-learn", "umap", 2, {"engine": "umap-learn"}))
NAMES = ("prepare s", "ms of 100 tokens", "knn transformed", "knn full", "recall transformed", "recall full", "back")


@dataclass(frozen=True)
class Held:
    """A head, the head without some sequences, and those: vectors as captured."""

    full: Joint
    part: Joint
    query: np.ndarray
    key: np.ndarray
    out: np.ndarray  # (tokens,): which are held out

    @property
    def new(self) -> np.ndarray:
        """The held-out points in the space of the rest."""
        scale = np.float32(self.part.scale)
        return np.concatenate([self.query[self.out] * scale, self.key[self.out] / scale + self.part.shift])


def split(run: RunDirectory, layer: int, head: int) -> Held:
    vectors, info, lengths = run.vectors(layer, head), run.layers[layer], np.diff(run.bounds)
    chosen = np.random.default_rng(0).permutation(len(lengths)) < len(lengths) // 50
    out = np.repeat(chosen, lengths)
    bounds = np.concatenate([[0], np.cumsum(lengths[~chosen])])
    full = joint(vectors.query, vectors.key, Sequences(run.bounds, info))
    part = joint(vectors.query[~out], vectors.key[~out], Sequences(bounds, info))
    return Held(full, part, vectors.query, vectors.key, out)


def nearest(new: np.ndarray, old: np.ndarray, k: int) -> np.ndarray:
    return NearestNeighbors(n_neighbors=k).fit(old).kneighbors(new, return_distance=False)


def shared(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the share of each row of ``found`` that is in the row of ``wanted``."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(found, wanted, strict=True)]))


def kept(space: tuple[np.ndarray, np.ndarray], places: tuple[np.ndarray, np.ndarray]) -> float:
    """Return how many neighbours on the map of new among old points are neighbours in space."""
    return shared(nearest(*places, 15), nearest(*space, 100))


def recall(query: np.ndarray, key: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> float:
    return shared(np.argsort(-(query @ key.T), axis=1)[:, :10], nearest(*places, 50))


def measure(spec: MapSpec, held: Held) -> list[float]:
    full, part, out = held.full, held.part, held.out
    whole, rest = (
        place(spec, space, neighbors=neighbors(space.points, num_neighbors(spec)), seed=1) for space in (full, part)
    )
    start = time.perf_counter()
    landing = prepare_landing(spec, part, rest, seed=1)
    seconds = [time.perf_counter() - start]
    query, key = held.query[out], held.key[out]
    there = landing(query, key)
    for _ in range(10):
        start = time.perf_counter()
        landing(query[:100], key[:100])
        seconds.append(time.perf_counter() - start)
    new, twice, tokens = len(query), np.tile(out, 2), len(part.query)
    old = np.random.default_rng(0).choice(tokens, 200, replace=False)
    back = landing(held.query[~out][old], held.key[~out][old]) - rest[np.concatenate([old, old + tokens])]
    usual = rest - np.random.default_rng(0).permutation(rest)
    places = whole[twice], whole[~twice]
    queries = held.new[:new]
    return [
        seconds[0],
        1000 * float(np.median(seconds[1:])),
        kept((held.new, part.points), (there, rest)),
        kept((full.points[twice], full.points[~twice]), places),
        recall(queries, part.original_key, (there[:new], rest[tokens:])),
        recall(full.query[out], full.original_key[~out], (places[0][:new], places[1][tokens:])),
        float(np.median(np.linalg.norm(back, axis=1)) / np.median(np.linalg.norm(usual, axis=1))),
    ]


def main() -> None:
    run = RunDirectory(Path(sys.argv[1])) if len(sys.argv) > 1 else captured("minilm_docs", TOKENS)
    means = {}
    for spec in SPECS:
        few = HEADS[::3] if spec.name == "umap-learn" else HEADS  # it takes 8 s a map
        rows = np.array([measure(spec, split(run, *head)) for head in few])
        means[spec.name] = dict(zip(NAMES, rows.mean(axis=0).tolist(), strict=True))
        means[spec.name]["ms of 100 tokens"] = float(np.median(rows[:, 1]))  # the first head compiles
        cells = " · ".join(f"{name} {value:.3f}" for name, value in means[spec.name].items())
        print(f"{spec.name:12s} {cells}", flush=True)
    umap, attention = means["umap"], means["attention"]
    result = {
        "ms": max(mean["ms of 100 tokens"] for mean in means.values()),
        "knn_transformed": umap["knn transformed"],
        "knn_full": umap["knn full"],
        "recall_transformed": attention["recall transformed"],
        "recall_full": attention["recall full"],
    }
    print(f"RESULT {json.dumps({name: round(value, 3) for name, value in result.items()})}")


if __name__ == "__main__":
    main()
