"""Every kind of tokenizer through tokenizer, run and reader: what is expected is computed from the text, and from offsets.

A fast tokenizer says which characters of the text each token covers. So each token's text is known without the code under test.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import attnviz
from attnviz.store import RunDirectory
from attnviz.views import Changes, color_points, find_punctuation, has_words, match_tokens, read_heads
from attnviz.views.describe import excerpt, patch_name
from tests.tokenizer_kinds import KINDS, LINES, save_model, trained

MARKS = ("</w>", "Ġ", "Ċ", "ĉ", "▁", "<0x", "ð", "Ł", "ĳ", "æ", "Ŀ", "×", "Ø", "à¤", "\ufffd")
SPLIT_OFF = ("characters",)  # whose tokens are no longer than a character
NO_JOINERS = ("wordpiece", "end of word")  # BERT's normalizer takes out what has no width


@dataclass(frozen=True)
class Case:
    """A run of one kind, and what the text says of it."""

    kind: str
    run: RunDirectory
    tokens: tuple[str, ...]  # the stretch of text that each covers; "" of special tokens
    ids: tuple[int, ...]
    special: np.ndarray
    spans: tuple[tuple[tuple[int, int], ...], ...]  # of each line, from where to where each covers it

    def count(self, tell: Any) -> int:
        return sum(bool(tell(text)) for text in self.tokens if text)


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("kind")
    tokenizer = trained(request.param)
    (folder / "lines.txt").write_text("\n".join(LINES), "utf-8")
    given = {
        "model": {"id": str(save_model(folder / "model", tokenizer))},
        "data": {"source": str(folder / "lines.txt")},
    }
    made = attnviz.run(given | {"name": "kind", "maps": {}}, out=folder / "run", workers=1)
    read = [tokenizer(line, return_offsets_mapping=True) for line in LINES]
    stretches = tuple(line[a:b] for line, one in zip(LINES, read, strict=True) for a, b in one["offset_mapping"])
    blank = tokenizer.convert_tokens_to_ids("▁")  # put before a text, it is said to cover what follows
    stretches = tuple(
        " " if number == blank else stretch
        for stretch, number in zip(stretches, [i for one in read for i in one["input_ids"]], strict=True)
    )
    ids = tuple(number for one in read for number in one["input_ids"])
    spans = tuple(tuple(one["offset_mapping"]) for one in read)
    return Case(
        request.param, RunDirectory(made.path), stretches, ids, np.array([not text for text in stretches]), spans
    )


def is_sign(text: str) -> bool:
    """Whether a text is punctuation and signs, by what Unicode says; the emoji of these lines lie beyond U+1F000."""
    bare = text.strip()
    return bool(bare) and all(unicodedata.category(c)[0] in "PS" and ord(c) < 0x1F000 for c in bare)


def words_of(kind: str, line: str) -> list[str]:
    """The words of a line, without its punctuation, as a reader counts them."""
    if kind in NO_JOINERS:
        line = line.replace("\u200d", "")
    if kind == "wordpiece":  # as BERT: each Chinese character is a word
        line = re.sub("([\u4e00-\u9fff])", r" \1 ", line)
    return [word for word in re.split(r"\s+", "".join(" " if is_sign(c) else c for c in line)) if word]


def test_the_run_holds_the_tokens_that_the_tokenizer_gave(case):
    assert case.run.tokens["vocab_id"].tolist() == list(case.ids)
    assert case.run.tokens["is_special"].tolist() == case.special.tolist()
    assert case.run.manifest.schema_version == 3
    assert case.run.lacks == ""


def test_whole_words_are_the_words_of_the_text(case):
    for sequence, line in enumerate(LINES):
        words = read_heads(case.run, 0, (), sequence, Changes(words=True)).queries
        found = [text for text in words.texts if text not in ("<s>", "</s>") and text.strip() and not is_sign(text)]
        if case.kind not in ("unigram", "sentencepiece", "characters"):  # a blank alone belongs to the sign behind it
            assert all(text == text.strip() for text in words.texts)
        assert found == words_of(case.kind, line)
    assert has_words(case.run, 1)


def test_a_word_is_given_what_its_pieces_are_given(case):
    run, sequence = case.run, 1
    made = read_heads(run, 0, (2,), sequence, Changes(words=True))
    words = [[token - made.queries.first[0] for token in made.queries.tokens(row)] for row in range(len(made.queries))]
    assert [token for word in words for token in word] == list(
        range(len(made.queries.first) and sum(made.queries.pieces))
    )
    weights = run.attention(0, 2, sequence).weights
    for a, query in enumerate(words):
        for b, key in enumerate(words):
            expected = np.mean([sum(weights[i, j] for j in key) for i in query])
            np.testing.assert_allclose(made.weights[0, a, b], expected, atol=1e-6)
    np.testing.assert_allclose(made.weights.sum(axis=2), 1, atol=1e-5)
    long = next(row for row, word in enumerate(words) if len(word) > 1)
    first = int(made.queries.first[long])
    partly = read_heads(run, 0, (2,), sequence, Changes(frozenset({first}), words=True))
    assert not partly.queries.hidden[long]
    np.testing.assert_allclose(partly.weights[0, long].sum(), 1, atol=1e-5)  # the mean of what is not hidden


def test_an_exact_search_finds_a_word_that_stands_in_the_text(case):
    the = len(re.findall(r"\bthe\b", "\n".join(LINES)))
    assert the > 20
    found = match_tokens(case.run, "the", how="exact", case=True)
    assert found.sum() == case.count(lambda text: text.strip() == "the")
    pattern = match_tokens(case.run, "^the$", how="regex", case=True)
    np.testing.assert_array_equal(pattern, found)
    starts, ends = (
        case.run.tokens["starts_word"].to_numpy(),
        np.append(case.run.tokens["starts_word"].to_numpy()[1:], True),
    )
    alone = int((found & starts & ends).sum())
    assert alone == (0 if case.kind in SPLIT_OFF else the)


@pytest.mark.parametrize("word", ["the", "unbelievably", "Interpretability", "שלום"])
def test_a_word_is_found_in_all_its_tokens(case, word):
    expected, seen = [], []
    for sequence, (line, own) in enumerate(zip(LINES, case.spans, strict=True)):
        places = {at for found in re.finditer(rf"\b{word}\b", line) for at in range(*found.span())}
        there = [bool(line[a:b].strip()) for a, b in own]  # a blank alone belongs to what follows
        rows = case.run.token_slice(sequence)
        seen += np.arange(rows.start, rows.stop)[there].tolist()
        expected += [
            not places.isdisjoint(range(a, b)) for (a, b), is_there in zip(own, there, strict=True) if is_there
        ]
    for how, wanted in (("exact", word), ("exact", f" {word}"), ("regex", f"^{word}$")):
        found = match_tokens(case.run, wanted, where="words", how=how, case=True)
        np.testing.assert_array_equal(found[seen], expected)
    within = match_tokens(case.run, word[1:-1], where="words", case=True)
    assert within[seen][expected].all()
    assert match_tokens(case.run, word[:3], where="words", how="prefix", case=True)[seen][expected].all()


@pytest.mark.parametrize("character", ["東", "ל", "न", "ح", "👧"])
def test_a_character_is_found_in_all_its_parts(case, character):
    exact = match_tokens(case.run, character, how="exact")
    np.testing.assert_array_equal(exact, [text.strip() == character for text in case.tokens])
    within = match_tokens(case.run, character)
    np.testing.assert_array_equal(within, [character in text for text in case.tokens])
    assert within.sum() >= "\n".join(LINES).count(character) > 0
    whole = case.run.tokens["text"][within]
    held = case.run.tokens["byte_values"][within]
    for text, values in zip(whole, held, strict=True):  # it is seen whole, or with the number of its part
        assert character in text
        assert isinstance(values, str) or re.search(f"{character}[^/]*/", text) is None


@pytest.mark.parametrize(("text", "how"), [("the", "prefix"), ("th", "prefix"), ("he", "contains"), ("3", "contains")])
def test_beginnings_and_parts_are_those_of_the_text(case, text, how):
    tell = {"prefix": str.startswith, "contains": str.__contains__}[how]
    found = match_tokens(case.run, text, how=how, case=True)
    np.testing.assert_array_equal(
        found, [not gone and tell(t.strip(), text) for t, gone in zip(case.tokens, case.special, strict=True)]
    )


def test_what_is_shown_is_found_by_what_is_shown(case):
    """Copied from the page into the search box, as it is set to at first."""
    for token in np.random.default_rng(0).choice(case.run.num_tokens, 40, replace=False).tolist():
        for how in ("exact", "contains", "prefix"):
            assert match_tokens(case.run, patch_name(case.run, token), how=how, case=True)[token]


def test_punctuation_is_hidden_and_nothing_else(case):
    expected = [is_sign(text) for text in case.tokens]
    np.testing.assert_array_equal(find_punctuation(case.run), expected)
    assert sum(expected) >= sum(is_sign(c) for c in "".join(LINES)) * (0.9 if case.kind not in ("byte-level",) else 0.5)
    hidden = read_heads(case.run, 0, (), 0, Changes(punctuation=True)).queries.hidden
    rows = case.run.token_slice(0)
    np.testing.assert_array_equal(hidden, expected[rows])
    classes = color_points(case.run, "special", heads=())
    counted = {entry.label: entry.tokens for entry in classes.categories}
    assert counted["punctuation"] == sum(expected)


def test_nothing_but_the_text_is_shown(case):
    known = set("".join(LINES)) | set("#0123456789/–")
    for token, (text, special) in enumerate(zip(case.run.tokens["text"], case.special, strict=True)):
        seen = patch_name(case.run, token)
        if special:
            continue
        assert set(text) <= known
        assert not any(mark in text or mark in seen for mark in MARKS), (text, seen)
        assert seen.strip("\u2068\u2069") == seen.strip("\u2068\u2069").strip()  # each blank at an end is a sign
        assert text.startswith("##") <= (case.kind == "wordpiece")
    around = [excerpt(case.run, token)[1] for token in range(0, case.run.num_tokens, 11)]
    assert all("<0x" not in text and text == text.strip() for text in around)


def test_frequency_counts_tokens_of_the_vocabulary(case):
    counts = Counter(case.ids)
    assert case.run.tokens["frequency"].tolist() == [counts[number] for number in case.ids]


def test_parts_say_which_bytes_they_are(case):
    parts = case.run.tokens[case.run.tokens["character"].notna()]
    assert len(parts) > 0 or case.kind in ("wordpiece", "unigram", "end of word", "characters")
    for character, part, values in zip(parts["character"], parts["part"], parts["byte_values"], strict=True):
        own = bytes.fromhex(values)
        for one, which in zip(character, part.split(", "), strict=True):
            raw = one.encode()
            span, _, width = which.partition("/")
            first, _, last = span.partition("–")
            assert int(width) == len(raw)
            assert raw[int(first) - 1 : int(last or first)] in own
    joined = ""
    for character, part in zip(parts["character"], parts["part"], strict=True):
        joined += "".join(one for one, which in zip(character, part.split(", "), strict=True) if which.startswith("1"))
    every = Counter("".join(LINES))
    assert all(count <= every[character] for character, count in Counter(joined).items())
