"""What a session has still to do after changes: each act once, in the order in which the acts were registered.

Parameters that change together announce themselves in an order of their own. What tells what is shown comes last, and so never
tells of a picture that is about to be drawn anew.

Everything that changes a figure changes it in an act, or in an answer to an event, and both are ``in_order``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import panel as pn

__all__ = ["Acts", "in_order", "soon"]


@contextmanager
def in_order() -> Iterator[None]:
    """Send what the body changes as one message, in the order of the changes. Needs the document's lock.

    Bokeh's changes wait until the lock is given back, Panel writes its own at once, or later while the line is busy. So a change
    could come before the figure that it changes, and the browser refused it. Sent one by one, all Bokeh's way, they came in
    order, but a click took 386 ms instead of 337: the page was laid out again after each (2 shared cores, 2026-11-21).
    """
    with pn.io.hold(policy="collect"):
        yield


def soon(act: Callable[..., object], *given: object, **named: object) -> None:
    """Call ``act`` as soon as the document's lock can be had, ``in_order``."""
    pn.state.execute(lambda: in_order()(act)(*given, **named), schedule=True)


class Acts:
    """The acts of one session. They run one by one, each with the document's lock, so that the first is seen before the last."""

    def __init__(self) -> None:
        self._acts: dict[tuple[bool, int], Callable[[], None]] = {}
        self._due: set[tuple[bool, int]] = set()
        self._scheduled = False

    def add(self, act: Callable[[], None], *, last: bool = False) -> Callable[[], None]:
        """Register an act, after those that are, or after those too that will be; return what makes it due."""
        place = last, len(self._acts)
        self._acts[place] = act

        def demand() -> None:
            self._due.add(place)
            if not self._scheduled:
                self._scheduled = True
                pn.state.execute(self._next, schedule=True)

        return demand

    def _next(self) -> None:
        """Run the first act that is due, and come back for the next."""
        place = min(self._due)
        self._due.remove(place)
        try:
            with in_order():
                self._acts[place]()
        finally:
            self._scheduled = bool(self._due)
            if self._scheduled:
                pn.state.execute(self._next, schedule=True)
