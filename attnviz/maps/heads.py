"""Map the heads of a model, several at a time.

Receives which heads, and what is done to each (``HeadWork``: load, normalise, map, score); gives ``HeadMaps`` in the order of
the heads. Loading, normalisation and judging are handed in, because maps stand beside those modules and not above them. A
head's result depends on the head and the seed alone, not on the workers nor on the other heads. The same vectors have
given maps of the same bytes on every type of processor tried (``tests/test_processors.py``).
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from attnviz.errors import AttnvizError, MapError
from attnviz.maps.nearest import neighbors
from attnviz.maps.table import MAPS, num_neighbors, parse, place
from attnviz.maps.threads import single_thread
from attnviz.maps.torch import choose_device
from attnviz.maps.workers import in_processes, in_threads
from attnviz.types import FloatArray, Joint, MapSpec, Neighbors, Sequences

__all__ = [
    "SHARED",
    "HeadMaps",
    "HeadWork",
    "Judging",
    "explained",
    "head_seed",
    "judged",
    "map_head",
    "map_heads",
    "timed",
]


Judging = Callable[[Joint, Neighbors, int], Callable[[FloatArray], tuple[Mapping[str, float], FloatArray]]]
"""Given a head, its neighbours and a seed, gives what judges its maps: scores by name, and ``(points, 2)`` shares per point."""


SHARED = ("neighbors", "scores")
"""What the maps of a head share, by its name in ``HeadMaps.seconds``."""


@dataclass(frozen=True, slots=True)
class HeadWork:
    """What is done to every head. Module-level functions, partials and small objects can be sent to processes.

    Parameters
    ----------
    load
        ``load(layer, head)`` gives the head's queries and keys, ``(tokens, head_dim)`` each, and their sequences.
    normalize
        Gives their ``Joint``; ``functools.partial(attnviz.normalize.joint, options=...)``.
    specs
        The maps to make, with different names.
    judge
        Made once per head and called with every map, as ``attnviz.metrics.Judge``.
    seed
        The run's. Each head's own is made from it by ``head_seed``.
    least_neighbors
        How many are found at least: what ``judge`` needs, so that its verdict does not depend on the other maps.
    """

    load: Callable[[int, int], tuple[FloatArray, FloatArray, Sequences]]
    normalize: Callable[[FloatArray, FloatArray, Sequences], Joint]
    specs: tuple[MapSpec, ...]
    judge: Judging
    seed: int = 0
    least_neighbors: int = 15


@dataclass(frozen=True, slots=True)
class HeadMaps:
    """All maps of one head, with what the run records about it. Mappings are by map name."""

    layer: int
    head: int
    seed: int  # the head's own
    coordinates: Mapping[str, FloatArray]  # (points, dims): the queries, then the keys
    scores: Mapping[str, Mapping[str, float]]
    faithfulness: Mapping[str, FloatArray]  # (points, 2): shares of each point's neighbours and attention that are kept
    recall: float  # share of true neighbours found, measured on a sample; 1: exact
    seconds: Mapping[str, float]  # of placing; the shared neighbours are under "neighbors", judging under "scores"


def head_seed(seed: int, layer: int, head: int) -> int:
    """Return a head's own seed, below 2³²: the same whichever other heads are mapped, and different between heads."""
    return int(np.random.SeedSequence([seed, layer, head]).generate_state(1)[0])


def map_head(layer: int, head: int, *, work: HeadWork) -> HeadMaps:
    """Load one head, bring it into one space, make its maps and score them, in this process and on one thread.

    Raises
    ------
    MapError
        If anything goes wrong that is not an error of attnviz already. Every error has a note that names layer and head.
    """
    with explained(f"layer {layer}, head {head}"), single_thread():
        return _map(layer, head, work)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Have every error inside the block be one of attnviz, with a note that names what was mapped: a head or a layer."""
    try:
        yield
    except AttnvizError as error:
        error.add_note(f"while mapping {what}")
        raise
    except Exception as error:
        wrapped = MapError(
            f"{what.capitalize()} could not be mapped: {type(error).__name__}: {error}. Leave this {what.split()[-2]} out, or "
            "report it with the lines above."
        )
        wrapped.add_note(f"while mapping {what}")
        raise wrapped from error


def map_heads(
    heads: Iterable[tuple[int, int]], work: HeadWork, *, workers: int = 1, device: str = "auto"
) -> Generator[HeadMaps]:
    """Map many heads and give each as soon as it and those before it are done.

    Parameters
    ----------
    heads
        Pairs (layer, head).
    work
        What is done to each.
    workers
        How many heads at once, one thread each: threads of this process, or processes if a map is made by umap-learn or
        openTSNE and ``workers`` is more than 1; a script then needs ``if __name__ == "__main__":``, and the work must be
        one that can be pickled. 10,000 tokens × 32 dims take 0.2 GB each.
    device
        ``"cuda"`` maps all heads of a layer at once on a GPU, ``"cpu"`` each on a thread. ``"auto"`` is ``"cpu"``:
        the engine for GPUs has not been measured on one. A GPU's maps have other bytes.

    Yields
    ------
    HeadMaps
        In the order of ``heads``. No more than twice as many heads as workers are under way or waiting to be taken. Leaving
        the loop, by ``break``, an error or Ctrl-C, ends the workers; ``contextlib.closing`` around the iterator has it at once.

    Raises
    ------
    MapError
        At once if a map, ``workers`` or ``device`` is not valid; later as ``map_head`` does, or if a worker dies.
    """
    pairs = tuple(heads)
    if workers < 1:
        raise MapError(f"workers is {workers}; it is 1 or more. One per core is as fast as it gets.")
    _check(work.specs)
    if choose_device(device) == "cuda":
        from attnviz.maps.layers import map_layers

        return map_layers(pairs, work, workers=workers, device="cuda")
    task, workers = partial(map_head, work=work), min(workers, len(pairs))
    if workers > 1 and any(MAPS[spec.method].locks(parse(spec)) for spec in work.specs):
        return in_processes(task, pairs, workers)
    return in_threads(task, pairs, workers) if workers > 1 else (task(*pair) for pair in pairs)


def _check(specs: tuple[MapSpec, ...]) -> None:
    for spec in specs:
        parse(spec)
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1} | (set(SHARED) & set(names))):
        raise MapError(
            f"Maps were named {', '.join(names)}; each needs a name of its own, other than neighbors and scores. Rename "
            f"{', '.join(twice)}."
        )


def _map(layer: int, head: int, work: HeadWork) -> HeadMaps:
    joint = work.normalize(*work.load(layer, head))
    seed = head_seed(work.seed, layer, head)
    coordinates: dict[str, FloatArray] = {}
    seconds: dict[str, float] = {}
    with timed(seconds, "neighbors"):
        near = neighbors(joint.points, max([work.least_neighbors, *map(num_neighbors, work.specs)]))
    for spec in work.specs:
        with timed(seconds, spec.name):
            coordinates[spec.name] = place(spec, joint, neighbors=near, seed=seed)
    return judged(layer, head, work, joint, near, coordinates, seconds)


def judged(
    layer: int,
    head: int,
    work: HeadWork,
    joint: Joint,
    near: Neighbors,
    coordinates: Mapping[str, FloatArray],
    seconds: Mapping[str, float],
) -> HeadMaps:
    """Judge the maps of one head; ``seconds`` of what has been done are taken over."""
    seed, seconds = head_seed(work.seed, layer, head), dict(seconds)
    with timed(seconds, "scores"):
        judge = work.judge(joint, near, seed)
        verdicts = {name: judge(placed) for name, placed in coordinates.items()}
    scores = {name: verdict[0] for name, verdict in verdicts.items()}
    faithfulness = {name: verdict[1] for name, verdict in verdicts.items()}
    return HeadMaps(layer, head, seed, coordinates, scores, faithfulness, near.recall, seconds)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the block took."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
