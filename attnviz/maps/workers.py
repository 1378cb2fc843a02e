"""Many heads at once: threads where a method's compiled code needs no lock, spawned processes where it does.

Receives a task for one head and the pairs (layer, head); gives results in the order of the pairs. Our own kernels, numpy
and scipy leave Python's lock, so that threads share what is loaded and compiled. umap-learn and openTSNE do not, and numba's
parallel code, which the former has, must not be entered twice: they get processes, spawned, because a fork after numba has
started threads hangs.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from attnviz.errors import MapError
from attnviz.maps.threads import VARIABLES, single_thread

__all__ = ["in_processes", "in_threads"]

Result = TypeVar("Result")
Pairs = tuple[tuple[int, int], ...]
Task = Callable[[int, int], Result]


def in_threads(task: Task[Result], pairs: Pairs, workers: int) -> Generator[Result]:
    """Give ``task(layer, head)`` of every pair, in order, from ``workers`` threads of this process.

    Leaving early waits for the heads under way, seconds at most, and begins no other.
    """
    # BLAS has one number of threads for all: it must not be given back while another head is at work.
    with single_thread():
        pool = ThreadPoolExecutor(workers)
        try:
            yield from _in_order(pool, task, pairs, workers)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def in_processes(task: Task[Result], pairs: Pairs, workers: int) -> Generator[Result]:
    """Give ``task(layer, head)`` of every pair, in order, from ``workers`` spawned processes.

    However the loop is left, none of them is alive afterwards.

    Raises
    ------
    MapError
        At once if the task cannot be sent to other processes; later if a worker dies.
    """
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise MapError(
            f"The work cannot be sent to other processes: {error}. Give functions that stand at the top of a module, or use "
            "workers=1."
        ) from error
    return _processes(task, pairs, workers)


def _processes(task: Task[Result], pairs: Pairs, workers: int) -> Generator[Result]:
    with _pool(workers, task) as pool:
        try:
            yield from _in_order(pool, _work_on, pairs, workers)
        except BrokenProcessPool as error:
            raise MapError(
                f"A worker process died while {workers} were mapping heads. Most often memory ran out: use fewer workers "
                "(workers=1 stays in this process) or fewer tokens. A script that maps heads in several processes must do it "
                'under `if __name__ == "__main__":`.'
            ) from error


def _in_order(pool: Executor, task: Task[Result], pairs: Pairs, workers: int) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    left = iter(pairs)
    while True:
        # A window, so that a slow reader does not gather every head of a model in memory.
        while len(waiting) < 2 * workers and (pair := next(left, None)) is not None:
            waiting.append(pool.submit(task, *pair))
        if not waiting:
            return
        yield waiting.popleft().result()


@contextmanager
def _pool(workers: int, task: Task[Any]) -> Iterator[ProcessPoolExecutor]:
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(task,))
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
_task: Task[Any] | None = None


def _start(task: Task[Any]) -> None:
    global _task
    # For the libraries that load later; the others are limited per head.
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone answers it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _task = task


def _end_with_parent() -> None:
    """Wait until the parent is gone, however it went, and go too: a pool's workers would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_on(layer: int, head: int) -> Any:
    assert _task is not None, "the pool's initializer sets it"
    return _task(layer, head)
