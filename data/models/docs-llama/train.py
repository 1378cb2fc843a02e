"""Train docs-llama: a Llama of 4 layers × 8 heads (4 key-value heads) on docstrings, for demos and tests without a download.

    .venv/bin/python data/models/docs-llama/train.py        (4.4 minutes on 1 thread of a busy machine, 2026-11-21)

Writes model.safetensors (float16), config.json, generation_config.json and the tokenizer beside this file, and prints its
figures as one line of JSON. Reached on 2026-11-21, in nats per held-out token: 4.175, unigram 6.216, smoothed bigram 4.048.
PROVISIONAL: it must still get below the bigram, and its best induction head has 0.14 where 0.4 is wanted.

The text is `builtin:docs`, docstrings of whatever scientific packages are installed, so another environment gives other
weights. One sentence in 50 is held out; docstrings repeat phrases, so the held-out loss flatters, for the bigram as well.
The text itself is not stored here. Everything is drawn from SEED.

Log, 2026-11-21: random tokens of the whole vocabulary as a fifth of the rows formed no induction head in 1,800 steps of
AdamW or Muon. Probes alone, of 64 tokens, did in 700 (0.76); prose at the full rate then wore it down to 0.1.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from attnviz.inputs import DataOptions, read

HERE = Path(__file__).resolve().parent
SEED = 20261121
STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
VOCABULARY = 1536
TOKENS = 64  # of a row
ROWS = 16  # of a batch
PROBES_ONLY = 700  # steps; an induction head forms after 400 of them, prose among them delays it
GROWTH = 500  # steps after these, in which the probes' vocabulary grows from few tokens to all
FIRST_TOKENS = 64
MATRIX_RATE = 1e-2
EMBEDDING_RATE = 1e-2
START = "<s>"


def sentences() -> tuple[list[str], list[str]]:
    """Return training and held-out sentences: every fiftieth is held out."""
    texts = [record.text for record in read("builtin:docs", options=DataOptions(), seed=SEED).records]
    held_out = texts[::50]
    return [text for number, text in enumerate(texts) if number % 50], held_out


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[START], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Every sequence starts with <s>: attention needs somewhere to rest, and that is worth seeing on a map.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", pair=f"{START} $A {START}:1 $B:1", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=START, pad_token=START, model_max_length=512
    )


def build_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=336,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},  # heads of 16 dimensions, texts of 100 tokens
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        attention_dropout=0.0,
    )
    return LlamaForCausalLM(config)


def probe_rows(random: np.random.Generator, rows: int, vocabulary: np.ndarray) -> np.ndarray:
    """Return rows of random tokens in which segments come again, at distances that differ from row to row."""
    batch = random.choice(vocabulary, size=(rows, TOKENS))
    batch[:, 0] = 0
    for row in batch:
        period = int(random.integers(4, TOKENS // 2))
        row[1:] = np.resize(row[1 : 1 + period], TOKENS - 1)
    return batch


def batches(stream: np.ndarray, starts: np.ndarray, random: np.random.Generator) -> Iterator[Tensor]:
    """Yield batches of rows that start at a sentence, and of probes."""
    shuffled = np.arange(1, VOCABULARY)
    for step in range(STEPS):
        growth = float(np.clip((step - PROBES_ONLY) / GROWTH, 0, 1))
        vocabulary = shuffled[: int(FIRST_TOKENS * (VOCABULARY / FIRST_TOKENS) ** growth)]
        share = 1 if growth == 0 else 1 / 2 if growth < 1 else 1 / 4
        probes = probe_rows(random, int(ROWS * share), vocabulary)
        chosen = random.choice(starts, size=ROWS - len(probes))
        prose = stream[chosen[:, None] + np.arange(TOKENS)]
        yield torch.from_numpy(np.concatenate([prose, probes]))


def share_of_rate(step: int) -> float:
    """Return the share of the learning rate at a step: a short rise, a plateau, then down in a straight line."""
    return min(1.0, (step + 1) / 100, 0.02 + 1.6 * (1 - step / STEPS))


def train(model: LlamaForCausalLM, stream: np.ndarray, starts: np.ndarray) -> None:
    random = np.random.default_rng(SEED)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=EMBEDDING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_rate) for optimizer in optimizers]
    began = time.time()
    for step, batch in enumerate(batches(stream, starts, random)):
        loss = model(input_ids=batch, labels=batch).loss
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (*optimizers, *schedules):
            part.step()
        if step % 100 == 0 or step == STEPS - 1:
            report = f"step {step:5d}  loss {loss.item():.3f}  induction {induction(model)[2]:.3f}"
            print(f"{report}  {time.time() - began:.0f} s", file=sys.stderr, flush=True)


@torch.inference_mode()
def token_losses(model: LlamaForCausalLM, ids: np.ndarray) -> np.ndarray:
    """Return the loss of every token of one sequence but the first."""
    row = torch.from_numpy(ids)[None]
    scores = model(input_ids=row).logits[0, :-1].float()
    return torch.nn.functional.cross_entropy(scores, row[0, 1:], reduction="none").numpy()


def baselines(train_ids: list[np.ndarray], held_ids: list[np.ndarray]) -> tuple[float, float]:
    """Return the held-out loss of a unigram and of a bigram model, the bigram mixed with the unigram as serves it best."""
    unigram = np.ones(VOCABULARY)
    bigram = np.zeros((VOCABULARY, VOCABULARY))
    for ids in train_ids:
        np.add.at(unigram, ids[1:], 1)
        np.add.at(bigram, (ids[:-1], ids[1:]), 1)
    unigram /= unigram.sum()
    before = np.concatenate([ids[:-1] for ids in held_ids])
    after = np.concatenate([ids[1:] for ids in held_ids])
    seen = bigram.sum(axis=1)[before]
    # Dirichlet smoothing towards the unigram; its strength is chosen on the held-out tokens, in the bigram's favour.
    losses = [
        -np.log((bigram[before, after] + strength * unigram[after]) / (seen + strength)).mean()
        for strength in (3, 10, 30, 100, 300)
    ]
    return float(-np.log(unigram[after]).mean()), float(min(losses))


@torch.inference_mode()
def induction(
    model: LlamaForCausalLM, half: int = 24, rows: int = 16, vocabulary: int = VOCABULARY
) -> tuple[int, int, float]:
    """Return the best head and its mean attention, in a second half, to what followed the same token in the first."""
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the others do not give their weights
    random = np.random.default_rng(SEED + 1)
    segment = random.integers(1, vocabulary, size=(rows, half))
    ids = torch.from_numpy(np.concatenate([np.zeros((rows, 1), dtype=int), segment, segment], axis=1))
    positions = torch.arange(half + 1, 2 * half)
    attention = model(input_ids=ids, output_attentions=True).attentions
    model.set_attn_implementation(implementation)
    scores = [layer[:, :, positions, positions - half + 1].mean(dim=(0, 2)) for layer in attention]
    best = torch.stack(scores)
    layer, head = divmod(int(best.argmax()), best.shape[1])
    return layer, head, float(best.max())


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    began = time.time()
    texts, held_out = sentences()
    tokenizer = train_tokenizer(texts)
    train_ids = [np.array(ids) for ids in tokenizer(texts)["input_ids"]]
    held_ids = [np.array(ids) for ids in tokenizer(held_out)["input_ids"]]
    stream = np.concatenate(train_ids)
    starts = np.flatnonzero(stream == 0)
    starts = starts[starts <= len(stream) - TOKENS]
    model = build_model()
    train(model, stream, starts)
    # The figures are those of the weights that are shipped: float16, loaded again.
    model.half().save_pretrained(HERE)
    tokenizer.save_pretrained(HERE)
    model = LlamaForCausalLM.from_pretrained(HERE, dtype=torch.float32)
    unigram, bigram = baselines(train_ids, held_ids)
    layer, head, score = induction(model)
    figures = {
        "seed": SEED,
        "steps": STEPS,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_tokens": len(stream),
        "held_out_tokens": sum(len(ids) - 1 for ids in held_ids),
        "held_out_loss": round(float(np.concatenate([token_losses(model, ids) for ids in held_ids]).mean()), 3),
        "unigram_loss": round(unigram, 3),
        "bigram_loss": round(bigram, 3),
        "induction": {"layer": layer, "head": head, "score": round(score, 3)},
        "megabytes": round((HERE / "model.safetensors").stat().st_size / 1e6, 2),
        "minutes": round((time.time() - began) / 60, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
