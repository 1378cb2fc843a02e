"""A first pass over every batch of a torch module: which positions are tokens, of which streams, and what its layers do to ``q·k``.

Receives a module with its batches; gives sequences, and layers whose rules hold in every row of every batch. Positions that all
queries of all layers are kept from seeing hold no token, wherever they stand. A batch that attends by another rule than those
before it (another window, padding that a window counts, packed texts) is refused by name: one run has one rule a layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import flex_attention

from attnviz.capturing.agreement import Attended, Known, agree, is_packed, least, odd_row, shown_by
from attnviz.capturing.contract import Call
from attnviz.capturing.describe import described, numbered, told
from attnviz.capturing.run import BACKENDS
from attnviz.capturing.streams import LEARNED, Declared, Inputs, Lineage, declared_streams, named_streams, require_used
from attnviz.capturing.unseen import no_other_kernels
from attnviz.errors import CaptureError
from attnviz.models.loaded import Batch
from attnviz.models.module_sequences import Texts, require_texts, sequences_of_batch
from attnviz.models.torch_module import TorchModel, tensors_in
from attnviz.types import LayerInfo, TokenSequence

__all__ = ["Surveyed", "survey"]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What a first pass over every batch found."""

    sequences: tuple[TokenSequence, ...]
    batches: tuple[int, ...]  # the first sequence of each
    layers: tuple[LayerInfo, ...]
    kinds: tuple[int, ...]  # batches that differ in how they are masked, and the longest: what the check looks at
    notes: tuple[str, ...]  # what was assumed


@dataclass(frozen=True, slots=True)
class _Traced:
    """One attention of a batch, without what it computed, and the inputs that its queries and keys stand for."""

    call: Call
    query: Inputs
    key: Inputs
    masks: Inputs


_KINDS = 6  # batches that the check looks at, beside the longest


def survey(model: TorchModel, texts: Texts | None = None, streams: Declared | None = None) -> Surveyed:
    """Run a module on every batch once; see the module's docstring. Sets ``model.held``.

    Parameters
    ----------
    texts
        As for ``sequences_of_batch``.
    streams
        Which tokens attend where, if that cannot be told: see ``Declared``.

    Raises
    ------
    CaptureError
        If no attention can be seen, if batches differ in what a layer does, or if streams cannot be told.
    InputError
        As ``sequences_of_batch``.
    """
    sequences: list[TokenSequence] = []
    starts: list[int] = []
    known: list[Known] = []
    kinds: dict[Any, int] = {}
    longest = (0, 0)
    model.held = []
    for number in range(len(model.batches)):
        seam, seen = _watched(model, number, streams)
        held = _held(model, number, seen)
        starts.append(len(sequences))
        rows, kept = sequences_of_batch(number, held, texts, starts[-1])
        model.held.append(kept)
        sequences += rows
        batch = model.collate(rows)
        known = _joined(model, number, seam, seen, batch, known)
        kinds.setdefault(_kind(seen, batch), number)
        longest = max(longest, (max(len(row) for row in rows), -number))
    require_texts(texts, len(sequences))
    require_used(streams, [one.info.name for one in known])
    layers = numbered([one.info for one in known])
    chosen = sorted({*list(kinds.values())[:_KINDS], -longest[1]})
    return Surveyed(tuple(sequences), tuple(starts), layers, tuple(chosen), _notes(model, layers))


def _watched(model: TorchModel, number: int, declared: Declared | None) -> tuple[str, list[Attended]]:
    """Run a batch and return what was seen of its attentions, and by which seam."""
    given = model.batches[number]
    lineage = Lineage(given.inputs(model.module))
    found: dict[str, list[_Traced]] = {"sdpa": [], "softmax": []}
    masks = _Masks()

    def note(seam: str, call: Call) -> None:
        found[seam].append(
            _Traced(_bare(call, masks), lineage.of(call.query), lineage.of(call.key), lineage.masks(call))
        )

    with (
        _seen_through(model),
        lineage,
        BACKENDS["sdpa"]()(model.module, lambda call: note("sdpa", call), own="masks"),
        BACKENDS["softmax"]()(model.module, lambda call: note("softmax", call), own="masks"),
    ):
        model.call(given)
    seam = "sdpa" if found["sdpa"] else "softmax"
    if not found[seam]:
        raise CaptureError(
            f"{model.info.id} ({model.info.architecture}) ran batch {number}, and no softmax attention was seen: neither by "
            "scaled_dot_product_attention nor by a product that enters a softmax."
        )
    _require_one_way(model, found, seam)
    return seam, _with_streams(model, number, found[seam], declared)


@contextmanager
def _seen_through(model: TorchModel) -> Iterator[None]:
    """Refuse ways to attend that nothing can see into, rather than show what is beside them."""
    for name, part in model.module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise CaptureError(
                f"{model.info.id}: {name or 'the module'} was compiled by torch.jit, which cannot be seen into. Give the module "
                "that it was made from."
            )

    def refuse(*_: Any) -> None:
        raise CaptureError(
            f"{model.info.id} attends by flex_attention, which cannot be seen into. Let it attend by scaled_dot_product_attention "
            "while it is captured; a model of transformers does after model.set_attn_implementation('sdpa')."
        )

    with patch.object(flex_attention, "_validate_device", refuse), no_other_kernels(model.info.id):
        yield


def _require_one_way(model: TorchModel, found: dict[str, list[_Traced]], seam: str) -> None:
    """Make sure that no part of a module attends by hand beside what was seen; pooling into one token does not count."""
    missed = [one for one in found["softmax"] if seam != "softmax" and one.call.query.shape[2] > 1]
    if missed:
        mixed = any(isinstance(part, torch.nn.MultiheadAttention) for part in model.module.modules())
        raise CaptureError(
            f"{model.info.id} ({model.info.architecture}) attends in two ways, and one run cannot watch both: "
            f"{found[seam][0].call.name} calls scaled_dot_product_attention, {missed[0].call.name} multiplies by hand. "
            + (_SAME_WAY if mixed else "Let all of them attend in one way while the module is captured.")
        )


_SAME_WAY = (
    "torch's nn.MultiheadAttention does the one with need_weights=False and the other with need_weights=True: give all calls the "
    "same."
)


class _Masks:
    """What is added to logits, kept once where many layers are given the same."""

    def __init__(self) -> None:
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None  # as it was given, and the least of it

    def kept(self, added: torch.Tensor | None) -> torch.Tensor | None:
        """Return the least of what is added; see ``least``."""
        if added is None:
            return None
        if self._last is None or self._last[0] is not added:
            new = least(added)
            same = self._last is not None and self._last[1].dtype == new.dtype and torch.equal(self._last[1], new)
            self._last = (added, self._last[1] if same and self._last is not None else new)
        return self._last[1]


def _bare(call: Call, masks: _Masks) -> Call:
    """Return a call without what it computed."""
    query, key, value = (torch.empty_like(values, device="meta") for values in (call.query, call.key, call.value))
    return replace(
        call, query=query, key=key, value=value, added=masks.kept(call.added), weights=None, output=None, unrotated=None
    )


def _with_streams(model: TorchModel, number: int, seen: list[_Traced], declared: Declared | None) -> list[Attended]:
    """Give streams their names: those declared, none where all are of one, the inputs' otherwise."""
    where = f"{model.info.id}: batch {number}"
    try:
        pairs = named_streams([(one.query, one.key) for one in seen])
    except ValueError as error:
        raise CaptureError(
            f"{where}: of which stream some queries and keys are cannot be told: they come of {error}, which two streams share. "
            "Say which attend where with streams=."
        ) from error
    _require_led(model, number, seen, declared)
    pairs = [declared_streams(declared, one.call.name) or pair for one, pair in zip(seen, pairs, strict=True)]
    if len({name for pair in pairs for name in pair}) == 1 and not declared:
        pairs = [("", "") for _ in pairs]
    named = [Attended(one.call, query, key, one.masks) for one, (query, key) in zip(seen, pairs, strict=True)]
    if not declared:
        _require_told(where, named)
    _require_sequences(model, number, named)
    _require_widths(where, named)
    return named


def _require_widths(where: str, seen: Sequence[Attended]) -> None:
    """Make sure that a stream has as many positions wherever it attends."""
    widths: dict[str, tuple[int, str]] = {}
    for one in seen:
        for stream, tokens in ((one.query, one.call.query.shape[2]), (one.key, one.call.key.shape[2])):
            width, by = widths.setdefault(stream, (tokens, one.call.name))
            if width != tokens:
                raise CaptureError(
                    f"{where}: {one.call.name} attends over {tokens} positions{f' of {stream!r}' if stream else ''}, {by} "
                    f"over {width}: windows, merged, pooled or added tokens that attnviz does not know. If they are of "
                    "different streams, say it with streams=."
                )


def _require_led(model: TorchModel, number: int, seen: Sequence[_Traced], declared: Declared | None) -> None:
    """Refuse what no input leads to, where there are several that could be streams."""
    given = [name for name, tensor in tensors_in(model.batches[number].inputs(model.module)) if tensor.dim() > 1]
    if not declared and len(given) > 1 and not any(one.query or one.key for one in seen):
        raise CaptureError(
            f"{model.info.id}: batch {number}: which of the inputs {', '.join(given)} queries and keys are of cannot be told: what "
            "happens to them leaves torch, or is a function that cannot be seen into. Say it with streams={'*': 'tokens'}, or "
            "with streams={'*': ('queries', 'keys')}."
        )


def _require_told(where: str, seen: Sequence[Attended]) -> None:
    """Refuse what could be one stream or two."""
    for one in seen:
        name, tokens = one.call.name, one.call.key.shape[2]
        if LEARNED in (one.query, one.key) and one.query != one.key and one.call.query.shape[2] == tokens:
            raise CaptureError(
                f"{where}: whether queries and keys of {name} are of one stream of {tokens} tokens or of two cannot be told: "
                f"an input leads to only one of them. Say it with streams={{{name!r}: 'tokens'}}, or with "
                f"streams={{{name!r}: ('queries', 'keys')}}."
            )


def _require_sequences(model: TorchModel, number: int, seen: Sequence[Attended]) -> None:
    """Make sure that every attention is over the same sequences, and that they are the batch's."""
    given = model.batches[number]
    counts = {values.shape[0]: one.call.name for one in reversed(seen) for values in (one.call.key, one.call.query)}
    shapes = [tuple(tensor.shape) for _, tensor in tensors_in(given.inputs(model.module))]
    sizes = {size for shape in shapes for size in shape[:2]}
    wanted = None if model.batch_axis is None else model.size(given)
    sequences = seen[0].call.query.shape[0]
    if len(counts) > 1 or sequences not in sizes | {1} or wanted not in (None, sequences):
        told = " and ".join(f"{count} ({by})" for count, by in counts.items())
        said = "the inputs are of shape" if wanted is None else f"batch_axis={model.batch_axis} says {wanted} of"
        raise CaptureError(
            f"{model.info.id}: batch {number}: attention runs over {told} sequences, {said} {', '.join(map(str, shapes))}: "
            "windows, channels that attend apart, or a batch along another axis. Accepted is one sequence for each row of the "
            "batch: give channels as rows, or say which axis the batch is with batch_axis=."
        )


def _held(model: TorchModel, number: int, seen: Sequence[Attended]) -> dict[str, NDArray[np.bool_]]:
    """Return which positions some query may see, in some layer; an ``attention_mask`` may say that fewer are tokens."""
    sequences = seen[0].call.query.shape[0]
    held: dict[str, NDArray[np.bool_]] = {}
    keys = {one.key for one in seen}
    for one in seen:
        if one.query not in keys:  # nothing looks at them, so all count
            held.setdefault(one.query, np.ones((sequences, one.call.query.shape[2]), bool))
        wide = one.call.key.shape[2]
        shown = np.ones((sequences, wide), bool)
        if one.call.added is not None:
            visible_keys = shown_by(one.call.added).any(dim=2).any(dim=1).cpu().numpy()
            shown = np.broadcast_to(visible_keys, (sequences, wide))
        held[one.key] = held.get(one.key, np.zeros((sequences, wide), bool)) | shown
    ordered = {name: held[name] for one in seen for name in (one.query, one.key)}
    mask = model.batches[number].inputs(model.module).get("attention_mask")
    if len(ordered) == 1 and isinstance(mask, torch.Tensor):
        ((name, places),) = ordered.items()
        if mask.shape == places.shape:
            ordered[name] = places & (mask != 0).cpu().numpy()
    return ordered


def _joined(
    model: TorchModel, number: int, seam: str, seen: Sequence[Attended], batch: Batch, known: list[Known]
) -> list[Known]:
    """Make sure that the rules known so far hold in this batch, or replace them by rules that hold in all of them."""
    if known and [one.info.name for one in known] != [one.call.name for one in seen]:
        raise CaptureError(
            f"{model.info.id}: batch {number} runs {len(seen)} attentions, the batches before it {len(known)} or others "
            f"({seen[0].call.name} is its first): one run has the same layers throughout."
        )
    result: list[Known] = []
    for place, one in enumerate(seen):
        longest = max(batch.lengths[one.query]), max(batch.lengths[one.key])
        before = known[place] if known else None
        if before is not None and _same_shape(before.info, one) and odd_row(before.info, one, batch) is None:
            result.append(_seen_too(before, longest, one.call.key.shape[1]))
            continue
        try:
            info = described(one.call, batch, (one.query, one.key), seam=seam)
        except CaptureError as error:
            row = int(np.argmax(batch.lengths[one.query]))
            raise CaptureError(f"{_where(model, number, row, one)}: {error}") from error
        odd = odd_row(info, one, batch)
        if odd is not None:
            raise CaptureError(_unlike(model, number, odd, one, info, batch))
        if before is not None and not agree(before, info):
            row = odd_row(before.info, one, batch) or 0
            raise CaptureError(
                f"{_where(model, number, row, one)}: {info.name} attends with {told(info)}, in batch {before.batch} with "
                f"{told(before.info)}. One run has one rule a layer: capture such batches into runs of their own."
            )
        fresh = Known(info, *longest, number)
        result.append(
            fresh if before is None else _seen_too(fresh, (before.queries, before.keys), before.info.num_kv_heads)
        )
    return result


def _seen_too(known: Known, longest: tuple[int, int], kv_heads: int) -> Known:
    """Return what is known of a layer after batches in which its rule holds; some hand over the keys of each query head."""
    info = replace(known.info, num_kv_heads=max(known.info.num_kv_heads, kv_heads))
    return replace(known, info=info, queries=max(known.queries, longest[0]), keys=max(known.keys, longest[1]))


def _same_shape(info: LayerInfo, one: Attended) -> bool:
    call = one.call
    given = (call.query.shape[1], call.query.shape[-1], one.query, one.key)
    return given == (info.num_heads, info.head_dim, info.query_stream, info.key_stream) and bool(
        np.isclose(call.scaling, info.scaling) and call.softcap == info.softcap
    )


def _where(model: TorchModel, number: int, row: int, one: Attended) -> str:
    masks = f", masked by its input {' and '.join(one.masks)}" if one.masks else ""
    return f"{model.info.id}: batch {number}, row {row}{masks}"


def _unlike(model: TorchModel, number: int, row: int, one: Attended, info: LayerInfo, batch: Batch) -> str:
    """Say in which row a batch differs from its own longest row."""
    where = f"{_where(model, number, row, one)}: {info.name}"
    if is_packed(one, row, batch):
        return (
            f"{where} keeps parts of the row from seeing each other: packed texts, or texts of one batch packed in different ways. "
            "Give each text a row of its own."
        )
    return (
        f"{where} hides other keys, or adds something else to its logits, than by {told(info)}, which is what the longest sequence "
        "of the batch shows: padding in the middle or on the left that the rule counts, or masks that differ from row to row."
    )


def _kind(seen: Sequence[Attended], batch: Batch) -> tuple[Any, ...]:
    """Return what tells apart batches that a check should both look at."""
    padded = tuple(
        len(set(counts)) > 1 or max(counts) < batch.width(stream) for stream, counts in batch.lengths.items()
    )
    return (
        padded,
        tuple(batch.places),
        tuple(None if one.call.added is None else (one.call.added.dtype, one.call.added.shape[:2]) for one in seen),
    )


def _notes(model: TorchModel, layers: Sequence[LayerInfo]) -> tuple[str, ...]:
    """Say what was assumed."""
    streams = dict.fromkeys(name for info in layers for name in (info.query_stream, info.key_stream))
    notes = ["Batches ran whole, as they were given; a sequence is a row of what attends."]
    if len(streams) > 1:
        notes.append(f"Streams, told by the inputs that queries and keys come from: {', '.join(streams)}.")
    if any(not places.all() for held in model.held for places in held.values()):
        notes.append("Positions that no query may see, in any layer, were taken for padding.")
    return tuple(notes)
