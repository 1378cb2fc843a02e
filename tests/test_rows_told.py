"""What became of the rows of the data: in the manifest, in ``attnviz info``, at the end of ``attnviz run``, and in the explorer."""

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import attnviz
from attnviz.info import describe, told_of_rows
from attnviz.pipeline.attributes import attribute_column
from attnviz.recipe import make_recipe, to_toml
from attnviz.store import RunDirectory, layout
from attnviz.store.manifest import read_manifest
from tests.fakes import write_fake_run
from tests.pipeline_runs import LINES, tiny_model  # noqa: F401  # fixture
from tests.test_cli import command_line  # noqa: F401  # fixture

IDS = [2**64 - 1, 2**64 - 2, 3]
SHEET = "text;score;id;when\r\n" + "".join(
    f"{line};{number},5;{IDS[number % 3]};2024-02-{1 + number % 28:02d}\r\n" for number, line in enumerate(LINES)
)


@pytest.fixture(name="run", scope="module")
def run_of_a_sheet(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("told")
    (folder / "sheet.csv").write_bytes((SHEET + ";1,5;3;\r\nshort;2\r\n").encode("utf-16"))
    data = {"source": str(folder / "sheet.csv"), "max_length": 6}
    given = {"name": "told", "model": {"id": str(model)}, "data": data, "maps": {}}
    return attnviz.run(given, out=folder / "run", workers=1)


def test_the_manifest_accounts_for_every_row(run):
    told = run.manifest
    assert told.rows == len(LINES) + 2 == run.num_sequences + sum(told.skipped.values())
    assert told.skipped == {"empty text": 1, "wrong number of cells": 1}
    assert told.examples["wrong number of cells"] == f"sheet.csv:{len(LINES) + 3}: 2 where the header has 4"
    assert 0 < told.shortened <= run.num_sequences
    assert (run.sequences["num_tokens"] <= 6).all()
    assert [note.removeprefix("sheet.csv").lstrip(": ")[:26] for note in told.notes] == [
        "is read as UTF-16, as its ",
        "cells are parted by a semi",
        f"1 of {len(LINES) + 2} rows have not the 4 cells"[:26],
        "column 'score': a comma is",
    ]


def test_what_was_written_in_the_sheet_is_in_the_run(run):
    table = pq.read_table(run.path / layout.SEQUENCES_FILE)
    assert table["score"].to_pylist()[:3] == [0.5, 1.5, 2.5]
    assert table["id"].to_pylist()[:4] == [*IDS, IDS[0]]
    assert pa.types.is_uint64(table["id"].type)
    assert table["when"].to_pylist()[1] == date(2024, 2, 2)


def test_info_tells_it_in_words_and_as_json(run, attnviz_command):
    shown = " ".join(attnviz_command("info", run.path).stdout.split())
    assert "left out empty text: 1 (the first: sheet.csv:" in shown
    assert f"shortened {run.manifest.shortened} sequences were cut to the longest length" in shown
    assert "assumed sheet.csv is read as UTF-16" in shown
    given = json.loads(attnviz_command("info", run.path, "--json").stdout)
    assert given["rows"] == given["sequences"] + sum(given["skipped"].values())
    assert (given["not_drawn"], given["shortened"]) == (0, run.manifest.shortened)
    assert list(told_of_rows(given)) == list(told_of_rows(describe(run)))


def test_the_end_of_a_run_tells_it(model, attnviz_command, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(LINES), encoding="utf-8")
    data = {"source": str(tmp_path / "a.txt"), "max_tokens": 40}
    recipe = make_recipe({"name": "x", "model": {"id": str(model)}, "data": data, "maps": {}})
    (tmp_path / "x.toml").write_text(to_toml(recipe), "utf-8")
    done = attnviz_command("run", tmp_path / "x.toml", "--out", tmp_path / "run", "--workers", "1")
    kept = RunDirectory(tmp_path / "run").num_sequences
    assert f"not drawn  {len(LINES) - kept} of {len(LINES)} rows" in done.stdout, done.stderr


def test_the_explorer_tells_it_and_escapes_it(run):
    pytest.importorskip("panel")
    from attnviz.explorer import markup

    html = markup.brand(run)
    assert f"· {run.manifest.shortened} shortened · 2 rows left out</span>" in html
    assert "assumed: sheet.csv: column &#x27;score&#x27;: a comma is read as the decimal point" in html


def test_runs_that_counted_the_shortened_among_those_left_out_are_put_right(tmp_path):
    out = write_fake_run(tmp_path / "old")
    file = out / layout.MANIFEST_FILE
    given = json.loads(file.read_text("utf-8"))
    for later in ("examples", "shortened", "rows", "notes"):
        del given[later]
    given["skipped"] = {"empty text": 3, "cut to the longest length": 7}
    file.write_text(json.dumps(given), "utf-8")
    manifest = read_manifest(file)
    assert (dict(manifest.skipped), manifest.shortened, manifest.rows) == ({"empty text": 3}, 7, 0)
    assert describe(RunDirectory(out))["not_drawn"] is None


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([2**64 - 1, None, 3], pa.uint64(), None),
        ([2**64, 1], pa.string(), ["18446744073709551616", "1"]),
        ([2**64 - 1, -1], pa.string(), ["18446744073709551615", "-1"]),
        ([2**70, 0.5], pa.string(), ["1180591620717411303424", "0.5"]),
        (
            [date(2024, 1, 1), datetime(2024, 1, 1, 9, tzinfo=UTC)],
            pa.string(),
            ["2024-01-01", "2024-01-01 09:00:00+00:00"],
        ),
    ],
)
def test_values_that_fit_no_common_type_lose_nothing(values, kind, stored):
    column, why = attribute_column(values)
    assert bool(why) == (stored is not None)
    assert column.type == kind
    assert column.to_pylist() == (stored or values)
