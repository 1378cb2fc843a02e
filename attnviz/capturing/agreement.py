"""Whether a layer's rule is what a batch shows: in every row, whatever stands before, between and behind its tokens.

Receives what a layer is believed to do to ``q·k`` and one attention of a batch; tells the first row in which the hidden keys,
or what is added to the logits, are not the rule's. Two rules agree if they do the same in all batches that were seen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.attention import bias, visible
from attnviz.capturing.contract import HIDDEN, Call
from attnviz.models.loaded import Batch
from attnviz.types import FloatArray, LayerInfo

__all__ = ["Attended", "Known", "agree", "is_packed", "least", "odd_row", "row_blocks", "shown_by"]

_BLOCK = 1 << 22  # pairs of positions that are looked at together
_SAME = 4e-5  # of the largest bias: differences below are rounding


@dataclass(frozen=True, slots=True)
class Attended:
    """One attention of a batch, without what it computed."""

    call: Call  # of which queries, keys and values have a shape alone, and ``added`` is no more than it must be
    query: str  # the stream of its queries
    key: str
    masks: tuple[str, ...] = ()  # inputs that what is added to its logits comes of


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a layer from the batches so far."""

    info: LayerInfo
    queries: int  # of the longest sequence
    keys: int
    batch: int  # that its rule was read from


def agree(before: Known, info: LayerInfo) -> bool:
    """Tell whether a rule does in all earlier batches what the one that they were seen to follow does."""
    was = before.info
    fixed = ("num_heads", "head_dim", "query_stream", "key_stream", "softcap")
    if any(getattr(was, name) != getattr(info, name) for name in fixed) or not np.isclose(was.scaling, info.scaling):
        return False
    if not (_reaches(was, before.queries, before.keys) and _reaches(info, before.queries, before.keys)):
        return False
    columns = np.arange(before.keys)
    for rows in row_blocks(before.queries, before.keys):
        shown = visible(rows, columns, was)
        if not np.array_equal(visible(rows, columns, info), shown):
            return False
        if not _same_bias(_bias(rows, columns, was), _bias(rows, columns, info), shown):
            return False
    return True


def odd_row(info: LayerInfo, one: Attended, batch: Batch) -> int | None:
    """Return the first sequence in which a layer's rule is not what hides keys or is added to logits; None if it is in all."""
    queries, keys = batch.lengths[one.query], batch.lengths[one.key]
    done: dict[Any, bool] = {}
    for row, (high, wide) in enumerate(zip(queries, keys, strict=True)):
        at, to = batch.of(one.query, row), batch.of(one.key, row)
        shared = one.call.added is None or one.call.added.shape[0] == 1
        same = (high, wide, at.tobytes(), to.tobytes()) if shared else row
        if same not in done:
            done[same] = _fits(info, one.call, row, at, to)
        if not done[same]:
            return row
    return None


def is_packed(one: Attended, row: int, batch: Batch) -> bool:
    """Tell whether a row is cut into stretches that do not see each other."""
    if one.call.added is None or one.query != one.key:
        return False
    at = batch.of(one.query, row)
    shown, _ = _of_rows(one.call, row, at)
    if shown is None:
        return False
    shown = shown[:, at]
    first = (shown | shown.T).argmax(axis=1)
    starts = np.flatnonzero(first == np.arange(len(first)))
    return len(starts) > 1 and bool((np.diff(first) >= 0).all())


def shown_by(added: torch.Tensor) -> torch.Tensor:
    """Return where what is added to logits lets keys be seen."""
    return added if added.dtype == torch.bool else added > HIDDEN


def least(added: torch.Tensor) -> torch.Tensor:
    """Return what is added to logits as little as will do: once where all heads or sequences agree, and as bool where it hides."""
    added = added[(None,) * (4 - added.ndim)]
    shown = added if added.dtype == torch.bool else added > HIDDEN
    if added.dtype == torch.bool or not bool((added.masked_fill(~shown, 0) != 0).any()):
        added = shown
    for axis in (1, 0):
        first = added.narrow(axis, 0, 1)
        if added.shape[axis] > 1 and bool((added == first).all()):
            added = first
    return added.clone()


def _fits(info: LayerInfo, call: Call, row: int, at: NDArray[np.int64], to: NDArray[np.int64]) -> bool:
    """Tell whether a rule is what one sequence shows, whose tokens stand at these positions."""
    if not _reaches(info, len(at), len(to)):
        return False
    columns = np.arange(len(to))
    outside = np.setdiff1d(np.arange(call.key.shape[2]), to)
    for rows in row_blocks(len(at), len(to)):
        shown, added = _of_rows(call, row, at[rows])
        if shown is None or shown[:, outside].any():
            return False  # heads differ, or it sees what holds no token
        values = None if added is None else added[:, :, to]
        if not np.array_equal(shown[:, to], visible(rows, columns, info)):
            return False
        if not _same_bias(values, _bias(rows, columns, info), shown[:, to]):
            return False
    return True


def _of_rows(call: Call, row: int, at: NDArray[np.int64]) -> tuple[NDArray[np.bool_] | None, FloatArray | None]:
    """Return which keys some queries of a sequence see, ``(queries, keys)``, and what is added to their logits, by head.

    No keys where heads differ in what they see; nothing added where that is all a mask.
    """
    if call.added is None:
        plain = LayerInfo(0, "", 1, 1, 1, 1.0, causal=bool(call.causal))
        return visible(at, np.arange(call.key.shape[2]), plain), None
    added = call.added[min(row, len(call.added) - 1)].expand(-1, call.query.shape[2], call.key.shape[2])
    part = added[:, torch.from_numpy(at).to(added.device)].cpu()
    seen = shown_by(part).numpy()
    if not (seen == seen[:1]).all():
        return None, None
    return seen[0], None if part.dtype == torch.bool else part.float().numpy()


def _reaches(info: LayerInfo, queries: int, keys: int) -> bool:
    """Tell whether a layer's tables have what sequences of such lengths need."""
    terms = info.terms
    if terms is None:
        return True
    tables = [len(values) for values in (terms.place, terms.group) if values is not None]
    if terms.by_place is not None and terms.place is None:
        tables.append(terms.by_place.shape[-1])
    if terms.by_distance is not None:
        tables.append(terms.by_distance.shape[-1] // 2 + 1)
    return all(max(queries, keys) <= table for table in tables)


def row_blocks(queries: int, keys: int) -> list[NDArray[np.int64]]:
    """Return the queries in blocks whose pairs with all keys are few enough to be looked at together."""
    step = max(1, _BLOCK // max(1, keys))
    return [np.arange(first, min(first + step, queries)) for first in range(0, queries, step)]


def _bias(rows: NDArray[np.int64], columns: NDArray[np.int64], info: LayerInfo) -> Any:
    return None if info.terms is None else bias(rows, columns, info.terms)


def _same_bias(one: Any, other: Any, shown: NDArray[np.bool_]) -> bool:
    """Tell whether two biases are one, up to a constant of each row, which softmax does not see."""
    if one is None and other is None:
        return True
    apart = np.where(shown, (0 if one is None else one) - (0 if other is None else other), 0)
    size = max(1.0, *(float(np.abs(np.where(shown, values, 0)).max()) for values in (one, other) if values is not None))
    counts = np.maximum(shown.sum(-1, keepdims=True), 1)
    apart = np.where(shown, apart - apart.sum(-1, keepdims=True) / counts, 0)
    return bool(np.abs(apart).max() <= _SAME * size)
