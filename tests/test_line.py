"""Several streams, generation, RoPE taken off, modules in memory: the whole line, into what the explorer reads."""

import csv

import numpy as np
import pytest
import torch
import transformers

import attnviz
from attnviz.attention import weights
from attnviz.capturing import capture, inspect
from attnviz.capturing.transformers import watch
from attnviz.errors import AttnvizError, CaptureError, DatasetError, InputError
from attnviz.models import load
from attnviz.models.transformers_text import TextModel
from attnviz.pipeline import vectors as shards
from attnviz.types import ModelSpec, Record
from attnviz.views import prepare_wall
from tests import tiny
from tests.pace import some

TEXTS = [" ".join(tiny.SENTENCES[i % 4].split()[i % 3 :]) for i in range(24)]
PAIRS = TEXTS[5:] + TEXTS[:5]


def saved(folder, config, factory=transformers.AutoModel):
    tiny.module(config, factory).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def table(folder, name="data.csv"):
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "pair", "tone"])
        writer.writerows([text, pair, i % 3] for i, (text, pair) in enumerate(zip(TEXTS, PAIRS, strict=True)))
    return path


def make(folder, config, *, maps=("pca", "attention"), factory=transformers.AutoModel, **more):
    folder.mkdir(exist_ok=True)
    recipe = {
        "name": folder.name,
        "model": {"id": str(saved(folder / "model", config, factory))},
        "data": {"source": str(table(folder)), **more.pop("data", {})},
        "capture": {"dtype": "float32", **more.pop("capture", {})},
        "maps": {name: {} for name in maps},
    }
    return attnviz.run(recipe, out=folder / "run")


def bart():
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
    return transformers.BartConfig(
        vocab_size=40, max_position_embeddings=64, forced_eos_token_id=None, **sizes, **heads, **tokens
    )


def t5():
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
    return transformers.T5Config(vocab_size=40, pad_token_id=0, eos_token_id=3, decoder_start_token_id=0, **sizes)


@pytest.fixture(scope="module", params=some([bart, t5], bart), ids=["bart", "t5"])
def crossed(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp(request.param.__name__), request.param(), data={"pair_column": "pair"})


def own_weights(model, record):
    """Return the model's own attention weights by module path, of one record alone and without padding."""
    calls = []
    with watch(model.module, calls.append, own="weights"):
        model.forward(model.collate([model.encode(record)]))
    return {call.name: call.weights[0].numpy() for call in calls}


def test_stacks_are_told_apart_and_numbered(crossed):
    labels = [layer.label for layer in crossed.layers.values()]
    assert labels == ["encoder 0", "encoder 1", *(f"{stack} {n}" for stack in ("decoder", "cross") for n in range(3))]
    assert list(crossed.layers) == list(range(8))
    assert [layer.causal for layer in crossed.layers.values()] == [False, False, True, True, True, False, False, False]
    assert crossed.manifest.check <= 1e-5
    assert crossed.streams == ("encoder", "decoder")


def test_cross_attention_is_the_models_own(crossed):
    model = load(ModelSpec(crossed.manifest.model.id))
    for sequence in (0, 7, 23):
        own = own_weights(model, Record("x", text=TEXTS[sequence], pair=PAIRS[sequence]))
        for number, layer in crossed.layers.items():
            rebuilt = crossed.attention(number, 2, sequence)
            np.testing.assert_allclose(rebuilt.weights, own[layer.name][2], atol=1e-5)
            assert rebuilt.weights.shape == (len(rebuilt.tokens), len(rebuilt.key_tokens))
    rows = crossed.tokens.iloc[crossed.token_slice(23)]
    assert rebuilt.tokens == tuple(rows.text[rows.stream == "decoder"])  # the last layer is a cross one
    assert rebuilt.key_tokens == tuple(rows.text[rows.stream == "encoder"])


def test_maps_hold_the_points_that_a_layer_has(crossed):
    stream, tokens = crossed.tokens["stream"].to_numpy(), crossed.num_tokens
    expected = {
        "encoder 1": ("encoder", "encoder"),
        "decoder 0": ("decoder", "decoder"),
        "cross 2": ("decoder", "encoder"),
    }
    for number, layer in crossed.layers.items():
        if layer.label not in expected:
            continue
        placed = crossed.coordinates("attention", number)
        there = np.isfinite(placed).all(axis=(0, 2))
        assert placed.shape == (4, 2 * tokens, 2)
        np.testing.assert_array_equal(there[:tokens], stream == expected[layer.label][0])
        np.testing.assert_array_equal(there[tokens:], stream == expected[layer.label][1])
        assert len(crossed.head(number, 0).map("pca")) == there.sum()
        norms = crossed.norms(number, 1)
        np.testing.assert_array_equal(np.isfinite(norms), there)
    wall = prepare_wall(crossed, "attention")
    assert (wall.rows, wall.columns) == (8, 4)
    assert np.nanmax(np.abs(wall.points)) <= 0.5


def test_positions_count_within_a_stream(crossed):
    tokens = crossed.tokens
    counted = tokens.groupby(["sequence_id", "stream"], observed=True).cumcount()
    np.testing.assert_array_equal(tokens["position"], counted)


def test_new_tokens_land_on_a_map_of_cross_attention(crossed):
    vectors = crossed.vectors(7, 1)
    placed = crossed.landing("pca", 7, 1)(vectors.query[:5], vectors.key[:3])
    points = crossed.points(7)
    there = crossed.coordinates("pca", 7, 1)[np.concatenate([points.query[:5], points.key[:3] + crossed.num_tokens])]
    np.testing.assert_allclose(placed, there, atol=1e-3)


def test_t5_without_a_pair_is_told_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"pair_column.*generate"):
        make(tmp_path, t5())
    assert not (tmp_path / "run").exists()


def test_generated_tokens_are_marked_and_captured_as_in_one_pass(tmp_path):
    run = make(
        tmp_path, tiny.TEXT_CONFIGS["llama"](), capture={"generate": 6}, factory=transformers.AutoModelForCausalLM
    )
    tokens = run.tokens
    counts = tokens.groupby("sequence_id")["is_generated"].sum()
    assert counts.between(1, 6).all()
    assert counts.max() == 6
    model = load(ModelSpec(run.manifest.model.id))
    first = tokens[tokens.sequence_id == 0]
    ids = torch.from_numpy(first["vocab_id"].to_numpy(np.int64))[None]
    calls = []
    with watch(model.module, calls.append), torch.inference_mode():
        model.module(input_ids=ids)
    stored = run.vectors(1, 3, run.token_slice(0))
    np.testing.assert_allclose(stored.query, calls[1].query[0, 3], atol=1e-5)
    np.testing.assert_allclose(stored.key, calls[1].key[0, 1], atol=1e-5)  # head 3 reads kv head 1


def test_an_encoder_decoder_writes_what_it_is_captured_on(tmp_path):
    run = make(tmp_path, t5(), capture={"generate": 5}, maps=("pca",), factory=transformers.AutoModelForSeq2SeqLM)
    written = run.tokens[run.tokens["stream"] == "decoder"]
    assert not written[written.position == 0]["is_generated"].any()  # the start token
    assert written[written.position > 0]["is_generated"].all()


@pytest.mark.parametrize("family", some(["llama", "qwen3", "gemma2", "modernbert"], "gemma2"))
def test_vectors_before_rope_give_the_same_attention(tmp_path, family):
    before = make(tmp_path / "before", tiny.TEXT_CONFIGS[family](), capture={"rope": "before"}, maps=("pca",))
    after = make(tmp_path / "after", tiny.TEXT_CONFIGS[family](), maps=("pca",))
    assert {layer.rope for layer in before.layers.values()} == {"before"}
    assert before.manifest.check <= 1e-5
    for sequence in (0, 3):
        kept, turned = (run.attention(1, 3, sequence).weights for run in (before, after))
        np.testing.assert_allclose(kept, turned, atol=1e-5)
    plain, turned = (run.vectors(1, 3, run.token_slice(0)).query for run in (before, after))
    np.testing.assert_allclose(plain[0], turned[0], atol=1e-5)  # position 0 is not turned
    assert np.abs(plain[5] - turned[5]).max() > 0.1


def test_vectors_before_rope_are_refused_where_there_is_none(tmp_path):
    with pytest.raises(CaptureError, match=r"before RoPE cannot be told. Set capture.rope = 'after'"):
        make(tmp_path, tiny.TEXT_CONFIGS["bert"](), capture={"rope": "before"})


def test_longer_sequences_than_were_seen_say_that_attention_is_not_rebuilt(tmp_path):
    model = tiny.text_model("llama")
    sequence = model.encode(Record("x", text=TEXTS[0]))
    layers = inspect(model, [sequence], longest={"": 60}, rope="before")
    assert not any(layer.rebuilt for layer in layers)


class Block(torch.nn.Module):
    def __init__(self, width=32, heads=4):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)

    def forward(self, x, mask):
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        hidden = mask[:, None, None, :].bool()
        mixed = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=hidden)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Own(torch.nn.Module):
    """A transformer that no library knows."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(50, 32)
        self.blocks = torch.nn.ModuleList([Block(), Block()])

    def forward(self, ids, attention_mask):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, attention_mask)
        return {"logits": (x, None)}


@pytest.fixture
def own():
    torch.manual_seed(0)
    module = Own()
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return module


@pytest.fixture
def batches():
    made = []
    for width in (12, 20, 9):
        mask = torch.ones(6, width, dtype=torch.long)
        mask[0, width // 2 :] = 0
        mask[:, -1] = 0
        made.append({"ids": torch.randint(0, 50, (6, width)), "attention_mask": mask})
    return made


def test_any_torch_module_makes_a_run(tmp_path, own, batches):
    run = attnviz.capture(own, batches, out=tmp_path / "run", maps=["pca"], overrides={"capture.dtype": "float32"})
    assert [layer.name for layer in run.layers.values()] == ["blocks.0", "blocks.1"]
    assert run.num_sequences == 18
    assert list(run.sequences["num_tokens"].iloc[:2]) == [6, 11]
    assert run.manifest.check <= 1e-5
    assert own.training  # as its user had it
    calls = []
    from attnviz.capturing.torch_sdpa import watch as watch_sdpa

    with watch_sdpa(own, calls.append, own="weights"):
        own(**batches[1])
    for row in range(6):  # the second batch
        rebuilt = run.attention(1, 2, 6 + row)
        held = len(rebuilt.tokens)
        np.testing.assert_allclose(rebuilt.weights, calls[1].weights[row, 2, :held, :held].detach(), atol=1e-5)


def test_a_module_can_be_given_texts(tmp_path, own, batches):
    texts = [[f"t{i}" for i in range(int(mask.sum()))] for batch in batches for mask in batch["attention_mask"]]
    run = attnviz.capture(own, batches, tokens=texts, out=tmp_path / "run", maps=["pca"], name="mine")
    assert run.attention(0, 0, 1).tokens[:3] == ("t0", "t1", "t2")
    with pytest.raises(
        InputError, match=r"row 0 has 6 tokens in 12 positions .* 11 texts were given \(of 17 sequences\)"
    ):
        attnviz.capture(own, batches, tokens=texts[1:], out=tmp_path / "other")
    with pytest.raises(InputError, match="texts of 17 sequences; the batches hold 18"):
        attnviz.capture(own, batches, tokens=texts[:-1], out=tmp_path / "other")
    with pytest.raises(DatasetError, match="exists"):
        attnviz.capture(own, batches, out=tmp_path / "run")
    assert not (tmp_path / "other").exists()


def test_a_module_of_double_precision_makes_a_run(tmp_path, own, batches):
    run = attnviz.capture(own.double(), batches, out=tmp_path / "run", maps=["pca"])
    assert run.manifest.model.dtype == "float64"


def test_a_module_without_attention_is_refused(tmp_path):
    with pytest.raises(CaptureError, match="no softmax attention was seen"):
        attnviz.capture(torch.nn.Linear(3, 3), [torch.zeros(2, 3)], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fits", some([1, 3], 1))
def test_a_batch_that_does_not_fit_runs_in_halves(tmp_path, monkeypatch, caplog, fits):
    whole = make(tmp_path / "whole", tiny.TEXT_CONFIGS["llama"](), maps=("pca",))

    def small(model, batch, *rest, **options):
        if len(batch.inputs["input_ids"]) > fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 TiB")
        return capture(model, batch, *rest, **options)

    monkeypatch.setattr(shards, "capture", small)
    halves = make(tmp_path / "halves", tiny.TEXT_CONFIGS["llama"](), maps=("pca",))
    assert "runs in halves" in caplog.text
    assert halves.num_tokens == whole.num_tokens
    for head in range(4):
        np.testing.assert_allclose(halves.vectors(1, head).query, whole.vectors(1, head).query, atol=1e-5)


def test_a_batch_whose_inputs_do_not_fit_leaves_the_one_before_as_it_is(tmp_path, monkeypatch):
    whole = make(tmp_path / "whole", tiny.TEXT_CONFIGS["llama"](), maps=("pca",), capture={"batch_tokens": 96})
    collate, ran = TextModel.collate, []

    def small(self, sequences):
        if len(sequences) > 1 and ran:
            raise MemoryError
        return collate(self, sequences)

    def noted(*given, **options):
        ran.append(given)
        return capture(*given, **options)

    monkeypatch.setattr(TextModel, "collate", small)
    monkeypatch.setattr(shards, "capture", noted)
    halves = make(tmp_path / "halves", tiny.TEXT_CONFIGS["llama"](), maps=("pca",), capture={"batch_tokens": 96})
    for head in range(4):
        np.testing.assert_allclose(halves.vectors(1, head).query, whole.vectors(1, head).query, atol=1e-5)


def test_a_sequence_that_does_not_fit_alone_is_an_error(tmp_path, monkeypatch):
    def never(*_, **__):
        raise MemoryError

    monkeypatch.setattr(shards, "capture", never)
    with pytest.raises(CaptureError, match=r"tokens does not fit into memory.*data.max_length"):
        make(tmp_path, tiny.TEXT_CONFIGS["llama"]())


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(shards, "capture", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        make(tmp_path, tiny.TEXT_CONFIGS["llama"]())


def test_activations_that_are_not_finite_are_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / "model"
    module = tiny.module(tiny.TEXT_CONFIGS["llama"]())
    with torch.no_grad():
        module.layers[1].self_attn.k_proj.weight[0, 0] = torch.nan
    module.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    with pytest.raises(AttnvizError, match="not finite"):
        attnviz.run(model=str(folder), data=str(table(tmp_path)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sinks_take_their_share(tmp_path):
    sizes = tiny._sizes(num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=4)
    run = make(tmp_path, transformers.GptOssConfig(**sizes), maps=("pca",))
    rows = run.attention(0, 1, 0).weights.sum(axis=1)
    assert (rows < 0.999).any()
    vectors, info = run.vectors(0, 1, run.token_slice(0)), run.layers[0].of_head(1)
    logit = (vectors.query[4] * vectors.key[4]).sum() * info.scaling
    weight = weights(vectors.query, vectors.key, info)[4, 4]
    np.testing.assert_allclose(
        np.exp(logit - vectors.logsumexp[4]), weight, rtol=1e-4
    )  # one dot product gives any weight


@pytest.mark.parametrize("need_weights", [False, True])
def test_torchs_own_attention_is_seen_into(tmp_path, need_weights):
    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = torch.nn.MultiheadAttention(32, 4, batch_first=True)

        def forward(self, x):
            return self.attend(x, x, x, need_weights=need_weights)[0]

    torch.manual_seed(0)
    module, batch = Mine(), torch.randn(5, 20, 32)
    run = attnviz.capture(module, [batch], out=tmp_path / "run", maps=["pca"], overrides={"capture.dtype": "float32"})
    expected = module.eval().attend(batch, batch, batch, average_attn_weights=False)[1].detach()
    for sequence in range(5):
        np.testing.assert_allclose(run.attention(0, 3, sequence).weights, expected[sequence, 3], atol=1e-5)
