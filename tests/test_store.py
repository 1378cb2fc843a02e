"""The run directory: what is written is what is read, by us and by others, and damage is one sentence."""

import dataclasses
import errno
import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest

from attnviz.errors import DatasetError
from attnviz.export import export
from attnviz.store import RunDirectory, layout, write
from tests.fakes import write_fake_run


@pytest.fixture
def path(tmp_path):
    return write_fake_run(tmp_path / "run")


@pytest.fixture
def run(path):
    return RunDirectory(path)


def test_a_head_is_one_row_group_and_shards_are_joined(run):
    file = pq.ParquetFile(layout.shard_file(run.path, 1, 0))
    assert file.metadata.num_row_groups == 4
    whole = run.vectors(1, 2)
    assert whole.query.shape == (run.num_tokens, 8)
    assert whole.query.dtype == np.float32
    cut = run.manifest.shards[1]
    rows = slice(cut - 3, cut + 4)  # over the border of two shards
    part = run.vectors(1, 2, rows)
    np.testing.assert_array_equal(part.key, whole.key[rows])
    np.testing.assert_array_equal(part.query_norm, whole.query_norm[rows])
    np.testing.assert_allclose(whole.query_norm, np.linalg.norm(whole.query, axis=1), rtol=2e-3)


def test_heads_that_share_a_kv_head_have_the_same_keys(run):
    np.testing.assert_array_equal(run.vectors(0, 0).key, run.vectors(0, 1).key)
    assert not np.array_equal(run.vectors(0, 1).key, run.vectors(0, 2).key)


def test_a_map_is_aligned_with_the_points(run):
    frame = run.head(1, 3).map("umap_3d")
    assert list(frame.columns[:5]) == ["token", "kind", "x", "y", "z"]
    assert len(frame) == 2 * run.num_tokens
    vectors = run.vectors(1, 3)
    np.testing.assert_allclose(frame.loc[frame.kind == "query", ["x", "y", "z"]], vectors.query[:, :3], atol=2e-3)
    np.testing.assert_allclose(frame.loc[frame.kind == "key", ["x", "y", "z"]], vectors.key[:, :3], atol=2e-3)
    assert (frame.text.to_numpy() == run.tokens.text.to_numpy()[frame.token]).all()
    np.testing.assert_array_equal(run.coordinates("umap_3d", 1)[3], run.coordinates("umap_3d", 1, 3))


def test_attention_has_rows_that_sum_to_one_and_respects_the_mask(run):
    attention = run.attention(0, 1, 5)
    assert np.asarray(attention).shape == (len(attention.tokens),) * 2
    np.testing.assert_allclose(attention.weights.sum(axis=1), 1, rtol=1e-6)
    assert not np.triu(attention.weights, 1).any()  # the fake text model is causal
    assert attention.tokens[0] == "[CLS]"
    np.testing.assert_array_equal(run.head(0, 1).attention(5), attention)


def test_pictures_come_back(tmp_path):
    run = RunDirectory(write_fake_run(tmp_path / "images", image=True))
    assert run.image_png(11).startswith(b"\x89PNG")
    assert run.image_png(3) != run.image_png(4)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda run: run.head(9, 0), "holds layers 0, 1; layer 9"),
        (lambda run: run.head(0, 4), "heads 0 to 3; 4"),
        (lambda run: run.attention(0, 0, 12), "sequences 0 to 11; 12"),
        (lambda run: run.scores("umpa"), "did you mean 'umap'"),
        (lambda run: run.faithfulness("umpa", 0), "did you mean 'umap'"),
        (lambda run: run.faithfulness("umap", 9), "holds layers 0, 1; layer 9"),
        (lambda run: run.image_png(0), "images.parquet is missing"),
    ],
)
def test_what_is_not_there_is_named(run, ask, sentence):
    with pytest.raises(DatasetError, match=sentence):
        ask(run)


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-30])


def _foreign(file):
    pq.write_table(pq.read_table(file).slice(0, 3).drop_columns(["token"]), file)


@pytest.mark.parametrize(
    "damage", [_truncate, _foreign, lambda file: file.write_bytes(b""), lambda file: file.unlink()]
)
@pytest.mark.parametrize(
    ("place", "ask"),
    [
        (lambda path: layout.shard_file(path, 0, 1), lambda run: run.vectors(0, 0)),
        (lambda path: layout.map_file(path, "umap", 0), lambda run: run.coordinates("umap", 0, 3)),
        (lambda path: layout.faithfulness_file(path, "umap", 0), lambda run: run.faithfulness("umap", 0, 3)),
    ],
)
def test_damage_is_a_sentence_that_names_the_file(path, damage, place, ask):
    file = place(path)
    damage(file)
    with pytest.raises(DatasetError, match=file.name) as caught:
        ask(RunDirectory(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ({"schema_version": 99}, "schema_version 99; this attnviz reads 1"),
        ({"schema_version": 1}, "not the manifest of an attnviz run"),
        ([1], "holds list"),
        ("{", "cannot be read"),
    ],
)
def test_a_foreign_manifest_is_refused(path, manifest, sentence):
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    (path / layout.MANIFEST_FILE).write_text(text)
    with pytest.raises(DatasetError, match=sentence):
        RunDirectory(path)


def test_a_folder_without_manifest_is_unfinished_or_foreign(tmp_path):
    with pytest.raises(DatasetError, match="no attnviz run, or one that is unfinished"):
        RunDirectory(tmp_path)


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "note.txt"
    write.write_text(file, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match=r"No space left.*Free some space and give the same command again"):
        write.write_text(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_while_writing_leaves_nothing_behind(tmp_path):
    def half(path):
        with write.atomic(path) as partial:
            partial.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half(tmp_path / "a.bin")
    assert not list(tmp_path.iterdir())


def test_a_partial_file_of_the_users_own_is_not_touched_outside_of_a_run(tmp_path):
    run = write_fake_run(tmp_path / "run", layers=1)
    (tmp_path / "table.csv.partial").write_text("half of something else")
    file, _ = export(RunDirectory(run), "csv", out=tmp_path / "table.csv")
    assert file.is_file()
    assert (tmp_path / "table.csv.partial").read_text() == "half of something else"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["run", "table.csv", "table.csv.partial"]


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written"):
        write.write_text(tmp_path / "file" / "a.txt", "x")


def test_manifest_round_trip(run):
    from attnviz.store.manifest import read_manifest, to_json

    copy = run.path / "copy.json"
    copy.write_text(to_json(run.manifest))
    assert read_manifest(copy) == run.manifest
    assert dataclasses.replace(run.manifest, seed=3) != run.manifest


def test_other_tools_read_every_file_in_one_line(path, tmp_path):
    import dask.dataframe as dd
    import datasets
    import duckdb
    import pandas as pd
    import polars as pl

    for file in sorted(path.rglob("*.parquet")):
        rows = pq.read_metadata(file).num_rows
        assert len(pd.read_parquet(file)) == rows
        assert duckdb.sql(f"select count(*) from '{file}'").fetchall() == [(rows,)]
        assert duckdb.sql(f"select * from '{file}'").fetchall()
        assert len(dd.read_parquet(file)) == rows
        assert len(pl.read_parquet(file)) == rows
        assert len(datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))) == rows
    assert set(pd.read_parquet(path / "maps" / "umap").columns) == {"head", "token", "kind", "x", "y", "layer"}
    assert len(pd.read_parquet(path / "scores")) == 3 * 2 * 4  # maps x layers x heads
    kept = pd.read_parquet(path / "faithfulness")
    assert set(kept.columns) == {"head", "token", "kind", "neighbors_kept", "attention_kept", "map", "layer"}


def test_faithfulness_is_aligned_with_the_points(run):
    layer = run.faithfulness("umap", 1)
    assert layer.shape == (4, 2 * run.num_tokens, 2)
    assert layer.dtype == np.float32
    np.testing.assert_array_equal(layer[3], run.faithfulness("umap", 1, 3))
    file = pq.ParquetFile(layout.faithfulness_file(run.path, "umap", 1))
    assert file.metadata.num_row_groups == 4
    rows = file.read_row_group(2).to_pandas()
    assert rows["kind"].tolist() == ["query"] * run.num_tokens + ["key"] * run.num_tokens
    assert rows["head"].eq(2).all()
    np.testing.assert_array_equal(rows["attention_kept"].to_numpy(np.float32), layer[2, :, 1])


def test_scores_of_all_maps_stand_beside_the_heads(run):
    joined = run.head_scores()
    assert len(joined) == 8
    assert joined.columns[: len(run.heads.columns)].tolist() == run.heads.columns.tolist()
    assert joined["umap_3d.trust_query"].equals(run.scores("umap_3d")["trust_query"].rename("umap_3d.trust_query"))


def test_the_archived_run_opens_for_ever():
    from pathlib import Path

    run = RunDirectory(Path(__file__).parent / "archives" / "v1" / "run")
    assert run.manifest.schema_version == 1
    assert set(run.maps) == {"pca", "umap_3d"}
    for layer, info in run.layers.items():
        for head in range(info.num_heads):
            assert len(run.head(layer, head).map("umap_3d")) == 2 * run.num_tokens
            assert np.isfinite(run.attention(layer, head, 0).weights).all()
    assert run.sequences["label"].notna().all()
    assert not run.has_faithfulness()
    assert {"pca.trustworthiness", "umap_3d.attention_recall"} <= set(run.head_scores())
    with pytest.raises(DatasetError, match=r"made by an earlier attnviz\. Delete .*pca and give"):
        run.faithfulness("pca", next(iter(run.layers)))
