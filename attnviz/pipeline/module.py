"""A run of a torch module that is in memory: no recipe could name it, no hub holds it.

It is captured into a hidden folder beside its own, which takes the name when it is complete: what is in memory cannot be
resumed, so whatever a crash leaves is replaced by the next call.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attnviz.capturing import Declared, survey
from attnviz.errors import AttnvizError, CaptureError, DatasetError
from attnviz.models.module_sequences import Texts
from attnviz.models.torch_module import TorchModel
from attnviz.pipeline.placing import make_maps
from attnviz.pipeline.prepare import Prepared
from attnviz.pipeline.run import timed, write_run
from attnviz.recipe import Recipe, load_recipe
from attnviz.store import RunDirectory, layout
from attnviz.store.replacing import recover, replacing
from attnviz.store.write import explain
from attnviz.types import Progress

__all__ = ["IN_MEMORY", "run_module"]

IN_MEMORY = "batches in memory"
"""What stands for the data in the recipe of such a run."""


def run_module(
    module: Any,
    batches: Iterable[Any],
    recipe: Recipe,
    out: Path,
    *,
    tokens: Texts | None,
    streams: Declared | None,
    batch_axis: int | None,
    workers: int,
    progress: Progress,
) -> RunDirectory:
    """Capture a torch module and make its maps.

    Parameters
    ----------
    module, batches
        A ``torch.nn.Module``, and what it takes: see ``attnviz.models.torch_module.TorchModel``.
    recipe
        How to capture, normalise and map; its model and data name what is in memory.
    tokens
        The texts of each sequence's tokens.
    streams, batch_axis
        What cannot be told from what the module does: see ``capturing.survey`` and ``TorchModel``.

    Raises
    ------
    DatasetError
        If ``out`` holds a run, or anything else that is not the unfinished run of a module.
    AttnvizError
        As the stages raise.
    """
    recover(out)
    _require_free(out)
    if recipe.capture.rope == "before":
        raise CaptureError(
            f"Where {recipe.model.id} turns its queries and keys cannot be told of a torch module. Set capture.rope = 'after'."
        )
    seconds: dict[str, float] = {}
    with timed(seconds, "load"):
        model = TorchModel(module, batches, recipe.model.id, batch_axis=batch_axis)
    with timed(seconds, "survey"):
        found = survey(model, tokens, streams)
    with _whole(out) as fresh:
        prepared = Prepared(found.sequences, {}, found.batches, notes=found.notes)
        write_run(recipe, fresh, model, prepared, seconds=seconds, progress=progress, found=found)
    run = RunDirectory(out)
    make_maps(run, recipe.maps, workers=workers, progress=progress)
    return run


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Give a folder to write to; it becomes ``out`` when it is complete, and is removed if it fails."""
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(explain(out, error)) from error
    try:
        with replacing(out) as fresh:
            yield fresh
    except BaseException:
        if is_new:
            with suppress(OSError):
                out.rmdir()
        raise


def _require_free(out: Path) -> None:
    """Make sure that a folder is not there, holds nothing, or holds what a crash left of a run of this kind."""
    if not out.exists() or (out.is_dir() and (_is_empty(out) or _is_left_over(out))):
        return
    held = "holds a run" if (out / layout.MANIFEST_FILE).is_file() else "is no run of attnviz.capture"
    raise DatasetError(
        f"{out} exists and {held}: it is not replaced. Choose another folder with out=, or another name=."
    )


def _is_empty(folder: Path) -> bool:
    return all(item.name.endswith(layout.PARTIAL) for item in folder.iterdir())


def _is_left_over(folder: Path) -> bool:
    """Tell whether a folder holds an unfinished run of a module and nothing else, by the recipe that is written first."""
    file = folder / layout.RECIPE_FILE
    names = {item.name.removesuffix(layout.PARTIAL) for item in folder.iterdir()}
    if not file.is_file() or (layout.MANIFEST_FILE in names) or names - layout.TOP_LEVEL:
        return False
    try:
        return load_recipe(file).data.source == IN_MEMORY
    except AttnvizError:
        return False
