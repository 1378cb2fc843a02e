"""One tiny tokenizer of each kind, trained here on a few lines: what a run is made with, never what it is believed to hold."""

import json
from collections.abc import Iterable
from pathlib import Path

import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

__all__ = ["KINDS", "LINES", "save_model", "trained"]

LINES = (
    "The quick brown fox (a vixen) said “hello” to the lazy dog.",
    "the cat sat on the mat, and then the weather changed unbelievably.",
    "Interpretability of transformers: the attention heads matter.",
    "They walked; the river—wide and cold—was frozen (almost).",
    "the tokenizer splits uncharacteristically long words.",
    'In the beginning the "word" was tokenised.',
    "Numbers such as 1294030472427835393 break the joins.",
    "Where the road ends, the footpath begins (the other one).",
    "the the the the.",
    "A day at the sea: the waves, the wind, the gulls!",
    "the © and the 👩 are written with one byte that is the same.",
    "the price = $5 + the tax, under the bridge。",
    "naïve café 👩‍👩‍👧‍👦 東京タワー שלום עולם مرحبا بالعالم 한국어 नमस्ते",
    "नमस्ते שלום 한국어 مرحبا naïve café بالعالم 👩‍👩‍👧‍👦 東京タワー עולם",
)
"""Latin with punctuation, then seven other scripts with emoji: what bug reports are made of."""

_SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LETTERS = Regex(r"▁?[\p{L}\p{M}\p{N}]+|▁?[^▁\p{L}\p{M}\p{N}]|▁")


def _wordpiece(lines: Iterable[str]) -> Tokenizer:
    """As BERT: blanks are gone, ``##`` goes on, punctuation and Chinese characters stand alone."""
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=190, special_tokens=_SPECIAL))
    return made


def _byte_level(lines: Iterable[str]) -> Tokenizer:
    """As GPT-2."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=340, special_tokens=_SPECIAL, initial_alphabet=alphabet)
    )
    return made


def _byte_level_split(lines: Iterable[str]) -> Tokenizer:
    """As Llama 3 and Qwen: the text is cut by a pattern, and its bytes are written after that."""
    made = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(_GPT2), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=330, special_tokens=_SPECIAL, initial_alphabet=alphabet)
    )
    return made


def _sentencepiece(lines: Iterable[str]) -> Tokenizer:
    """As Llama 2: ``▁`` for a blank, no cut before the model, and bytes for what the vocabulary lacks."""
    latin = [line for line in lines if line.isascii()]
    plain = Tokenizer(models.BPE())
    plain.normalizer = normalizers.Replace(" ", "▁")
    plain.pre_tokenizer = pre_tokenizers.Split(_LETTERS, "isolated")
    plain.train_from_iterator(["▁" + line for line in latin], trainers.BpeTrainer(vocab_size=140))
    told = json.loads(plain.model.__getstate__())
    pieces = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *told["vocab"]]
    merges = [tuple(pair) for pair in told["merges"]]
    made = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(_SPECIAL)
    return made


def _unigram(lines: Iterable[str]) -> Tokenizer:
    """As T5 and XLM-R: ``▁`` may be a token of its own."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split(_LETTERS, "isolated")]
    )
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=220, special_tokens=_SPECIAL, unk_token="<unk>"))
    return made


def _end_of_word(lines: Iterable[str]) -> Tokenizer:
    """As openai-gpt: ``</w>`` ends a word."""
    made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False, handle_chinese_chars=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    made.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=190, special_tokens=_SPECIAL, end_of_word_suffix="</w>")
    )
    return made


def _clip(lines: Iterable[str]) -> Tokenizer:
    """As CLIP: bytes, with ``</w>`` at the end of a word."""
    made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    cut = pre_tokenizers.Split(Regex(r"[\p{L}\p{M}]+|\p{N}|[^\s\p{L}\p{M}\p{N}]+"), "removed", invert=True)
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": _SPECIAL, "initial_alphabet": alphabet, "end_of_word_suffix": "</w>"}
    made.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=380, **options))
    return made


def _characters(lines: Iterable[str]) -> Tokenizer:
    """Each character is a token, blanks too."""
    known = {piece: i for i, piece in enumerate([*_SPECIAL, *sorted(set("".join(lines)))])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    return made


KINDS = {
    "wordpiece": _wordpiece,
    "byte-level": _byte_level,
    "byte-level after a split": _byte_level_split,
    "sentencepiece": _sentencepiece,
    "unigram": _unigram,
    "end of word": _end_of_word,
    "end of word in bytes": _clip,
    "characters": _characters,
}


def trained(kind: str, lines: Iterable[str] = LINES) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of a kind as transformers hands it over, with ``<s>`` before and ``</s>`` behind a text."""
    made = KINDS[kind](list(lines))
    ends = [(token, made.token_to_id(token)) for token in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=ends
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=512,
    )


def save_model(folder: Path, tokenizer: transformers.PreTrainedTokenizerFast, **sizes: int) -> Path:
    """Write a tiny Llama with a tokenizer, as ``save_pretrained`` does."""
    usual = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    usual |= {"intermediate_size": 16, "max_position_embeddings": 512, "vocab_size": len(tokenizer), "pad_token_id": 0}
    transformers.set_seed(0)
    transformers.LlamaModel(transformers.LlamaConfig(**usual | sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
