"""The wall as a session has arranged it: the heads it includes, in the order it asks for."""

from collections.abc import Collection

from attnviz.explorer import library
from attnviz.explorer.ranges import in_ranges
from attnviz.explorer.state import State
from attnviz.types import FloatArray
from attnviz.views import Wall, arrange, include

__all__ = ["arranged_wall", "included"]


def arranged_wall(state: State) -> tuple[Wall, FloatArray | None, str]:
    """Return the wall, and the number of each tile with its title where heads are ordered by one."""
    wall = included(state, library.wall(state.directory, state.map, alike=state.alike))
    if not state.order:
        return wall, None, ""
    title = state.numbers[state.order]
    made = arrange(wall, state.head_number(), title, ascending=state.ascending, least=state.least, most=state.most)
    return made.wall, made.numbers, title


def included(state: State, wall: Wall) -> Wall:
    """Return a wall of the layers and heads that a state names; of all, if it names none."""
    return include(state.directory, wall, layers=_named(state.only_layers), heads=_named(state.only_heads))


def _named(text: str) -> Collection[int] | None:
    return in_ranges(text, 0, 10_000) if text.strip() else None
