"""Models of transformers that read an image and a text together: pairs of towers (CLIP, SigLIP), and LLaVA.

CLIP and SigLIP give the streams ``text`` and ``vision``, which never see each other. LLaVA gives ``vision``, the tokens of its
tower, and ``language``, the tokens of its language model: the text, with the patches of the image in the place of ``<image>``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from attnviz.errors import InputError, ModelError
from attnviz.models.images import Layout, Stage, blank_image, image_tokens
from attnviz.models.loaded import Batch, decoded, picture, place_model, running, stream_lengths
from attnviz.models.reading_tokens import TokenReader
from attnviz.models.tokenizing import padded, prepared, text_sequence, token_device, tokenize, tokens_at_most
from attnviz.models.transformers_files import from_pretrained, info_of, load_weights
from attnviz.types import ModelSpec, Record, TokenSequence

__all__ = ["LLAVA", "PAIRS", "LlavaLike", "TwoTowers", "load", "reads_both"]

PAIRS = ("clip", "siglip")
"""Model types of two towers."""

LLAVA = ("llava",)
"""Model types whose language model reads patches of one tower with a fixed grid."""

_Stream = tuple[str, TokenSequence, NDArray[np.bool_]]  # its name, its tokens, and which of them are of the image


def reads_both(config: Any) -> bool:
    """Tell whether a configuration is that of a model which is run here. Others that take text alone run as texts."""
    return getattr(config, "model_type", None) in (*PAIRS, *LLAVA)


def load(spec: ModelSpec, place: str) -> "TwoTowers":
    """Load a model of image and text with its processor. Raises ``ModelError`` if either cannot be had."""
    processor = from_pretrained(transformers.AutoProcessor, spec, place)
    module = load_weights(transformers.AutoModel, spec, place)
    kind = LlavaLike if module.config.model_type in LLAVA else TwoTowers
    return kind(module, processor, spec)


class TwoTowers:
    """A pair of a text tower and a vision tower, with the processor of both.

    Parameters
    ----------
    module
        A transformers model whose forward takes ``input_ids`` and ``pixel_values``.
    processor
        What holds its ``tokenizer`` and its ``image_processor``.
    """

    windows: Mapping[str, NDArray[np.int32]] = MappingProxyType({})
    text_stream = "text"

    def __init__(self, module: Any, processor: Any, spec: ModelSpec) -> None:
        self.tokenizer = prepared(processor.tokenizer, module, spec.id)
        self.reader = TokenReader(self.tokenizer)
        self.processor = processor.image_processor
        self.module: Any = place_model(module, spec)
        self.max_length = tokens_at_most(module.config.text_config, self.tokenizer)
        self.layout = self._layout()
        self.info = info_of(module, spec, "text+image", self.layout.stages[0].grid)

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Tokenise the text, cut at ``max_length``, and name the patches of the image.

        Raises
        ------
        InputError
            If the record lacks either, or its text gives no token.
        """
        if record.text is None or record.image is None:
            raise InputError(
                f"{record.reference} is {'an image' if record.text is None else 'a text'} alone, but {self.info.id} reads both. "
                "Name the columns of a table with data.column and data.image_column."
            )
        limit = min(filter(None, (max_length, self.max_length)), default=None)
        return _joined(record, self._streams(record, record.text, limit))

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Pad the texts on the right, never to as many tokens as an image has: attention tells by its length what it reads."""
        lengths = stream_lengths(sequences)
        texts = [sequence.input_ids[self._text_part(sequence)] for sequence in sequences]
        width = max(lengths[self.text_stream])
        width += width == lengths["vision"][0]
        ids, mask = padded(texts, width, self.tokenizer.pad_token_id, token_device(self.module))
        pixels = torch.stack([self._pixels(sequence.record) for sequence in sequences])
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "pixel_values": pixels.to(self._tower.device, self._tower.dtype),
        }
        return Batch(inputs, lengths, {self.text_stream: width})

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run both towers; return what each makes of a sequence, text first, ``(batch, 2, channels)``."""
        with running(self.module, self.info.id):
            output = self.module(**batch.inputs)
            return torch.stack([output.text_embeds, output.image_embeds.to(output.text_embeds.device)], dim=1)

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return the image as the model sees it."""
        return picture(self._pixels(sequence.record), self.processor.image_mean, self.processor.image_std)

    def _streams(self, record: Record, text: str, limit: int | None) -> list[_Stream]:
        """Return the streams of a record in their order."""
        seen = image_tokens(record, self.layout)
        tokens = tokenize(self.tokenizer, text, limit=limit, **self._as_trained(limit))
        read = text_sequence(record, tokens, self.reader)
        return [("text", read, np.zeros(len(read), bool)), ("vision", seen, np.ones(len(seen), bool))]

    def _as_trained(self, limit: int | None) -> dict[str, Any]:
        """Return how SigLIP reads texts: padded to one length, and its queries see the padding, which are tokens then."""
        siglip = self.module.config.model_type == "siglip" and limit is not None
        return {"padding": "max_length"} if siglip else {}

    def _text_part(self, sequence: TokenSequence) -> slice:
        """Return where the tokens of the text stream stand in a sequence."""
        start = 0
        for name, length in sequence.streams.items():
            if name == self.text_stream:
                return slice(start, start + length)
            start += length
        raise KeyError(self.text_stream)

    def _pixels(self, record: Record) -> torch.Tensor:
        image = decoded(record)
        channels = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        made = self.processor(channels, return_tensors="pt", input_data_format="channels_last")
        pixels: torch.Tensor = made["pixel_values"][0]
        return pixels

    @property
    def _tower(self) -> Any:
        return self.module.vision_model

    def _layout(self) -> Layout:
        """Run one blank image through the tower: what is more than the patches of the grid is special, and comes first."""
        blank = self._pixels(blank_image())
        patch = self.module.config.vision_config.patch_size
        rows, cols = blank.shape[-2] // patch, blank.shape[-1] // patch
        with running(self.module, self.module.config.model_type):
            seen = self._tower(blank[None].to(self._tower.device, self._tower.dtype))
        special = ("[CLS]",) * (seen.last_hidden_state.shape[1] - rows * cols)
        return Layout((Stage((rows, cols), special),))


class LlavaLike(TwoTowers):
    """A language model that reads the patches of a vision tower among its words. Arguments as for ``TwoTowers``."""

    text_stream = "language"

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run tower and language model; return the latter's last hidden state ``(batch, tokens, channels)``."""
        with running(self.module, self.info.id):
            output: torch.Tensor = self.module(**batch.inputs, use_cache=False)[0]
        return output

    @property
    def _tower(self) -> Any:
        return self.module.vision_tower

    def _streams(self, record: Record, text: str, limit: int | None) -> list[_Stream]:
        seen = image_tokens(record, self.layout)
        kept = seen if self.module.config.vision_feature_select_strategy == "full" else _patches(seen)
        tokens = tokenize(self.tokenizer, self._prompt(record, text, len(kept)), limit=limit)
        read = text_sequence(record, tokens, self.reader)
        is_patch = read.input_ids == self.module.config.image_token_id
        if is_patch.sum() != len(kept):
            raise InputError(
                f"{record.reference}: {limit} tokens do not hold the {len(kept)} of its image. Raise data.max_length."
            )
        return [("vision", seen, np.ones(len(seen), bool)), ("language", _with_patches(read, kept, is_patch), is_patch)]

    def _prompt(self, record: Record, text: str, patches: int) -> str:
        """Return a text with as many image tokens as the image has patches; they come first if the text does not say where."""
        number = self.module.config.image_token_id
        mark: str | None = self.tokenizer.convert_ids_to_tokens(number)
        if mark is None:
            raise ModelError(
                f"The tokenizer of {self.info.id} has no token {number}, which config.json names as that of an image: they do not "
                "belong together. Give a folder that holds both."
            )
        if text.count(mark) > 1:
            raise InputError(f"{record.reference} has {text.count(mark)} times {mark}, but one image. Keep one.")
        return (text if mark in text else f"{mark}\n{text}").replace(mark, mark * patches)


def _patches(seen: TokenSequence) -> TokenSequence:
    """Return an image's tokens without the special ones."""
    first = int(seen.is_special.sum())
    arrays = ("input_ids", "is_special", "segment", "patch_row", "patch_col")
    return replace(seen, tokens=seen.tokens[first:], **{name: getattr(seen, name)[first:] for name in arrays})


def _with_patches(read: TokenSequence, patches: TokenSequence, where: NDArray[np.bool_]) -> TokenSequence:
    """Return a text's tokens, of which those at ``where`` are patches: they keep the id of the image token."""
    tokens, special = np.array(read.tokens, dtype=object), read.is_special.copy()
    rows, cols = read.patch_row.copy(), read.patch_col.copy()
    tokens[where], special[where] = list(patches.tokens), patches.is_special
    rows[where], cols[where] = patches.patch_row, patches.patch_col
    return replace(read, tokens=tuple(tokens), is_special=special, patch_row=rows, patch_col=cols)


def _joined(record: Record, streams: Sequence[_Stream]) -> TokenSequence:
    """Return one sequence of several streams, one behind the other."""
    parts = [own for _, own, _ in streams]

    def together(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    return TokenSequence(
        record=record,
        tokens=tuple(token for part in parts for token in part.tokens),
        input_ids=together("input_ids"),
        is_special=together("is_special"),
        segment=together("segment"),
        patch_row=together("patch_row"),
        patch_col=together("patch_col"),
        truncated=any(part.truncated for part in parts),
        streams={name: len(tokens) for name, tokens, _ in streams},
        is_image=np.concatenate([is_image for _, _, is_image in streams]),
    )
