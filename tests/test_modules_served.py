"""Models that read neither text nor pictures: ``attnviz.capture`` serves those that the README names."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from attnviz.errors import CaptureError
from tests.modules import captured, streams

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CONVOLUTIONS = {
    "conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 4), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0,
}  # fmt: skip


def waves():
    return {"input_values": torch.randn(2, 800)}


def whisper():
    config = transformers.WhisperConfig(
        vocab_size=40, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=16, max_source_positions=20, max_target_positions=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return config, {"input_features": torch.randn(2, 16, 40), "decoder_input_ids": torch.randint(3, 40, (2, 7))}


def spectrograms():
    config = transformers.ASTConfig(
        **SIZES, max_length=32, num_mel_bins=16, patch_size=8, time_stride=8, frequency_stride=8
    )
    return config, {"input_values": torch.randn(2, 32, 16)}


def patched_series(channels=1):
    config = transformers.PatchTSTConfig(
        num_input_channels=channels, context_length=32, patch_length=8, patch_stride=4, d_model=32, num_hidden_layers=2,
        num_attention_heads=4, ffn_dim=48,
    )  # fmt: skip
    return config, {"past_values": torch.randn(3, 32, channels)}


def proteins():
    config = transformers.EsmConfig(
        **SIZES, vocab_size=33, max_position_embeddings=64, pad_token_id=1, mask_token_id=32
    )
    held = torch.ones(2, 9, dtype=torch.long)
    held[1, 6:] = 0
    return config, {"input_ids": torch.randint(4, 30, (2, 9)), "attention_mask": held}


SERVED = {
    "Whisper": whisper,
    "Wav2Vec2": lambda: (transformers.Wav2Vec2Config(**SIZES, **CONVOLUTIONS), waves()),
    "HuBERT": lambda: (transformers.HubertConfig(**SIZES, **CONVOLUTIONS), waves()),
    "AST": spectrograms,
    "PatchTST": patched_series,
    "ESM": proteins,
}


def own_weights(module, given):
    """Return each layer's own weights, stack by stack."""
    module.set_attn_implementation("eager")
    with torch.no_grad():
        output = module(**given, output_attentions=True)
    if "encoder_attentions" not in output:
        return output.attentions
    return (*output.encoder_attentions, *output.decoder_attentions, *output.cross_attentions)


@pytest.mark.parametrize("name", SERVED)
def test_models_that_the_readme_names_are_captured_exactly(tmp_path, name):
    torch.manual_seed(0)
    config, given = SERVED[name]()
    module = transformers.AutoModel.from_config(config).eval()
    run = captured(module, [given], tmp_path)
    own = own_weights(module, given)
    assert len(run.layers) == len(own)
    for layer, row, head in itertools.product(run.layers, range(len(own[0])), range(4)):
        rebuilt = np.asarray(run.attention(layer, head, row).weights)
        expected = own[layer][row, head, : rebuilt.shape[0], : rebuilt.shape[1]]
        np.testing.assert_allclose(rebuilt, expected, atol=1e-5, rtol=0)
        np.testing.assert_allclose(expected.sum(-1), 1, atol=1e-5)  # nothing but padding was left out


def test_the_streams_of_a_model_that_listens_and_writes(tmp_path):
    config, given = whisper()
    run = captured(transformers.AutoModel.from_config(config), [given], tmp_path)
    heard, written = "input_features", "decoder_input_ids"
    assert streams(run) == [(heard, heard)] * 2 + [(written, written)] * 2 + [(written, heard)] * 2


def test_channels_that_attend_apart_are_refused(tmp_path):
    config, given = patched_series(channels=2)
    module = transformers.AutoModel.from_config(config)
    with pytest.raises(CaptureError, match=r"over 6 .* sequences.*\(3, 32, 2\).*channels that attend apart"):
        captured(module, [given], tmp_path)


def test_the_readme_names_all_of_these():
    told = re.search(r"`attnviz\.capture` serves (.*?)\.", README, flags=re.S)
    assert [name for name in SERVED if name not in told[1]] == []
