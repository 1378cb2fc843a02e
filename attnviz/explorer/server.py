"""Serving the explorer to a browser on this machine."""

import errno
import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import panel as pn
from bokeh.util.browser import view
from tornado.websocket import WebSocketClosedError

from attnviz.errors import AttnvizError
from attnviz.explorer.access import Admission, address, checked_prefix
from attnviz.explorer.auth import sign_in
from attnviz.explorer.folders import runs_in
from attnviz.explorer.gate import guard
from attnviz.explorer.library import open_runs
from attnviz.explorer.new_page import Pages
from attnviz.plots.raster import warm

__all__ = ["serve"]


def serve(
    paths: Sequence[str | Path],
    *,
    port: int = 5006,
    host: str = "127.0.0.1",
    show: bool = False,
    ready: Callable[[str], None] | None = None,
    user: str | None = None,
    password: str | None = None,
    origins: Sequence[str] = (),
    prefix: str = "",
    forwarded: bool = False,
) -> None:
    """Serve the explorer until the process is interrupted.

    Parameters
    ----------
    paths
        Run directories, or folders of them; only what is there now can be opened from the page.
    port, host
        Where to listen; port 0 takes a free one. By default only this machine can connect.
    show
        Whether to open a browser.
    ready
        Called with the address once pages are served without delay.
    user, password
        Who may see the pages; everybody who reaches them, if not given.
    origins
        What else the server is called in a browser's address, ``HOST`` or ``HOST:PORT``: behind a proxy, or by another name.
    prefix
        The path below which everything is served, where a proxy hands it on.
    forwarded
        Whether to believe the ``X-Forwarded-`` headers of a proxy. Without one, whoever asks can write them.

    Raises
    ------
    DatasetError
        If a run cannot be opened.
    AttnvizError
        If the port or the address cannot be had, only one of user and password is given, or an origin or the prefix is none.
    """
    if (user is None) != (password is None) or password == "":
        raise AttnvizError("Signing in takes a name and a password. Give both.")
    host = host.removeprefix("[").removesuffix("]")
    admission, below = Admission.of(host, origins, forwarded=forwarded), checked_prefix(prefix)
    runs = open_runs(runs_in(paths)[0])
    warm()
    _quiet()
    pn.extension("tabulator")
    try:
        server = pn.io.server.get_server(
            {"/": Pages(runs).make},  # Panel calls functions and methods
            port=port,
            address=host,
            title="attnviz",
            prefix=below,
            use_xheaders=forwarded,
            websocket_origin=admission.other_pages(),
            **sign_in(user, password, below),
        )
    except OSError as error:
        raise AttnvizError(_why(error, host, port)) from error
    guard(server._tornado, admission, below)  # before it starts; Bokeh has no public name for its application
    gc.collect()
    gc.freeze()  # what is loaded by now stays; looking through it again held every second new page up by 300 ms
    found = address(host, server.port, f"{below}/" if below else "")
    if ready is not None:
        ready(found)
    if show:
        view(found)
    server.start()
    try:
        server.io_loop.start()  # and not `run_until_shutdown`, which prints, and hangs where its output is closed
    finally:
        server.stop()


class Departed(logging.Filter):
    """Drops what Bokeh and asyncio log, a traceback each time, of a page that was closed with messages still on their way."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether something else is logged."""
        of_task = record.exc_info is not None and isinstance(record.exc_info[1], WebSocketClosedError)
        of_bokeh = record.name.startswith("bokeh.") and "connection was closed" in record.getMessage()
        return not (of_task or of_bokeh)


def _quiet() -> None:
    for name in ("asyncio", "bokeh.server.views.ws"):
        if not any(isinstance(known, Departed) for known in logging.getLogger(name).filters):
            logging.getLogger(name).addFilter(Departed())


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is taken by another program. Choose another with --port; 0 takes a free one."
    return f"Nothing can listen at {host}:{port}: {error.strerror or error}. The default host is 127.0.0.1."
