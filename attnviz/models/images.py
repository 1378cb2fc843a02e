"""Where the tokens of an image stand: grids of patches, special tokens, stages that merge patches, and windows.

Receives what a library knows of a module's attentions; gives a ``Layout``, which makes the tokens of a record. How windows are
cut is not written down here a second time: an image of numbers goes once through the model's own code and is read at the door
of its attention, so shifts, padding and small grids are those of the model. Where a window is padded, the model attends to the
padding; it stands in the stage as special tokens, or attention could not be rebuilt.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.errors import AttnvizError, InputError, ModelError
from attnviz.types import Record, TokenSequence, TokenText

__all__ = [
    "Cut",
    "Grid",
    "Layout",
    "Look",
    "Site",
    "Stage",
    "blank_image",
    "class_tokens",
    "image_tokens",
    "registers_named",
    "require_image",
    "surveyed",
    "tiles",
    "tried",
]

Grid = tuple[int, int]

_BASE = 128  # digits of a number in three channels: exact in every dtype that a model may have


@dataclass(frozen=True, slots=True)
class Stage:
    """The tokens of one part of a model: patches row by row, special tokens before and after them."""

    grid: Grid
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    name: str = ""

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.before) + self.grid[0] * self.grid[1] + len(self.after)


@dataclass(frozen=True, slots=True)
class Layout:
    """All tokens of an image in a model, and which of them stand in which window; see ``LoadedModel.windows``."""

    stages: tuple[Stage, ...]
    windows: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """Where a grid shows: a module, and what to read from its inputs (positional and named) and its output."""

    module: Any
    read: Callable[[tuple[Any, ...], Mapping[str, Any], Any], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where tokens become windows: between one module, whose output or input is in the order of the tokens, and another."""

    source: Any
    target: Any  # its first input holds windows
    given: bool = False  # whether it is the input of the source, not its output
    axis: int = -1  # of the source's channels
    axis_of_windows: int = -1


@dataclass(frozen=True, slots=True)
class Site:
    """Attentions over the same tokens, and where to look to see which these are."""

    names: tuple[str, ...]  # module paths, as the watcher names them
    grid: Look | Grid
    keys: Look | None = None  # where queries attend to fewer, merged patches
    cut: Cut | NDArray[np.int32] | None = None
    before: tuple[str, ...] = ()
    stage: str | None = None  # None: the module path up to its first number tells


def require_image(record: Record, model: str) -> None:
    """Raise ``InputError`` for a text."""
    if record.image is None:
        raise InputError(
            f"{record.reference} is a text, but {model} reads images. Choose a language model or image data."
        )


def blank_image() -> Record:
    """Return a record to try a model with."""
    return Record("blank", image=lambda: np.zeros((64, 64, 3), np.uint8))


def image_tokens(record: Record, layout: Layout) -> TokenSequence:
    """Return the tokens of an image, stage after stage; patches are named ``row,column``, counted in the grid of their stage."""
    parts = [_positions(stage) for stage in layout.stages]
    row, col = np.concatenate(parts, axis=1)
    names = [name for stage in layout.stages for name in _names(stage)]
    streams = {stage.name: len(stage) for stage in layout.stages} if len(layout.stages) > 1 else {}
    return TokenSequence(
        record=record,
        tokens=tuple(TokenText(name, name) for name in names),
        input_ids=np.full(len(names), -1, np.int32),
        is_special=row < 0,
        segment=np.zeros(len(names), np.int8),
        patch_row=row,
        patch_col=col,
        streams=streams,
    )


def _positions(stage: Stage) -> NDArray[np.int16]:
    """Return row and column of each token, ``(2, tokens)``; -1 for special tokens."""
    patches = np.indices(stage.grid, dtype=np.int16).reshape(2, -1)
    before, after = (np.full((2, len(names)), -1, np.int16) for names in (stage.before, stage.after))
    return np.concatenate([before, patches, after], axis=1)


def _names(stage: Stage) -> list[str]:
    rows, cols = stage.grid
    return [*stage.before, *(f"{row},{col}" for row in range(rows) for col in range(cols)), *stage.after]


def class_tokens(count: int, distilled: bool) -> tuple[str, ...]:
    """Return the names of class tokens, the last of which a distilled model has for its teacher."""
    if distilled:
        return (*class_tokens(count - 1, False), "[DIST]")
    return ("[CLS]",) if count == 1 else tuple(f"[CLS{number}]" for number in range(1, count + 1))


def registers_named(count: int) -> tuple[str, ...]:
    """Return the names of register tokens."""
    return tuple(f"[REG{number}]" for number in range(1, count + 1))


def tiles(grid: Grid, size: Grid) -> NDArray[np.int32]:
    """Return which token stands where when a grid is cut into tiles of ``size``, ``(tiles, places)``, both row by row."""
    rows, cols = grid
    numbers = np.arange(rows * cols, dtype=np.int32).reshape(rows // size[0], size[0], cols // size[1], size[1])
    return numbers.swapaxes(1, 2).reshape(-1, size[0] * size[1])


def tried(run: Callable[[], Any], model: str, size: Sequence[int]) -> Any:
    """Run a model on one image, ``size`` being its height and width, and return what it returns.

    Raises
    ------
    ModelError
        If it cannot run on images of that size.
    """
    try:
        with torch.no_grad():
            return run()
    except AttnvizError:
        raise
    except Exception as error:  # each model's code raises its own
        words = re.sub(r"\s+", " ", str(error)).strip()[:300].rstrip(".")
        raise ModelError(
            f"{model} cannot run on an image of {size[0]} × {size[1]} pixels, which is what its image processor makes: "
            f"{words}."
        ) from error


def surveyed(run: Callable[[], Any], sites: Sequence[Site]) -> Layout:
    """Run a model on one image and return the layout that its attentions show.

    Parameters
    ----------
    run
        Runs the model on a single image.
    sites
        All its attentions, in the order of its layers.

    Raises
    ------
    ModelError
        If what stands in the windows is not what stands in the image, each patch once.
    """
    grids: dict[int, Grid] = {}
    windows: dict[int, NDArray[np.int32]] = {}
    hooks = [hook for number, site in enumerate(sites) for hook in _hooks(number, site, grids, windows)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    stages: dict[str, Stage] = {}
    cut: dict[str, NDArray[np.int32]] = {}
    for number, site in enumerate(sites):
        grid = grids[number] if isinstance(site.grid, Look) else site.grid
        stage = Stage(grid, site.before, name=site.stage or _stage_name(site.names[0]))
        if number in windows:
            where, padding = _padded(windows[number], len(stage), site.names[0])
            stage = replace(stage, after=("[PAD]",) * padding)
            cut |= dict.fromkeys(site.names, where)
        _join(stages, stage, site.names[0])
    for number, site in enumerate(sites):
        if site.keys is not None and -number - 1 in grids:
            _add_keys(stages, grids[-number - 1])
    alone = len(stages) == 1
    return Layout(tuple(replace(stage, name="") if alone else stage for stage in stages.values()), cut)


def _stage_name(path: str) -> str:
    found = re.search(r"\d+", path)
    return f"stage {found[0]}" if found else "stage"


def _join(stages: dict[str, Stage], stage: Stage, path: str) -> None:
    """Add a stage; one that has the tokens of the last is the same."""
    known = stages.get(stage.name)
    if known is not None and known != stage:
        raise ModelError(
            f"{path} attends over {len(stage)} tokens of {stage.name}, which has {len(known)}: attnviz knows one set of tokens "
            "for each stage."
        )
    last = next(reversed(stages.values()), None)
    if known is None and not (last is not None and replace(last, name=stage.name) == stage):
        stages[stage.name] = stage


def _add_keys(stages: dict[str, Stage], grid: Grid) -> None:
    """Keys on a grid of their own are regions of the image: those of the stage with that grid, if there is one."""
    if not any((stage.grid, len(stage)) == (grid, grid[0] * grid[1]) for stage in stages.values()):
        name = f"keys {grid[0]}×{grid[1]}"
        stages[name] = Stage(grid, name=name)


def _hooks(number: int, site: Site, grids: dict[int, Grid], windows: dict[int, NDArray[np.int32]]) -> Iterable[Any]:
    """Register what looks at one site; grids of keys are noted under negative numbers."""
    for key, look in ((number, site.grid), (-number - 1, site.keys)):
        if isinstance(look, Look):
            yield look.module.register_forward_hook(_noting(grids, key, look), with_kwargs=True)
    if isinstance(site.cut, np.ndarray):
        windows[number] = site.cut
    elif site.cut is not None:
        cut = site.cut
        if cut.given:
            yield cut.source.register_forward_pre_hook(
                lambda _, given, axis=cut.axis: (_numbers(given[0], axis), *given[1:])
            )
        else:
            yield cut.source.register_forward_hook(lambda _, given, output, axis=cut.axis: _numbers(output, axis))
        yield cut.target.register_forward_pre_hook(
            lambda _, given, axis=cut.axis_of_windows: windows.__setitem__(number, _read(given[0], axis))
        )


def _noting(grids: dict[int, Grid], key: int, look: Look) -> Callable[..., None]:
    def note(module: Any, args: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> None:
        rows, cols = look.read(args, options, output)
        grids[key] = (int(rows), int(cols))

    return note


def _numbers(like: torch.Tensor, axis: int) -> torch.Tensor:
    """Return a tensor of the same shape that holds the number of each token, from 1, in its first three channels."""
    shape = like.movedim(axis, -1).shape
    counted = torch.arange(1, shape[1:-1].numel() + 1, device=like.device)
    digits = torch.stack([counted // _BASE**place % _BASE for place in range(3)], dim=-1)
    numbers = torch.zeros(shape, dtype=like.dtype, device=like.device)
    numbers[..., :3] = digits.reshape(*shape[1:-1], 3).to(like.dtype)
    return numbers.movedim(-1, axis).contiguous()


def _read(values: torch.Tensor, axis: int) -> NDArray[np.int32]:
    """Return which token stands at each place, ``(windows, places)``; -1 is padding."""
    digits = values.movedim(axis, -1).flatten(1, -2)[..., :3].double()
    weights = torch.tensor([float(_BASE**place) for place in range(3)], dtype=torch.float64, device=values.device)
    found: NDArray[np.int32] = (digits @ weights).round().long().cpu().numpy().astype(np.int32) - 1
    return found


def _padded(windows: NDArray[np.int32], tokens: int, path: str) -> tuple[NDArray[np.int32], int]:
    """Return the windows with their padding numbered after the tokens, and how much there is."""
    padding = windows < 0
    if not np.array_equal(np.sort(windows[~padding]), np.arange(tokens)):
        raise ModelError(
            f"{path} resizes its patches before it attends over windows of them, so its tokens are no patches. Choose an image "
            "size whose patches its windows divide."
        )
    windows = windows.copy()
    windows[padding] = tokens + np.arange(padding.sum(), dtype=np.int32)
    return windows, int(padding.sum())
