"""A run made without a model: planted vectors and placements, written through the real writers. Seeded, small, fast."""

import io
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from attnviz import schema
from attnviz.metrics import METRICS
from attnviz.store import Manifest, MapInfo, Points, layout, write
from attnviz.store.manifest import to_json
from attnviz.store.terms import write_terms
from attnviz.token_text import guess
from attnviz.types import LayerInfo, MapSpec, ModelInfo, Terms

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
    label: pa.Array | None = None,
) -> Path:
    """Write a complete run; sequences have 5 to 14 tokens, or a class token and 4 × 4 patches, and a ``label`` of three."""
    rng = np.random.default_rng(seed)
    lengths = np.full(sequences, 17) if image else rng.integers(5, 15, sequences)
    tokens = _image_tokens(lengths) if image else _text_tokens(lengths, rng)
    total = int(lengths.sum())
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    table = _sequences(lengths, first, tokens["text"], image)
    if label is not None:
        table = table.set_column(table.num_columns - 1, "label", label)
    write.write_table(path / layout.SEQUENCES_FILE, table)
    write.write_table(path / layout.TOKENS_FILE, pa.table(tokens, schema=schema.TOKENS))
    if image:
        write.write_table(path / layout.IMAGES_FILE, _images(sequences, rng), row_group_size=5)

    infos = tuple(
        LayerInfo(
            layer, f"layer.{layer}.attention", heads, max(heads // 2, 1), head_dim, head_dim**-0.5, causal=not image
        )
        for layer in range(layers)
    )
    model = ModelInfo("fake/tiny", "fake", "FakeModel", "image" if image else "text", grid=(4, 4) if image else None)
    return _write_rest(path, model, infos, (first, total), tokens["stream"], maps=maps, seed=seed, rng=rng)


def write_fake_streams(
    path: Path, kind: str = "pair", *, sequences: int = 12, maps: tuple[str, ...] = ("pca", "umap"), sink: bool = False
) -> Path:
    """Write a complete run of several streams.

    Parameters
    ----------
    kind
        ``"pair"``: 2 layers of an encoder, and 2 of a decoder with cross attention, whose last 2 tokens are generated.
        ``"stages"``: 2 layers of 4 × 4 patches, and 2 of 2 × 2. ``"mixed"``: a tower of 2 × 2 patches, and a language model that
        reads them after a word. Two heads each.
    sink
        Whether the last layer has a sink.
    """
    rng = np.random.default_rng(7)
    made = [_STREAMS[kind][0](rng) for _ in range(sequences)]
    tokens = _joined_tokens(made)
    lengths = np.array([len(rows) for rows in made])
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    image = kind != "pair"
    write.write_table(path / layout.SEQUENCES_FILE, _sequences(lengths, first, tokens["text"], image))
    write.write_table(path / layout.TOKENS_FILE, pa.table(tokens, schema=schema.TOKENS))
    if image:
        write.write_table(path / layout.IMAGES_FILE, _images(sequences, rng), row_group_size=5)
    infos = tuple(
        LayerInfo(
            layer,
            f"{stack}.{number}",
            2,
            2,
            8,
            8**-0.5,
            False,
            stack=stack,
            number=number,
            query_stream=q,
            key_stream=k,
        )
        for layer, stack, number, q, k in _STREAMS[kind][1]
    )
    if sink:
        write_terms(layout.terms_file(path, infos[-1].layer), Terms(sinks=np.full(2, 1.5, np.float32)))
    modality = {"pair": "text", "stages": "image", "mixed": "text+image"}[kind]
    model = ModelInfo("fake/streams", "fake", "FakeModel", modality, grid=(4, 4) if kind == "stages" else None)
    return _write_rest(path, model, infos, (first, int(lengths.sum())), tokens["stream"], maps=maps, seed=7, rng=rng)


def _write_rest(
    path: Path,
    model: ModelInfo,
    infos: tuple[LayerInfo, ...],
    spans: tuple[np.ndarray, int],
    streams: list[str],
    *,
    maps: tuple[str, ...],
    seed: int,
    rng: np.random.Generator,
) -> Path:
    """Write layers, maps and manifest of a run whose tables are there."""
    first, total = spans
    shards = (0, int(first[len(first) // 2]))
    for info in infos:
        _write_layer(path, info, _points(info, streams), [*shards, total], maps, rng)
    write.write_table(path / layout.HEADS_FILE, _heads(infos, rng))
    for name in maps:
        spec = MapSpec(name, name.removesuffix("_3d"), 3 if name.endswith("_3d") else 2, {})
        done = MapInfo(spec, seed, tuple(METRICS), {str(info.layer): 0.1 for info in infos}, {})
        write.write_text(layout.map_dir(path, name) / layout.MAP_FILE, to_json(done))
    write.write_text(path / layout.RECIPE_FILE, 'name = "fake"\n')
    manifest = Manifest(
        path.name,
        model,
        infos,
        len(first),
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


def _points(info: LayerInfo, streams: list[str]) -> Points:
    every = Points.of_all(len(streams))
    sides = (info.query_stream, info.key_stream)
    query, key = (np.flatnonzero(np.array(streams) == side).astype(np.int32) if side else every.query for side in sides)
    return Points(query, query if sides[0] == sides[1] else key)


def _write_layer(
    path: Path, info: LayerInfo, points: Points, bounds: list[int], maps: tuple[str, ...], rng: np.random.Generator
) -> None:
    heads, each = info.num_heads, info.num_heads // info.num_kv_heads
    counts = len(points.query), len(points.key)
    query = rng.normal(size=(heads, counts[0], info.head_dim)).astype(np.float32)
    key = np.repeat(rng.normal(size=(info.num_kv_heads, counts[1], info.head_dim)), each, axis=0).astype(np.float32)
    for shard, (start, stop) in enumerate(pairwise(bounds)):
        part = points.within(start, stop)
        q, k = (slice(*np.searchsorted(tokens, (start, stop))) for _, tokens in points.by_kind())
        norms = {"value_norm": np.ones(len(part.key), np.float32), "logsumexp": np.ones(len(part.query), np.float32)}
        columns = [{"query": query[h, q], "key": key[h, k], **norms} for h in range(heads)]
        write.write_vectors(layout.shard_file(path, info.layer, shard), columns, part, "float16")
    for name in maps:
        dims = 3 if name.endswith("_3d") else 2
        placed = [np.concatenate([query[h], key[h]])[:, :dims] for h in range(heads)]
        write.write_coordinates(layout.map_file(path, name, info.layer), placed, points)
        scores = [dict(zip(METRICS, rng.random(len(METRICS)).tolist(), strict=True)) for _ in range(heads)]
        write.write_scores(layout.scores_file(path, name, info.layer), scores)
        kept = [rng.random((sum(counts), 2), np.float32) for _ in range(heads)]
        write.write_faithfulness(layout.faithfulness_file(path, name, info.layer), kept, points)


def _patches(stream: str, side: int) -> list[dict]:
    places = [(row, col) for row in range(side) for col in range(side)]
    patch = {"stream": stream, "modality": "image"}
    return [patch | {"text": f"{row},{col}", "patch_row": row, "patch_col": col} for row, col in places]


def _words(stream: str, count: int, rng: np.random.Generator) -> list[dict]:
    return [{"stream": stream, "text": str(word)} for word in rng.choice(WORDS, count)]


def _pair(rng: np.random.Generator) -> list[dict]:
    read = [*_words("encoder", int(rng.integers(4, 8)), rng), {"stream": "encoder", "text": "</s>", "is_special": True}]
    said = [
        {"stream": "decoder", "text": "<pad>", "is_special": True},
        *_words("decoder", int(rng.integers(3, 6)), rng),
    ]
    return read + [row | {"is_generated": number >= len(said) - 2} for number, row in enumerate(said)]


def _stages(rng: np.random.Generator) -> list[dict]:
    return _patches("stage 0", 4) + _patches("stage 1", 2)


def _mixed(rng: np.random.Generator) -> list[dict]:
    special = {"stream": "vision", "text": "[CLS]", "is_special": True, "modality": "image"}
    words = _words("language", int(rng.integers(3, 6)), rng)
    return [special, *_patches("vision", 2), *words[:1], *_patches("language", 2), *words[1:]]


_STREAMS = {
    "pair": (
        _pair,
        [
            *((layer, "encoder", layer, "encoder", "encoder") for layer in (0, 1)),
            *((2, "decoder", 0, "decoder", "decoder"), (4, "cross", 0, "decoder", "encoder")),
            *((3, "decoder", 1, "decoder", "decoder"), (5, "cross", 1, "decoder", "encoder")),
        ],
    ),
    "stages": (_stages, [(2 * s + n, f"stage {s}", n, f"stage {s}", f"stage {s}") for s in (0, 1) for n in (0, 1)]),
    "mixed": (_mixed, [(n, name, 0, name, name) for n, name in enumerate(("vision", "language"))]),
}
"""What makes the tokens of a sequence, and the layers as a model runs them: number, stack, place in it, streams."""


def _joined_tokens(made: list[list[dict]]) -> dict:
    """Return the columns of tokens that are given by what is not usual about them."""
    usual = {"vocab_id": None, "is_special": False, "segment": 0, "patch_row": None, "patch_col": None}
    usual |= {"modality": "text", "is_generated": False}
    rows = []
    for sequence, tokens in enumerate(made):
        counted = Counter()
        for token in tokens:
            own = {"sequence_id": sequence, "position": counted[token["stream"]]}
            rows.append(usual | own | token)
            counted[token["stream"]] += 1
    frequency = Counter(row["text"] for row in rows)
    columns = _with_what_they_say({name: [row[name] for row in rows] for name in rows[0]})
    return columns | {"frequency": [frequency[row["text"]] for row in rows]}


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
    columns |= {"vocab_id": [None] * len(texts), "modality": ["image"] * len(texts)}
    columns = _with_what_they_say(columns)
    return columns | {"patch_row": place[0] * count, "patch_col": place[1] * count}


def _token_columns(lengths: np.ndarray, texts: list[str], special: list[bool]) -> dict:
    frequency = Counter(texts)
    columns = {
        "sequence_id": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        "position": np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        "text": texts,
        "vocab_id": [None] * len(texts),
        "is_special": special,
        "segment": np.zeros(len(texts), np.int8),
        "patch_row": [None] * len(texts),
        "patch_col": [None] * len(texts),
        "frequency": [frequency[text] for text in texts],
        "stream": [""] * len(texts),
        "modality": ["text"] * len(texts),
        "is_generated": [False] * len(texts),
    }
    return _with_what_they_say(columns)


def _with_what_they_say(columns: dict) -> dict:
    """Add what a tokenizer would decide; the words of these runs stand alone."""
    texts = list(dict.fromkeys(columns["text"]))
    codes = np.array([texts.index(text) for text in columns["text"]])
    alone = np.array(columns["is_special"]) | (np.array(columns["modality"]) == "image")
    made = guess(codes, texts, alone, np.array(columns["position"]) == 0)
    nothing = dict.fromkeys(("character", "part", "byte_values"), [None] * len(codes))
    said = {name: getattr(made, name) for name in ("plain", "starts_word", "is_punctuation")}
    return columns | said | nothing


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
