"""Random tables and random folders of pictures through a run up to the check: a run, or one sentence; and nothing lost unsaid.

The seed is fixed. `make test` tries some of each kind; all 500 tables and 200 folders are slow.
"""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from attnviz import schema
from attnviz.errors import AttnvizError
from attnviz.pipeline.attributes import attribute_columns
from attnviz.pipeline.prepare import image_tables, prepare, sequence_table, token_table
from attnviz.recipe import load_recipe, make_recipe, to_toml
from attnviz.store import layout, write
from tests import fuzzed_folders, fuzzed_tables, tiny

SHARES = {"delimited": 200, "json": 120, "arrow": 150, "lines": 30}  # of 500 tables
FOLDERS = 200


def tries(count):
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],  # to shrink a folder takes minutes, and looks like a test that hangs
    )


@pytest.fixture(scope="module", name="reader")
def text_model():
    return tiny.text_model("bert")


@pytest.fixture(scope="module", name="viewer")
def image_model():
    return tiny.timm_vit()


def run(source, out, model):
    """Do what ``attnviz run`` does up to the check, and write its tables; return them, or None where it refuses in a sentence."""
    try:
        recipe = make_recipe({"name": "fuzz", "model": {"id": "tiny"}, "data": {"source": str(source)}})
        prepared = prepare(recipe, model, lambda *_: None)
        write.write_text(out / layout.RECIPE_FILE, to_toml(recipe))
        own, _ = attribute_columns([sequence.record for sequence in prepared.sequences])
        write.write_table(out / layout.SEQUENCES_FILE, sequence_table(prepared, own))
        write.write_table(out / layout.TOKENS_FILE, token_table(prepared))
        if model.info.modality == "image":
            with pq.ParquetWriter(out / "images.parquet", schema.IMAGES) as writer:
                for piece in image_tables(prepared, model, 256):
                    writer.write_table(piece)
    except AttnvizError as error:
        return require_sentence(str(error))
    assert load_recipe(out / layout.RECIPE_FILE).fingerprint() == recipe.fingerprint()
    return prepared, pq.read_table(out / layout.SEQUENCES_FILE)


def require_sentence(message):
    assert message.strip()
    message.encode()  # it can be printed


def check_table(kind, drawn, model):
    with tempfile.TemporaryDirectory() as folder:
        table = fuzzed_tables.TABLES[kind][1](Path(folder), drawn)
        made = run(table.path, Path(folder) / "run", model)
        if made is None:
            assert not (table.certain and table.texts), "a table without a fault was refused"
            return
        prepared, kept = made
        if table.texts is None:
            return
        # A text with half a character may be left out, or kept with a mark in its place.
        assert [text for text in kept["text"].to_pylist() if "\ufffd" not in text] == table.texts
        assert kept.num_rows + sum(prepared.skipped.values()) == table.rows, prepared.skipped
        said = " ".join([*prepared.skipped, *prepared.notes])
        lost = [name for name in table.names if name not in said]
        assert kept.num_columns >= len(schema.SEQUENCES) + len(lost), (table.names, kept.column_names)
        for name, expected in table.columns.items():
            require_values(kept[_stored(name, kept.column_names, table.names)].combine_chunks(), expected)


def require_values(stored, expected):
    if pa.types.is_null(stored.type) and isinstance(expected, pa.Array):
        assert expected.null_count == len(expected) == len(stored)
    elif isinstance(expected, pa.Array):  # few rows, so that all are written; NaN is NaN, and no year is too far
        assert stored.to_string(window=99) == expected.cast(stored.type).to_string(window=99)
    else:
        assert [_written(value) for value in stored.to_pylist()] == [_written(value) for value in expected]


def _written(value):
    """Return a cell as it is written: an identifier keeps its digits, whatever type it is kept in, and a gap may be none."""
    return "" if value is None else str(value)


def _stored(name, names, given):
    """Return the name under which a column of the user's is stored; the run needs some names for itself."""
    own = names[len(schema.SEQUENCES) :]
    return name if name in own else next(other for other in own if other.rstrip("_") == name and other not in given)


def check_folder(drawn, model):
    with tempfile.TemporaryDirectory() as base:
        folder, count, sound = fuzzed_folders.write_folder(base, drawn)
        made = run(folder, Path(base) / "run", model)
        if made is None:
            assert not sound or not drawn["root"].isascii(), "a folder with a sound picture was refused"
            return
        prepared, kept = made
        assert kept.num_rows + sum(prepared.skipped.values()) == count, prepared.skipped
        assert kept.num_rows >= sound
        pictures = pq.read_table(Path(base) / "run" / "images.parquet")
        assert pictures.num_rows == kept.num_rows


def table_tests(kind):
    drawn = fuzzed_tables.TABLES[kind][0]

    @tries(max(SHARES[kind] // (4 if kind == "arrow" else 12), 5))
    @given(drawn=drawn)
    def some(reader, drawn):
        check_table(kind, drawn, reader)

    @pytest.mark.slow
    @tries(SHARES[kind])
    @given(drawn=drawn)
    def all_of_them(reader, drawn):
        check_table(kind, drawn, reader)

    return some, all_of_them


test_delimited, test_all_delimited = table_tests("delimited")
test_json, test_all_json = table_tests("json")
test_arrow, test_all_arrow = table_tests("arrow")
test_lines, test_all_lines = table_tests("lines")


@tries(FOLDERS // 10)
@given(drawn=fuzzed_folders.folders())
def test_folders(viewer, drawn):
    check_folder(drawn, viewer)


@pytest.mark.slow
@tries(FOLDERS)
@given(drawn=fuzzed_folders.folders())
def test_all_folders(viewer, drawn):
    check_folder(drawn, viewer)
