"""Language models of transformers that read one stream of tokens: ``AutoModel`` with its tokenizer.

With ``generate``, a decoder is loaded with its language-model head, and every sequence goes on with what the model writes.
Otherwise a checkpoint that was trained to classify is loaded with its classification head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from attnviz.errors import ModelError
from attnviz.models import generating
from attnviz.models.checkpoints import tokens_of_sentences
from attnviz.models.classifying import HeadClassifier, load_model
from attnviz.models.loaded import Batch, classifying, place_model, running, stream_lengths
from attnviz.models.reading_tokens import TokenReader
from attnviz.models.tokenizing import (
    Tokens,
    padded,
    prepared,
    require_known,
    require_text,
    table_rows,
    text_sequence,
    token_device,
    tokenize,
    tokens_at_most,
    tokens_held,
)
from attnviz.models.transformers_files import from_pretrained, info_of, load_weights
from attnviz.models.transformers_inputs import TEXT, also_reads, require_readable
from attnviz.types import ModelSpec, Record, TokenSequence

__all__ = ["TextModel", "load"]


def load(spec: ModelSpec, place: str, *, generate: int = 0) -> "TextModel":
    """Load a language model and its tokenizer.

    Raises
    ------
    ModelError
        If either cannot be had, or if ``generate`` is given and the model cannot write.
    """
    config = from_pretrained(transformers.AutoConfig, spec, place)
    require_readable(config, spec, TEXT)
    tokenizer = from_pretrained(transformers.AutoTokenizer, spec, place)
    if (most := tokens_of_sentences(place)) is not None:
        tokenizer.model_max_length = min(most, tokenizer.model_max_length)
    if not generate:
        factory = transformers.AutoModelForSequenceClassification
        inputs = {"input_ids", "attention_mask", *_segments(tokenizer)}
        module, classifier = load_model(factory, config, spec, place, inputs)
        return TextModel(module, tokenizer, spec, classifier=classifier)
    if type(config) not in transformers.AutoModelForCausalLM._model_mapping and not hasattr(config, "auto_map"):
        raise ModelError(generating.refusal(spec.id, f"{config.model_type} models have no language-model head"))
    head = load_weights(transformers.AutoModelForCausalLM, spec, place)
    return TextModel(head.base_model, tokenizer, spec, head=head, generate=generate)


class TextModel:
    """A language model with its tokenizer.

    Parameters
    ----------
    module
        Any transformers model whose forward takes ``input_ids``; tests pass tiny ones that were never saved.
    tokenizer
        Its tokenizer.
    head
        The model with its language-model head, of which ``module`` is a part; needed where ``generate`` is more than 0.
    generate
        How many tokens the model writes after each text, greedily.
    classifier
        The model with its classification head, of which ``module`` is a part.
    """

    windows: Mapping[str, NDArray[np.int32]] = MappingProxyType({})

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        spec: ModelSpec,
        *,
        head: Any = None,
        generate: int = 0,
        classifier: HeadClassifier | None = None,
    ) -> None:
        self.tokenizer = prepared(tokenizer, module, spec.id)
        self.reader = TokenReader(self.tokenizer)
        self.head = None if head is None else place_model(head, spec)
        self.module: Any = place_model(module, spec)
        self.generate = generate
        self.classifier = classifier
        self.unread = also_reads(module.config)
        self._rows = table_rows(module)
        held = tokens_held(self.module, self.tokenizer, spec.id)
        self.max_length = tokens_at_most(module.config.get_text_config(), tokenizer, held)
        whole = module if classifier is None else classifier.module
        self.info = classifying(info_of(whole, spec, "text"), classifier)
        if generate:
            generating.require_decoder(self.head, spec.id)
        self._room = generating.room(generate, self.max_length, spec.id)

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Tokenise a text or a pair, and let the model go on. Raises ``InputError`` for an image, or if no token comes out."""
        limit = min(filter(None, (max_length, self._room)), default=None)
        tokens = tokenize(self.tokenizer, require_text(record, self.info), record.pair, limit=limit)
        require_known(record, tokens, self.reader, self._rows)
        sequence = text_sequence(record, tokens, self.reader)
        return self._continued(sequence, tokens) if self.generate else sequence

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Pad on the right; the segment goes in where the model has token types."""
        width, device = max(map(len, sequences)), token_device(self.module)
        texts = [sequence.input_ids for sequence in sequences]
        ids, mask = padded(texts, width, self.tokenizer.pad_token_id, device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        for name in _segments(self.tokenizer):
            inputs[name], _ = padded([sequence.segment for sequence in sequences], width, 0, device)
        return Batch(inputs, stream_lengths(sequences))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model; return its last hidden state ``(batch, tokens, channels)``."""
        with running(self.module, self.info.id):
            output: torch.Tensor = self.module(**batch.inputs, **({"use_cache": False} if self._caches else {}))[0]
        return output

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return None: a text has no picture."""
        return None

    def _continued(self, sequence: TokenSequence, read: Tokens) -> TokenSequence:
        """Return a sequence with what the model writes after it; it may complete a character."""
        prompt = torch.tensor(sequence.input_ids[None].astype(np.int64), device=token_device(self.module))
        said = np.array(generating.write(self.head, prompt, self.generate), np.int32)
        nowhere = np.full(len(sequence) + said.size, -1, np.int16)
        ids = np.concatenate([sequence.input_ids, said])
        special = np.concatenate([sequence.is_special, np.isin(said, self.tokenizer.all_special_ids)])
        segment = np.concatenate([sequence.segment, np.repeat(sequence.segment[-1:], said.size)])
        return replace(
            sequence,
            tokens=self.reader.read(ids, special, segment=segment, places=read.places),
            input_ids=ids,
            is_special=special,
            segment=segment,
            patch_row=nowhere,
            patch_col=nowhere,
            is_generated=np.arange(nowhere.size) >= len(sequence),
        )

    @property
    def _caches(self) -> bool:
        return getattr(self.module.config.get_text_config(), "use_cache", None) is not None


def _segments(tokenizer: Any) -> tuple[str, ...]:
    """Return what the model calls the segment of a token, if its tokenizer says that it has any."""
    return ("token_type_ids",) if "token_type_ids" in tokenizer.model_input_names else ()
