"""What a session has still to do after changes: each act once, in the order in which the acts were registered.

Parameters that change together announce themselves in an order of their own. What tells what is shown is registered after what
shows it, and so never tells of a picture that is about to be drawn anew.
"""

from collections.abc import Callable

import panel as pn

__all__ = ["Acts"]


class Acts:
    """The acts of one session. They run one by one, each with the document's lock, so that the first is seen before the last."""

    def __init__(self) -> None:
        self._acts: list[Callable[[], None]] = []
        self._due: set[int] = set()
        self._scheduled = False

    def add(self, act: Callable[[], None]) -> Callable[[], None]:
        """Register an act, after those that are; return what makes it due."""
        number = len(self._acts)
        self._acts.append(act)

        def demand() -> None:
            self._due.add(number)
            if not self._scheduled:
                self._scheduled = True
                pn.state.execute(self._next, schedule=True)

        return demand

    def _next(self) -> None:
        """Run the first act that is due, and come back for the next."""
        number = min(self._due)
        self._due.remove(number)
        try:
            self._acts[number]()
        finally:
            self._scheduled = bool(self._due)
            if self._scheduled:
                pn.state.execute(self._next, schedule=True)
