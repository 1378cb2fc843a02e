"""The style sheet and the colours it uses: variables from ``plots.theme``, rules from three style sheets.

Every Panel component has a shadow root, so each is given the rules: on a page from a server as addresses, which the browser reads
once, because the text itself in 190 components made a page of 4.9 MB; elsewhere as text. The variables are set on the
outermost element, from where they are inherited into all of them.
"""

from functools import cache
from typing import ClassVar

import panel as pn
from panel.io.resources import resolve_stylesheet

from attnviz.plots.theme import FONT, THEMES, Theme

__all__ = ["Rules", "colors", "sheet"]


class Rules:
    """Names the style sheets beside this file; Panel's servers hand out what is named here."""

    _stylesheets: ClassVar = ["style.css", "controls.css", "tables.css"]


def sheet() -> list[str]:
    """Return the style sheets every component of the explorer is given."""
    page = pn.state.curdoc
    return list(_resolved(served=page is not None and page.session_context is not None, below=pn.state.rel_path))


@cache
def _resolved(*, served: bool, below: str) -> tuple[str, ...]:
    """Return the style sheets as Panel resolves them: addresses on a page that is served below an address, texts elsewhere.

    Panel looks for the files each time, which for the components of one page took 80 of the server's 500 ms.
    """
    return tuple(resolve_stylesheet(Rules, name, "_stylesheets") for name in Rules._stylesheets)


@cache
def colors() -> str:
    """Return the style sheet of the outermost element: the variables of each theme; it is not laid out before it has its rules."""
    return "\n".join([*(_variables(theme) for theme in THEMES.values()), ":host(.av) { display: none }"])


def _variables(theme: Theme) -> str:
    names = ("page", "surface", "raised", "line", "ink", "muted", "faint", "accent", "query", "key")
    values = "".join(f"--av-{name}: {getattr(theme, name)};" for name in names)
    return f":host(.av.{theme.name}) {{ {values} --av-font: {FONT}; color-scheme: {theme.name}; }}"
