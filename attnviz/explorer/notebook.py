"""The explorer in a notebook's cell: drawn with what the notebook itself holds, and a word where no kernel answers.

A saved notebook keeps the cell's HTML and runs its scripts wherever it is opened; without a kernel that is a picture at which
nothing works. So a note covers the explorer until the kernel answers (page.js takes it away), and says what to do.
"""

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import panel as pn
from bokeh.models import ImportedStyleSheet
from panel.io.resources import CDN_DIST, DIST_DIR, LOCAL_DIST

__all__ = ["framed", "in_cell", "keep_inline", "load"]

_CELL = "position: relative; min-height: 84px;"
_NOTE = (
    "position: absolute; inset: 0; z-index: 50; box-sizing: border-box; padding: 16px 20px; overflow: auto; "
    "background: #fff; color: #333; border: 1px solid #ccc; border-radius: 8px; font: 14px/1.5 system-ui, sans-serif;"
)
_WORDS = (
    "<strong>The explorer of the run {} is drawn by the notebook's kernel.</strong> If it does not appear, run this cell again. "
    "What needs no kernel: <code>run.view()</code> shows all heads, <code>run.head(LAYER, HEAD).view()</code> one head, and "
    "<code>attnviz export RUN --to html</code> writes a page."
)


def load() -> None:
    """Give the notebook what the browser needs, as text: nothing is asked of the network."""
    pn.extension("tabulator", inline=True)


def in_cell() -> bool:
    """Return whether what is made now is for a notebook: no server makes it for a page of its own."""
    return pn.state.curdoc is None or pn.state.curdoc.session_context is None


def keep_inline(view: pn.viewable.Viewable) -> None:
    """Give what is drawn later its style sheets as text too.

    Panel (1.9.4) puts text into the first picture alone; a view that is opened later would ask its network for sheets. The cache of
    the document, which later parts take them from, is one that holds texts.
    """
    for shown, _, document, _ in pn.state._views.values():
        if shown is view:
            pn.state._stylesheets[document] = _Texts()


class _Texts(dict[str, ImportedStyleSheet]):
    """Style sheets by address, as data in place of what Panel's own addresses lead to."""

    def __bool__(self) -> bool:
        return True  # Panel does not look into an empty one

    def __contains__(self, address: object) -> bool:
        return super().__contains__(address) or _file(str(address)) is not None

    def __missing__(self, address: str) -> ImportedStyleSheet:
        file = _file(address)
        if file is None:
            raise KeyError(address)
        made = self[address] = ImportedStyleSheet(url=f"data:text/css;base64,{b64encode(file.read_bytes()).decode()}")
        return made


def _file(address: str) -> Path | None:
    """Return the file of Panel's to which an address leads, on its network or below its server."""
    for start in (CDN_DIST, LOCAL_DIST):
        file: Path = DIST_DIR / address.removeprefix(start).split("?")[0]
        if address.startswith(start) and file.is_file():
            return file
    return None


def framed(bundle: Any, run: str) -> Any:
    """Return what a notebook shows, with a note over its HTML for where no kernel answers."""
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    if not isinstance(data, Mapping) or "text/html" not in data:
        return bundle
    note = f'<div class="attnviz-note" style="{_NOTE}">{_WORDS.format(escape(run))}</div>'
    data = {**data, "text/html": f'<div class="attnviz-cell" style="{_CELL}">{note}{data["text/html"]}</div>'}
    return (data, *bundle[1:]) if isinstance(bundle, tuple) else data
