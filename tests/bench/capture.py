"""What capture costs: seconds against the plain forward pass of the same batches, and peak memory, for three kinds of model.

    python tests/bench/capture.py

MiniLM (6 layers × 12 heads of 32, an encoder) over documentation sentences; a Llama of 8 layers × 8 heads of 64 (4 kv heads) over
random tokens of 64 to 256; timm's ViT-S/16 (12 × 6 of 64) over random images, the latter two with random weights; and, to show
what is lost where there is little to compute, our own small Llama and vision transformer. Batches of 4,096 tokens, in float32 on
the CPU. The two passes take turns on each batch, so that a noisy machine is noisy to both; the ratio is the median over batches
and repeats. The share of the check is that of the capture's seconds in which rows are chosen and rebuilt. The capture pass does all
that a run does but writing files: unpadding, float16, norms of values, normalisers.

Memory is the peak resident size of a fresh process: of capturing into a run directory, files included, for eight times the data
against once; and of one text of 8,192 tokens, captured against run plainly, in that Llama.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import torch
import transformers

from attnviz.capturing import capture, inspect, run, survey
from attnviz.capturing import rows as rows_module
from attnviz.models import LoadedModel, load
from attnviz.models.torch_module import TorchModel
from attnviz.pipeline.prepare import Prepared, prepare, probe_sequences
from attnviz.pipeline.vectors import Shard, batches, capture_shards, rows_of
from attnviz.recipe import load_recipe
from attnviz.types import LayerInfo

TOKENS = 16_384
REPEATS = 3
LONG = 8_192

CHOOSE, REBUILD = run.sampled, rows_module.Sample.off
Bench = tuple[LoadedModel, Prepared, tuple[LayerInfo, ...]]


def prepared(name: str, tokens: int) -> tuple[LoadedModel, Prepared]:
    """Load the model of a shipped recipe with some of its data."""
    recipe = load_recipe(name, {"data.max_tokens": tokens})
    model = load(recipe.model)
    return model, prepare(recipe, model, lambda *_: None)


def llama() -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4}
    config = transformers.LlamaConfig(vocab_size=1000, intermediate_size=1024, max_position_embeddings=LONG, **sizes)
    return transformers.AutoModel.from_config(config).eval()


def random_llama() -> Bench:
    """Return a Llama of usual width, with batches of 4,096 tokens: 16 texts of up to 256."""
    batches = []
    for seed in range(TOKENS // 4096):
        lengths = np.sort(np.random.default_rng(seed).integers(64, 257, 16))[::-1]
        mask = torch.from_numpy((np.arange(256) < lengths[:, None]).astype(np.int64))
        batches.append({"input_ids": torch.randint(0, 1000, (16, 256)), "attention_mask": mask})
    model = TorchModel(llama(), batches, "Llama 8 × 8")
    return surveyed(model)


def random_vit() -> Bench:
    """Return a vision transformer of usual width, with batches of 20 images: 3,940 tokens."""
    torch.manual_seed(0)
    module = timm.create_model("vit_small_patch16_224", pretrained=False).eval()
    return surveyed(TorchModel(module, [torch.randn(20, 3, 224, 224) for _ in range(TOKENS // 4096)], "ViT-S/16"))


def surveyed(model: TorchModel) -> Bench:
    """Return a module's batches with what a first pass over them finds."""
    found = survey(model)
    return model, Prepared(found.sequences, {}, found.batches), found.layers


def inspected(name: str) -> Bench:
    """Return the model of a shipped recipe, with its layers."""
    model, sequences = prepared(name, TOKENS)
    return model, sequences, inspect(model, probe_sequences(sequences).short, longest=sequences.longest)


MODELS: dict[str, Callable[[], Bench]] = {
    "bert": lambda: inspected("minilm_docs"),
    "llama": random_llama,
    "vit": random_vit,
    "small_llama": lambda: inspected("docs_llama"),
    "small_vit": lambda: inspected("digits_vit"),
}


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """Return a function that adds up how long it takes."""

    def run_it(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds[0] += time.perf_counter() - start

    return run_it


def ratio(name: str) -> tuple[float, float]:
    """Return the median ratio of a captured batch to a plain one, and the check's share of capture."""
    model, sequences, layers = MODELS[name]()
    shard = Shard(layers, int(sequences.first_tokens[-1]), "float16")
    plain, watched, checked = [], [], []
    seconds = [0.0]
    run.sampled, rows_module.Sample.off = timed(CHOOSE, seconds), timed(REBUILD, seconds)
    for repeat in range(REPEATS + 1):
        shard.clear()
        for part in sequences.shards(2 * TOKENS):
            for batch in batches(sequences, part, 5000 if sequences.cuts else 4096):
                inputs = model.collate([sequences.sequences[i] for i in batch])
                rows = rows_of(sequences, batch)
                start = time.perf_counter()
                model.forward(inputs)
                between, seconds[0] = time.perf_counter(), 0.0
                capture(model, inputs, layers, shard.expect(rows), dtype="float16")
                end = time.perf_counter()
                if repeat:  # the first round warms up
                    plain.append(between - start)
                    watched.append(end - between)
                    checked.append(seconds[0])
    share = median(c / w for c, w in zip(checked, watched, strict=True))
    result = median(w / p for w, p in zip(watched, plain, strict=True))
    print(
        f"{name}: {len(plain)} batches, plain {median(plain):.3f} s, captured {median(watched):.3f} s (medians): {result:.3f} ×, "
        f"{share:.1%} of it the check",
        flush=True,
    )
    return result, share


def peak_of_this_process() -> float:
    """Return the peak resident size in MB; ``getrusage`` would give that of the process that started this one, if it is larger."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def peak(*words: str) -> float:
    """Do something in a fresh process and return its peak resident size in MB."""
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def capture_into_a_run(tokens: str) -> None:
    """Capture so many tokens of MiniLM, files included."""
    model, sequences = prepared("minilm_docs", int(tokens))
    layers = inspect(model, probe_sequences(sequences).short, longest=sequences.longest)
    with tempfile.TemporaryDirectory() as folder:
        spec = load_recipe("minilm_docs").capture
        capture_shards(Path(folder), model, sequences, layers=layers, kept=layers, spec=spec, progress=lambda *_: None)


def long_text(how: str) -> None:
    """Run one long text through a Llama, plainly or captured."""
    ids = torch.randint(0, 1000, (1, LONG), generator=torch.Generator().manual_seed(0))
    model = TorchModel(llama(), [{"input_ids": ids}], "long")
    if how == "plain":
        model.call(model.batches[0])
        return
    found = survey(model)
    shard = Shard(found.layers, LONG, "float16")
    capture(model, model.collate(found.sequences), found.layers, shard.expect({"": np.arange(LONG)}), dtype="float16")


TASKS: dict[str, Callable[[str], None]] = {"run": capture_into_a_run, "long": long_text}


def main() -> None:
    if len(sys.argv) > 1:
        TASKS[sys.argv[1]](sys.argv[2])
        print(peak_of_this_process())
        return
    ratios = {name: ratio(name) for name in MODELS}
    memory = {times: peak("run", str(TOKENS * times)) for times in (1, 8)}
    print(f"peak memory {memory[1]:.0f} MB for {TOKENS:,} tokens, {memory[8]:.0f} MB for {8 * TOKENS:,}", flush=True)
    long = {how: median(peak("long", how) for _ in range(REPEATS)) for how in ("plain", "captured")}
    print(f"a text of {LONG:,} tokens: plain {long['plain']:.0f} MB, captured {long['captured']:.0f} MB")
    result = {f"capture_ratio_{name}": round(value, 3) for name, (value, _) in ratios.items()}
    result |= {f"check_share_{name}": round(value, 4) for name, (_, value) in ratios.items()}
    result |= {
        "memory_ratio": round(memory[8] / memory[1], 3),
        "long_memory_ratio": round(long["captured"] / long["plain"], 3),
    }
    print(f"RESULT {json.dumps(result)}")


if __name__ == "__main__":
    main()
