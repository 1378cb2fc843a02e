"""The gate of the server: every request passes it, whoever answers it, and every answer gets the same few headers.

tornado asks the rules of an application in their order, so a rule put before all others sees the page, its websocket, static
files, the sign-in form, and whatever Panel or Bokeh add one day.
"""

import sys
from functools import partial
from typing import Any

import panel as pn
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import ErrorHandler, OutputTransform, RedirectHandler, RequestHandler

from attnviz.explorer.access import Admission, session_admission

__all__ = ["guard", "session_refusal"]


def guard(application: Any, admission: Admission, prefix: str = "") -> None:
    """Let nobody through to a tornado application whom ``admission`` refuses.

    Beside that: ``PREFIX`` leads to ``PREFIX/``, because what the page names lies relative to that; and nothing is imported for a
    visitor, which Panel's address of a component's files does with any module that is named there.
    """
    unknown = Rule(_Unknown(prefix), ErrorHandler, {"status_code": 404})
    application.add_handlers(".*", [Rule(_Refused(admission), _Refusal), unknown, Rule(_Readable(), _Refusal)])
    if prefix:
        application.add_handlers(".*", [(prefix, RedirectHandler, {"url": f"{prefix}/", "permanent": False})])
    application.add_transform(partial(_Headers, admission.frames()))


def session_refusal() -> str | None:
    """Return why a page that ``panel serve`` is about to make is refused; None if it is not, or if no server makes it.

    A session belongs to whoever asked for it first, by the page or by its websocket. The Host is the connection's own; the rest
    may have been written by a stranger into an unsigned token, but then Bokeh's own check has seen the websocket's Origin.
    """
    context = None if pn.state.curdoc is None else pn.state.curdoc.session_context
    request = None if context is None else context.request
    if request is None:
        return None
    return session_admission().refusal({**request.headers, "Host": request.host})


class _Refused(Matcher):
    """Matches the requests that are refused, and says why."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        why = self._admission.refusal(request.headers)
        return None if why is None else {"target_kwargs": {"why": why}}


class _Unknown(Matcher):
    """Matches the addresses of components' files whose module nobody has imported."""

    def __init__(self, prefix: str) -> None:
        self._below = f"{prefix}/components/"

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        path = request.path or ""
        known = not path.startswith(self._below) or path.removeprefix(self._below).split("/")[0] in sys.modules
        return None if known else {}


class _Readable(Matcher):
    """Matches nothing, and keeps from Panel a Host that it cannot read: an IPv6 address is a traceback to it (1.9.4)."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        if request.host.startswith("["):
            request.host = "localhost" + request.host.partition("]")[2]  # a browser is told, and knows better
        return None


class _Refusal(RequestHandler):
    """Answers with one sentence, to a websocket too."""

    def initialize(self, why: str) -> None:
        self._why = why

    def check_trusted_origin(self, origin: str) -> bool:
        return True  # it is refused anyhow, and says so in its own words

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{self._why}\n")


class _Headers(OutputTransform):
    """Says to the browser who may show an answer in a frame and who may load it."""

    def __init__(self, frames: str, request: HTTPServerRequest) -> None:
        self._said = {
            "Content-Security-Policy": frames,
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
        }

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers.update(self._said)
        return status_code, headers, chunk
