"""Language models of transformers: ``AutoModel`` with its fast tokenizer."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from attnviz.errors import InputError, ModelError
from attnviz.models.loaded import Batch, place_model, stream_lengths
from attnviz.models.transformers_files import from_pretrained
from attnviz.types import ModelInfo, ModelSpec, Record, TokenSequence

__all__ = ["TextModel", "load"]


def load(spec: ModelSpec, place: str) -> "TextModel":
    """Load a language model and its tokenizer. Raises ``ModelError`` if either cannot be had."""
    config = from_pretrained(transformers.AutoConfig, spec, place)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{spec.id} is an encoder-decoder ({config.model_type}), which is not supported: give an encoder or a decoder."
        )
    tokenizer = from_pretrained(transformers.AutoTokenizer, spec, place)
    module = from_pretrained(transformers.AutoModel, spec, place, dtype=getattr(torch, spec.dtype))
    return TextModel(module, tokenizer, spec)


class TextModel:
    """A language model with its tokenizer.

    Parameters
    ----------
    module
        Any transformers model whose forward takes ``input_ids``; tests pass tiny ones that were never saved.
    tokenizer
        A fast tokenizer.
    """

    windows: Mapping[str, NDArray[np.int32]] = MappingProxyType({})

    def __init__(self, module: Any, tokenizer: Any, spec: ModelSpec) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"{spec.id} has only a slow tokenizer; attnviz needs a fast one (tokenizer.json) to align tokens."
            )
        if len(tokenizer) > (rows := module.get_input_embeddings().num_embeddings):
            raise ModelError(
                f"The tokenizer of {spec.id} has {len(tokenizer):,} tokens but the model only {rows:,}: they do not belong "
                "together. Give a folder that holds both."
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
        tokenizer.padding_side = "right"
        self.module: Any = place_model(module, spec)
        self.tokenizer = tokenizer
        self.max_length = _max_length(module.config, tokenizer)
        self.info = ModelInfo(
            id=spec.id,
            library="transformers",
            architecture=type(module).__name__,
            modality="text",
            revision=spec.revision or getattr(module.config, "_commit_hash", None),
            dtype=spec.dtype,
            num_parameters=sum(weight.numel() for weight in module.parameters()),
        )

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Tokenise a text or a pair. Raises ``InputError`` for an image, or if no token comes out."""
        if record.text is None:
            raise InputError(
                f"{record.reference} is an image, but {self.info.id} reads text. Choose an image model or a text column."
            )
        limit = min(filter(None, (max_length, self.max_length)), default=None)
        encoding = self.tokenizer(
            record.text,
            record.pair,
            truncation=limit is not None,
            max_length=limit,
            return_special_tokens_mask=True,
            return_attention_mask=False,
        )
        ids = np.asarray(encoding["input_ids"], np.int32)
        if not ids.size:
            raise InputError(f"{record.reference} gives no token.")
        segments = encoding.encodings[0].sequence_ids
        nowhere = np.full(ids.size, -1, np.int16)
        return TokenSequence(
            record=record,
            texts=tuple(self._text(int(i)) for i in ids),
            input_ids=ids,
            is_special=np.asarray(encoding["special_tokens_mask"], bool),
            segment=_segments(segments),
            patch_row=nowhere,
            patch_col=nowhere,
            truncated=bool(encoding.encodings[0].overflowing),
        )

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Pad on the right; the segment goes in where the model has token types."""
        device = next(self.module.parameters()).device
        shape = (len(sequences), max(map(len, sequences)))
        ids = np.full(shape, self.tokenizer.pad_token_id, np.int64)
        mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = sequence.input_ids
            types[row, : len(sequence)] = sequence.segment
            mask[row, : len(sequence)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self.tokenizer.model_input_names:
            inputs["token_type_ids"] = types
        return Batch({name: torch.from_numpy(values).to(device) for name, values in inputs.items()}, stream_lengths(sequences))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model; return its last hidden state ``(batch, tokens, channels)``."""
        with torch.inference_mode():
            output: torch.Tensor = self.module(**batch.inputs, **({"use_cache": False} if self._caches else {}))[0]
        return output

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return None: a text has no picture."""
        return None

    @property
    def _caches(self) -> bool:
        return getattr(self.module.config, "use_cache", None) is not None

    def _text(self, vocab_id: int) -> str:
        """Return a token as people read it: word pieces keep their mark, byte-level tokens become the text they stand for."""
        piece: str = self.tokenizer.convert_ids_to_tokens(vocab_id)
        if not set(piece) & {"Ġ", "Ċ", "▁"} and piece.isascii():
            return piece
        text: str = self.tokenizer.decode([vocab_id], clean_up_tokenization_spaces=False)
        text = f" {text}" if piece.startswith("▁") and not text.startswith(" ") else text
        return piece if "\ufffd" in text or not text else text


def _segments(sequence_ids: Sequence[int | None]) -> NDArray[np.int8]:
    """Give special tokens the segment of the text before them, as BERT does."""
    segments, current = [], 0
    for index in sequence_ids:
        current = current if index is None else index
        segments.append(current)
    return np.asarray(segments, np.int8)


def _max_length(config: Any, tokenizer: Any) -> int | None:
    """Return how many tokens the model takes; tokenizers without a limit claim 10³⁰, which is no limit."""
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if positions and config.model_type in {"roberta", "xlm-roberta", "camembert"}:
        positions -= config.pad_token_id + 1  # their positions are counted from behind the padding token
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit and 0 < limit < 10**9]
    return min(limits, default=None)
