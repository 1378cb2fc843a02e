"""Believe nothing: rebuild attention from exactly what would be stored and compare it with the model's own.

``inspect`` runs a padded batch and finds the layers with what they do to ``q·k`` (scaling, mask, window, soft-cap, bias, sink), as
the model declares it and as its masks show it. ``check`` then compares, head by head, all rows of short sequences and a sample of
long ones. A model that disagrees is refused by layer, with the number: a run made of wrong vectors would look just as good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.attention import weights
from attnviz.capturing import run
from attnviz.capturing.contract import Call, with_kv_heads
from attnviz.capturing.describe import describe, numbered
from attnviz.capturing.precision import in_float32, is_half, named
from attnviz.capturing.rope import undo_rope
from attnviz.capturing.rows import EXACT, ROUNDED, accepted_of_weights, rounding
from attnviz.capturing.run import BACKENDS, SEAMS, Off, Rows, capture
from attnviz.capturing.windows import opened
from attnviz.errors import CaptureError
from attnviz.models import Batch, LoadedModel
from attnviz.types import FloatArray, LayerInfo, LayerVectors, TokenSequence

__all__ = ["EXACT", "LONG", "ROUNDED", "LayerCheck", "check", "inspect", "require_exact"]

_ROWS = 192  # queries of a sequence that are compared
_ALL = 1 << 30  # heads
LONG = 2_048
"""Tokens of a sequence above which a model's own weights would not fit beside it: what it makes of them is compared."""


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """How well one layer's attention is rebuilt."""

    info: LayerInfo
    exact: float  # largest difference of any weight, from vectors as the model had them
    stored: float  # the same, from vectors as they would be stored
    tolerance: float  # for ``exact``
    computed_in: str = "float32"  # the dtype of the model's own

    @property
    def ok(self) -> bool:
        """Whether both differences are accepted. A layer that says it cannot be rebuilt claims nothing."""
        exact = self.exact <= self.tolerance and self.stored <= self.stored_tolerance
        return bool(exact or not self.info.rebuilt)

    @property
    def stored_tolerance(self) -> float:
        """What is accepted of ``stored``: storing rounds beside the model."""
        return self.tolerance + ROUNDED


@dataclass(frozen=True, slots=True)
class _Own:
    """The model's own weights of some queries of one sequence, ``(heads, rows, keys)``."""

    rows: NDArray[np.int64]
    weights: FloatArray


def inspect(
    model: LoadedModel,
    sequences: Sequence[TokenSequence],
    *,
    longest: Mapping[str, int] | None = None,
    rope: Literal["after", "before"] = "after",
) -> tuple[LayerInfo, ...]:
    """Run a batch and return the attention layers that the model has, in the order in which it runs them.

    Parameters
    ----------
    sequences
        At least two, of different lengths where the model takes them, so that padding is tried.
    longest
        Tokens of the longest sequence that will be captured, by stream.
    rope
        ``"before"``: vectors are to be kept as they are before RoPE.

    Raises
    ------
    CaptureError
        If the model hands over no attention, or attention that cannot be kept.
    """
    batch = model.collate(sequences)
    for seam in SEAMS[model.info.library]:
        layers: list[LayerInfo] = []

        def see(call: Call, seam: str = seam, layers: list[LayerInfo] = layers) -> None:
            windows = model.windows.get(call.name)
            info = describe(call, batch, longest=longest or {}, windows=windows, seam=seam)
            layers.append(undo_rope(info, call, longest=longest or {}) if rope == "before" else info)

        missed: list[Call] = []
        with BACKENDS[seam]()(model.module, see, own="weights"), BACKENDS["softmax"]()(model.module, missed.append):
            model.forward(batch)
        if layers:
            _require_all(model, batch, layers, missed)
            if rope == "before" and not any(info.rope == "before" for info in layers):
                raise CaptureError(
                    f"{model.info.id} ({model.info.architecture}) was not seen to turn queries and keys: what they are before RoPE "
                    "cannot be told. Set capture.rope = 'after'."
                )
            return numbered(layers)
    raise CaptureError(
        f"{model.info.id} ({model.info.architecture}) ran but handed over no queries or keys: it has no softmax attention that "
        f"could be seen ({', '.join(SEAMS[model.info.library])} were watched). `attnviz check --all-families` lists what works."
    )


def _require_all(model: LoadedModel, batch: Batch, layers: Sequence[LayerInfo], by_hand: Sequence[Call]) -> None:
    """Make sure that no part of the model attends between tokens by hand beside what was seen; pooling does not count."""
    known, widths = {info.name for info in layers}, {batch.width(name) for name in batch.lengths}
    missed = [call.name for call in by_hand if call.name not in known and call.query.shape[2] in widths - {1}]
    if missed:
        raise CaptureError(
            f"{model.info.id} ({model.info.architecture}) attends in two ways: {layers[0].name} was seen, {missed[0]} "
            f"({len(missed)} such) multiplies by hand, and one run cannot watch both. It is refused, rather than shown in part."
        )


def check(
    model: LoadedModel,
    sequences: Sequence[TokenSequence],
    layers: Sequence[LayerInfo] | None = None,
    *,
    dtype: Literal["float16", "float32"] = "float16",
) -> list[LayerCheck]:
    """Compare attention rebuilt from what would be stored with the model's own, over every head.

    Parameters
    ----------
    sequences
        As for ``inspect``, at least one of them of at most ``LONG`` tokens. Of longer ones the outputs of attention are compared,
        not its weights.
    layers
        What to check; what ``inspect`` finds, if not given.
    dtype
        How vectors would be stored.

    Raises
    ------
    CaptureError
        If capturing changes the model's output, or as ``inspect`` and ``capture`` raise.
    """
    kept = np.float16 if dtype == "float16" else np.float32
    if model.info.library == "torch" and layers is not None:  # whose batches run whole
        return _batch(model, sequences, layers, dtype)
    long = [sequence for sequence in sequences if len(sequence) > LONG]
    sequences = [sequence for sequence in sequences if len(sequence) <= LONG]
    layers = inspect(model, sequences) if layers is None else layers
    results = _short(model, sequences, layers, kept)
    for sequence in long:
        results = _outputs(model, model.collate([sequence]), results, Rows(_ROWS, _ALL, every=1), dtype)
    return results


def _batch(
    model: LoadedModel,
    sequences: Sequence[TokenSequence],
    layers: Sequence[LayerInfo],
    dtype: Literal["float16", "float32"],
) -> list[LayerCheck]:
    """Compare the weights of a batch that cannot be cut, or what they make of the values, where they would not fit beside it."""
    batch = model.collate(sequences)
    count, width = len(sequences), max(batch.width(stream) for stream in batch.lengths)
    if count * width**2 <= LONG**2:
        return _short(model, sequences, layers, np.float16 if dtype == "float16" else np.float32)
    results = [LayerCheck(info, 0.0, 0.0, EXACT[model.info.dtype], model.info.dtype) for info in layers]
    return _outputs(model, batch, results, Rows(max(4, _ROWS // count), _ALL, every=1), dtype)


def _short(
    model: LoadedModel, sequences: Sequence[TokenSequence], layers: Sequence[LayerInfo], kept: type[np.floating[Any]]
) -> list[LayerCheck]:
    """Compare the weights of a padded batch with those that come of the vectors of the same pass."""
    batch = model.collate(sequences)
    results: list[LayerCheck] = []

    def see(call: Call) -> None:
        """Add how far the next layer's weights are off."""
        info = _next(model, call, layers, len(results))
        call = with_kv_heads(call, info.num_kv_heads)
        windows = model.windows.get(info.name)
        vectors = run.layer_vectors(call, info, batch, torch.float32, model=model)
        own = _own(call, info, batch, windows)
        computed_in = named(call.computed_in)
        exact, tolerance = _difference(vectors, info, own, batch, np.float32, computed_in)
        stored, _ = _difference(vectors, info, own, batch, kept, computed_in)
        results.append(LayerCheck(info, exact, stored, tolerance, computed_in))

    with BACKENDS[layers[0].seam]()(model.module, see, own="weights"):
        model.forward(batch)
    return _outputs(model, batch, results, Rows(heads=_ALL), "float32")


def _outputs(
    model: LoadedModel, batch: Batch, checks: Sequence[LayerCheck], rows: Rows, dtype: Literal["float16", "float32"]
) -> list[LayerCheck]:
    """Compare what attention makes of its values, as it is captured; and the model's output with that of a plain pass."""
    found = {one.info.layer: one for one in checks}

    def note(info: LayerInfo, off: Off) -> None:
        """Add how far a layer is off, in units of what is accepted of its weights."""
        one = found[info.layer]
        exact, stored = (
            float((off.exact / off.accepted).max()),
            float((off.stored / (off.accepted + 2 * ROUNDED)).max()),
        )
        found[info.layer] = replace(
            one,
            exact=max(one.exact, exact * one.tolerance),
            stored=max(one.stored, stored * one.stored_tolerance),
        )

    layers = [one.info for one in checks]
    watched = capture(model, batch, layers, lambda _: None, dtype=dtype, rows=replace(rows, judge=note))
    changed = _apart(model.forward(batch), watched)
    if not changed <= 1e-6:
        if not _apart(model.forward(batch), model.forward(batch)) <= 1e-6:
            raise CaptureError(
                f"{model.info.id} gives another output each time that it runs, in evaluation mode too: it draws random numbers, as "
                "dropout that is always on does, or goes on from the pass before, as with a cache. Turn that off while it is "
                "captured."
            )
        raise CaptureError(f"Capturing changes the output of {model.info.id} by {changed:.1e}: it cannot be trusted.")
    return list(found.values())


def require_exact(model: LoadedModel, checks: Sequence[LayerCheck]) -> tuple[float, float]:
    """Return the largest difference of any weight, from vectors as the model had them and as they are stored.

    Raises
    ------
    CaptureError
        Naming the first layer that disagrees, with the number.
    """
    for result in checks:
        where = f"{model.info.id} is refused: in layer {result.info.label} ({result.info.name}), attention from"
        if result.ok:
            continue
        if not result.exact <= result.tolerance:
            raise CaptureError(
                f"{where} queries and keys differs from the model's own by {result.exact:.1e}; at most "
                f"{result.tolerance:.1e} is accepted. {_advice(model, result)}"
            )
        raise CaptureError(
            f"{where} float16 vectors differs from the model's own by {result.stored:.1e}; at most "
            f"{result.stored_tolerance:.0e} is accepted. Set capture.dtype = 'float32'."
        )
    rebuilt = [result for result in checks if result.info.rebuilt]
    return max((result.exact for result in rebuilt), default=0.0), max(
        (result.stored for result in rebuilt), default=0.0
    )


def _advice(model: LoadedModel, result: LayerCheck) -> str:
    if is_half(result.computed_in):
        return f"It computes in {result.computed_in}, which may round so far. {in_float32(model)}"
    if model.info.library == "torch":
        return "It does more to its logits or its weights than a run can keep."
    return "`attnviz check` shows every layer."


def _sampled(queries: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, queries - 1, min(queries, _ROWS)).astype(np.int64))


def _numpy(values: torch.Tensor) -> FloatArray:
    result: FloatArray = values.float().cpu().numpy()
    return result


def _next(model: LoadedModel, call: Call, layers: Sequence[LayerInfo], seen: int) -> LayerInfo:
    """Return the layer that this call is of, which must be the next one."""
    if seen >= len(layers) or call.name != layers[seen].name:
        raise CaptureError(
            f"{model.info.id} ran {call.name!r} as attention number {seen}, which the check had not seen."
        )
    return layers[seen]


def _own(call: Call, info: LayerInfo, batch: Batch, windows: NDArray[np.int32] | None) -> list[_Own]:
    """Return the model's own weights of each sequence."""
    if call.weights is None:
        raise CaptureError(f"{call.name} gave no attention weights to compare with.")
    queries, keys = batch.lengths[info.query_stream], batch.lengths[info.key_stream]
    if windows is not None:
        return [
            _own_of_windows(call, row, *counts, windows) for row, counts in enumerate(zip(queries, keys, strict=True))
        ]
    found = []
    for row, high in enumerate(queries):
        rows = _sampled(high)
        at, columns = batch.of(info.query_stream, row)[rows], batch.of(info.key_stream, row)
        found.append(_Own(rows, _numpy(call.weights[row][:, at][:, :, columns])))
    return found


def _own_of_windows(call: Call, row: int, queries: int, keys: int, windows: NDArray[np.int32]) -> _Own:
    rows = _sampled(queries)
    assert call.weights is not None
    number, place = (np.empty(queries, np.int64) for _ in range(2))
    at = np.nonzero(windows >= 0)
    number[windows[at]], place[windows[at]] = at
    given = _numpy(opened(call.weights, len(windows))[row])
    spread = np.zeros((given.shape[1], len(rows), keys), np.float32)
    for index, token in enumerate(rows):
        there = windows[number[token]]
        spread[:, index, there[there >= 0]] = given[number[token], :, place[token]][:, there >= 0]
    return _Own(rows, spread)


def _difference(
    vectors: LayerVectors,
    info: LayerInfo,
    own: Sequence[_Own],
    batch: Batch,
    kept: type[np.floating[Any]],
    computed_in: str,
) -> tuple[float, float]:
    """Return how far weights rebuilt from ``kept`` vectors are off in the worst row, and what is accepted of that row.

    A difference that is no number is infinite.
    """
    shared = info.num_heads // info.num_kv_heads
    logits_in = "float32" if info.seam == "sdpa" else computed_in  # of a kernel, which writes none
    lengths = batch.lengths[info.query_stream], batch.lengths[info.key_stream]
    worst, query_at, key_at = (0.0, EXACT[computed_in]), 0, 0
    for theirs, queries, keys in zip(own, *lengths, strict=True):
        with np.errstate(over="ignore", invalid="ignore"):  # what float16 cannot hold shows as an infinite difference
            query = _stored(vectors.query[query_at + theirs.rows], kept)
            key = _stored(vectors.key[key_at : key_at + keys], kept).repeat(shared, axis=0)
            rebuilt = weights(query, key, info, queries=theirs.rows)
            off = np.abs(rebuilt - theirs.weights).max(-1)
            accepted = accepted_of_weights(rebuilt, rounding(query, key, info.scaling, logits_in), computed_in)
        off = np.where(np.isfinite(off), off, np.inf)
        accepted = np.where(np.isfinite(accepted), accepted, EXACT[computed_in])
        at = np.unravel_index((off / accepted).argmax(), off.shape)
        worst = max(worst, (float(off[at]), float(accepted[at])), key=lambda pair: pair[0] / pair[1])
        query_at, key_at = query_at + queries, key_at + keys
    return worst


def _stored(vectors: FloatArray, kept: type[np.floating[Any]]) -> FloatArray:
    """Return ``(tokens, heads, head_dim)`` as it would come back from a run, ``(heads, tokens, head_dim)``."""
    return vectors.astype(kept).astype(np.float32).swapaxes(0, 1)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference of two outputs; what is no number in both, as rows of padding may be, is the same."""
    difference = (one.double() - other.double()).abs()
    return float(difference.masked_fill(one.isnan() & other.isnan(), 0).nan_to_num(torch.inf).max())
