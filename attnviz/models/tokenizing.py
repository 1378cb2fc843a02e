"""From a text to token ids: shared by every model that has a tokenizer. What they say is read by ``reading_tokens``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.errors import InputError, ModelError
from attnviz.models.positions import positions_held
from attnviz.models.reading_tokens import Places, TokenReader
from attnviz.types import ModelInfo, Record, TokenSequence

__all__ = [
    "Tokens",
    "padded",
    "prepared",
    "require_known",
    "require_text",
    "require_tokens",
    "table_rows",
    "text_sequence",
    "token_device",
    "tokenize",
    "tokens_at_most",
    "tokens_held",
]

_POSITIONS = ("max_position_embeddings", "n_positions", "max_encoder_position_embeddings")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised text. Every array has one entry per token."""

    ids: NDArray[np.int32]
    is_special: NDArray[np.bool_]
    segment: NDArray[np.int8]  # 0, or 1 for the second text of a pair
    truncated: bool
    places: Places | None = None  # where they stand in the text, where the tokenizer says so


def prepared(tokenizer: Any, module: Any, name: str) -> Any:
    """Return a tokenizer that pads on the right, if it belongs to the model.

    Raises
    ------
    ModelError
        If it knows more tokens than the model.
    """
    rows = table_rows(module)
    if rows is not None and tokenizer.vocab_size > _MORE * rows:
        raise ModelError(
            f"The tokenizer of {name} has {tokenizer.vocab_size:,} tokens but the model only {rows:,}: they do not belong "
            "together. Give a folder that holds both."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    if rows is not None and tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)  # nothing sees it, but the table must have it
    tokenizer.padding_side = "right"
    return tokenizer


_MORE = 1.1  # times the tokens of a model: with more a tokenizer is that of another; a few may have been added and never trained


def table_rows(module: Any) -> int | None:
    """Return how many tokens a model knows; None where it has no table of them."""
    rows: int | None = getattr(_embedding(module), "num_embeddings", None)
    return rows


def require_known(record: Record, tokens: Tokens, reader: TokenReader, rows: int | None) -> None:
    """Raise ``InputError`` if a text has a token that the model does not know, though its tokenizer does."""
    if rows is not None and tokens.ids.size and int(tokens.ids.max()) >= rows:
        place = int(tokens.ids.argmax())
        said = reader.read(tokens.ids, tokens.is_special)[place].text
        raise InputError(
            f"{record.reference} has the token {said!r}, number {tokens.ids[place]} of the tokenizer, but the model knows only "
            f"{rows:,} tokens. Leave that out of the text, or give a tokenizer without it."
        )


def tokenize(tokenizer: Any, text: str | None, pair: str | None = None, *, limit: int | None, **more: Any) -> Tokens:
    """Tokenise a text or a pair, cut at ``limit``. With ``text_target=`` it is what a decoder is to say."""
    options: dict[str, Any] = {"return_attention_mask": False, "return_special_tokens_mask": True, **more}
    given = () if text is None else (text, pair)
    encoding = tokenizer(*given, truncation=limit is not None, max_length=limit, **options)
    ids = np.asarray(encoding["input_ids"], np.int32)
    if getattr(tokenizer, "is_fast", False):
        fast = encoding.encodings[0]
        special, segment = encoding["special_tokens_mask"], _segments(fast.sequence_ids)
        places = Places((more.get("text_target"),) if text is None else (text, pair), fast)
        return Tokens(ids, np.asarray(special, bool), segment, bool(fast.overflowing), places)
    whole = tokenizer(*given, **options) if limit is not None else encoding
    types = encoding.get("token_type_ids") or np.zeros(ids.size)
    special = np.isin(ids, tokenizer.all_special_ids)
    return Tokens(ids, special, np.asarray(types, np.int8), len(whole["input_ids"]) > ids.size)


def require_text(record: Record, info: ModelInfo) -> str:
    """Return a record's text. Raises ``InputError`` if it is an image."""
    if record.text is None:
        raise InputError(
            f"{record.reference} is an image, but {info.id} reads text. Choose an image model or a text column."
        )
    return record.text


def require_tokens(record: Record, tokens: Tokens) -> None:
    """Raise ``InputError`` if a record's text gave none."""
    if not tokens.ids.size:
        raise InputError(f"{record.reference} gives no token: its text is empty. Give every row a text.")


def text_sequence(record: Record, tokens: Tokens, reader: TokenReader) -> TokenSequence:
    """Return the tokens of a record's text as a sequence. Raises ``InputError`` if there are none."""
    require_tokens(record, tokens)
    nowhere = np.full(tokens.ids.size, -1, np.int16)
    return TokenSequence(
        record=record,
        tokens=reader.read(tokens.ids, tokens.is_special, segment=tokens.segment, places=tokens.places),
        input_ids=tokens.ids,
        is_special=tokens.is_special,
        segment=tokens.segment,
        patch_row=nowhere,
        patch_col=nowhere,
        truncated=tokens.truncated,
    )


def padded(
    rows: Sequence[NDArray[np.integer]], width: int, filler: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows filled up on the right, and where they hold something: ``(rows, width)`` each."""
    values = np.full((len(rows), width), filler, np.int64)
    mask = np.zeros(values.shape, np.int64)
    for index, row in enumerate(rows):
        values[index, : row.size] = row
        mask[index, : row.size] = 1
    return torch.from_numpy(values).to(device), torch.from_numpy(mask).to(device)


def tokens_at_most(config: Any, tokenizer: Any, held: int | None = None) -> int | None:
    """Return how many tokens the model takes; tokenizers without a limit claim 10³⁰, which is no limit.

    Parameters
    ----------
    held
        How many its tables of positions hold, as ``tokens_held`` found.
    """
    positions = next((found for name in _POSITIONS if (found := getattr(config, name, None))), None)
    limits = [limit for limit in (positions, held, tokenizer.model_max_length) if limit and 0 < limit < 10**9]
    return min(limits, default=None)


def tokens_held(module: Any, tokenizer: Any, name: str, *streams: str) -> int | None:
    """Run a model on a few tokens; return how many it has positions for, None if no table limits them.

    Parameters
    ----------
    streams
        Names of its inputs; ``input_ids``, if none is given.

    Raises
    ------
    ModelError
        If it cannot run on tokens alone.
    """
    ids = torch.full((1, _TRIED), _plain_id(tokenizer), device=token_device(module))
    return positions_held(module, dict.fromkeys(streams or ("input_ids",), ids), name)


_TRIED = 5  # tokens


def _plain_id(tokenizer: Any) -> int:
    """Return the first token of a vocabulary that means no more than itself."""
    special = set(tokenizer.all_special_ids)
    return next((number for number in range(len(tokenizer)) if number not in special), 0)


def _embedding(module: Any) -> Any | None:
    """Return a model's table of tokens; None where it has none (CANINE hashes characters)."""
    try:
        return getattr(module, "text_model", module).get_input_embeddings()
    except NotImplementedError:
        return None


def token_device(module: Any) -> torch.device:
    """Return where token ids belong: with a device map, parts of a model are on different devices."""
    table = _embedding(module)
    found: torch.device = next((module if table is None else table).parameters()).device
    return found


def _segments(sequence_ids: Sequence[int | None]) -> NDArray[np.int8]:
    """Give special tokens the segment of the text before them, as BERT does."""
    segments, current = [], 0
    for index in sequence_ids:
        current = current if index is None else index
        segments.append(current)
    return np.asarray(segments, np.int8)
