"""Encoder-decoders of transformers, such as T5, BART and Marian: two streams of tokens, ``encoder`` and ``decoder``.

A record's text goes into the encoder. The decoder reads the record's pair as in training, shifted by one behind the start
token; with ``generate`` and without a pair, it reads what it writes itself, greedily.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from attnviz.errors import InputError, ModelError
from attnviz.models import generating
from attnviz.models.loaded import Batch, place_model, running, stream_lengths
from attnviz.models.reading_tokens import TokenReader
from attnviz.models.tokenizing import (
    Tokens,
    padded,
    prepared,
    require_known,
    require_text,
    require_tokens,
    table_rows,
    token_device,
    tokenize,
    tokens_at_most,
    tokens_held,
)
from attnviz.models.transformers_files import from_pretrained, info_of, load_weights
from attnviz.models.transformers_inputs import TEXT, also_reads, require_readable
from attnviz.types import ModelSpec, Record, TokenSequence, TokenText

__all__ = ["DECODER", "ENCODER", "EncoderDecoder", "load"]

ENCODER, DECODER = "encoder", "decoder"


def load(spec: ModelSpec, place: str, *, generate: int = 0) -> "EncoderDecoder":
    """Load an encoder-decoder and its tokenizer. Raises ``ModelError`` if either cannot be had, or reads no text."""
    config = from_pretrained(transformers.AutoConfig, spec, place)
    mapping = transformers.AutoModelForSeq2SeqLM._model_mapping
    require_readable(config, spec, TEXT)
    if type(config) not in mapping and not hasattr(config, "auto_map"):
        raise ModelError(
            f"{spec.id} is a {config.model_type}, an encoder-decoder that writes no text. Accepted are those of text, such "
            "as T5, BART and Marian."
        )
    tokenizer = from_pretrained(transformers.AutoTokenizer, spec, place)
    factory = transformers.AutoModelForSeq2SeqLM if generate else transformers.AutoModel
    return EncoderDecoder(load_weights(factory, spec, place), tokenizer, spec, generate=generate)


class EncoderDecoder:
    """A model with an encoder and a decoder of text, and its tokenizer.

    Parameters
    ----------
    model
        A transformers encoder-decoder; with its language-model head where ``generate`` is more than 0.
    tokenizer
        Its tokenizer.
    generate
        How many tokens the model writes, greedily, for a record without a pair.
    """

    windows: Mapping[str, NDArray[np.int32]] = MappingProxyType({})

    def __init__(self, model: Any, tokenizer: Any, spec: ModelSpec, *, generate: int = 0) -> None:
        self.tokenizer = prepared(tokenizer, model, spec.id)
        self.reader = TokenReader(self.tokenizer)
        self.head: Any = place_model(model, spec)
        self.module: Any = model.base_model  # of T5 with its head, the same
        self.generate = generate
        self.unread = also_reads(model.config)
        self._rows = None if model.config.model_type == "fsmt" else table_rows(model)  # it has two tables
        held = tokens_held(self.module, self.tokenizer, spec.id, "input_ids", "decoder_input_ids")
        self.max_length = tokens_at_most(model.config, tokenizer, held)
        self.info = info_of(self.module, spec, "text")
        self._decoder_length = self.max_length and self.max_length - 1  # ``collate`` may need one more
        generating.room(generate + len(generating.begins_with(model)) - 1, self._decoder_length, spec.id)

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Tokenise a text for the encoder and its pair for the decoder, each cut at ``max_length``.

        Raises
        ------
        InputError
            For an image, or if either stream has no token.
        """
        limit = min(filter(None, (max_length, self.max_length)), default=None)
        last = min(filter(None, (max_length, self._decoder_length)), default=None)
        read = tokenize(self.tokenizer, require_text(record, self.info), limit=limit)
        require_tokens(record, read)
        require_known(record, read, self.reader, self._rows)
        said = self._given(record.pair, last) if record.pair is not None else self._written(record, read)
        require_known(record, said, self.reader, self._rows)
        total = read.ids.size + said.ids.size
        nowhere = np.full(total, -1, np.int16)
        given = total if record.pair is not None else read.ids.size + len(generating.begins_with(self.head))
        return TokenSequence(
            record=record,
            tokens=self._said(read) + self._said(said),
            input_ids=np.concatenate([read.ids, said.ids]),
            is_special=np.concatenate([read.is_special, said.is_special]),
            segment=np.zeros(total, np.int8),
            patch_row=nowhere,
            patch_col=nowhere,
            truncated=read.truncated or said.truncated,
            streams={ENCODER: read.ids.size, DECODER: said.ids.size},
            is_generated=np.arange(total) >= given,
        )

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Pad both streams on the right, to different lengths: attention tells by its length which of them it reads."""
        lengths = stream_lengths(sequences)
        encoder, decoder = max(lengths[ENCODER]), max(lengths[DECODER])
        decoder += decoder == encoder
        starts = [sequence.streams[ENCODER] for sequence in sequences]
        read = [sequence.input_ids[:start] for sequence, start in zip(sequences, starts, strict=True)]
        said = [sequence.input_ids[start:] for sequence, start in zip(sequences, starts, strict=True)]
        filler, device = self.tokenizer.pad_token_id, token_device(self.module)
        ids, mask = padded(read, encoder, filler, device)
        decoder_ids, decoder_mask = padded(said, decoder, filler, device)
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "decoder_input_ids": decoder_ids,
            "decoder_attention_mask": decoder_mask,
        }
        return Batch(inputs, lengths, {ENCODER: encoder, DECODER: decoder})

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model; return the decoder's last hidden state ``(batch, tokens, channels)``."""
        with running(self.module, self.info.id):
            if self.module.get_output_embeddings() is None:
                output: torch.Tensor = self.module(**batch.inputs, use_cache=False)[0]
                return output
            last: torch.Tensor = self.module(
                **batch.inputs, use_cache=False, output_hidden_states=True
            ).decoder_hidden_states[-1]
        return last

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return None: a text has no picture."""
        return None

    def _said(self, tokens: Tokens) -> tuple[TokenText, ...]:
        """Return what the tokens of one stream say."""
        return self.reader.read(tokens.ids, tokens.is_special, places=tokens.places)

    def _given(self, pair: str, limit: int | None) -> Tokens:
        """Return what the decoder reads when it is taught to say ``pair``."""
        labels = tokenize(self.tokenizer, None, text_target=pair, limit=limit)
        ids = _shifted(self.head.config, labels.ids)
        special = np.isin(ids, self.tokenizer.all_special_ids) | (np.arange(ids.size) == 0)
        return Tokens(ids, special, np.zeros(ids.size, np.int8), labels.truncated)

    def _written(self, record: Record, read: Tokens) -> Tokens:
        """Return what the decoder begins with and then writes."""
        if not self.generate:
            raise InputError(
                f"{record.reference} has no second text, and the decoder of {self.info.id} has nothing to read. Name the "
                "column of the target texts with data.pair_column, or let the model write them with capture.generate = 20."
            )
        begin = generating.begins_with(self.head)
        device = token_device(self.module)
        text = torch.tensor(read.ids[None].astype(np.int64), device=device)
        seen = torch.ones_like(text)
        with torch.no_grad():
            encoded = {"encoder_outputs": self.head.get_encoder()(text, attention_mask=seen), "attention_mask": seen}
        said = generating.write(self.head, torch.tensor([begin], device=device), self.generate, encoded)
        ids = np.array([*begin, *said], np.int32)
        special = np.isin(ids, self.tokenizer.all_special_ids) | (np.arange(ids.size) < len(begin))
        return Tokens(ids, special, np.zeros(ids.size, np.int8), truncated=False)


def _shifted(config: Any, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return what the decoder reads to say ``labels``: each token one place later, behind the start token.

    Where the configuration has no start token, the last one goes first: mBART's way, whose labels end in their language.
    """
    start = getattr(config, "decoder_start_token_id", None)
    return np.concatenate([labels[-1:] if start is None else [start], labels[:-1]]).astype(np.int32)
