"""What a server calls for each page: the explorer of its runs as they are now, or a sentence where even that fails."""

from collections.abc import Mapping

import panel as pn

from attnviz.errors import AttnvizError
from attnviz.explorer import markup
from attnviz.explorer.app import Explorer
from attnviz.explorer.controls import box
from attnviz.explorer.guard import fault_of, log, sentence
from attnviz.explorer.library import open_again
from attnviz.explorer.notices import Notices
from attnviz.explorer.style import colors, sheet
from attnviz.store import RunDirectory

__all__ = ["Pages"]


class Pages:
    """The pages of a server. ``runs`` are the runs by name; one that was replaced is opened anew."""

    def __init__(self, runs: Mapping[str, RunDirectory]) -> None:
        self._runs = dict(runs)

    def make(self) -> Explorer | pn.viewable.Viewable:
        """Return a page."""
        self._runs = open_again(self._runs)
        try:
            return Explorer(list(self._runs.values()))
        except AttnvizError as error:
            return _plain(pn.pane.HTML(markup.note(str(error)), css_classes=["banner"], stylesheets=sheet()))
        except Exception as error:
            log.exception("A page could not be made.")
            fault = fault_of(error, {"in": "making the page", "runs": ", ".join(self._runs)})
            return _plain(Notices(notices=[(sentence([fault]), "copy", fault.details)]))


def _plain(shown: pn.viewable.Viewable) -> pn.viewable.Viewable:
    made = box("av light", shown)
    made.stylesheets = [colors(), *sheet()]
    return made
