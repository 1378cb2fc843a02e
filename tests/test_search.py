"""Search: in tokens, sequences and labels; parts, whole ones, beginnings and patterns."""

import time

import numpy as np
import pyarrow as pa
import pytest

from attnviz.errors import DatasetError
from attnviz.store import RunDirectory
from attnviz.views import count_sequences, match_tokens, read_vocabulary
from tests.fakes import write_fake_run, write_fake_streams


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return RunDirectory(write_fake_run(tmp_path_factory.mktemp("search") / "text", sequences=20))


def of(run, sequences):
    """Which tokens stand in some sequences."""
    return run.tokens["sequence_id"].isin(sequences).to_numpy()


@pytest.mark.parametrize(
    ("text", "how", "pattern"),
    [
        ("ir", "contains", "ir"),
        ("se", "prefix", "^se"),
        ("sea", "exact", "^sea$"),
        ("^[sm].*t$", "regex", "^[sm].*t$"),
        (".", "contains", r"\."),
        (".", "regex", ""),
    ],
)
def test_each_way_of_matching_finds_the_tokens_that_pandas_finds(run, text, how, pattern):
    found = match_tokens(run, text, how=how)
    np.testing.assert_array_equal(found, run.tokens["text"].str.contains(pattern))
    assert found.any()
    np.testing.assert_array_equal(match_tokens(run, text, how=how, vocabulary=read_vocabulary(run)), found)


@pytest.mark.parametrize("how", ["contains", "prefix", "exact", "regex"])
def test_case_matters_only_where_it_is_asked_for(run, how):
    assert match_tokens(run, "SEA", how=how).any()
    assert not match_tokens(run, "SEA", how=how, case=True).any()


def test_a_sequence_is_found_by_several_words_of_its_text(run):
    text = run.sequences["text"].iloc[3]
    words = " ".join(text.split()[:3])
    expected = run.sequences.index[run.sequences["text"].str.contains(words, regex=False)]
    np.testing.assert_array_equal(match_tokens(run, words, where="sequences"), of(run, expected))
    assert not match_tokens(run, words, where="tokens").any()


def test_a_label_is_found_and_a_missing_one_is_not(run, tmp_path):
    expected = run.sequences.index[run.sequences["label"] == "label 2"]
    np.testing.assert_array_equal(match_tokens(run, "LABEL 2", where="labels", how="exact"), of(run, expected))
    labels = [None if i == 2 else label for i, label in enumerate(run.sequences["label"])]
    run = RunDirectory(write_fake_run(tmp_path / "gap", sequences=20, label=pa.array(labels)))
    found = match_tokens(run, "2", where="labels")
    np.testing.assert_array_equal(found, of(run, [i for i in expected if i != 2]))
    assert not match_tokens(run, "nan", where="labels").any()


def test_pictures_have_no_text_to_search_but_labels(tmp_path):
    pictures = RunDirectory(write_fake_run(tmp_path / "image", image=True))
    assert not match_tokens(pictures, "a", where="sequences").any()
    assert match_tokens(pictures, "label", where="labels").all()


def test_words_end_with_their_sequence_and_a_blank_is_no_word(run):
    assert not match_tokens(run, " ", where="words").any()
    known = read_vocabulary(run, "words")
    first = run.bounds[1:-1]
    assert known.codes.shape == (run.num_tokens,)
    np.testing.assert_array_equal(
        match_tokens(run, "SEA", where="words", how="exact", vocabulary=known), match_tokens(run, "sea", how="exact")
    )
    joined = [
        f"{a}{b}" for a, b in zip(run.tokens["plain"].iloc[first - 1], run.tokens["plain"].iloc[first], strict=True)
    ]
    assert not any(match_tokens(run, text, where="words").any() for text in joined)


@pytest.mark.parametrize("where", ["tokens", "words", "sequences", "labels"])
@pytest.mark.parametrize("text", ["[a", "(", "*", "(?<=a)b", "\\"])
def test_what_is_no_pattern_is_a_sentence(run, text, where):
    with pytest.raises(DatasetError, match=r"is no regular expression: .*\."):
        match_tokens(run, text, how="regex", where=where)


def test_a_tangled_pattern_does_not_stop_the_server(run, monkeypatch):
    monkeypatch.setattr(run, "tokens", run.tokens.assign(text=["a" * 40 + "!", *["x"] * (run.num_tokens - 1)]))
    start = time.perf_counter()
    assert not match_tokens(run, "(a+)+$", how="regex").any()
    assert time.perf_counter() - start < 1


def test_sequences_are_counted_by_their_queries_and_keys(tmp_path):
    pair = RunDirectory(write_fake_streams(tmp_path / "pair", "pair"))
    points = np.zeros(2 * pair.num_tokens, bool)
    assert count_sequences(pair, points) == 0
    points[[0, 1, pair.num_tokens + pair.token_slice(4).start]] = True
    assert count_sequences(pair, points) == 2


@pytest.mark.parametrize("asked", [{"where": "word"}, {"how": "begins"}])
def test_an_unknown_search_is_refused_and_no_search_in_labels(run, asked):
    with pytest.raises(DatasetError, match=r"is unknown\. Accepted are how: contains, .*where: tokens, words"):
        match_tokens(run, "sea", **asked)
