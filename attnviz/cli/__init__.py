"""The command line: one verb per command, each a thin body that opens, calls one function, and shows the result.

Only this package prints. An error that attnviz raises on purpose becomes one sentence and exit code 1; so does any other, which is
a fault of attnviz, and its details go to a file. The heavy libraries are imported by the verb that needs them, so that
``attnviz --help`` is instant.
"""

import os
import sys
import tempfile

import click

from attnviz.cli.verbs import VERBS
from attnviz.errors import AttnvizError
from attnviz.faults import fault_of

__all__ = ["cli", "main"]

DEBUG = "ATTNVIZ_DEBUG"  # in the environment, whatever its value: tracebacks are shown


def _show_tracebacks(context: click.Context, option: click.Parameter, wanted: bool) -> None:  # click's
    if wanted:
        os.environ[DEBUG] = "1"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="attnviz")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_show_tracebacks,
    help=f"Show the traceback of an unexpected error, as {DEBUG}=1 does, rather than write it to a file.",
)
def cli() -> None:
    """Map every attention head of a transformer, and look.

    A recipe names a model and data; `run` captures the queries and keys of every head and places them on maps; `view` opens
    the explorer.

    Example:  attnviz run minilm_docs && attnviz view data/runs/minilm_docs
    """


for _verb in VERBS:
    cli.add_command(_verb)


def main() -> None:
    """Run the command line."""
    try:
        code = cli(standalone_mode=False)
    except click.exceptions.Abort:
        _stop("Stopped. Give the same command again to go on.", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AttnvizError as error:
        _stop(f"Error: {error}", 1)
    except KeyboardInterrupt:
        _stop("Stopped. Give the same command again to go on.", 130)
    except Exception as error:
        _stop(_unexpected(error), 1)
    sys.exit(code if isinstance(code, int) else 0)


def _stop(sentence: str, code: int) -> None:
    click.echo(sentence, err=True)
    sys.exit(code)


def _unexpected(error: Exception) -> str:
    """Return the sentence of a fault of attnviz; its details are in a file, or before the sentence where they were asked for."""
    fault = fault_of(error, {"in": "the command line", "command": " ".join(["attnviz", *sys.argv[1:]])})
    said = f"Error: {fault.error.rstrip('.')}. This is a fault of attnviz, or of what it runs on."
    if os.environ.get(DEBUG):
        return f"{fault.details}\n{said}"
    try:
        number, file = tempfile.mkstemp(prefix="attnviz-", suffix=".txt")
        with open(number, "w", encoding="utf-8") as details:
            details.write(fault.details)
    except OSError:
        return f"{fault.details}\n{said}"
    return f"{said} To report it, send the details in {file}; attnviz --debug shows them at once."
