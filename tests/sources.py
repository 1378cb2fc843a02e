"""Small sources of every format, for the tests of the readers."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from attnviz.inputs import DataOptions

WORDS = ["one fish", "two fish", "red fish", "blue fish", "old fish", "new fish"]


def options(**given):
    return DataOptions(**given)


def texts(inputs):
    return [record.text for record in inputs.records]


def write_json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_images(folder, names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (number * 20, 0, 0)).save(path)
    return str(folder)


def table():
    return pd.DataFrame({"text": WORDS, "stars": range(len(WORDS)), "price": np.arange(len(WORDS)) / 4})


def example(form, folder):
    """Return the location of a small source of each format."""
    path = folder / f"data.{form}"
    if form == "builtin":
        return "repeated"
    if form == "text":
        path.write_text("\n".join(WORDS), encoding="utf-8")
    elif form == "jsonl":
        write_json_lines(path, table().to_dict("records"))
    elif form in ("csv", "tsv"):
        table().to_csv(path, index=False, sep="\t" if form == "tsv" else ",")
    elif form == "parquet":
        table().to_parquet(path, row_group_size=2)
    elif form == "npz":
        np.savez(path, images=np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4), label=np.arange(6))
    elif form == "images":
        write_images(path, [f"{kind}/{number}.png" for kind in ("cats", "dogs") for number in range(3)])
    elif form == "hub":
        save_data_set(path, {"text": WORDS})
    return str(path)


def save_data_set(path, columns, features=None):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(path))
    return f"hub:{path}"
