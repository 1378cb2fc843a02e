"""What concerns the page as a whole: keys, its background, names for what has none, and a sign while something is drawn.

A canvas cannot be read without seeing it, so its summary is given to it as a label.
"""

from importlib.resources import files
from typing import Any

import panel as pn
import param

from attnviz.explorer.acts import soon
from attnviz.explorer.guard import Guarded

__all__ = ["Page"]


class Page(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """The page around the explorer.

    ``key`` is called with the name of a key that means something, ``back`` with the address of before that somebody went back to.
    """

    paper = param.String(default="#ffffff", doc="The colour behind everything")
    summary = param.String(default="")
    in_cell = param.Boolean(default=False, doc="Whether the page is a notebook's, and only a cell of it ours")
    key = param.ClassSelector(class_=Guarded, default=None)
    back = param.ClassSelector(class_=Guarded, default=None)

    _esm = files("attnviz.explorer").joinpath("page.js").read_text("utf-8")
    _rename = {"key": None, "back": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def _handle_msg(self, msg: Any) -> None:
        if msg == "drawn?":
            soon(self._send_msg, "drawn")  # after whatever is to be drawn
        else:
            act = self.back if str(msg).startswith("?") else self.key
            if act is not None:
                soon(act, str(msg))
