"""Runs that mean harm: text that would be code, and runs with a piece missing."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

from tests import fakes

FLAG = "window.hacked=1"
TEXTS = [
    f"<script>{FLAG}</script>",
    f"<img src=x onerror={FLAG}>",
    f'"><svg onload="{FLAG}">',
    f"</script><script>{FLAG}</script>",
    f"javascript:{FLAG}",
    f"`${{{FLAG}}}`",
    "'\"&amp;&lt;",
    "\u202egnp.exe\u2066",
    "👩‍👩‍👧‍👦🏴‍☠️",
    "$$\\frac{1}{2}$$",
    "\x07\x1b[31m\r\n\t",
    "{{ 7 * 7 }} {% raw %} %s {0}",
    "constructor",
    "__proto__",
    "long" * 1250,
]
"""Tokens; as labels, names of columns, files, models and runs they are used too."""


def write_hostile_run(path, *, image=False, long=True):
    """Write a run all of whose texts are hostile: tokens, labels, columns, references, model and names."""
    words, fakes.WORDS = fakes.WORDS, [text for text in TEXTS if long or len(text) < 500]
    try:
        fakes.write_fake_run(path, image=image, sequences=30)
    finally:
        fakes.WORDS = words
    table = pq.read_table(path / "sequences.parquet", partitioning=None)
    rows = range(table.num_rows)
    table = table.set_column(2 - 1, "reference", pa.array([f"../{TEXTS[i % len(TEXTS)]}.png" for i in rows]))
    table = table.drop_columns(["label"])
    columns = [name for name in TEXTS if long or len(name) < 500]
    for number, name in enumerate(columns):
        values = [number + i if number % 3 == 0 else TEXTS[(number + i) % len(TEXTS)] for i in rows]
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path / "sequences.parquet")
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest |= {"name": TEXTS[0] + TEXTS[2] + TEXTS[7] + "n" * 5000, "attributes": columns}
    manifest["model"] |= {"id": TEXTS[1] + TEXTS[3] + "m" * 5000, "architecture": TEXTS[3]}
    for layer in manifest["layers"]:
        layer["name"] = TEXTS[1]
    (path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return path


def pieces(run):
    """Every file of a run, relative to it."""
    return sorted(file.relative_to(run) for file in run.rglob("*") if file.is_file())


def without(run, piece, to):
    """Copy a run without one of its files."""
    shutil.copytree(run, to)
    (to / piece).unlink()
    return to


def truncated(run, piece, to):
    """Copy a run with the first half of one of its files."""
    shutil.copytree(run, to)
    content = (to / piece).read_bytes()
    (to / piece).write_bytes(content[: len(content) // 2])
    return to
