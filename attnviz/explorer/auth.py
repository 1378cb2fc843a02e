"""Signing in with one name and one password: the form, the cookie, and the way back to the link that was opened.

Every address is relative to the form's own, so that it works below a path, whether a proxy keeps the path or strips it. Panel's
own form posts to ``/login``, and forgets where its reader came from after a wrong password (1.9.4).
"""

import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from bokeh.server.auth_provider import AuthProvider
from tornado.template import Template
from tornado.web import RequestHandler

__all__ = ["sign_in"]

DAYS = 1
_FORM = Template(files("attnviz.explorer").joinpath("login.html").read_text("utf-8"))


@dataclass(frozen=True, repr=False)
class _Pass:
    """Who may come in, and the cookie that says that somebody did."""

    user: str
    password: str
    cookie: str
    below: str

    def fits(self, user: str, password: str) -> bool:
        """Return whether these are the name and the password; it takes as long if they are not."""
        given, wanted = (
            (f"{len(name)} {name}{word}".encode()) for name, word in ((user, password), (self.user, self.password))
        )
        return hmac.compare_digest(given, wanted)


def sign_in(user: str | None, password: str | None, prefix: str = "") -> dict[str, Any]:
    """Return what the server needs to ask for a name and a password; nothing without a name.

    The secret that signs the cookies is made anew for each server, so a restart signs everybody out. The cookie's name too:
    browsers do not tell the ports of a machine apart, and two servers would sign each other's visitors out.
    """
    if user is None or password is None:
        return {}
    opened = _Pass(user, password, f"attnviz-{secrets.token_hex(4)}", f"{prefix}/")
    return {"auth_provider": _Provider(), "cookie_secret": secrets.token_urlsafe(32), "attnviz_pass": opened}


class _Provider(AuthProvider):  # type: ignore[misc]  # bokeh publishes no usable types
    """Tells Bokeh who has signed in, and where to."""

    @property
    def get_user(self) -> Callable[[RequestHandler], str | None]:
        return _signed_in

    @property
    def login_url(self) -> str:
        return "/login"

    @property
    def login_handler(self) -> type[RequestHandler]:
        return _SignIn

    @property
    def logout_url(self) -> str:
        return "/logout"

    @property
    def logout_handler(self) -> type[RequestHandler]:
        return _SignOut


def _signed_in(handler: RequestHandler) -> str | None:
    name = handler.get_signed_cookie(handler.settings["attnviz_pass"].cookie, max_age_days=DAYS)
    return None if name is None else name.decode()


class _SignIn(RequestHandler):
    """The form. It posts to its own address, which keeps the link that its reader came from."""

    def get(self) -> None:
        self._ask("")

    def post(self) -> None:
        """Let whoever knows name and password in, back to the link that was opened; ask again otherwise."""
        opened: _Pass = self.settings["attnviz_pass"]
        if not opened.fits(self.get_body_argument("username", ""), self.get_body_argument("password", "", strip=False)):
            self.set_status(403)
            self._ask("This name and this password do not go together.")
            return
        self.set_signed_cookie(
            opened.cookie,
            opened.user,
            expires_days=DAYS,
            path=opened.below,
            httponly=True,
            samesite="Lax",
            secure=self.request.protocol == "https",
        )
        self.redirect(f"./{_link(self.get_query_argument('next', ''))}")

    def _ask(self, problem: str) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish(_FORM.generate(problem=problem))


class _SignOut(RequestHandler):
    """Forgets who signed in."""

    def get(self) -> None:
        opened: _Pass = self.settings["attnviz_pass"]
        self.clear_cookie(opened.cookie, path=opened.below)
        self.redirect("./login")


def _link(before: str) -> str:
    """Return what an address says behind its question mark, with it. The page itself is always ours."""
    query = urlsplit(before).query
    return f"?{query}" if re.fullmatch(r"[!-~]+", query) else ""
