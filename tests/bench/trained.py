"""Whether the check tells rounding from faults in models that were trained: Llamas of other sizes than the shipped one, 30 seeds.

    python tests/bench/trained.py [seeds] [steps]

Each is a Llama of 5 layers × 8 heads (4 kv heads) of 16, 24 or 32, trained for some hundred steps on docstrings of installed
packages, without the price on long queries and keys that the shipped model was trained with: its attention is sharper. Right
models must all be accepted. Then the check is told a scaling that is wrong by a thousandth in one layer, and must refuse each time.
"""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers

from attnviz.capturing import check, inspect
from attnviz.inputs import DataOptions, read
from attnviz.models import load
from attnviz.models.transformers_text import TextModel
from attnviz.types import ModelSpec

SEEDS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 250
FAULT = 1.001  # × the scaling of a layer
RECIPE = Path(__file__).resolve().parents[2] / "data/models/docs-llama/train.py"


def recipe():
    """Return the recipe of the shipped model, as a module."""
    spec = importlib.util.spec_from_file_location("docs_llama", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(shipped, ids: np.ndarray, starts: np.ndarray, seed: int) -> torch.nn.Module:
    """Return a Llama after some steps of the shipped recipe."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=shipped.VOCABULARY, hidden_size=128, intermediate_size=256, num_hidden_layers=5, num_attention_heads=8,
        num_key_value_heads=4, head_dim=(16, 24, 32)[seed % 3], max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    optimizers = shipped.make_optimizers(model)
    random = np.random.default_rng(seed)
    for step in range(STEPS):
        rows, labels, _ = shipped.make_batch(ids, starts, random, step)
        model.zero_grad(set_to_none=True)
        model(input_ids=rows, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
    return model.eval()


def main() -> None:
    torch.set_num_threads(1)
    del sys.argv[1:]  # the recipe reads its own
    shipped = recipe()
    tokenizer = load(ModelSpec("builtin:docs-llama")).tokenizer
    texts, _ = shipped.sentences()
    ids = np.concatenate([np.array(one) for one in tokenizer(texts)["input_ids"]])
    starts = np.flatnonzero(ids == 0)
    starts = starts[starts <= len(ids) - shipped.TOKENS]
    records = sorted(read("builtin:docs", options=DataOptions(), seed=0).records, key=lambda one: len(one.text))
    records = [records[len(records) * share // 100] for share in (5, 50, 80, 99)]
    accepted, refused, exact = 0, 0, []
    for seed in range(SEEDS):
        model = TextModel(trained(shipped, ids, starts, seed).model, tokenizer, ModelSpec("trained"))
        sequences = [model.encode(record, 200) for record in records]
        layers = inspect(model, sequences)
        found = check(model, sequences, layers)
        exact.append(max(one.exact for one in found))
        accepted += all(one.ok for one in found)
        at = seed % len(layers)
        wrong = [replace(one, scaling=one.scaling * FAULT) if one.layer == at else one for one in layers]
        refused += not check(model, sequences, wrong)[at].ok
        print(f"seed {seed}: exact {exact[-1]:.1e}, stored {max(one.stored for one in found):.1e}", flush=True)
    print(
        f"RESULT {json.dumps({'seeds': SEEDS, 'accepted': accepted, 'faults_refused': refused, 'exact': max(exact)})}"
    )


if __name__ == "__main__":
    main()
