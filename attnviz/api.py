"""The Python face: what ``import attnviz`` offers. Thin: each name opens, calls one stage, and returns.

``Run`` is the run directory with what needs the upper floors, such as showing the explorer in a notebook.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnviz.errors import RecipeError, require
from attnviz.store import RunDirectory
from attnviz.store.read import Head as StoredHead
from attnviz.types import MapSpec, Progress

if TYPE_CHECKING:
    import pandas as pd

    from attnviz.explorer import Explorer
    from attnviz.explorer.offline import StillPage
    from attnviz.maps import Landing

__all__ = ["Run", "capture", "open", "run"]


class Head(StoredHead):
    """One head of a run. See ``attnviz.store.Head`` for reading."""

    __slots__ = ()

    def view(
        self, *, map: str | None = None, color: str | None = None, token: int | None = None, theme: str = "light"
    ) -> "StillPage":
        """Return the head's map: a notebook shows it, ``.save("head.html")`` writes a page that needs no server.

        Parameters
        ----------
        map
            The run's first that shows attention, if not given.
        color
            A colouring by its name in the address of the explorer: ``kind``, ``norm``, ``position``, ``data:COLUMN``.
        token
            A token whose query gets lines to the keys it attends to.
        theme
            ``light`` or ``dark``.

        Raises
        ------
        DatasetError
            If the run has no such map, colouring or token.
        """
        require("panel", "dashboard")
        from attnviz.explorer.offline import chosen_state, head_page

        layer, head = self.layer.layer, self.head
        state = chosen_state(
            self.run, layer=layer, head=head, view="head", map=map, color=color, token=token, theme=theme
        )
        return head_page(state)


class Run(RunDirectory):
    """A run, opened. See ``attnviz.store.RunDirectory`` for reading."""

    def head(self, layer: int, head: int) -> Head:
        """Return one head. Raises ``DatasetError`` if the run has no such layer or head."""
        found = super().head(layer, head)
        return Head(found.run, found.layer, found.head)

    def view(
        self,
        *,
        map: str | None = None,
        color: str | None = None,
        layers: Iterable[int] | None = None,
        heads: Iterable[int] | None = None,
        theme: str = "light",
    ) -> "StillPage":
        """Return all heads on a map: a notebook shows them, ``.save("heads.html")`` writes a page that needs no server.

        Parameters
        ----------
        map, color, theme
            As for ``Head.view``.
        layers, heads
            Only these, numbered as in the explorer; all, if not given.

        Raises
        ------
        DatasetError
            If the run has no such map or colouring, or none of these heads.
        """
        require("panel", "dashboard")
        from attnviz.explorer.offline import chosen_state
        from attnviz.explorer.offline_wall import wall_page
        from attnviz.explorer.ranges import as_ranges

        only = [None if numbers is None else as_ranges(numbers) for numbers in (layers, heads)]
        state = chosen_state(self, map=map, color=color, theme=theme, only_layers=only[0], only_heads=only[1])
        return wall_page(state)

    def sequence_view(
        self, sequence: int, *, layer: int | None = None, head: int = 0, theme: str = "light"
    ) -> "StillPage":
        """Return the attention over a sequence: a notebook shows it, ``.save("sequence.html")`` writes a page that needs no server.

        The page offers every head that fits into 5 MB and attends between the same tokens as the given one.

        Parameters
        ----------
        sequence
            A row of ``sequences``.
        layer, head
            The head shown at first; the first layer, if not given.
        theme
            ``light`` or ``dark``.

        Raises
        ------
        DatasetError
            If the run has no such sequence, layer or head, or the layer's attention cannot be rebuilt.
        """
        require("panel", "dashboard")
        from attnviz.explorer.offline import chosen_state, sequence_page

        first = next(iter(self.layers)) if layer is None else layer
        return sequence_page(chosen_state(self, needs_map=False, layer=first, head=head, theme=theme), sequence)

    def changes(self, other: RunDirectory) -> "pd.Series":
        """Return how much each head's attention differs from another run's over the same tokens; see ``views.head_changes``."""
        from attnviz.views import head_changes

        return head_changes(self, other)

    def class_probabilities(self) -> "pd.DataFrame":
        """Return the probability of every class for every sequence, ``(sequences, classes)``.

        Raises
        ------
        DatasetError
            If the model has no classification head, or none that chooses classes.
        """
        from attnviz.views import class_probabilities

        return class_probabilities(self)

    def explore(self) -> "Explorer":
        """Return the explorer of this run; a notebook shows it in its cell, without the network. Needs the extra ``dashboard``.

        It is drawn by the notebook's kernel. The notebook grows by some 10 MB, because it holds what the browser needs.
        """
        require("panel", "dashboard")
        from attnviz.explorer import Explorer
        from attnviz.explorer.notebook import load

        load()
        return Explorer([self])

    def landing(self, name: str, layer: int, head: int) -> "Landing":
        """Return what places new tokens on a head's map, which does not move: ``run.landing("umap", 3, 7)(query, key)``.

        Takes the vectors of new tokens, ``(tokens, head_dim)`` each, as captured; gives ``(2 * tokens, dims)``: the queries, then
        the keys. Keep it for a head that is asked again. Needs the extra ``maps``.

        Raises
        ------
        DatasetError
            If the run has no such map, layer or head.
        """
        from attnviz.pipeline.landing import landing

        return landing(self, name, layer, head)

    def project(
        self,
        name: str,
        *,
        method: str | None = None,
        dims: int = 2,
        parameters: Mapping[str, Any] | None = None,
        workers: int | None = None,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        """Add a map to this run.

        Parameters
        ----------
        name
            What the map is called in the run.
        method
            ``pca``, ``umap``, ``tsne``, ``neg_tsne`` or ``attention``; ``name``, if not given.
        dims
            2 or 3.
        parameters
            The method's own, checked by name and range: ``{"n_neighbors": 30}``.
        workers
            How many heads at once; one per core, if not given.
        device
            ``"auto"`` (the CPU), ``"cpu"``, or ``"cuda"``: a GPU, by an engine that has not been measured on one.
        progress
            Called as ``progress(stage, done, total)``.

        Raises
        ------
        MapError
            If the method or a parameter is not one that is accepted.
        DatasetError
            If the run has a map of that name made in another way.
        """
        from attnviz.pipeline.placing import make_maps

        spec = MapSpec(name, method or name, dims, parameters or {})
        make_maps(self, [spec], workers=workers or cores(), progress=progress or _silent, device=device)


def open(path: str | Path) -> Run:
    """Open a run directory.

    Raises
    ------
    DatasetError
        If it is none, is unfinished, or has a schema_version that is not read.
    """
    return Run(path)


def run(
    recipe: str | Path | Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    data: str | Sequence[str] | None = None,
    maps: Sequence[str] | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    force: bool = False,
) -> Run:
    """Make a run, or finish it, or find it finished; then open it.

    Parameters
    ----------
    recipe
        A ``.toml`` file, the name of a shipped recipe, or nested mappings as TOML gives them.
    model, data, maps
        Instead of a recipe: a model id, one or several sources, and map methods.
    out
        The run's folder; ``data/runs/NAME``, if not given.
    overrides
        Dotted keys and values, ``{"data.max_tokens": 500}``.
    workers
        How many heads are mapped at once; one per core, if not given. The result does not depend on it, byte for byte on one
        type of processor. On another type captured vectors differ in their last bits, which layouts amplify.
    device
        Where maps are made: ``"auto"`` (the CPU), ``"cpu"``, or ``"cuda"``: a GPU, by an engine that has not been measured on one.
    progress
        Called as ``progress(stage, done, total)``.
    force
        Start over; an existing run is replaced when the new one is complete.

    Raises
    ------
    RecipeError
        If neither a recipe nor model and data are given, or as ``attnviz.recipe`` raises.
    AttnvizError
        As the stages raise.
    """
    from attnviz.pipeline.run import run_recipe
    from attnviz.recipe import load_recipe, make_recipe

    if recipe is None:
        if model is None or data is None:
            raise RecipeError("Give a recipe, or model= and data=.")
        recipe = {"name": Path(model).name.replace(":", "_"), "model": {"id": model}, "data": {"source": data}}
        recipe |= {"maps": {name: {} for name in maps}} if maps is not None else {}
    elif model is not None or data is not None or maps is not None:
        raise RecipeError(
            "Give a recipe or model=, data= and maps=, not both; overrides= changes single keys of a recipe."
        )
    wanted = make_recipe(recipe, overrides) if isinstance(recipe, Mapping) else load_recipe(recipe, overrides)
    folder = Path(out) if out is not None else default_folder(wanted.name)
    run_recipe(wanted, folder, workers=workers or cores(), progress=progress or _silent, device=device, force=force)
    return open(folder)


def capture(
    module: Any,
    batches: Iterable[Any],
    *,
    tokens: Sequence[Sequence[str]] | Mapping[str, Sequence[Sequence[str]]] | None = None,
    streams: Mapping[str, str | Sequence[str]] | None = None,
    batch_axis: int | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    maps: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Make a run of any torch module: its softmax attentions are seen as it runs, and layers are named by module paths.

    Parameters
    ----------
    module
        A ``torch.nn.Module`` that attends by ``scaled_dot_product_attention``, or by a product that enters a softmax.
    batches
        What it takes: a tensor, a list of inputs, named inputs, or one object that it reads, such as a dictionary or a dataclass.
        Each runs whole, as it is, so inputs may be of each sequence or shared by all. Positions that no query may see, in any
        layer, are padding, wherever they stand; an ``attention_mask`` ``(batch, tokens)`` may say that more are.
    tokens
        The text of each token of each sequence, or of each position, padding included; without it tokens are named by their
        positions. Of a module with several streams, by stream: ``{"tgt": [...]}``.
    streams
        Which tokens attend where, by patterns of module paths: ``{"encoder.*": "source", "*.cross": ("target", "source")}``.
        Without it streams are told by the inputs that queries and keys were computed from, and are named after these.
    batch_axis
        Which axis of the inputs is the batch. It is needed only where a product holds sequences and heads in one axis and the
        module does not say ``batch_first``.
    name, out
        The run's name (the module's class, if not given) and folder (``data/runs/NAME``).
    maps
        Map methods; pca, umap and attention, if not given.
    overrides
        Of a recipe's capture, normalize and maps: ``{"capture.dtype": "float32"}``.
    workers, progress
        As for ``run``.

    Raises
    ------
    AttnvizError
        As the stages raise: no attention was seen, or what would be stored does not give it back.
    """
    from attnviz.pipeline.module import IN_MEMORY, run_module
    from attnviz.recipe import make_recipe

    name = name or type(module).__name__
    given: dict[str, Any] = {"name": name, "model": {"id": name}, "data": {"source": IN_MEMORY}}
    given |= {"maps": {method: {} for method in maps}} if maps is not None else {}
    folder = Path(out) if out is not None else default_folder(name)
    recipe = make_recipe(given, overrides)
    run_module(
        module,
        batches,
        recipe,
        folder,
        tokens=tokens,
        streams=streams,
        batch_axis=batch_axis,
        workers=workers or cores(),
        progress=progress or _silent,
    )
    return open(folder)


def default_folder(name: str) -> Path:
    """Return where a run of that name goes unless it is said otherwise."""
    return Path("data") / "runs" / name


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _silent(stage: str, done: int, total: int) -> None:
    """Say nothing: the library never prints."""
