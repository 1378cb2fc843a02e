"""Whole models: many heads at once, on threads or in processes, with the same bytes whoever makes them and however many."""

import contextlib
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from threadpoolctl import threadpool_info

from attnviz.errors import DatasetError, MapError
from attnviz.maps import head_seed, map_head, map_heads
from attnviz.metrics import METRICS
from attnviz.normalize import Normalize, joint
from attnviz.types import MapSpec
from tests.map_work import Loader, work

HEADS = [(0, 0), (0, 1), (1, 0), (1, 1), (7, 3)]


def fingerprint(result):
    coordinates = {name: placed.tobytes() for name, placed in result.coordinates.items()}
    faithfulness = {name: kept.tobytes() for name, kept in result.faithfulness.items()}
    return result.layer, result.head, coordinates, result.scores, faithfulness


def test_a_head_holds_all_that_a_run_records():
    result = map_head(1, 2, work=work("pca", "umap", normalize=functools.partial(joint, options=Normalize())))
    assert (result.layer, result.head, result.seed) == (1, 2, head_seed(0, 1, 2))
    assert {name: placed.shape for name, placed in result.coordinates.items()} == {"pca": (120, 2), "umap": (120, 2)}
    assert set(result.scores["umap"]) == set(METRICS)
    assert {name: kept.shape for name, kept in result.faithfulness.items()} == {"pca": (120, 2), "umap": (120, 2)}
    assert set(result.seconds) == {"neighbors", "pca", "umap", "scores"}


def test_the_result_depends_on_neither_the_workers_nor_the_other_heads():
    methods = "pca", "umap", "neg_tsne", "attention"
    here = [fingerprint(r) for r in map_heads(HEADS, work(*methods))]
    for workers in (2, 3):
        assert [fingerprint(r) for r in map_heads(HEADS, work(*methods), workers=workers)] == here
    assert fingerprint(map_head(7, 3, work=work(*methods))) == here[-1]
    alone = [fingerprint(map_head(7, 3, work=work(method))) for method in methods]
    assert all(one[2][method] == here[-1][2][method] for one, method in zip(alone, methods, strict=True))


@pytest.mark.slow
def test_processes_give_the_same_bytes_as_one_after_the_other():
    here = [fingerprint(r) for r in map_heads(HEADS, work("umap", "tsne"))]
    assert [fingerprint(r) for r in map_heads(HEADS, work("umap", "tsne"), workers=2)] == here
    other = fingerprint(map_head(7, 3, work=work("pca", "umap")))
    assert all(other[part]["umap"] == here[-1][part]["umap"] for part in (2, 3, 4))
    assert multiprocessing.active_children() == []


def test_seeds_are_stable_and_each_heads_own():
    assert head_seed(0, 0, 0) == 2968811710
    seeds = {head_seed(seed, layer, head) for seed in range(3) for layer in range(12) for head in range(12)}
    assert len(seeds) == 3 * 144
    assert max(seeds) < 2**32
    assert map_head(0, 0, work=work("pca", seed=5)).seed == head_seed(5, 0, 0)


@pytest.mark.parametrize(
    ("method", "workers", "how", "kind", "message"),
    [
        ("pca", 1, "foreign", MapError, "KeyError: 'query'"),
        ("pca", 1, "own", DatasetError, "missing"),
        ("pca", 2, "own", DatasetError, "missing"),
        ("tsne", 2, "foreign", MapError, "KeyError: 'query'"),
    ],
)
def test_an_error_names_layer_and_head(method, workers, how, kind, message):
    results = map_heads(HEADS, work(method, load=Loader(wrong=(1, 0), how=how)), workers=workers)
    done = []
    with pytest.raises(kind, match=message) as caught:
        done.extend(result.head for result in results)
    assert "while mapping layer 1, head 0" in caught.value.__notes__
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_an_error_that_says_what_to_do():
    with pytest.raises(MapError, match=r"A worker process died .* use fewer workers"):
        list(map_heads(HEADS, work("tsne", load=Loader(wrong=(0, 1), how="dies")), workers=2))
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_leaving_early_ends_the_workers():
    with contextlib.closing(map_heads(HEADS * 20, work("tsne"), workers=2)) as results:
        next(results)
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_program(kind, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import multiprocessing, signal, sys, threading, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
        sys.path.insert(0, sys.argv[1])
        from attnviz.maps import map_heads
        from tests.map_work import Loader, work

        def tell():
            while len(children := multiprocessing.active_children()) < 2:
                time.sleep(0.05)
            print(*(child.pid for child in children), flush=True)

        if __name__ == "__main__":
            threading.Thread(target=tell, daemon=True).start()
            list(map_heads([(0, 0), (0, 1)], work("tsne", load=Loader(marks=sys.argv[2])), workers=2))
        """)
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    command = [sys.executable, str(script), os.path.dirname(os.path.dirname(__file__)), str(marks)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        workers = [int(pid) for pid in program.stdout.readline().split()]
        wait_until(lambda: len(list(marks.iterdir())) == 2)
        program.send_signal(kind)
        assert program.wait(20) != 0
    assert len(workers) == 2
    wait_until(lambda: not any(alive(pid) for pid in workers))


def wait_until(done, *, seconds=40):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.05)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_worker_needs_no_main_guard():
    code = """
        from attnviz.maps import HeadWork, map_heads
        from attnviz.metrics import Judge
        from attnviz.normalize import joint
        from attnviz.types import MapSpec
        import numpy as np
        load = lambda layer, head: (np.eye(5), np.eye(5))
        print(len(list(map_heads([(0, 0), (0, 1)], HeadWork(load, joint, (MapSpec("p", "pca"),), Judge)))))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "2"


def test_threads_are_left_and_give_back_their_limits():
    before, running = threadpool_info(), threading.active_count()
    with contextlib.closing(map_heads(HEADS * 20, work("pca"), workers=2)) as results:
        next(results)
        assert threading.active_count() == running + 2
    assert (threadpool_info(), threading.active_count()) == (before, running)


@pytest.mark.parametrize(
    ("changes", "workers", "message"),
    [
        ({}, 0, "workers is 0"),
        ({"specs": (MapSpec("a", "pca"), MapSpec("a", "umap"))}, 1, "Rename a"),
        ({"specs": (MapSpec("scores", "pca"),)}, 1, "Rename scores"),
        ({"specs": (MapSpec("a", "umpa"),)}, 2, "did you mean 'umap'"),
        ({"load": lambda layer, head: None}, 2, "cannot be sent to other processes"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_starts(changes, workers, message):
    with pytest.raises(MapError, match=message):
        map_heads(HEADS, work("tsne", **changes), workers=workers)


def test_no_heads_and_no_maps_are_fine():
    assert list(map_heads([], work("pca"), workers=3)) == []
    assert map_head(0, 0, work=work()).coordinates == {}
