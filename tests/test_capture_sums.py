"""The log-sum-exp that torch's kernel tells is the one that blocks of logits give, in every kind of attention."""

from functools import partial

import numpy as np
import pytest
import torch

from attnviz.capturing import capture, inspect, survey, torch_sdpa, transformers
from attnviz.capturing.sums import sums_of, with_sums
from attnviz.models.families import families, quietly
from attnviz.models.torch_module import TorchModel
from attnviz.pipeline.checking import sample_sequences
from attnviz.types import Record
from tests import tiny


def captured(model, batch, layers):
    """Return the sums of every layer, and how many the kernel told."""
    told, seen = [], []
    with pytest.MonkeyPatch.context() as patch:
        for seam in (torch_sdpa, transformers):
            patch.setattr(seam, "sums_of", lambda query, sums: told.append(sums is not None) or sums_of(query, sums))
        capture(model, batch, layers, seen.append)
    return [vectors.logsumexp for vectors in seen], sum(told)


def computed(model, batch, layers):
    """Return the sums of every layer from blocks of logits."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        for seam in (torch_sdpa, transformers):
            patch.setattr(seam, "sums_of", lambda query, sums: None)
        capture(model, batch, layers, seen.append)
    return [vectors.logsumexp for vectors in seen]


def require_same(model, batch, layers):
    """Compare the two ways; return how many sums the kernel told."""
    sums, told = captured(model, batch, layers)
    for one, other in zip(sums, computed(model, batch, layers), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    return told


@pytest.mark.parametrize("family", tiny.TEXT_CONFIGS)
def test_the_kernel_tells_the_sums_that_blocks_of_logits_give(family):
    model = tiny.text_model(family)
    sequences = [model.encode(Record(str(number), text=text)) for number, text in enumerate(tiny.SENTENCES)]
    layers = inspect(model, sequences)
    told = require_same(model, model.collate(sequences), layers)
    assert told == len(layers) or model.module.config._attn_implementation == "eager"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(families()))
def test_so_it_does_in_every_family(name):
    with quietly():
        model = families()[name].build()
        sequences = sample_sequences(model)
        require_same(model, model.collate(sequences), inspect(model, sequences))


@pytest.mark.parametrize("side", ["left", "right", "middle"])
def test_padding_anywhere_leaves_the_sums_as_they_are(side):
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
    module = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    pad = torch.zeros(3, 7, dtype=torch.bool)
    pad[1, {"left": slice(0, 2), "right": slice(5, 7), "middle": slice(3, 5)}[side]] = True
    model = TorchModel(module, [{"src": torch.randn(3, 7, 32), "src_key_padding_mask": pad}], "module")
    found = survey(model)
    assert require_same(model, model.collate(found.sequences), found.layers) == len(found.layers)


def test_several_calls_of_the_kernel_tell_nothing():
    query = torch.randn(2, 4, 7, 8)
    attend = partial(torch.nn.functional.scaled_dot_product_attention, query, query, query)
    with torch.no_grad():
        _, sums = with_sums(attend, query)
        assert sums_of(query, sums).shape == (2, 4, 7)
        assert sums_of(query[:1], sums) is None
        _, sums = with_sums(lambda: [attend(), attend()], query)
    assert sums is None
