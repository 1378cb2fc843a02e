"""What belongs to the fast suite, ``make test``, and what only to ``make test-all``."""

import pytest

__all__ = ["some"]


def some(values, *fast):
    """Return a test's parameters; all but ``fast`` are marked slow."""
    slow = pytest.mark.slow
    return [v if v in fast else pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=slow) for v in values]
