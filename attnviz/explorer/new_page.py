"""What a server calls for each page: the explorer of its runs as they are now, or a sentence where even that fails."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import panel as pn
from panel.io.resources import LOCAL_DIST

from attnviz.errors import AttnvizError
from attnviz.explorer import markup
from attnviz.explorer.app import Explorer
from attnviz.explorer.controls import box
from attnviz.explorer.guard import log, sentence
from attnviz.explorer.library import open_again, open_runs
from attnviz.explorer.notices import Notices
from attnviz.explorer.style import colors, sheet
from attnviz.faults import fault_of
from attnviz.store import RunDirectory

__all__ = ["Pages", "page_of"]


class Pages:
    """The pages of a server. ``runs`` are the runs by name; one that was replaced is opened anew."""

    def __init__(self, runs: Mapping[str, RunDirectory]) -> None:
        self._runs = dict(runs)

    def make(self) -> Explorer | pn.viewable.Viewable:
        """Return a page."""
        return _told(self._make, ", ".join(self._runs))

    def _make(self) -> Explorer:
        self._runs = open_again(self._runs)
        return Explorer(self._runs)  # under the names that addresses have, whatever a new run calls itself


def page_of(paths: Sequence[str | Path]) -> Explorer | pn.viewable.Viewable:
    """Return a page of some runs, which are opened for the first page of these paths: for a server that runs a script a page."""
    return _told(lambda: _pages(tuple(paths)).make(), ", ".join(Path(path).name for path in paths))


@lru_cache(maxsize=8)
def _pages(paths: tuple[str | Path, ...]) -> Pages:
    return Pages(open_runs(paths))


def _told(make: Callable[[], Explorer | pn.viewable.Viewable], runs: str) -> Explorer | pn.viewable.Viewable:
    """Return a page, or a sentence in its place."""
    _keep_to_this_server()
    try:
        return make()
    except AttnvizError as error:
        return _plain(pn.pane.HTML(markup.note(str(error)), css_classes=["banner"], stylesheets=sheet()))
    except Exception as error:
        log.exception("A page could not be made.")
        fault = fault_of(error, {"in": "making the page", "runs": runs})
        return _plain(Notices(notices=[(sentence([fault]), "copy", fault.details)]))


def _keep_to_this_server() -> None:
    """Let the page take Panel's style sheets from its own server.

    Panel (1.9.4) says so while it writes the HTML. Where a slow browser connects after the session of the HTML has ended (Bokeh
    waits 15 s), its websocket begins another session, whose sheets would come from Panel's network.
    """
    document = pn.state.curdoc
    # Only once the location is known: Panel, which learns it late, would make the address absolute, and lose a proxy's path.
    if document is not None and document.session_context is not None and pn.state.location is not None:
        document.template_variables["dist_url"] = LOCAL_DIST


def _plain(shown: pn.viewable.Viewable) -> pn.viewable.Viewable:
    made = box("av light", shown)
    made.stylesheets = [colors(), *sheet()]
    return made
