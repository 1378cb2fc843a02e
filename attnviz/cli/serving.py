"""What the verbs that open the explorer share: where it is served, what they say before it runs, and how a password reaches it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from attnviz.errors import AttnvizError, require

__all__ = ["Door", "door", "serve_runs"]

_OPTIONS = (
    click.option("--port", type=click.IntRange(0, 65535), default=5006, show_default=True, help="0 takes a free one."),
    click.option(
        "--host", default="127.0.0.1", show_default=True, help="Address to listen at; others may then see the runs."
    ),
    click.option(
        "--origin",
        "origins",
        metavar="HOST[:PORT]",
        multiple=True,
        help="A name that the explorer has in a browser's address, behind a proxy for instance. May be repeated.",
    ),
    click.option("--prefix", metavar="PATH", default="", help="Serve below this path, where a proxy hands it on."),
    click.option(
        "--forwarded",
        is_flag=True,
        help="Believe X-Forwarded-For, -Proto and -Host: only behind a proxy that sets them.",
    ),
)


@dataclass(frozen=True)
class Door:
    """Where the explorer is served, and by which names; as ``attnviz.explorer.serve`` takes them."""

    port: int
    host: str
    origins: tuple[str, ...]
    prefix: str
    forwarded: bool


def door(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of a ``Door``, as its first argument."""

    @wraps(command)
    def opened(
        *, port: int, host: str, origins: tuple[str, ...], prefix: str, forwarded: bool, **others: Any
    ) -> None:  # click names every option
        command(Door(port, host, origins, prefix, forwarded), **others)

    for option in reversed(_OPTIONS):
        opened = option(opened)
    return opened


def serve_runs(
    paths: Sequence[Path], door: Door, *, user: str | None = None, password_file: Path | None = None
) -> None:
    """Serve runs, or folders of them, until Ctrl-C; say who can see them."""
    require("panel", "dashboard")
    from attnviz.explorer import serve
    from attnviz.explorer.access import Admission, checked_prefix, is_loopback
    from attnviz.explorer.folders import runs_in

    (
        Admission.of(door.host, door.origins),
        checked_prefix(door.prefix),
    )  # what is wrong is said before a password is asked for
    password = _read_password(user, password_file)
    if not is_loopback(door.host) and user is None:
        advice = "Ask for a name and a password with --user NAME."
        click.echo(
            f"Listening at {door.host}: everyone who reaches this address can read these runs. {advice}", err=True
        )
    elif not is_loopback(door.host):
        click.echo(
            f"Listening at {door.host}, without encryption: use it in a network you trust, or behind HTTPS.", err=True
        )
    runs, left_out = runs_in(paths)
    for sentence in left_out:
        click.echo(sentence, err=True)

    def ready(address: str) -> None:
        click.echo(f"The explorer is at {address} (Ctrl-C ends it).")

    with suppress(KeyboardInterrupt):
        serve(
            runs,
            port=door.port,
            host=door.host,
            ready=ready,
            user=user,
            password=password,
            origins=door.origins,
            prefix=door.prefix,
            forwarded=door.forwarded,
        )


def _read_password(user: str | None, file: Path | None) -> str | None:
    """Return the password from a file or from whoever sits there; it is never shown and never in the list of processes."""
    if user is None:
        if file is not None:
            raise AttnvizError("--password-file goes with --user NAME. Give both.")
        return None
    if file is None:
        return str(click.prompt(f"Password for {user}", hide_input=True, confirmation_prompt=True, err=True))
    try:
        password = next(iter(file.read_text("utf-8").splitlines()), "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AttnvizError(
            f"The password file {file} cannot be read as text. Give one whose first line is it."
        ) from error
    if not password:
        raise AttnvizError(f"The first line of the password file {file} is empty. Write the password there.")
    return password
