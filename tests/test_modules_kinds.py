"""How a module may be written, and what it may take and give back: each is captured exactly, or refused in a sentence."""

import collections
import dataclasses

import pytest
import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention

from attnviz.errors import AttnvizError
from tests import tiny
from tests.modules import HEADS, WIDTH, Attending, Encoder, captured, off, split

X = torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _drawn_alike():
    torch.manual_seed(0)


class Projected(torch.nn.Module):
    """Attention that torch.export can read, by one function or by hand."""

    def __init__(self, by_hand):
        super().__init__()
        self.project, self.by_hand = torch.nn.Linear(WIDTH, 3 * WIDTH), by_hand

    def parts(self, x):
        return self.project(x).view(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)

    def forward(self, x):
        query, key, value = self.parts(x)
        if self.by_hand:
            return torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, -1) @ value
        return functional.scaled_dot_product_attention(query, key, value)

    def weights(self, x):
        query, key, _ = self.parts(x)
        return torch.softmax(query @ key.mT * query.shape[-1] ** -0.5, -1)


@pytest.mark.parametrize("how", ["whole", "child", "in place"])
def test_compiled_modules(tmp_path, how):
    module = Encoder().eval()
    made = torch.nn.Sequential(torch.compile(module, backend="eager")) if how == "child" else module
    made = torch.compile(module, backend="eager") if how == "whole" else made
    if how == "in place":
        module.compile(backend="eager")
    made(X)
    run = captured(made, [X], tmp_path)
    module.forward(X)
    assert off(run, module.own[1, 0], row=1) < 1e-6


@pytest.mark.parametrize("by_hand", [False, True])
def test_exported_modules(tmp_path, by_hand):
    module = Projected(by_hand).eval()
    run = captured(torch.export.export(module, (X,)).module(), [X], tmp_path)
    assert off(run, module.weights(X)[1, 0], row=1) < 1e-6


@pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning")  # transformers 5 sets it
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_what_cannot_be_seen_into_is_refused_though_the_rest_can(tmp_path):
    scripted = torch.nn.Sequential(Encoder(), torch.jit.trace(Bare(), X[:, None]))
    with pytest.raises(AttnvizError, match=r"1 was compiled by torch\.jit, which cannot be seen into"):
        captured(scripted, [X], tmp_path)

    class Flexing(Attending):
        def forward(self, x):
            x = self.attend(x)
            return flex_attention(split(x), split(x), split(x))

    with pytest.raises(AttnvizError, match=r"attends by flex_attention.*scaled_dot_product_attention"):
        captured(Flexing(), [X], tmp_path)
    llama = tiny.module(tiny.TEXT_CONFIGS["llama"]())
    llama.set_attn_implementation("flex_attention")
    with pytest.raises(AttnvizError, match=r"set_attn_implementation\('sdpa'\)"):
        captured(llama, [{"input_ids": torch.randint(4, 40, (3, 8))}], tmp_path)
    assert llama.config._attn_implementation == "flex_attention"


@dataclasses.dataclass
class _Output:
    last: torch.Tensor
    steps: int = 3


class _Thing:
    def __init__(self, x):
        self.logits = x


class Giving(Attending):
    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, x):
        return self.give(self.attend(x))


_Pair = collections.namedtuple("_Pair", "first second")
OUTPUTS = {
    "dict": lambda x: {"a": x}, "dataclass": _Output, "object": _Thing,
    "named tuple": lambda x: _Pair(1, x), "nested": lambda x: [None, (x,)],
}  # fmt: skip


@pytest.mark.parametrize("give", OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_of_any_kind(tmp_path, give):
    module = Giving(give)
    assert off(captured(module, [X], tmp_path), module.own[0, 0]) < 1e-6


def test_no_output_is_a_sentence(tmp_path):
    with pytest.raises(AttnvizError, match="returned NoneType, in which there is no tensor"):
        captured(Giving(lambda x: None), [X], tmp_path)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "No batch was given"),
        ([X[:0]], "Batch 0 is empty"),
        ([X, X[:, :0]], "Batch 1 is empty"),
        ([{}], "Batch 0 is empty"),
        ([None], "NoneType was given"),
        ([X.numpy()], "ndarray was given"),
        ([X, X.double()], r"Encoder fails on batch 1: RuntimeError: .*dtype"),
        ([torch.nested.nested_tensor([X[0], X[1, :3]], layout=torch.jagged)], "nested|fails on batch 0"),
    ],
)
def test_batches_that_cannot_be_run(tmp_path, batches, said):
    with pytest.raises(AttnvizError, match=said):
        captured(Encoder(), batches, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_modules_of_other_dtypes(tmp_path, dtype):
    module = Encoder().to(dtype)
    run = captured(module, [X.to(dtype)], tmp_path)
    assert off(run, module.own[1, 0], row=1) < (1e-6 if dtype == torch.float64 else 3e-3)


class Bare(torch.nn.Module):
    def forward(self, x):
        return functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(("shape", "sequences"), [((3, 7, 8), 3), ((7, 8), 1), ((2, 4, 7, 8), 2)])
def test_attention_of_fewer_axes(tmp_path, shape, sequences):
    x = torch.randn(shape)
    run = captured(Bare(), [x], tmp_path)
    assert run.num_sequences == sequences
    own = torch.softmax(x @ x.mT * 8**-0.5, -1)
    assert off(run, own.reshape(-1, 7, 7)[0]) < 1e-6


def test_an_axis_too_many_is_refused(tmp_path):
    with pytest.raises(AttnvizError, match=r"queries of shape \(2, 2, 4, 7, 8\)"):
        captured(Bare(), [torch.randn(2, 2, 4, 7, 8)], tmp_path)


class Second(Attending):
    """Tokens first, the batch second, and sequences and heads in one axis, as fairseq's modules have them."""

    def forward(self, x):
        tokens, sequences, _ = x.shape
        query, key, value = (
            part(x).reshape(tokens, sequences * HEADS, -1).transpose(0, 1)
            for part in (self.to_query, self.to_key, self.to_value)
        )
        weights = torch.softmax(torch.bmm(query, key.transpose(1, 2)) * query.shape[-1] ** -0.5, -1)
        self.own = weights.view(sequences, HEADS, tokens, tokens)
        return torch.bmm(weights, value)


@pytest.mark.parametrize(("tokens", "sequences"), [(4, 4), (7, 3), (8, 2)])
@pytest.mark.parametrize("declared", [{}, {"batch_axis": 1}], ids=["told", "declared"])
def test_the_batch_along_the_second_axis(tmp_path, tokens, sequences, declared):
    module = Second()
    run = captured(module, [torch.randn(tokens, sequences, WIDTH)], tmp_path, **declared)
    assert run.num_sequences == sequences
    assert off(run, module.own[1, 0], row=1) < 1e-6


class Folded(Second):
    """Folds its inputs so that no axis is that of its tokens."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=False)  # says nothing of what is around it

    def forward(self, x):
        return super().forward(x.reshape(x.shape[0] // 2, x.shape[1] * 2, WIDTH))


def test_an_axis_that_cannot_be_told_is_asked_for(tmp_path):
    with pytest.raises(
        AttnvizError, match=r"Which axis of x of shape \(6, 4, 32\) in batch 0 .* batch_axis=0 or batch_axis=1"
    ):
        captured(Folded(), [torch.randn(6, 4, WIDTH)], tmp_path)


def test_a_module_that_draws_random_numbers_is_told_so(tmp_path):
    with pytest.raises(AttnvizError, match="gives another output each time"):
        captured(Giving(lambda x: functional.dropout(x)), [X], tmp_path)


class Twofold(Attending):
    """Attends by torch's function, and by hand over fewer tokens."""

    def forward(self, x):
        y, z = self.attend(x), x[:, :4]
        return torch.softmax(split(self.to_query(z)) @ split(self.to_key(z)).mT, -1) @ split(y[:, :4])


def test_what_attends_in_two_ways_is_refused_whatever_its_tokens(tmp_path):
    with pytest.raises(AttnvizError, match=r"Twofold calls scaled_dot_product_attention, Twofold multiplies by hand"):
        captured(Twofold(), [X], tmp_path)


def test_two_ways_to_attend_are_told_to_be_need_weights(tmp_path):
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (torch.nn.MultiheadAttention(32, 4, batch_first=True) for _ in range(2))

        def forward(self, x):
            x = self.first(x, x, x, need_weights=False)[0]
            return self.second(x, x, x)[0]

    with pytest.raises(
        AttnvizError, match=r"first calls scaled_dot_product_attention, second multiplies by hand.*need_weights"
    ):
        captured(Two(), [torch.randn(2, 5, 32)], tmp_path)
