"""What the verbs that open the explorer share: what they say before it runs, and how a password reaches it."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from attnviz.errors import AttnvizError, require

__all__ = ["read_password", "serve_runs"]


def serve_runs(
    paths: Sequence[Path], port: int, host: str, *, user: str | None = None, password: str | None = None
) -> None:
    """Serve runs, or folders of them, until Ctrl-C; say who can see them."""
    require("panel", "dashboard")
    from attnviz.explorer import serve
    from attnviz.explorer.access import LOOPBACK
    from attnviz.explorer.folders import runs_in

    if host not in LOOPBACK and user is None:
        advice = "Ask for a name and a password with --user NAME."
        click.echo(f"Listening at {host}: everyone who reaches this address can read these runs. {advice}", err=True)
    elif host not in LOOPBACK:
        click.echo(
            f"Listening at {host}, without encryption: use it in a network you trust, or behind HTTPS.", err=True
        )
    runs, left_out = runs_in(paths)
    for sentence in left_out:
        click.echo(sentence, err=True)

    def ready(address: str) -> None:
        click.echo(f"The explorer is at {address} (Ctrl-C ends it).")

    with suppress(KeyboardInterrupt):
        serve(runs, port=port, host=host, ready=ready, user=user, password=password)


def read_password(user: str | None, file: Path | None) -> str | None:
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
