"""Map the heads of a model, several at a time, in processes of their own.

Receives which heads, and what is done to each (``HeadWork``: load, normalise, map, score); gives ``HeadMaps`` in the order of
the heads. Processes are spawned: a fork after numba has started threads hangs. A worker loads its own arrays and gets two
numbers per head. Loading, normalisation and scores are handed in, because maps stand beside those modules and not above them.
A head's result depends on the head and the seed alone, not on the workers nor on the other heads.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from attnviz.errors import AttnvizError, MapError
from attnviz.maps.faiss import neighbors
from attnviz.maps.table import num_neighbors, parse, place
from attnviz.maps.threads import VARIABLES, single_thread
from attnviz.types import FloatArray, Joint, MapSpec, Sequences

__all__ = ["HeadMaps", "HeadWork", "MapScore", "head_seed", "map_head", "map_heads"]


class MapScore(Protocol):
    """A number for a map, as ``attnviz.metrics.METRICS`` holds them."""

    def __call__(self, joint: Joint, placed: FloatArray, *, seed: int) -> float:
        """Return the score of ``placed``, ``(points, dims)``."""


@dataclass(frozen=True, slots=True)
class HeadWork:
    """What is done to every head. It is pickled once per worker: give module-level functions, partials or small objects.

    Parameters
    ----------
    load
        ``load(layer, head)`` gives the head's queries and keys, ``(tokens, head_dim)`` each, and their sequences.
    normalize
        Gives their ``Joint``; ``functools.partial(attnviz.normalize.joint, options=...)``.
    specs
        The maps to make, with different names.
    scores
        By name; computed for every map.
    seed
        The run's. Each head's own is made from it by ``head_seed``.
    """

    load: Callable[[int, int], tuple[FloatArray, FloatArray, Sequences]]
    normalize: Callable[[FloatArray, FloatArray, Sequences], Joint]
    specs: tuple[MapSpec, ...]
    scores: Mapping[str, MapScore]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class HeadMaps:
    """All maps of one head, with what the run records about it. Mappings are by map name."""

    layer: int
    head: int
    seed: int  # the head's own
    coordinates: Mapping[str, FloatArray]  # (points, dims): the queries, then the keys
    scores: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]  # of placing; the shared neighbours are under "neighbors", the scores under "scores"


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
    try:
        with single_thread():
            return _map(layer, head, work)
    except AttnvizError as error:
        error.add_note(f"while mapping layer {layer}, head {head}")
        raise
    except Exception as error:
        wrapped = MapError(
            f"Layer {layer}, head {head} could not be mapped: {type(error).__name__}: {error}. Leave this head out, or report "
            "it with the lines above."
        )
        wrapped.add_note(f"while mapping layer {layer}, head {head}")
        raise wrapped from error


def map_heads(heads: Iterable[tuple[int, int]], work: HeadWork, *, workers: int = 1) -> Generator[HeadMaps]:
    """Map many heads and give each as soon as it and those before it are done.

    Parameters
    ----------
    heads
        Pairs (layer, head).
    work
        What is done to each.
    workers
        Processes. 1 works in this process, and then a script needs no ``if __name__ == "__main__":``. For 10,000
        tokens × 32 dims each takes 0.2 GB with PCA alone and 0.5 GB with UMAP, whose first map costs it 7 s of compiling.

    Yields
    ------
    HeadMaps
        In the order of ``heads``. No more than twice as many heads as workers are under way or waiting to be taken. Leaving
        the loop, by ``break``, an error or Ctrl-C, ends the workers; ``contextlib.closing`` around the iterator has it at once.

    Raises
    ------
    MapError
        At once if a map or ``workers`` is not valid; later as ``map_head`` does, or if a worker dies.
    """
    pairs = tuple(heads)
    if workers < 1:
        raise MapError(f"workers is {workers}; it is 1 (this process) or more. One per core is as fast as it gets.")
    _check(work.specs)
    alone = workers == 1 or len(pairs) < 2
    if not alone:
        _check_pickles(work)
    return _serial(pairs, work) if alone else _parallel(pairs, work, workers)


def _check(specs: tuple[MapSpec, ...]) -> None:
    for spec in specs:
        parse(spec)
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1} | ({"neighbors", "scores"} & set(names))):
        raise MapError(
            f"Maps were named {', '.join(names)}; each needs a name of its own, other than neighbors and scores. Rename "
            f"{', '.join(twice)}."
        )


def _check_pickles(work: HeadWork) -> None:
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise MapError(
            f"The work cannot be sent to other processes: {error}. Give functions that stand at the top of a module, or use "
            "workers=1."
        ) from error


def _map(layer: int, head: int, work: HeadWork) -> HeadMaps:
    joint = work.normalize(*work.load(layer, head))
    seed = head_seed(work.seed, layer, head)
    coordinates: dict[str, FloatArray] = {}
    seconds: dict[str, float] = {}
    with _timed(seconds, "neighbors"):
        near = neighbors(joint.points, max((num_neighbors(spec) for spec in work.specs), default=0))
    for spec in work.specs:
        with _timed(seconds, spec.name):
            coordinates[spec.name] = place(spec, joint, neighbors=near, seed=seed)
    with _timed(seconds, "scores"):
        scores = {name: _score(work, joint, placed, seed) for name, placed in coordinates.items()}
    return HeadMaps(layer, head, seed, coordinates, scores, seconds)


def _score(work: HeadWork, joint: Joint, placed: FloatArray, seed: int) -> dict[str, float]:
    return {name: score(joint, placed, seed=seed) for name, score in work.scores.items()}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _serial(pairs: tuple[tuple[int, int], ...], work: HeadWork) -> Generator[HeadMaps]:
    for layer, head in pairs:
        yield map_head(layer, head, work=work)


def _parallel(pairs: tuple[tuple[int, int], ...], work: HeadWork, workers: int) -> Generator[HeadMaps]:
    with _pool(min(workers, len(pairs)), work) as pool:
        waiting: deque[tuple[tuple[int, int], Future[HeadMaps]]] = deque()
        left = iter(pairs)
        while True:
            # A window, so that a slow reader does not gather every head of a model in memory.
            while len(waiting) < 2 * workers and (pair := next(left, None)) is not None:
                waiting.append((pair, pool.submit(_work_on, *pair)))
            if not waiting:
                return
            pair, future = waiting.popleft()
            try:
                yield future.result()
            except BrokenProcessPool as error:
                raise _dead(pair, workers) from error


def _dead(pair: tuple[int, int], workers: int) -> MapError:
    error = MapError(
        f"A worker process died while {workers} were mapping heads. Most often memory ran out: use fewer workers (workers=1 "
        "stays in this process) or fewer tokens. A script that maps heads in several processes must do it under "
        '`if __name__ == "__main__":`.'
    )
    error.add_note(f"while mapping layer {pair[0]}, head {pair[1]}, or one under way with it")
    return error


@contextmanager
def _pool(workers: int, work: HeadWork) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of spawned workers; however the block is left, none of them is alive afterwards."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(work,))
    try:
        yield pool
    except BaseException:
        # An executor waits for heads that nobody will take; minutes, for large ones.
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# One worker works on one thing: set once when it starts.
_work: HeadWork | None = None


def _start(work: HeadWork) -> None:
    global _work
    os.environ.update(
        dict.fromkeys(VARIABLES, "1")
    )  # for the libraries that load later; the others are limited per head
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone answers it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = work


def _end_with_parent() -> None:
    """Wait until the parent is gone, however it went, and go too: a pool's workers would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_on(layer: int, head: int) -> HeadMaps:
    assert _work is not None, "the pool's initializer sets it"
    return map_head(layer, head, work=_work)
