"""The style sheet and the colours it uses: variables from ``plots.theme``, rules from ``style.css``.

Every Panel component has a shadow root, so each is given the rules; the variables are set once on the outermost element, from
where they are inherited into all of them.
"""

from functools import cache
from importlib.resources import files

from attnviz.plots.theme import FONT, THEMES, Theme

__all__ = ["sheet"]


@cache
def _sheet() -> str:
    rules = files("attnviz.explorer").joinpath("style.css").read_text("utf-8")
    return "\n".join([*(_variables(theme) for theme in THEMES.values()), rules])


def sheet() -> list[str]:
    """Return the style sheets every component of the explorer is given."""
    return [_sheet()]


def _variables(theme: Theme) -> str:
    names = ("page", "surface", "raised", "line", "ink", "muted", "faint", "accent", "query", "key")
    colors = "".join(f"--av-{name}: {getattr(theme, name)};" for name in names)
    return f":host(.av.{theme.name}) {{ {colors} --av-font: {FONT}; color-scheme: {theme.name}; }}"
