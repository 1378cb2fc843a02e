"""The tokenizer of tiny models: thirty whole words and the special tokens that BERT puts around them."""

import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

__all__ = ["SENTENCES", "WORDS", "tokenizer"]

WORDS = tuple(
    "the a cat dog sat ran on under mat tree and then it was very happy because sun shone . , ? ! one two three".split()
)
SENTENCES = (
    "the cat sat on the mat , and then it was very happy because the sun shone .",
    "a dog ran .",
    "one two three",
    "then the dog ran under a tree and sat on it !",
)


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Return a fast tokenizer that knows ``WORDS`` and writes pairs as BERT does."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
