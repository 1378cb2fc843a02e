import pytest
import torch
import transformers
from torch.nn import functional

from attnviz.capturing.contract import Call
from attnviz.capturing.torch_softmax import watch

CONFIGS = {
    "bloom": lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=40),
    "gptj": lambda: transformers.GPTJConfig(
        n_embd=32, n_layer=2, n_head=4, rotary_dim=4, vocab_size=40, n_positions=64
    ),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        hidden_size=32,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=4,
        window_size=4,
        vocab_size=40,
    ),
    "mpnet": lambda: transformers.MPNetConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=40
    ),
}


def model(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    made = transformers.AutoModel.from_config(CONFIGS[family](), attn_implementation="eager").eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.3)
    return made


def padded() -> dict[str, torch.Tensor]:
    ids = torch.randint(4, 40, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:] = mask[2, 3:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def watched(module: torch.nn.Module, **inputs: torch.Tensor) -> tuple[torch.Tensor, list[Call]]:
    calls: list[Call] = []
    with torch.inference_mode(), watch(module, calls.append, own="weights"):
        output = module(**inputs)
    return (output if isinstance(output, torch.Tensor) else output[0]), calls


def rebuilt(call: Call) -> torch.Tensor:
    logits = call.scaling * call.query @ call.key.transpose(-1, -2)
    if call.softcap is not None:
        logits = torch.tanh(logits / call.softcap) * call.softcap
    return torch.softmax(logits + call.added, -1)


@pytest.mark.parametrize("family", CONFIGS)
def test_attention_multiplied_by_hand_is_rebuilt(family):
    module, inputs = model(family), padded()
    with torch.inference_mode():
        result = module(**inputs, output_attentions=True)
    output, calls = watched(module, **inputs)
    assert torch.equal(output, result[0])
    assert len(calls) == len(result.attentions) == 2
    for call, theirs in zip(calls, result.attentions, strict=True):
        assert call.query.shape == call.key.shape == call.value.shape == (3, 4, 9, 8)
        assert (call.weights - theirs).abs().max() == 0
        assert (rebuilt(call) - theirs)[inputs["attention_mask"].bool()[:, None].expand(-1, 4, -1)].abs().max() < 1e-5


def test_what_is_added_is_bias_and_mask():
    inputs = padded()
    _, calls = watched(model("gpt_neo"), **inputs)
    assert {call.name for call in calls} == {"h.0.attn.attention", "h.1.attn.attention"}
    assert set(calls[0].added[0].flatten().tolist()) == {0.0, -torch.inf}
    assert calls[1].added[0, 0, 8].tolist() == [-torch.inf] * 5 + [0.0] * 4
    _, calls = watched(model("mpnet"), **inputs)
    assert torch.isinf(calls[0].added[2, :, :, 3:]).all()
    first, second = calls[0].added[0].double(), calls[1].added[0].double()
    assert first.abs().max() > 0.1
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


class ByHand(torch.nn.Module):
    """Attention in several spellings, after a router's softmax that is none."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.router = torch.nn.Linear(8, 3)
        self.project = torch.nn.Linear(8, 24)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        states = states * functional.softmax(self.router(states), dim=-1).amax(-1, keepdim=True)
        query, key, value = self.project(states).unflatten(-1, (3, 2, 4)).unbind(-3)  # (batch, tokens, heads, dim)
        result = getattr(self, self.spelling)(query, key, value)
        return result.softmax(-1)

    def einsum(self, query, key, value):
        logits = torch.einsum("bihd, bjhd -> bhij", query, key) / torch.tensor(2.0)
        weights = functional.dropout(torch.softmax(logits, -1), 0.5, training=False)
        return torch.einsum("bhij,bjhd->bihd", weights, value).flatten(2)

    def keys_first(self, query, key, value):
        logits = torch.einsum("bjhd,bihd->bhij", key, query).mul_(0.5)
        return torch.einsum("bjhd,bhij->bihd", value, logits.softmax(dim=3)).flatten(2)

    def softcap(self, query, key, value):
        query, key, value = (values.transpose(1, 2) for values in (query, key, value))
        logits = (query * 0.5) @ key.mT
        weights = (torch.tanh(logits / 3.0) * 3.0).masked_fill(torch.ones(5, 5).triu(1) > 0, -1e4).softmax(-1)
        return (weights @ value).transpose(1, 2).flatten(2)

    def of_each_head(self, query, key, value):
        query, key, value = (values.transpose(1, 2).flatten(0, 1) for values in (query, key, value))
        logits = torch.bmm(query, key.transpose(1, 2)).view(-1, 2, 5, 5) * torch.tensor([[[0.5]], [[2.0]]])
        return torch.bmm(logits.softmax(-1).reshape(-1, 5, 5), value).unflatten(0, (-1, 2)).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("spelling", ["einsum", "keys_first", "softcap", "of_each_head"])
def test_every_spelling_of_attention_is_seen_and_no_other_softmax(spelling):
    torch.manual_seed(0)
    module, states = ByHand(spelling).eval(), torch.randn(3, 5, 8)
    with torch.inference_mode():
        expected = module(states)
    output, calls = watched(module, states=states)
    assert torch.equal(output, expected)
    (call,) = calls
    assert call.query.shape == call.key.shape == call.value.shape == (3, 2, 5, 4)
    assert call.softcap == (3.0 if spelling == "softcap" else None)
    torch.testing.assert_close(rebuilt(call), call.weights, atol=1e-6, rtol=0)
    result = torch.softmax((call.weights @ call.value).transpose(1, 2).flatten(2), -1)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)


class Mixed(ByHand):
    def einsum(self, query, key, value):
        weights = torch.softmax(torch.einsum("bihd,bjhd->bhij", query, key), -1)
        return torch.einsum("bhij,bjhd->bihd", (weights + 0.1) / 1.5, value).flatten(2)


def test_weights_that_are_altered_after_the_softmax_disagree():
    torch.manual_seed(0)
    _, (call,) = watched(Mixed("einsum").eval(), states=torch.randn(3, 5, 8))
    assert (rebuilt(call) - call.weights).abs().max() > 0.01


def test_what_was_computed_is_not_kept():
    seen = []
    module = ByHand("einsum").eval()
    with torch.inference_mode(), watch(module, lambda call: seen.append(call.weights)):
        module(torch.randn(3, 5, 8))
    assert seen == [None]
