"""Less than float32: what a model computes in is what its attention is held to, and a refusal names the dtype that is too small.

Weights, what the model runs in, and how vectors are stored each have a remedy of their own.
"""

import pytest
import torch

from attnviz import capturing
from attnviz.errors import CaptureError
from attnviz.models.transformers_text import TextModel
from attnviz.types import ModelSpec, Record
from tests import tiny
from tests.modules import WIDTH, Encoder, captured, off, split

X = torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _drawn_alike():
    torch.manual_seed(0)


def bert(dtype, largest):
    """Return a BERT whose keys go up to some number and a tenth more."""
    module = tiny.module(tiny.TEXT_CONFIGS["bert"]())
    with torch.no_grad():
        for name, part in module.named_modules():
            if name.endswith(".key"):
                part.bias.fill_(largest)
                part.weight.normal_(std=largest / 50)
            elif name.endswith(".query"):
                part.weight.div_(largest)
    return TextModel(module.to(dtype), tiny.tokenizer(), ModelSpec("tiny/bert", dtype=str(dtype).partition(".")[2]))


def checked(model, stored):
    sequences = [model.encode(Record(str(number), text=text)) for number, text in enumerate(tiny.SENTENCES[:3])]
    return capturing.require_exact(model, capturing.check(model, sequences, dtype=stored))


def test_keys_that_the_store_cannot_hold_ask_for_another_store():
    with pytest.raises(CaptureError, match=r"Set capture\.dtype = 'float32'"):
        checked(bert(torch.float32, 65_000), "float16")
    checked(bert(torch.float32, 65_000), "float32")


def test_keys_that_the_running_model_cannot_hold_ask_for_another_model():
    model = bert(torch.float16, 65_000)
    with pytest.raises(CaptureError, match=r"runs in float16.*65,504\. Set model\.dtype = 'float32'\.$"):
        checked(model, "float16")


def test_logits_that_the_running_model_rounds_too_far_ask_for_another_model():
    model = bert(torch.float16, 30.0)
    with torch.no_grad():
        for name, part in model.module.named_modules():
            if name.endswith(".query"):
                part.weight.mul_(3000)
    with pytest.raises(CaptureError, match=r"computes in float16.*Set model\.dtype = 'float32'\.$"):
        checked(model, "float32")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_broken_weight_is_named_whatever_the_dtype(dtype):
    model = bert(dtype, 1.0)
    name = "encoder.layer.1.attention.self.key.weight"
    with torch.no_grad():
        model.module.get_parameter(name)[0, 0] = torch.nan
    with pytest.raises(CaptureError, match=rf"the weight {name} of tiny/bert holds numbers that are not finite"):
        checked(model, "float32")


def test_inputs_that_are_not_finite_are_named_as_such(tmp_path):
    given = X.clone()
    given[1, 2] = torch.inf
    with pytest.raises(CaptureError, match=r"from its inputs, though its weights are finite"):
        captured(Encoder(), [given], tmp_path)


def test_a_module_that_is_too_coarse_is_told_to_be_float(tmp_path):
    module = Encoder()
    with torch.no_grad():
        module.to_key.bias.fill_(65_000)
        module.to_key.weight.mul_(1e4)
    with pytest.raises(CaptureError, match=r"runs in float16.*Capture module\.float\(\)") as refused:
        captured(module.half(), [X.half()], tmp_path)
    assert "model.dtype" not in str(refused.value)
    captured(module.float(), [X], tmp_path)


class Cast(Encoder):
    """Runs in half precision though its weights are float32, and norms its queries and keys, which autocast does in float32."""

    def __init__(self, dtype, how):
        super().__init__()
        self.dtype, self.how = dtype, how

    def forward(self, x):
        with torch.autocast("cpu", dtype=self.dtype):
            return getattr(self, self.how)(x).float()

    def plain(self, x):
        return self.attend(x)

    def normed(self, x):
        query, key, value = (split(part(x)) for part in (self.to_query, self.to_key, self.to_value))
        query, key = (torch.nn.functional.layer_norm(values, values.shape[-1:]).float() for values in (query, key))
        weights = torch.softmax(query @ key.mT * query.shape[-1] ** -0.5, -1)
        self.own = weights.detach()
        return weights @ value


@pytest.mark.parametrize("how", ["plain", "normed"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_held_to_what_it_computes_in(tmp_path, dtype, how):
    """huggingface/transformers#24638: weights are float32, and attention is not."""
    module = Cast(dtype, how)
    run = captured(module, [X], tmp_path)
    assert 1e-6 < off(run, module.own[1, 0], row=1) < 5e-3


def test_autocast_around_a_model_of_transformers(tmp_path):
    module = tiny.module(tiny.TEXT_CONFIGS["llama"]())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        captured(module, [{"input_ids": torch.randint(4, 40, (3, 8))}], tmp_path)
