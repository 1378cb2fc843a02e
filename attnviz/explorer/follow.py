"""Following a state: when its parameters change, act; what goes wrong becomes a sentence on the page, and the session lives on.

Panel announces a change outside the document's lock, and Bokeh refuses changes to a figure there. So the act is scheduled: it
runs next, with the lock, after the acts that were registered before it; see ``Acts``. What goes wrong is told by the ``Guard``.
"""

from collections.abc import Callable, Sequence

from attnviz.explorer.state import State

__all__ = ["attempt", "follow"]


def follow(state: State, names: Sequence[str], *, act: Callable[[], None], last: bool = False) -> Callable[[], None]:
    """Call ``act`` after changes of the named parameters, or ``last`` of all; changes that come together call it once.

    Return what makes it due without a change.
    """
    demand = state.acts.add(lambda: attempt(state, act=act), last=last)
    state.guard.repeat(act, demand)
    state.param.watch(lambda *events: demand(), list(names), precedence=int(last))  # without a server, acts run at once
    return demand


def attempt(state: State, *, act: Callable[[], None]) -> None:
    """Call ``act``; what goes wrong is told as the state's ``problem``, or as a fault."""
    state.guard.run(act)
