"""Serving the explorer to a browser on this machine."""

import errno
import gc
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import panel as pn

from attnviz.errors import AttnvizError
from attnviz.explorer.access import address, origins, sign_in
from attnviz.explorer.app import Explorer
from attnviz.explorer.folders import runs_in
from attnviz.explorer.library import open_runs
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

    Raises
    ------
    DatasetError
        If a run cannot be opened.
    AttnvizError
        If the port or the address cannot be had, or only one of user and password is given.
    """
    if (user is None) != (password is None) or password == "":
        raise AttnvizError("Signing in takes a name and a password. Give both.")
    runs = list(open_runs(runs_in(paths)[0]).values())
    warm()
    pn.extension("tabulator")
    try:
        port = port or _free_port(host)
        page = {"/": lambda: Explorer(runs)}
        server = pn.io.server.get_server(
            page,
            port=port,
            address=host,
            title="attnviz",
            websocket_origin=origins(host, port),
            **sign_in(user, password),
        )
    except OSError as error:
        raise AttnvizError(_why(error, host, port)) from error
    gc.collect()
    gc.freeze()  # what is loaded by now stays; looking through it again held every second new page up by 300 ms
    if ready is not None:
        ready(address(host, port))
    if show:
        server.show("/")
    server.start()
    try:
        server.io_loop.start()  # and not `run_until_shutdown`, which prints, and hangs where its output is closed
    finally:
        server.stop()


def _free_port(host: str) -> int:
    """Ask the system for a port: Panel must know it beforehand, because it admits only connections from its own address."""
    with socket.create_server((host, 0)) as found:
        return int(found.getsockname()[1])


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is taken by another program. Choose another with --port; 0 takes a free one."
    return f"Nothing can listen at {host}:{port}: {error.strerror or error}. The default host is 127.0.0.1."
