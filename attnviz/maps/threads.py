"""One thread per head: more would make heads fight for the cores, and would change the last bits of the result.

A worker process is told by its environment before the libraries load; a process that has them loaded already is limited
while it maps, and gets its threads back.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from attnviz.errors import require

__all__ = ["VARIABLES", "single_thread"]

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""What BLAS, OpenMP and numba read when they load."""


@contextmanager
def single_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP to one thread inside the block."""
    with require("threadpoolctl", "maps").threadpool_limits(limits=1):
        yield
