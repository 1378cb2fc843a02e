"""What a token says: characters that tokens share, words where the text must tell, punctuation, and how it is all shown."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from tokenizers import AddedToken

import attnviz
from attnviz.explorer import markup
from attnviz.explorer.app import Explorer
from attnviz.models.reading_tokens import TokenReader
from attnviz.models.tokenizing import tokenize
from attnviz.models.transformers_seq2seq import EncoderDecoder
from attnviz.models.transformers_text import TextModel
from attnviz.pipeline.prepare import Prepared, token_table
from attnviz.store import RunDirectory
from attnviz.token_text import guessed, is_punctuation, spelled
from attnviz.types import ModelSpec, Record
from attnviz.views import find_punctuation, has_words, match_tokens, show_text, show_token, what_differs
from attnviz.views.describe import excerpt
from tests import tiny
from tests.tokenizer_kinds import trained

ARCHIVES = Path(__file__).parent / "archives"


def read(tokenizer, text, pair=None):
    """The tokens of a text without the special ones around it."""
    tokens = tokenize(tokenizer, text, pair, limit=None)
    said = TokenReader(tokenizer).read(tokens.ids, tokens.is_special, segment=tokens.segment, places=tokens.places)
    return [token for token, special in zip(said, tokens.is_special, strict=True) if not special]


def written(tokens):
    """Tokens as words: pieces of one word joined by dots."""
    return "".join(("|" if token.starts_word else "·") + token.text for token in tokens)


def slow(pieces):
    """A tokenizer without parts that writes texts as it is told; what it is asked about itself too."""
    known = ["<unk>", *dict.fromkeys(piece for made in pieces.values() for piece in made)]
    return SimpleNamespace(
        tokenize=lambda text: pieces.get(text, pieces["usual"]),
        convert_ids_to_tokens=known.__getitem__,
        all_special_ids=[],
        ids=lambda text: [known.index(piece) for piece in pieces[text]],
    )


def test_the_parts_of_a_character_are_named_from_the_sequence():
    tokens = read(trained("sentencepiece"), "x東")
    assert [token.text for token in tokens[-3:]] == ["東 1/3", "東 2/3", "東 3/3"]
    assert [token.plain for token in tokens[-3:]] == ["東"] * 3
    assert [(token.character, token.part, token.byte_values) for token in tokens[-3:]] == [
        ("東", "1/3", "E6"),
        ("東", "2/3", "9D"),
        ("東", "3/3", "B1"),
    ]
    assert not any(token.starts_word for token in tokens[-3:])
    assert spelled([t.plain for t in tokens], [t.byte_values for t in tokens]) == "x東"


def test_a_byte_of_no_character_is_named_by_its_value():
    tokenizer = trained("sentencepiece")
    reader = TokenReader(tokenizer)
    bytes_of = lambda *values: tokenizer.convert_tokens_to_ids([f"<0x{value:02X}>" for value in values])  # noqa: E731
    ids = np.array(bytes_of(0xE6, 0x9D, 0x20, 0xE6, 0x9D, 0xB1, 0xFF))
    said = reader.read(ids, np.zeros(len(ids), bool))
    assert [token.text for token in said] == ["0xE6", "0x9D", " ", "東 1/3", "東 2/3", "東 3/3", "0xFF"]
    assert [token.character for token in said] == [None, None, None, "東", "東", "東", None]
    assert not any(token.is_punctuation for token in said)
    assert spelled([t.plain for t in said], [t.byte_values for t in said]) == "0xE60x9D東0xFF"
    cut = reader.read(ids[3:5], np.zeros(2, bool))  # a text cut at its longest length
    assert [token.text for token in cut] == ["0xE6", "0x9D"]


def test_a_special_token_and_the_second_text_end_a_character():
    tokenizer = trained("sentencepiece")
    ids = np.array(tokenizer.convert_tokens_to_ids(["<0xE6>", "<0x9D>", "</s>", "<0xB1>"]))
    assert [t.text for t in TokenReader(tokenizer).read(ids, ids == 3)] == ["0xE6", "0x9D", "</s>", "0xB1"]
    both = ids[[0, 1, 3]]
    said = TokenReader(tokenizer).read(both, np.zeros(3, bool), segment=np.array([0, 0, 1]))
    assert [(t.text, t.starts_word) for t in said] == [("0xE6", True), ("0x9D", False), ("0xB1", True)]


@pytest.mark.parametrize("part", [1, 2])
def test_the_model_may_complete_a_character_of_its_prompt(part, monkeypatch):
    tokenizer = trained("sentencepiece")
    tokenizer.backend_tokenizer.post_processor = None
    config = transformers.LlamaConfig(**tiny._sizes(vocab_size=len(tokenizer), num_key_value_heads=2))
    head = tiny.module(config, transformers.AutoModelForCausalLM)
    model = TextModel(head.base_model, tokenizer, ModelSpec("tiny/model", device="cpu"), head=head, generate=3)
    whole = tokenizer("the 東")["input_ids"]
    monkeypatch.setattr("attnviz.models.generating.write", lambda *_: whole[-part:])
    made = model.encode(Record("a", text="the 東"), max_length=len(whole) - part)
    assert made.texts[-3:] == ("東 1/3", "東 2/3", "東 3/3")
    assert made.is_generated.sum() == part


@pytest.mark.parametrize("kind", ["end of word", "end of word in bytes", "unigram", "characters"])
def test_where_a_token_is_unknown_the_text_tells_where_words_begin(kind):
    tokens = read(trained(kind), "the ΩΩ the ΩΩthe")
    assert spelled([t.plain for t in tokens if t.starts_word][:1], [None]) in ("the", "t")
    assert sum(token.starts_word for token in tokens) == 4


def test_added_tokens_are_read_as_they_are():
    tokenizer = trained("byte-level")
    tokenizer.add_tokens([AddedToken("Ġé▁", normalized=False)])
    tokens = read(tokenizer, "the Ġé▁ the")
    assert written(tokens) == "|the| ·Ġé▁| the"  # a blank alone belongs to what follows
    assert tokens[-2].plain == "Ġé▁"


@pytest.mark.parametrize(
    ("usual", "text", "expected"),
    [
        (["東@@", "zyx@@", "wv"], ["un@@", "seen", "the", "."], "|un@@·seen|the|."),
        (["zyx", "wv</w>"], ["un", "seen</w>", "the</w>", ".</w>"], "|un·seen|the|."),
        (["zyx", "##wv"], ["un", "##seen", "the", "."], "|un·##seen|the|."),
        (["▁", "<0xE6>"], ["▁un", "seen", "▁", "<0xE6>", "<0x9D>", "<0xB1>"], "| un·seen| ·東 1/3·東 2/3·東 3/3"),
        (["æĿ", "±", "Ġthe"], ["un", "seen", "Ġthe", "ĠæĿ", "±", "Ċ"], "|un·seen| the| 東 1–2/3·東 3/3|\n"),
        (["æ", "\x9d", "±", " "], ["u", "n", " ", "æ", "\x9d", "±"], "|u·n| ·東 1/3·東 2/3·東 3/3"),
        ([b"\xe6\x9d", b"\xb1"], [b"un", b"seen", b" the", b" \xe6\x9d", b"\xb1"], "|un·seen| the| 東 1–2/3·東 3/3"),
        (["zyxwv"], ["un", "seen", "."], "|un|seen|."),
    ],
    ids=["@@", "</w>", "##", "sentencepiece", "byte-level", "latin", "bytes", "no marks"],
)
def test_a_tokenizer_without_parts_is_asked_by_letting_it_write(usual, text, expected):
    tokenizer = slow({"usual": usual, "text": text})
    ids = np.array(tokenizer.ids("text"))
    assert written(TokenReader(tokenizer).read(ids, np.zeros(len(ids), bool))) == expected


def test_byt5_reads_characters_from_bytes():
    said = read(transformers.ByT5Tokenizer(), "a 東.")
    assert written(said) == "|a| ·東 1/3·東 2/3·東 3/3|."


def test_a_decoder_has_its_own_words():
    tokenizer = trained("unigram")
    config = transformers.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, vocab_size=len(tokenizer), decoder_start_token_id=0
    )
    model = EncoderDecoder(tiny.module(config), tokenizer, ModelSpec("tiny/t5", device="cpu"))
    made = model.encode(Record("a", text="the unbelievably", pair="the unbelievably wide"))
    read_by, said = made.tokens[: made.streams["encoder"]], made.tokens[made.streams["encoder"] :]
    for side, words in ((read_by, "the unbelievably"), (said, "the unbelievably wide")):
        own = [token for token in side if token.text not in ("<s>", "</s>", "<pad>")]
        starts = [place for place, token in enumerate(own) if token.starts_word]
        assert len(starts) == len(words.split()) < len(own)


def test_patches_and_named_tokens_are_words_of_their_own():
    made = tiny.timm_vit().encode(Record("a", image=lambda: np.zeros((16, 16, 3), np.uint8)))
    assert all(token.starts_word and not token.is_punctuation and token.plain == token.text for token in made.tokens)
    table = token_table(Prepared((made, made), {}))
    assert set(table["frequency"].to_pylist()) == {2}


def test_two_tokens_that_look_alike_are_counted_apart():
    tokenizer = trained("end of word")
    model = TextModel(
        tiny.module(transformers.LlamaConfig(**tiny._sizes(vocab_size=len(tokenizer), num_key_value_heads=2))),
        tokenizer,
        ModelSpec("tiny/model", device="cpu"),
    )
    made = model.encode(Record("a", text="s sat s s"))  # "s</w>" three times, and "s" before "at</w>"
    table = token_table(Prepared((made,), {})).to_pandas()
    assert dict(zip(table["vocab_id"], table["frequency"], strict=True)) == table["vocab_id"].value_counts().to_dict()
    alike = table[table["text"] == "s"]
    assert sorted(alike["frequency"]) == [1, 3, 3, 3]


def test_the_texts_that_a_user_gives_tell_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layer = torch.nn.TransformerEncoderLayer(16, 2, dim_feedforward=16, batch_first=True)
    mine = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    tokens = [["un", "seen", " cat", "(", "s"], ["[CLS]", "un", "##seen", "!", "cat"]]
    run = attnviz.capture(mine, [torch.randn(2, 5, 16)], name="mine", maps=["pca"], tokens=tokens).tokens
    assert run["starts_word"].tolist() == [True, False, True, True, True, True, True, False, True, True]
    assert run["is_punctuation"].sum() == 2
    assert run["plain"].tolist()[2:8] == ["cat", "(", "s", "[CLS]", "un", "seen"]


@pytest.mark.parametrize("text", [".", "—", "…", "“", "،", "。", "$", "+", "=", "©", "°", "─", "`", "</", "।"])
def test_punctuation_and_signs_are_punctuation(text):
    assert is_punctuation(text)


@pytest.mark.parametrize(
    "text", ["", "a", "न", "्", "ש", "한", "👩", "👩🏽", "🏽", "\u200d", "\ufe0f", "❤️", "🇫🇷", "1️⃣", "☀", ".a", "0xE6"]
)
def test_letters_marks_and_emoji_are_not(text):
    assert not is_punctuation(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" cat", "␣cat"),
        ("cat ", "cat␣"),
        (" ", "␣"),
        ("    ", "␣␣␣␣"),
        ("of the", "of the"),
        ("a  b", "a␣␣b"),
        ("\n\t", "⏎⇥"),
        ("\r\n", "␍⏎"),
        ("a\xa0b", "a⍽b"),
        ("\u3000", "U+3000"),
        ("\u200b", "U+200B"),
        ("\ufeffa", "U+FEFFa"),
        ("\u200d", "U+200D"),
        ("\u200d 1/3", "U+200D 1/3"),
        ("👩\u200d👩", "👩\u200d👩"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("\ufe0f", "U+FE0F"),
        ("\u0301", "◌\u0301"),
        (" 東 1–2/3", "␣東 1–2/3"),
        ("", "∅"),
        ("\u202eabc", "�abc"),
        (" שלום", "\u2068␣שלום\u2069"),
        ("مر 1/2", "\u2068مر\u2069 1/2"),
        (" ש 1–2/3", "\u2068␣ש\u2069 1–2/3"),
    ],
)
def test_what_cannot_be_seen_in_a_token_is_shown(text, shown):
    assert show_token(text) == shown


def test_a_title_keeps_its_blanks():
    assert show_text(" two  words\n") == " two  words⏎"


def test_html_isolates_by_elements():
    assert markup.isolated(show_token("<שלום>")) == "<bdi>&lt;שלום&gt;</bdi>"
    assert (
        markup.heading(f"{show_token('שלום')} · query") == '<h1><bdi>שלום</bdi> · query</h1><span class="rest"></span>'
    )


@pytest.fixture(scope="module")
def older():
    """Runs that earlier versions of attnviz wrote, byte-level the second."""
    return {number: RunDirectory(ARCHIVES / f"v{number}" / "run") for number in (1, 2)}


def test_a_run_of_version_2_opens_and_says_what_it_lacks(older):
    run = older[2]
    assert run.manifest.schema_version == 2
    assert run.lacks.startswith("This run is of schema version 2: words and punctuation are guessed")
    assert match_tokens(run, "the", how="exact").sum() == 6  # 2 by its text alone
    assert all(has_words(run, sequence) for sequence in range(run.num_sequences))
    line = run.sequences["text"].iloc[0]
    starts = run.tokens["starts_word"].to_numpy()[run.token_slice(0)][1:-1]
    assert starts.sum() == len(line.split()) + sum(c in ",." for c in line)
    assert find_punctuation(run).sum() == 3  # two, and the last byte of a letter, which it cannot know
    assert run.tokens["character"].isna().all()
    _, token, _ = excerpt(run, 3)
    assert token == "at"


def test_a_run_of_version_1_does_too(older):
    run = older[1]
    assert "schema version 1" in run.lacks
    assert run.tokens["plain"].tolist() == run.tokens["text"].tolist()
    assert run.tokens["starts_word"].all()
    assert attnviz.open(run.path).tokens["is_punctuation"].dtype == bool


def test_the_explorer_says_what_an_older_run_lacks():
    explorer = Explorer([ARCHIVES / "v2" / "run"])
    assert explorer.state.restore("?view=sentence&search=the") == []
    shown = [
        pane.object
        for pane in explorer.__panel__().select(lambda pane: hasattr(pane, "object"))
        if isinstance(pane.object, str)
    ]
    assert sum("words and punctuation are guessed" in text for text in shown) >= 1
    from attnviz.info import describe

    assert describe(RunDirectory(ARCHIVES / "v2" / "run"))["lacks"].startswith("This run is of schema version 2")


def test_runs_of_two_versions_compare_by_the_numbers_of_their_tokens(older, monkeypatch):
    run, other = older[2], RunDirectory(older[2].path)
    monkeypatch.setattr(other, "tokens", run.tokens.assign(text=run.tokens["text"] + "!"))
    assert what_differs(run, other) == ""
    monkeypatch.setattr(other, "tokens", other.tokens.assign(vocab_id=run.tokens["vocab_id"] + 1))
    assert "are of different tokens" in what_differs(run, other)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["[CLS]", "play", "##ing", "-", "ball", "##s", "."], "|[CLS]|play·##ing|-|ball·##s|."),
        (["The", " cat", "astro", "phe", ",", " don", "'t", "\n", "go"], "|The| cat·astro·phe|,| don·'t|\n|go"),
        (["un", "seen</w>", "the</w>", "(</w>", "s"], "|un·seen</w>|the</w>|(</w>|s"),
        (["The", " ", "catas", "tro", " ", "(", "a"], "|The| ·catas·tro| ·(|a"),
        (["one", "two"], "|one|two"),
        ([], ""),
    ],
)
def test_texts_alone_tell_words_by_their_marks(texts, expected):
    assert written(guessed(texts)) == expected
