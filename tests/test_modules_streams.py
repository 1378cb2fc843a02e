"""Whose tokens queries and keys are of: told by what they were computed from, whatever their number, or asked for."""

import pytest
import torch
import transformers
from torch.autograd import Function

from attnviz.errors import AttnvizError, InputError
from tests.modules import HEADS, VOCABULARY, WIDTH, Attending, captured, off, streams

LENGTHS = [7, 5]  # of the source; the target has 7 tokens


@pytest.fixture(autouse=True)
def _drawn_alike():
    torch.manual_seed(0)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("source", LENGTHS)
def test_source_and_target_are_two_streams_even_of_one_length(tmp_path, source, batch_first):
    module = torch.nn.Transformer(WIDTH, HEADS, 1, 1, 48, batch_first=batch_first).eval()
    inputs = [torch.randn(3, tokens, WIDTH) for tokens in (source, 7)]
    texts = {"src": [["source"] * source] * 3, "tgt": [["target"] * 7] * 3}
    batch = inputs if batch_first else [values.transpose(0, 1) for values in inputs]
    run = captured(module, [batch], tmp_path, tokens=texts)
    assert streams(run) == [("src", "src"), ("tgt", "tgt"), ("tgt", "src")]
    assert run.num_sequences == 3
    for layer, texts_of_keys in enumerate(("source", "target", "source")):
        assert set(run.attention(layer, 0, 0).key_tokens) == {texts_of_keys}
    with pytest.raises(InputError, match=r"2 streams of tokens: give tokens = \{'src': .*'tgt'"):
        captured(module, [batch], tmp_path, tokens=[["?"] * 7] * 3)
    with pytest.raises(InputError, match="names the stream 'memory'; the module has 'src', 'tgt'"):
        captured(module, [batch], tmp_path, tokens={"memory": [["?"] * 7] * 3})


@pytest.mark.parametrize("keys", LENGTHS)
def test_cross_attention_alone(tmp_path, keys):
    module = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    query, key = torch.randn(3, 7, WIDTH), torch.randn(3, keys, WIDTH)
    run = captured(module, [[query, key, key]], tmp_path)
    assert len(set(*streams(run))) == 2
    assert off(run, module(query, key, key, average_attn_weights=False)[1][1, 0], row=1) < 1e-6
    assert streams(captured(module, [[query, query, query]], tmp_path)) == [("", "")]


class Translating(Attending):
    def forward(self, src, tgt, pos):
        x, y = self.words(src) + self.places(pos), self.words(tgt) + self.places(pos)
        return self.attend(y + self.attend(y), x)


@pytest.mark.parametrize(
    "positions", [torch.arange(7), torch.arange(7).expand(1, 7), torch.arange(7).repeat(3, 1)], ids=["T", "1T", "BT"]
)
@pytest.mark.parametrize("sequences", [1, 3])
def test_positions_that_two_streams_share_do_not_make_them_one(tmp_path, positions, sequences):
    module = Translating()
    ids = [torch.randint(0, VOCABULARY, (sequences, 7)) for _ in range(2)]
    run = captured(module, [[*ids, positions[:sequences] if positions.dim() > 1 else positions]], tmp_path)
    assert streams(run) == [("tgt", "tgt"), ("tgt", "src")]
    assert off(run, module.own[0, 0], layer=1) < 1e-6


def _bert(**more):
    return transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=37, vocab_size=40, **more
    )


def _decoder():
    return _bert(is_decoder=True, add_cross_attention=True)


def _joined(kind, config, encoder):
    return kind(config.from_encoder_decoder_configs(encoder, _decoder())).eval()


def test_models_of_two_parts(tmp_path):
    ids, mask = torch.randint(4, 40, (3, 8)), torch.ones(3, 8, dtype=torch.long)
    mask[1, 5:] = 0
    model = _joined(transformers.EncoderDecoderModel, transformers.EncoderDecoderConfig, _bert())
    batch = {"input_ids": ids, "decoder_input_ids": ids.flip(1), "attention_mask": mask}
    run = captured(model, [batch], tmp_path)
    assert streams(run) == [
        ("input_ids", "input_ids"), ("decoder_input_ids", "decoder_input_ids"), ("decoder_input_ids", "input_ids"),
    ]  # fmt: skip
    model.set_attn_implementation("eager")
    with torch.no_grad():
        own = model(**batch, output_attentions=True).cross_attentions[0]
    assert off(run, own[1, 0][:, :5], layer=2, row=1) < 1e-6


def test_a_picture_and_its_text(tmp_path):
    vit = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=37, image_size=16, patch_size=4
    )
    model = _joined(transformers.VisionEncoderDecoderModel, transformers.VisionEncoderDecoderConfig, vit)
    batch = {"pixel_values": torch.randn(3, 3, 16, 16), "decoder_input_ids": torch.randint(4, 40, (3, 17))}
    run = captured(model, [batch], tmp_path)  # 16 patches and [CLS] are 17, too
    assert streams(run)[-1] == ("decoder_input_ids", "pixel_values")


@pytest.mark.parametrize("seen", [9, 5])
def test_a_query_transformer(tmp_path, seen):
    config = transformers.Blip2QFormerConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=37, encoder_hidden_size=24,
        cross_attention_frequency=1,
    )  # fmt: skip
    model = transformers.Blip2QFormerModel(config).eval()
    batch = {"query_embeds": torch.randn(3, 5, 32), "encoder_hidden_states": torch.randn(3, seen, 24)}
    assert streams(captured(model, [batch], tmp_path)) == [
        ("query_embeds", "query_embeds"), ("query_embeds", "encoder_hidden_states"),
    ]  # fmt: skip


class Denoising(Attending):
    """A block of a diffusion model: a picture of 4 × 4, told which step it is and what to show."""

    def __init__(self):
        super().__init__()
        self.enter, self.time = torch.nn.Conv2d(4, WIDTH, 1), torch.nn.Linear(1, WIDTH)

    def forward(self, sample, timestep, encoder_hidden_states):
        x = self.enter(sample) + self.time(timestep.float().view(-1, 1))[:, :, None, None]
        x = x.flatten(2).transpose(1, 2)
        return self.attend(x + self.attend(x), encoder_hidden_states)


@pytest.mark.parametrize("words", [16, 5])
@pytest.mark.parametrize("timestep", [torch.tensor(7), torch.tensor([3, 9])], ids=["one", "each"])
def test_a_diffusion_model_with_a_prompt(tmp_path, words, timestep):
    module = Denoising()
    batch = {
        "sample": torch.randn(2, 4, 4, 4),
        "timestep": timestep,
        "encoder_hidden_states": torch.randn(2, words, WIDTH),
    }
    run = captured(module, [batch], tmp_path)
    assert streams(run) == [("sample", "sample"), ("sample", "encoder_hidden_states")]
    assert off(run, module.own[1, 0], layer=1, row=1) < 1e-6


class Joint(Attending):
    def forward(self, img, txt):
        for _ in range(2):
            both = self.attend(torch.cat([img, txt], 1))
            img, txt = img + both[:, : img.shape[1]], txt + both[:, img.shape[1] :]
        return img


def test_streams_that_attend_as_one_are_one(tmp_path):
    run = captured(Joint(), [[torch.randn(3, 5, WIDTH), torch.randn(3, 4, WIDTH)]], tmp_path)
    assert streams(run) == [("", "")] * 2
    assert run.num_tokens == 27


class Latent(Attending):
    """Learned queries read an input."""

    def __init__(self, count):
        super().__init__()
        self.latents = torch.nn.Parameter(torch.randn(count, WIDTH))

    def forward(self, x):
        return self.attend(self.latents.expand(len(x), -1, -1), x)


def test_learned_queries_are_a_stream_or_asked_for(tmp_path):
    x = torch.randn(3, 7, WIDTH)
    assert streams(captured(Latent(4), [x], tmp_path)) == [("learned", "x")]
    with pytest.raises(AttnvizError, match=r"one stream of 7 tokens or of two cannot be told.*streams=\{'Latent'"):
        captured(Latent(7), [x], tmp_path)
    declared = captured(Latent(7), [x], tmp_path, streams={"Latent": ("latents", "tokens")})
    assert streams(declared) == [("latents", "tokens")]


def test_what_was_declared_is_used_or_refused(tmp_path):
    x = torch.randn(3, 7, WIDTH)
    with pytest.raises(InputError, match=r"streams\['decoder.\*'\] fits no attention of the module. It has Latent"):
        captured(Latent(4), [x], tmp_path, streams={"decoder.*": "tokens"})
    with pytest.raises(InputError, match="give one stream, or that of the queries and that of the keys"):
        captured(Latent(4), [x], tmp_path, streams={"*": ("a", "b", "c")})


class Elsewhere(Function):
    """What torch does not see: a step in numpy."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.numpy() * 2)


class Leaving(Attending):
    def forward(self, a, b):
        return self.attend(Elsewhere.apply(a), Elsewhere.apply(b))


def test_inputs_that_are_lost_on_the_way_are_asked_for(tmp_path):
    batch = [[torch.randn(3, 7, WIDTH), torch.randn(3, 7, WIDTH)]]
    with pytest.raises(AttnvizError, match=r"batch 0: which of the inputs a, b queries and keys are of cannot be told"):
        captured(Leaving(), batch, tmp_path)
    assert streams(captured(Leaving(), batch, tmp_path, streams={"*": ("a", "b")})) == [("a", "b")]


class Halves(Attending):
    """Attends from one input to another, and to what both have in common."""

    def forward(self, a, b):
        return self.attend(a + b, self.attend(a, b + 0 * b))


def test_what_two_inputs_were_added_to_is_of_one_stream(tmp_path):
    run = captured(Halves(), [[torch.randn(3, 7, WIDTH), torch.randn(3, 7, WIDTH)]], tmp_path)
    assert len({name for pair in streams(run) for name in pair}) == 1  # row by row, so they correspond
