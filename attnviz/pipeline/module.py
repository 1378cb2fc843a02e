"""A run of a torch module that is in memory: no recipe could name it, no hub holds it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnviz.capturing import attended_tokens
from attnviz.models.torch_module import TorchModel, sequences_of_batches
from attnviz.pipeline.placing import make_maps
from attnviz.pipeline.prepare import Prepared
from attnviz.pipeline.run import require_empty, timed, write_run
from attnviz.recipe import Recipe
from attnviz.store import RunDirectory
from attnviz.store.replacing import recover
from attnviz.types import Progress

__all__ = ["run_module"]


def run_module(
    module: Any,
    batches: Iterable[Any],
    recipe: Recipe,
    out: Path,
    *,
    tokens: Sequence[Sequence[str]] | None,
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

    Raises
    ------
    DatasetError
        If ``out`` holds something: what is in memory cannot be resumed.
    AttnvizError
        As the stages raise.
    """
    recover(out)
    require_empty(out)
    seconds: dict[str, float] = {}
    with timed(seconds, "load"):
        model = TorchModel(module, batches, recipe.model.id)
        widths = [attended_tokens(model, batch) for batch in model.batches]
        sequences = sequences_of_batches(model, widths, tokens)
    sizes = [len(next(iter(batch.values()))) for batch in model.batches]
    cuts = tuple(sum(sizes[:number]) for number in range(len(sizes)))
    whole = replace(recipe, capture=replace(recipe.capture, batch_tokens=max(widths) * max(sizes)))
    write_run(whole, out, model, Prepared(tuple(sequences), {}, cuts), seconds=seconds, progress=progress)
    run = RunDirectory(out)
    make_maps(run, recipe.maps, workers=workers, progress=progress)
    return run
