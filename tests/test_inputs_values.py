"""What a CSV column is read as: values keep what was written."""

import csv
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from attnviz.inputs import read
from tests.sources import options


def column(folder, cells, delimiter=","):
    """Write a column as ``csv.writer`` does, and read it back."""
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["text", "x"])
        writer.writerows([f"row {number}", cell] for number, cell in enumerate(cells))
    inputs = read(str(folder / "a.csv"), options=options(), seed=0)
    return [record.attributes["x"] for record in inputs.records], inputs.notes


WHOLE = [
    ["1294030472427835393", "1294030472427835394"],
    ["1294030472427835393", "", "1294030472427835394"],
    ["9223372036854775807", "-9223372036854775808"],
    ["18446744073709551615", "0", ""],
]
MEASURED = [
    ["0.5", "1e5", "2"],
    ["1e-05", "5e-06"],
    ["1.50", "2.25", "10.00"],
    ["-.5", "1."],
    ["6144039378640938.000000", "0.500000"],
    ["1.000000000000000056e-01", "2.500000000000000000e+00"],
    ["3", "0.1234567890123456789"],
]
TEXT = [
    ["1234567890123456789012345", "1"],
    ["18446744073709551616", "3"],
    ["18446744073709551615", "-1"],
    ["18446744073709551615", "0.5"],
    ["+49301234567", "+49301234568"],
    ["007", "12"],
    ["1_000", "2"],
    ["1e5", "2e7"],
    ["1e5", "12"],
    ["1.1", "1.10"],
    ["0.50", "0.125"],
    ["1,234", "5,678"],
    ["0x1f"],
    ["inf", "1.5"],
    ["1e999", "1.5"],
    ["9" * 400, "0.5"],
    ["-0", "1"],
    ["12", "a"],
    ["NA", "DE", "FR"],
    ["1 000", "2"],
    ["٣"],
]


@pytest.mark.parametrize("cells", WHOLE, ids=repr)
def test_whole_numbers_with_or_without_a_gap(cells, tmp_path):
    values, notes = column(tmp_path, cells)
    assert values == [int(cell) if cell else None for cell in cells]
    assert all(isinstance(value, int) for value in values if value is not None)
    assert notes == ()


@pytest.mark.parametrize("cells", MEASURED, ids=repr)
def test_measured_numbers(cells, tmp_path):
    values, _ = column(tmp_path, cells)
    assert values == [float(cell) for cell in cells]
    assert all(isinstance(value, float) for value in values)


@pytest.mark.parametrize("cells", TEXT, ids=lambda cells: repr(cells)[:40])
def test_what_would_change_stays_text(cells, tmp_path):
    values, notes = column(tmp_path, cells)
    assert values == cells
    assert all("is text: not all its figures are plain" in note for note in notes)


def test_two_identifiers_never_become_one(tmp_path):
    random = np.random.default_rng(0)
    for digits in range(15, 26):
        cells = ["".join(map(str, random.integers(1, 10, digits))) for _ in range(20)]
        cells += [f"{cells[0][:-1]}{(int(cells[0][-1]) + 1) % 10}", ""]
        values, _ = column(tmp_path, cells)
        assert [None if value is None else str(value) for value in values] == [cell or None for cell in cells]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["0,5", "1,25", "3"], [0.5, 1.25, 3.0]),
        (["1,234", "0,5"], [1.234, 0.5]),
        (["1,234", "5,678"], ["1,234", "5,678"]),  # may be thousands
        (["1.234,5", "0,5"], ["1.234,5", "0,5"]),
        (["5", "1,234"], ["5", "1,234"]),
    ],
)
def test_decimal_commas_where_the_delimiter_is_another(cells, values, tmp_path):
    found, notes = column(tmp_path, cells, ";")
    assert found == values
    assert any("decimal point" in note for note in notes) == isinstance(values[0], float)


def test_gaps_that_are_written_out_are_said(tmp_path):
    assert column(tmp_path, ["1", "NA", "3"]) == (
        [1, None, 3],
        ("a.csv: column 'x': 'NA' (1 cells) is read as no value",),
    )
    assert column(tmp_path, ["0.5", "NaN"])[0] == [0.5, None]
    assert column(tmp_path, ["NA", "NA"])[0] == ["NA", "NA"]


def test_dates_and_times_are_iso_in_every_cell(tmp_path):
    assert column(tmp_path, ["2024-02-29", "", "1999-12-31"])[0] == [date(2024, 2, 29), None, date(1999, 12, 31)]
    assert column(tmp_path, ["2024-02-30"])[0] == ["2024-02-30"]
    assert column(tmp_path, ["2024-02-01", "1.2.2024"])[0] == ["2024-02-01", "1.2.2024"]
    assert column(tmp_path, ["2024-02-01", "2024-02-01 10:00"])[0] == ["2024-02-01", "2024-02-01 10:00"]
    when = pd.Series(pd.to_datetime(["2024-02-01 10:00:00.5", "2024-02-01 10:00:01.25"])).astype(str).tolist()
    assert column(tmp_path, when)[0] == [datetime.fromisoformat(cell) for cell in when]
    zoned = ["2024-02-01T10:00:00Z", "2024-07-01T12:00:00+02:00"]
    assert column(tmp_path, zoned)[0] == [datetime(2024, 2, 1, 10, tzinfo=UTC), datetime(2024, 7, 1, 10, tzinfo=UTC)]
    mixed = ["2024-02-01T10:00:00Z", "2024-07-01T12:00:00"]
    assert column(tmp_path, mixed)[0] == mixed
    nano = ["2024-02-01T10:00:00.123456789"]
    assert column(tmp_path, nano)[0] == nano


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64", "float32", "bool", "datetime64[us]", "string"])
def test_what_pandas_writes_comes_back(dtype, tmp_path):
    random = np.random.default_rng(0)
    values = (
        pd.Series(random.integers(0, 2**62, 200)).astype(dtype)
        if dtype != "float64"
        else pd.Series(random.normal(size=200))
    )
    values.iloc[3:] = values.iloc[3:].astype(dtype)
    pd.DataFrame({"text": "x", "x": values}).to_csv(tmp_path / "a.csv", index=False)
    found = [record.attributes["x"] for record in read(str(tmp_path / "a.csv"), options=options(), seed=0).records]
    assert [str(value) for value in found] == [str(value) for value in values.tolist()] or np.array_equal(
        np.asarray(found, dtype), values.to_numpy()
    )


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["12,5", "1.234,51"], True),
        (["01.03.2024", "", "02.03.2024"], True),
        (["1.1", "1.10"], True),
        (["00:15", "NA"], True),
        (["12", "12 Monkeys"], False),
        (["prose", "more prose"], False),
        (["1", "2"], False),
    ],
)
def test_figures_that_stay_text_are_told(tmp_path, cells, said):
    values, notes = column(tmp_path, cells, ";")
    assert any("is text: not all its figures are plain" in note for note in notes) == said
    assert not said or values[0] == cells[0]
