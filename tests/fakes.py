"""A run made without a model: planted vectors and placements, written through the real writers. Seeded, small, fast."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from attnviz import schema
from attnviz.metrics import METRICS
from attnviz.store import Manifest, MapInfo, layout, write
from attnviz.store.manifest import to_json
from attnviz.types import LayerInfo, MapSpec, ModelInfo

WORDS = "the cat sat on a warm mat while seven curious birds sang about rain , wind and the sea .".split()


def write_fake_run(
    path: Path,
    *,
    layers: int = 2,
    heads: int = 4,
    head_dim: int = 8,
    sequences: int = 12,
    image: bool = False,
    maps: tuple[str, ...] = ("pca", "umap", "umap_3d"),
    seed: int = 0,
) -> Path:
    """Write a complete run; sequences have 5 to 14 tokens, or a class token and 4 × 4 patches."""
    rng = np.random.default_rng(seed)
    lengths = np.full(sequences, 17) if image else rng.integers(5, 15, sequences)
    tokens = _image_tokens(lengths) if image else _text_tokens(lengths, rng)
    total = int(lengths.sum())
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    write.write_table(path / layout.SEQUENCES_FILE, _sequences(lengths, first, tokens["text"], image))
    write.write_table(path / layout.TOKENS_FILE, pa.table(tokens, schema=schema.TOKENS))
    if image:
        write.write_table(path / layout.IMAGES_FILE, _images(sequences, rng), row_group_size=5)

    infos = tuple(
        LayerInfo(layer, f"layer.{layer}.attention", heads, heads // 2, head_dim, head_dim**-0.5, causal=not image)
        for layer in range(layers)
    )
    shards = (0, int(first[sequences // 2]))
    bounds = [*shards, total]
    for info in infos:
        query = rng.normal(size=(heads, total, head_dim)).astype(np.float32)
        key = np.repeat(rng.normal(size=(heads // 2, total, head_dim)), 2, axis=0).astype(np.float32)
        for shard, (start, stop) in enumerate(pairwise(bounds)):
            norms = {name: np.ones(stop - start, np.float32) for name in ("value_norm", "logsumexp")}
            columns = [{"query": query[h, start:stop], "key": key[h, start:stop], **norms} for h in range(heads)]
            write.write_vectors(layout.shard_file(path, info.layer, shard), columns, start, "float16")
        for name in maps:
            dims = 3 if name.endswith("_3d") else 2
            placed = [np.concatenate([query[h], key[h]])[:, :dims] for h in range(heads)]
            write.write_coordinates(layout.map_file(path, name, info.layer), placed)
            scores = [dict(zip(METRICS, rng.random(len(METRICS)).tolist(), strict=True)) for _ in range(heads)]
            write.write_scores(layout.scores_file(path, name, info.layer), scores)
            kept = [rng.random((2 * total, 2), np.float32) for _ in range(heads)]
            write.write_faithfulness(layout.faithfulness_file(path, name, info.layer), kept)
    write.write_table(path / layout.HEADS_FILE, _heads(infos, rng))
    for name in maps:
        spec = MapSpec(name, name.removesuffix("_3d"), 3 if name.endswith("_3d") else 2, {})
        info = MapInfo(spec, seed, tuple(METRICS), {str(layer): 0.1 for layer in range(layers)}, {})
        write.write_text(layout.map_dir(path, name) / layout.MAP_FILE, to_json(info))
    write.write_text(path / layout.RECIPE_FILE, 'name = "fake"\n')
    model = ModelInfo("fake/tiny", "fake", "FakeModel", "image" if image else "text", grid=(4, 4) if image else None)
    manifest = Manifest(
        path.name,
        model,
        infos,
        sequences,
        total,
        shards,
        "0" * 64,
        seed,
        attributes=("label",),
        check=1e-7,
        created="2026-01-01",
    )
    write.write_text(path / layout.MANIFEST_FILE, to_json(manifest))
    return path


def _text_tokens(lengths: np.ndarray, rng: np.random.Generator) -> dict:
    texts, special = [], []
    for length in lengths:
        texts += ["[CLS]", *rng.choice(WORDS, length - 2).tolist(), "[SEP]"]
        special += [True, *[False] * (length - 2), True]
    vocabulary = {text: i for i, text in enumerate(sorted(set(texts)))}
    return _token_columns(lengths, texts, special) | {"vocab_id": [vocabulary[text] for text in texts]}


def _image_tokens(lengths: np.ndarray) -> dict:
    count = len(lengths)
    texts = ["[CLS]", *[f"{row},{col}" for row in range(4) for col in range(4)]] * count
    place = [None, *[row for row in range(4) for _ in range(4)]], [None, *list(range(4)) * 4]
    columns = _token_columns(lengths, texts, [True, *[False] * 16] * count)
    return columns | {"vocab_id": [None] * len(texts), "patch_row": place[0] * count, "patch_col": place[1] * count}


def _token_columns(lengths: np.ndarray, texts: list[str], special: list[bool]) -> dict:
    return {
        "sequence_id": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        "position": np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        "text": texts,
        "vocab_id": [None] * len(texts),
        "is_special": special,
        "segment": np.zeros(len(texts), np.int8),
        "patch_row": [None] * len(texts),
        "patch_col": [None] * len(texts),
        "frequency": [texts.count(text) for text in texts],
    }


def _sequences(lengths: np.ndarray, first: np.ndarray, texts: list[str], image: bool) -> pa.Table:
    whole = [" ".join(texts[f + 1 : f + n - 1]) for f, n in zip(first, lengths, strict=True)]
    columns = {
        "sequence_id": np.arange(len(lengths), dtype=np.int32),
        "reference": [f"fake:{i}" for i in range(len(lengths))],
        "text": [None] * len(lengths) if image else whole,
        "pair": [None] * len(lengths),
        "num_tokens": lengths.astype(np.int32),
        "first_token": first,
    }
    table = pa.table(columns, schema=schema.SEQUENCES)
    return table.append_column("label", pa.array([f"label {i % 3}" for i in range(len(lengths))]))


def _images(count: int, rng: np.random.Generator) -> pa.Table:
    rows = []
    for i in range(count):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(buffer, "PNG")
        rows.append({"sequence_id": i, "image": {"bytes": buffer.getvalue(), "path": None}})
    return pa.Table.from_pylist(rows, schema=schema.IMAGES)


def _heads(infos: tuple[LayerInfo, ...], rng: np.random.Generator) -> pa.Table:
    rows = [
        {
            "layer": info.layer,
            "head": head,
            "kv_head": info.kv_head(head),
            "head_dim": info.head_dim,
            "query_norm": 1.0,
            "key_norm": 1.0,
            "scale": 1.0,
            "shift": rng.normal(size=info.head_dim).tolist(),
            "joint_spearman": -0.5,
        }
        for info in infos
        for head in range(info.num_heads)
    ]
    return pa.Table.from_pylist(rows, schema=schema.HEADS)
