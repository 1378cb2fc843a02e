"""The command line: one verb per command, each a thin body that opens, calls one function, and shows the result.

Only this package prints. An error that attnviz raises on purpose becomes one sentence and exit code 1; the heavy libraries
are imported by the verb that needs them, so that ``attnviz --help`` is instant.
"""

import sys

import click

from attnviz.cli.verbs import VERBS
from attnviz.errors import AttnvizError

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="attnviz")
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
    sys.exit(code if isinstance(code, int) else 0)


def _stop(sentence: str, code: int) -> None:
    click.echo(sentence, err=True)
    sys.exit(code)
