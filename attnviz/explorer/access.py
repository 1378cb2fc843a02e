"""Who may see the explorer: the addresses a browser may come from, and a name with a password if one was asked for."""

import secrets
import socket
from importlib.resources import files
from typing import Any

__all__ = ["LOOPBACK", "address", "origins", "sign_in"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")


def origins(host: str, port: int) -> list[str]:
    """Return the addresses that a page of this server can have; a connection from a page of any other address is refused.

    A server that listens everywhere goes by the names and numbers of its machine.
    """
    names = [host, *LOOPBACK[:2]]
    if host in EVERYWHERE:
        names += [socket.gethostname(), socket.getfqdn(), *_own_numbers()]
    return [f"{_bracketed(name)}:{port}" for name in dict.fromkeys(names)]


def address(host: str, port: int) -> str:
    """Return where a browser finds the server."""
    return f"http://{_bracketed(host)}:{port}"


def sign_in(user: str | None, password: str | None) -> dict[str, Any]:
    """Return what Panel's server needs to ask for a name and a password; nothing without a name.

    The secret that signs the cookies is made anew for each server, so a restart signs everybody out.
    """
    if user is None:
        return {}
    return {
        "basic_auth": {user: password},
        "cookie_secret": secrets.token_urlsafe(32),
        "login_template": str(files("attnviz.explorer").joinpath("login.html")),
    }


def _own_numbers() -> list[str]:
    """Return the numeric addresses by which this machine is known."""
    found = []
    try:
        found += [str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which of our addresses a packet would carry
            found.append(probe.getsockname()[0])
    except OSError:
        pass  # a machine without a network
    return found


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
