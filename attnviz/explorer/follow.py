"""Following a state: when its parameters change, act; what goes wrong becomes a sentence on the page, and the session lives on.

Panel announces a change outside the document's lock, and Bokeh refuses changes to a figure there. So the act is scheduled: it
runs next, with the lock, after the acts that were registered before it; see ``Acts``.
"""

from collections.abc import Callable, Sequence

from attnviz.errors import AttnvizError
from attnviz.explorer.state import State

__all__ = ["attempt", "follow"]


def follow(state: State, names: Sequence[str], *, act: Callable[[], None], last: bool = False) -> None:
    """Call ``act`` after changes of the named parameters, or ``last`` of all; changes that come together call it once."""
    demand = state.acts.add(lambda: attempt(state, act=act), last=last)
    state.param.watch(lambda *events: demand(), list(names), precedence=int(last))  # without a server, acts run at once


def attempt(state: State, *, act: Callable[[], None]) -> None:
    """Call ``act``; let the message of an ``AttnvizError`` become the state's ``problem``."""
    try:
        act()
    except AttnvizError as error:
        state.problem = str(error)
