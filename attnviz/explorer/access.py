"""Who may come in: the names and pages that a request may come from, decided from its headers alone.

A page anywhere on the web can point its own name at 127.0.0.1 and then read what answers there (DNS rebinding). Its requests
carry that name, as Host and as Origin alike, and tornado 6.6 admits a websocket whose Origin is its Host before it asks anybody.
So both are checked here, for every request: the Host must be a name of this server, the Origin one of its own pages. Tunnels and
containers change ports, so any port of an admitted name will do.
"""

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from attnviz.errors import AttnvizError

__all__ = ["LOOPBACK", "Admission", "Place", "address", "checked_prefix", "is_loopback", "session_admission"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")
PORTS = {"http": 80, "https": 443}
EDITORS = ("vscode-webview:", "vscode-file:")  # no page of the web has these schemes

_PLACE = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>\w(?:[\w.-]*\w)?)\.?)(?::(?P<port>\d{1,5}))?", re.A | re.I)
_PREFIX = re.compile(r"/[\w~@%=,./-]+", re.A)


@dataclass(frozen=True)
class Place:
    """A name or address with its port, as a Host header and an address in a browser have them; no port means the usual one."""

    name: str
    port: int | None = None

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return what a Host header or ``--origin`` names; None if it names nothing."""
        found = _PLACE.fullmatch(text)
        port = int(found["port"]) if found and found["port"] else None
        if found is None or (port is not None and not 0 < port < 65536):
            return None
        if found["six"] is not None and _number(found["six"]) is None:
            return None
        return cls((found["six"] or found["name"]).lower(), port)

    @classmethod
    def of_page(cls, origin: str) -> Self | None:
        """Return where a page lies, from its Origin, always with its port; None if it is no page of the web."""
        scheme, _, rest = origin.lower().partition("://")
        place = cls.read(rest)
        return None if place is None or scheme not in PORTS else cls(place.name, place.port or PORTS[scheme])

    def has(self, page: "Place") -> bool:
        """Return whether a page lies here."""
        return page.name == self.name and page.port in ([self.port] if self.port else [*PORTS.values()])

    def __str__(self) -> str:
        """Return it as it stands in an address."""
        return _bracketed(self.name) + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class Admission:
    """By which names a server goes.

    ``host`` is where it listens, ``named`` what else it is called, ``forwarded`` whether a proxy before it is believed, and
    ``advice`` what adds a name.
    """

    host: str = LOOPBACK[0]
    named: tuple[Place, ...] = ()
    forwarded: bool = False
    advice: str = "start it with --origin {}"

    @classmethod
    def of(cls, host: str, origins: Iterable[str], *, forwarded: bool = False) -> Self:
        """Return the admission of a server that listens at ``host``; raise ``AttnvizError`` for an origin that is none."""
        return cls(host, tuple(map(_named, origins)), forwarded)

    def refusal(self, headers: Mapping[str, str]) -> str | None:
        """Return in a sentence why a request with these headers is refused; None if it is not.

        A proxy's ``X-Forwarded-Host`` is checked beside the Host and never in its place: a page could set it itself.
        """
        hosts = [headers.get("Host", "")]
        if self.forwarded and "X-Forwarded-Host" in headers:
            hosts += [text.strip() for text in headers["X-Forwarded-Host"].split(",")]
        for text in hosts:
            if not text:
                return "The request has no Host. Open the explorer at the address that it printed."
            if not self._goes_by(Place.read(text)):
                return f"This explorer does not go by the name {_shown(text)}. {self._help(text)}"
        origin = headers.get("Origin")
        if origin is None:
            return _embedded(headers)
        page = Place.of_page(origin)
        if page is not None and any(place.has(page) for place in [*self.named, *filter(None, map(Place.read, hosts))]):
            return None
        return f"A page of {_shown(origin)} asked for this explorer, and is none of its own. {self._help(origin)}"

    def frames(self) -> str:
        """Return the pages that may show the explorer in a frame, as a Content-Security-Policy: its own, and notebooks'."""
        local = [f"http://{name}:*" for name in ("localhost", "127.0.0.1")] if is_loopback(self.host) else []
        named = [str(place) for place in self.named if ":" not in place.name]
        return " ".join(["frame-ancestors 'self'", *local, *(EDITORS if local else ()), *named])

    def other_pages(self) -> list[str]:
        """Return the pages whose Origin may differ from the Host, with ports, as Bokeh takes them; it knows no IPv6."""
        ports = [
            (place, [place.port] if place.port else PORTS.values()) for place in self.named if ":" not in place.name
        ]
        return [f"{place.name}:{port}" for place, all_ports in ports for port in all_ports]

    def _goes_by(self, place: Place | None) -> bool:
        if place is None:
            return False
        if place.name == self.host.lower() or any(place.name == other.name for other in self.named):
            return True
        if self.host in EVERYWHERE and _number(place.name) is not None:
            return True  # a number cannot be pointed elsewhere, and a container does not know those of its machine
        return is_loopback(place.name) and (is_loopback(self.host) or self.host in EVERYWHERE)

    def _help(self, text: str) -> str:
        place = Place.read(text.lower().partition("://")[2] or text)
        return f"If you see it there, {self.advice.format(place)}." if place is not None else "Give its own address."


def session_admission() -> Admission:
    """Return the admission of a page that another server hands out, ``panel serve``: this machine's names, and Bokeh's variable.

    Bokeh reads the same ``BOKEH_ALLOW_WS_ORIGIN`` for its websockets. A star is not taken: it would let every name in.
    """
    variable = "BOKEH_ALLOW_WS_ORIGIN"
    named = filter(None, map(Place.read, os.environ.get(variable, "").replace(" ", "").split(",")))
    return Admission(named=tuple(named), advice=f"set {variable}={{}} before the server starts")


def is_loopback(name: str) -> bool:
    """Return whether a name or an address means the machine itself: ``localhost``, 127.0.0.0/8, ``::1``."""
    number = _number(name)
    return name.lower() == "localhost" if number is None else number.is_loopback


def address(host: str, port: int, prefix: str = "") -> str:
    """Return where a browser finds the server."""
    return f"http://{_bracketed(host)}:{port}{prefix}"


def checked_prefix(text: str) -> str:
    """Return the path below which everything is served, ``/a/b`` or nothing; raise ``AttnvizError`` for what is no path."""
    path = text.rstrip("/")
    parts = path.split("/")[1:]
    if not text or (not path and text == "/"):
        return ""
    if not _PREFIX.fullmatch(path) or not all(parts) or {".", ".."} & {*parts}:
        raise AttnvizError(
            f"The prefix {text!r} is no path. Give one as it stands in the address, such as /attnviz or /user/ada/proxy/5006."
        )
    return path


def _named(text: str) -> Place:
    place = Place.read(text)
    if place is None:
        raise AttnvizError(
            f"The origin {text!r} is no HOST[:PORT]. Give the name as it stands in the browser's address, without http:// and "
            "without a path, such as lab.example.org or lab.example.org:8443; one --origin for each."
        )
    return place


def _embedded(headers: Mapping[str, str]) -> str | None:
    """Return why what a page of another address embeds is refused; a link from there, and a frame, are none of that."""
    elsewhere = headers.get("Sec-Fetch-Site", "none") in ("cross-site", "same-site")
    if not elsewhere or headers.get("Sec-Fetch-Mode") == "navigate":
        return None
    return "A page of another address asked for a part of this explorer. Open the explorer itself."


def _number(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        number = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(number, "ipv4_mapped", None) or number


def _shown(text: str) -> str:
    """Return what a stranger wrote, as plain letters and not too many."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:80])


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
