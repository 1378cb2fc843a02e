"""What people met who took attention out of models, as they reported it: each is captured exactly, or refused in a sentence.

Beside each test stands the report. What happens there is written anew, as small as it gets.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional

from attnviz.errors import AttnvizError
from tests import tiny
from tests.modules import WIDTH, Attending, Encoder, captured, off, split

X = torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _drawn_alike():
    torch.manual_seed(0)


class Heads(torch.nn.Module):
    """torch's own attention, asked for its weights or not."""

    def __init__(self, **options):
        super().__init__()
        self.inner = torch.nn.MultiheadAttention(WIDTH, 4, batch_first=True, **options)

    def forward(self, x, mask=None, causal=False, asked=False):
        return self.inner(x, x, x, attn_mask=mask, is_causal=causal, need_weights=asked, average_attn_weights=False)


def test_a_layer_in_evaluation_mode_is_seen_though_its_hooks_would_not_run(tmp_path):
    """pytorch/pytorch#128413: the fast path of an encoder layer calls no hook."""
    layer = torch.nn.TransformerEncoderLayer(WIDTH, 4, 48, batch_first=True).eval()
    own = layer.self_attn(X, X, X, average_attn_weights=False)[1]
    assert off(captured(layer, [X], tmp_path), own[1, 0], row=1) < 1e-6


@pytest.mark.parametrize("asked", [False, True])
def test_a_causal_mask_holds_whether_weights_are_asked_for_or_not(tmp_path, asked):
    """pytorch/pytorch#99282: with need_weights, is_causal went unheard."""
    module = Heads().eval()
    mask = torch.nn.Transformer.generate_square_subsequent_mask(7)
    run = captured(module, [{"x": X, "mask": mask, "causal": True, "asked": asked}], tmp_path)
    assert off(run, module(X, mask, asked=True)[1][1, 0], row=1) < 1e-6
    assert run.layers[0].causal


@pytest.mark.parametrize("asked", [False, True])
def test_a_head_that_is_masked_altogether_is_refused(tmp_path, asked):
    """pytorch/pytorch#160064: such a head gave NaN if weights were asked for, and numbers if not."""
    mask = torch.zeros(3, 4, 7, 7, dtype=torch.bool)
    mask[:, 2] = True
    with pytest.raises(AttnvizError, match="masked by its input mask: inner hides other keys from one head"):
        captured(Heads().eval(), [{"x": X, "mask": mask.flatten(0, 1), "asked": asked}], tmp_path)


def test_a_model_that_needs_no_mask_tensor_stays_causal(tmp_path):
    """huggingface/transformers#30652: without padding no mask was made, and the attention handed out was not causal."""
    module = tiny.module(tiny.TEXT_CONFIGS["llama"]())
    module.set_attn_implementation("sdpa")
    given = {"input_ids": torch.randint(4, 40, (1, 8))}
    run = captured(module, [given], tmp_path)
    module.set_attn_implementation("eager")
    assert off(run, module(**given, output_attentions=True).attentions[0][0, 0]) < 1e-6


def test_a_cache_of_earlier_tokens_is_refused(tmp_path):
    """huggingface/transformers#26174: while text is written, attention is of one query and all keys, in another shape each step."""
    module = tiny.module(tiny.TEXT_CONFIGS["llama"]())
    ids = torch.randint(4, 40, (2, 8))
    given = {"input_ids": ids[:, :1], "past_key_values": module(ids, use_cache=True).past_key_values}
    with pytest.raises(AttnvizError, match=r"over 9 positions, .* over 1: .*added tokens"):
        captured(module, [given], tmp_path)


@pytest.mark.parametrize("name", ["gemma2", "llama", "mistral"])
def test_padding_on_the_left_gives_no_nan(tmp_path, name):
    """unslothai/unsloth#9848: rows of left padding see nothing at all, and NaN spread from them."""
    module, ids = tiny.module(tiny.TEXT_CONFIGS[name]()), torch.randint(4, 40, (2, 8))
    given = {"input_ids": ids, "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    given["attention_mask"][0, :3] = 0
    run = captured(module, [given], tmp_path)
    module.set_attn_implementation("eager")
    assert off(run, module(**given, output_attentions=True).attentions[0][0, 0, 3:, 3:]) < 1e-6


def test_a_fused_attention_is_seen_where_the_hook_of_its_dropout_is_not_called(tmp_path):
    """jacobgil/vit-explain#23: timm's fused attention passes by the module that was hooked, and no attention was collected."""
    import timm

    sizes = {"img_size": 32, "depth": 2, "embed_dim": 32, "num_heads": 4, "num_classes": 0}
    module = timm.create_model("vit_tiny_patch16_224", **sizes).eval()
    pictures = torch.randn(2, 3, 32, 32)
    run = captured(module, [pictures], tmp_path)
    own = []
    for block in module.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _, __, weights: own.append(weights))
    module(pictures)
    assert off(run, own[0][1, 0], row=1) < 1e-6


class Joined(Attending):
    """Words and latents, each projected by weights of its own, in one attention."""

    def __init__(self):
        super().__init__()
        self.of_words = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, latents, words):
        of_latents = self.to_query, self.to_key, self.to_value
        query, key, value = (
            split(torch.cat([first(words), second(latents)], 1))
            for first, second in zip(self.of_words, of_latents, strict=True)
        )
        self.own = torch.softmax(query @ key.mT * query.shape[-1] ** -0.5, -1).detach()
        return functional.scaled_dot_product_attention(query, key, value)


@pytest.mark.parametrize("words", [5, 7])
def test_words_and_latents_in_one_attention(tmp_path, words):
    """wooyeolbaek/attention-map-diffusers#11: DiTs attend over both at once, which tools for cross-attention do not see."""
    module = Joined()
    run = captured(module, [{"latents": X, "words": torch.randn(3, words, WIDTH)}], tmp_path)
    assert off(run, module.own[1, 0], row=1) < 1e-6


class Grouped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.to_query, self.to_both = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        query = split(self.to_query(x))
        key, value = self.to_both(x).view(*x.shape[:2], 2, 2, -1).permute(2, 0, 3, 1, 4)
        logits = query @ key.repeat_interleave(2, 1).mT * query.shape[-1] ** -0.5
        self.own = logits.softmax(-1).detach()
        return functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)


def test_grouped_queries_read_the_key_head_of_their_group(tmp_path):
    """TransformerLensOrg/TransformerLens#519: splitting queries, keys and values broke where these had fewer heads."""
    module = Grouped()
    run = captured(module, [X], tmp_path)
    assert run.layers[0].num_kv_heads == 2
    for head in range(4):
        np.testing.assert_allclose(run.attention(0, head, 1).weights, module.own[1, head], atol=1e-6)


class MaskedByRows(Attending):
    """Hides rows where it should hide columns, by a number that leaves such a row even."""

    def forward(self, ids, held):
        x = self.words(ids)
        query, key, value = (split(part(x)) for part in (self.to_query, self.to_key, self.to_value))
        logits = (query @ key.mT * query.shape[-1] ** -0.5).masked_fill(~held[:, None, :, None], -10_000)
        weights = torch.softmax(logits, -1).detach()
        return weights @ value


def test_a_mask_along_the_wrong_axis_is_refused(tmp_path):
    """hyunwoongko/transformer#40: padding was masked as rows of queries, and keys of padding went on to be attended to."""
    held = torch.ones(3, 7, dtype=torch.bool)
    held[1, 4:] = False
    with pytest.raises(AttnvizError, match="batch 0, row 1, masked by its input held: "):
        captured(MaskedByRows(), [{"ids": torch.randint(4, 40, (3, 7)), "held": held}], tmp_path)


@torch.library.custom_op("attnviz_tests::some_attention", mutates_args=())
def kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return torch.softmax(query @ key.mT, -1) @ value


KERNELS = {
    "some_attention": kernel,
    "_scaled_dot_product_flash_attention_for_cpu": lambda *parts: (
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*parts)[0]
    ),
}


class Beside(Encoder):
    """Attends by torch's function, and then by a kernel."""

    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, x):
        x = self.attend(x)
        return self.kernel(*(split(part(x)) for part in (self.to_query, self.to_key, self.to_value)))


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_that_nobody_sees_into_is_refused_rather_than_left_out(tmp_path, name):
    """Dao-AILab/flash-attention#159: fused kernels give no weights; beside a layer that is seen they went missing."""
    with pytest.raises(AttnvizError, match=rf"by the kernel \w+::{name}, which cannot be seen into\. Let it"):
        captured(Beside(KERNELS[name]), [X], tmp_path)
