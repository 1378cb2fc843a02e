"""From what a model was seen to do to its logits to the few rules and arrays with which anyone can do it again.

Receives the calls of a padded batch, with the weights of the model's own; gives a ``LayerInfo`` for each. What was declared (a
window, a soft-cap) is believed as far as the mask agrees; what no rule fits is refused: a run must be able to rebuild it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.attention import visible
from attnviz.capturing.agreement import row_blocks
from attnviz.capturing.contract import HIDDEN, Call
from attnviz.errors import CaptureError
from attnviz.models import Batch
from attnviz.types import FloatArray, LayerInfo, Terms

__all__ = ["Seen", "describe", "described", "numbered", "told"]

_HIDDEN_IN_WINDOW = -50.0  # Swin says -100, to which its bias is added
_SAME = 1e-5  # of the largest bias: differences below are rounding

Lengths = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one attention adds to the logits of the longest sequence, ``(heads or 1, queries, keys)``, and where it hides keys."""

    shown: NDArray[np.bool_]  # (queries, keys)
    added: FloatArray | None


def describe(
    call: Call, batch: Batch, *, longest: Mapping[str, int], windows: NDArray[np.int32] | None, seam: str
) -> LayerInfo:
    """Return what one attention does to ``q·k``; its number and stack are given by ``numbered``.

    Parameters
    ----------
    call
        One attention of the batch, with ``added`` and its own ``weights``.
    batch
        What the model was given, padded.
    longest
        Tokens of the longest sequence that will be captured, by stream: so far a bias of distances must reach.
    windows
        Where the attention runs in windows: which token stands where.

    Raises
    ------
    CaptureError
        If the shapes belong to no stream, or no rule fits what is hidden or added.
    """
    if windows is not None:
        return _windowed(call, batch.lengths, windows, seam)
    streams = tuple(_stream(call, tokens.shape[2], batch) for tokens in (call.query, call.key))
    return described(call, batch, (streams[0], streams[1]), seam=seam, longest=longest.get(streams[0], 0))


def described(call: Call, batch: Batch, streams: tuple[str, str], *, seam: str, longest: int = 0) -> LayerInfo:
    """Return what one attention does to ``q·k`` of its longest sequence.

    Parameters
    ----------
    streams
        Whose tokens have queries, and whose have keys.
    longest
        Tokens of the longest sequence that will be captured.

    Raises
    ------
    CaptureError
        If no rule fits what is hidden or added.
    """
    info = _plain(call, *streams, seam)
    seen = _seen(call, batch, streams, causal=info.causal)
    info = _masked(info, seen.shown)
    terms = _biased(info, seen, longest)
    if call.sinks is not None:
        terms = replace(terms or Terms(), sinks=_numpy(call.sinks))
    if info.terms is not None and terms is not None:
        terms = replace(terms, group=info.terms.group)
    return replace(info, terms=terms or info.terms)


def told(info: LayerInfo) -> str:
    """Say the rule of a layer in words."""
    terms = info.terms or Terms()
    parts = [
        "a causal mask" if info.causal else "",
        f"a window of {info.window}" if info.window is not None else "",
        f"chunks of {info.chunk}" if info.chunk is not None else "",
        f"a soft-cap of {info.softcap:g}" if info.softcap is not None else "",
        "parts that do not see each other" if terms.group is not None else "",
        "a bias of distances" if terms.by_distance is not None else "",
        "a bias of positions" if terms.by_place is not None else "",
    ]
    heads = f"{info.num_heads} heads of {info.head_dim}, scaling {info.scaling:.3g}"
    return f"{heads}, {', '.join(filter(None, parts)) or 'no mask and no bias'}"


def numbered(layers: Sequence[LayerInfo]) -> tuple[LayerInfo, ...]:
    """Give layers their numbers: that of the module path, or counted where paths repeat (tied layers) or carry none.

    A model with several stacks (an encoder and a decoder, cross attention, two towers, stages) counts each from 0, and all layers
    through, stack by stack.
    """
    pairs = list(dict.fromkeys((info.query_stream, info.key_stream) for info in layers))
    crossing = sum(query != key for query, key in pairs)
    result, first = {}, 0
    for pair in pairs:
        places = [place for place, info in enumerate(layers) if (info.query_stream, info.key_stream) == pair]
        numbers = _numbers([layers[place].name for place in places])
        if len(pairs) == 1:
            return tuple(replace(info, layer=number) for info, number in zip(layers, numbers, strict=True))
        stack = pair[0] if pair[0] == pair[1] else _crossed(pair, crossing)
        for place, number in zip(places, numbers, strict=True):
            layer = first + sorted(numbers).index(number)
            result[place] = replace(layers[place], layer=layer, stack=stack, number=number)
        first += len(places)
    return tuple(result[place] for place in range(len(layers)))


def _crossed(pair: tuple[str, str], crossing: int) -> str:
    return "cross" if crossing == 1 else f"{pair[0]} to {pair[1]}"


def _numbers(names: Sequence[str]) -> list[int]:
    """Take each layer's number from its module path, the first number that tells them apart; or count."""
    found = [[int(number) for number in re.findall(r"(?:^|\.)(\d+)(?=\.|$)", name)] for name in names]
    for column in range(min((len(numbers) for numbers in found), default=0)):
        numbers = [each[column] for each in found]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(len(names)))


def _stream(call: Call, tokens: int, batch: Batch) -> str:
    """Tell the stream by its padded length."""
    widths = {name: batch.width(name) for name in batch.lengths}
    fitting = [name for name, width in widths.items() if width == tokens]
    if not fitting and len(widths) == 1 and call.query.shape[2] == call.key.shape[2] > max(widths.values()):
        fitting = list(widths)  # padded further than anyone said
    sequences = len(next(iter(batch.lengths.values())))
    if not fitting or call.query.shape[0] != sequences:
        known = " · ".join(f"{name or 'tokens'} {width}" for name, width in widths.items())
        raise CaptureError(
            f"{call.name} hands over queries of shape {tuple(call.query.shape)} and keys of shape {tuple(call.key.shape)} for "
            f"{sequences} sequences of up to {known}: attention over windows, merged or pooled tokens that attnviz does not know."
        )
    return fitting[0]


def _plain(call: Call, query_stream: str, key_stream: str, seam: str) -> LayerInfo:
    return LayerInfo(
        layer=0,
        name=call.name,
        num_heads=call.query.shape[1],
        num_kv_heads=call.key.shape[1],
        head_dim=call.query.shape[-1],
        scaling=call.scaling,
        causal=bool(call.causal) and query_stream == key_stream,
        window=call.window,
        chunk=call.chunk,
        softcap=call.softcap,
        query_stream=query_stream,
        key_stream=key_stream,
        seam=seam,
    )


def _seen(call: Call, batch: Batch, streams: tuple[str, str], *, causal: bool) -> Seen:
    """Look at the longest sequence of a batch, where its tokens stand."""
    queries, keys = (batch.lengths[stream] for stream in streams)
    row = int(np.argmax(queries))
    if call.added is None:
        return Seen(visible(queries[row], keys[row], LayerInfo(0, "", 1, 1, 1, 1.0, causal=causal)), None)
    added = call.added[(None,) * (4 - call.added.ndim)]
    added = torch.broadcast_to(added, (len(queries), added.shape[1], *_padded(call)))[row]
    at, to = (torch.from_numpy(batch.of(stream, row)).to(added.device) for stream in streams)
    added = added[:, at][:, :, to]
    values = np.where(added.cpu().numpy(), np.float32(0), -np.inf) if added.dtype == torch.bool else _numpy(added)
    shown = values > HIDDEN
    if not (shown == shown[0]).all():
        raise CaptureError(f"{call.name} hides other keys from one head than from another, which attnviz cannot keep.")
    return Seen(shown[0], values if values[:, shown[0]].any() else None)


def _padded(call: Call) -> tuple[int, int]:
    return call.query.shape[2], call.key.shape[2]


def _masked(info: LayerInfo, shown: NDArray[np.bool_]) -> LayerInfo:
    """Return the layer with the first rule that hides just what is hidden."""
    causal = shown.shape[0] == shown.shape[1] and not np.triu(shown, 1).any()
    causal = causal if len(shown) > 1 else info.causal
    for rule in _rules(info, shown):
        tried = replace(info, causal=causal, **rule)
        if _hides(tried, shown):
            return tried
    raise CaptureError(
        f"{info.name} hides keys by a rule that attnviz does not know (not causal, a window, chunks or groups): what a run keeps "
        "could not rebuild its attention."
    )


def _hides(info: LayerInfo, shown: NDArray[np.bool_]) -> bool:
    """Tell whether a rule hides just what is hidden."""
    keys = np.arange(shown.shape[1])
    return all(np.array_equal(visible(rows, keys, info), shown[rows]) for rows in row_blocks(*shown.shape))


def _rules(info: LayerInfo, shown: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    """Yield what to try: what was declared, then what the mask itself says."""
    nothing = {"window": None, "chunk": None}
    yield from ({}, {"window": None}, {"chunk": None}, nothing)
    yield nothing | {"window": _window(shown)}
    first_hidden = np.flatnonzero(~shown[:, 0])
    yield nothing | {"chunk": int(first_hidden[0]) if len(first_hidden) else None}
    yield nothing | {"terms": Terms(group=shown.argmax(axis=1).astype(np.int32))}


def _window(shown: NDArray[np.bool_]) -> int:
    """Return the window that reaches the furthest key that is seen."""
    rows = np.flatnonzero(shown.any(axis=1))
    first, last = shown[rows].argmax(axis=1), shown.shape[1] - 1 - shown[rows, ::-1].argmax(axis=1)
    return int(max((rows - first).max(initial=0), (last - rows).max(initial=0))) + 1


def _biased(info: LayerInfo, seen: Seen, longest: int) -> Terms | None:
    """Return what is added to the logits that count, as few numbers as it takes; None if nothing is."""
    if seen.added is None:
        return None
    added = np.where(seen.shown, seen.added, 0).astype(np.float32)
    added = np.broadcast_to(added, (info.num_heads, *added.shape[1:]))
    for candidate in (added, _from_first(added, seen.shown)):
        table = _by_distance(candidate, seen.shown)
        if table is not None:
            return Terms(by_distance=_reaching(table, seen.shown, longest))
    if added.shape[1] == added.shape[2]:
        return Terms(by_place=np.ascontiguousarray(added))
    raise CaptureError(
        f"{info.name} adds to its logits what depends on more than positions, which attnviz cannot keep."
    )


def _from_first(added: FloatArray, shown: NDArray[np.bool_]) -> FloatArray:
    """Return a bias counted from that of each query's own position: softmax does not see a constant of a row."""
    if not shown.diagonal().all():
        return added
    own = np.diagonal(added, axis1=1, axis2=2)
    return np.where(shown, added - own[..., None], 0).astype(np.float32)


def _by_distance(added: FloatArray, shown: NDArray[np.bool_]) -> FloatArray | None:
    """Return a bias as a table of distances, ``(heads, queries + keys - 1)``, if that is all it depends on."""
    queries, keys = shown.shape
    rows, columns = np.nonzero(shown)
    distance = columns - rows + queries - 1
    table = np.zeros((len(added), queries + keys - 1), np.float32)
    table[:, distance] = added[:, rows, columns]
    off = np.abs(table[:, distance] - added[:, rows, columns]).max()
    return table if off <= _SAME * max(1.0, float(np.abs(added).max())) else None


def _reaching(table: FloatArray, shown: NDArray[np.bool_], longest: int) -> FloatArray:
    """Let a table of distances reach as far as the longest sequence: a straight line goes on, anything else has settled."""
    reach = max(*shown.shape, longest) - 1
    queries = len(shown)
    back, ahead = table[:, :queries][:, ::-1], table[:, queries - 1 :]  # from distance 0 outward
    sides = [_continued(back, reach), _continued(ahead, reach) if np.triu(shown, 1).any() else _nothing(back, reach)]
    return np.concatenate([sides[0][:, :0:-1], sides[1]], axis=1)


def _nothing(like: FloatArray, reach: int) -> FloatArray:
    side = np.zeros((len(like), reach + 1), np.float32)
    side[:, 0] = like[:, 0]
    return side


def _continued(side: FloatArray, reach: int) -> FloatArray:
    """Return a side of a table, ``(heads, reach + 1)``, longer where it must be."""
    missing = reach + 1 - side.shape[1]
    if missing <= 0:
        return side[:, : reach + 1]
    tail = np.diff(side[:, side.shape[1] // 2 :], axis=1)
    straight = tail.shape[1] > 1 and np.abs(tail - tail[:, :1]).max() <= _SAME * max(1.0, float(np.abs(side).max()))
    step = tail.mean(axis=1, keepdims=True) if straight else np.zeros((len(side), 1), np.float32)
    more: FloatArray = side[:, -1:] + step * np.arange(1, missing + 1, dtype=np.float32)
    return np.concatenate([side, more.astype(np.float32)], axis=1)


def _windowed(call: Call, lengths: Lengths, windows: NDArray[np.int32], seam: str) -> LayerInfo:
    """Describe attention in windows: one table of biases for the places, and who stands in a window, or in a part of one."""
    tokens = int(windows.max()) + 1
    stream = next((name for name, counts in lengths.items() if max(counts) == tokens), None)
    if stream is None:
        raise CaptureError(f"{call.name} attends over {tokens} tokens in windows, which are those of no stream.")
    added = None if call.added is None else call.added[(None,) * (4 - call.added.ndim)]
    values = np.zeros((len(windows), 1, *windows.shape[1:] * 2), np.float32)
    if added is not None:
        values = np.broadcast_to(_numpy(added)[: len(windows)], (len(windows), *added.shape[1:]))
    shown = (values > _HIDDEN_IN_WINDOW).all(axis=1) & (windows >= 0)[:, None, :]
    table = np.where(values > _HIDDEN_IN_WINDOW, values, -np.inf).max(axis=0)
    part = shown.argmax(axis=2)  # the first place that a place may see names its part of the window
    place, group = np.zeros((2, tokens), np.int32)
    number, where = np.nonzero(windows >= 0)
    place[windows[number, where]] = where
    group[windows[number, where]] = number * windows.shape[1] + part[number, where]
    by_place = np.broadcast_to(np.where(np.isfinite(table), table, 0), (call.query.shape[1], *table.shape[1:]))
    terms = Terms(by_place=by_place.astype(np.float32), place=place, group=group)
    return replace(_plain(call, stream, stream, seam), terms=terms)


def _numpy(values: torch.Tensor) -> FloatArray:
    result: FloatArray = values.detach().float().cpu().numpy()
    return result
