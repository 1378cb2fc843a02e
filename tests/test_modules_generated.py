"""Every kind of module under every kind of mask: attention rebuilt from a run is the module's own in every sequence, or refused.

What is expected is computed here, from the module alone. A case is (which batch is unlike the others) × (how its rows are masked) ×
(who attends); its inputs are ids, positions that all rows share, (T, T) masks, scalars, flags and None.
"""

import dataclasses
import itertools
import re

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention

import attnviz
from attnviz.errors import AttnvizError
from tests import tiny

WIDTH, HEADS, VOCABULARY = 32, 4, 40


class Own(torch.nn.Module):
    """Attention over words and shared positions, in one of several spellings; keeps its own weights."""

    def __init__(self, spelling):
        super().__init__()
        self.words, self.places = torch.nn.Embedding(VOCABULARY, WIDTH), torch.nn.Embedding(64, WIDTH)
        self.project, self.spelling = torch.nn.ModuleList(torch.nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2)), spelling

    def forward(self, ids, pos, mask=None, pad=None, temperature=1.0, double=False):
        x, self.own = self.words(ids) + self.places(pos), []
        hidden = torch.zeros(len(ids), 1, ids.shape[1], ids.shape[1])
        if mask is not None:
            hidden = hidden + (mask if mask.dim() == 2 else mask[:, None])
        if pad is not None:
            hidden = hidden.masked_fill(~pad[:, None, None, :], -torch.inf)
        for project in self.project:
            query, key, value = project(x).view(*ids.shape, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            query = query * (2 if double else 1)
            scale = temperature / query.shape[-1] ** 0.5
            self.own.append(torch.softmax((query @ key.mT * scale + hidden).nan_to_num(neginf=-1e30), -1))
            x = x + getattr(self, self.spelling)(query, key, value, hidden, scale).transpose(1, 2).flatten(2)
        return {"last": x, "flag": double}

    def sdpa(self, query, key, value, hidden, scale):
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden, scale=scale)

    def softmax(self, query, key, value, hidden, scale):
        return torch.softmax(query @ key.mT * scale + hidden, -1).nan_to_num(0) @ value

    def bool_masks(self, query, key, value, hidden, scale):
        logits = torch.einsum("bhid,bhjd->bhij", query, key) * scale + hidden.clamp_min(-1e30).where(hidden > -1e30, 0)
        weights = logits.masked_fill(hidden == -torch.inf, float("-inf")).softmax(-1)
        return torch.einsum("bhij,bhjd->bhid", weights.nan_to_num(0), value)

    def flex(self, query, key, value, hidden, scale):
        hidden = hidden.expand(len(query), -1, -1, -1)
        return flex_attention(query, key, value, lambda score, b, h, i, j: score + hidden[b, 0, i, j], scale=scale)


class Encoder(torch.nn.Module):
    """torch's own encoder, batch first or second."""

    def __init__(self, batch_first):
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 48, batch_first=batch_first)
        self.inner, self.batch_first = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), batch_first
        self.own = None
        for child in self.inner.layers:
            child.self_attn.register_forward_pre_hook(self.note, with_kwargs=True)

    def forward(self, src, mask=None, src_key_padding_mask=None, is_causal=None):
        return self.inner(src, mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=is_causal)

    def note(self, attention, args, options):
        with torch.no_grad():
            if self.own is None:  # captured: what this hook computes is no part of the module
                return
            self.own.append(
                functional.multi_head_attention_forward(
                    *(x if not self.batch_first else x.transpose(0, 1) for x in args[:3]),
                    WIDTH, HEADS, attention.in_proj_weight, attention.in_proj_bias, None, None, False, 0.0,
                    attention.out_proj.weight, attention.out_proj.bias, training=False,
                    key_padding_mask=options["key_padding_mask"], attn_mask=options["attn_mask"],
                    need_weights=True, average_attn_weights=False,
                )[1]
            )  # fmt: skip


@dataclasses.dataclass
class Rows:
    """A batch before any module has shaped it: ids, which positions hold tokens, and a mask of positions."""

    ids: torch.Tensor
    held: torch.Tensor
    mask: torch.Tensor | None = None  # (T, T), added to the logits
    packed: torch.Tensor | None = None  # (B, T): the number of the text that each position belongs to


def causal(tokens):
    return torch.full((tokens, tokens), -torch.inf).triu(1)


def rows(kind, count, tokens, generator, only=None):
    """Return a batch whose rows, or one of them, are masked in one way."""
    held = torch.ones(count, tokens, dtype=torch.bool)
    made = Rows(torch.randint(4, VOCABULARY, (count, tokens), generator=generator), held)
    for row in range(count) if only is None else [only]:
        missing = 1 + row % 3
        if kind == "right":
            held[row, tokens - missing :] = False
        elif kind == "left":
            held[row, :missing] = False
        elif kind == "holes":
            held[row, 2 : 2 + missing] = False
    if kind == "own bias":
        made.mask = torch.randn(tokens, tokens, generator=generator)
    elif kind == "causal":
        made.mask = causal(tokens)
    elif kind == "packed":
        made.packed = torch.zeros(count, tokens, dtype=torch.long)
        for row in range(count) if only is None else [only]:
            made.packed[row, 3 + row % 2 :] = 1
    return made


KINDS = ["none", "right", "left", "holes", "packed", "own bias", "causal", "longer", "window outgrown"]
PLACES = ["one batch", "later batch", "one row of ten"]


def batches(kind, place, generator):
    """Return batches of which the last is masked in that way."""
    first = rows("causal" if kind == "causal" else "none", 3, 4 if kind == "window outgrown" else 6, generator)
    tokens = {"longer": 9, "window outgrown": 12}.get(kind, 8)
    if place == "one row of ten":
        return [rows(kind, 10, tokens, generator, only=4)]
    last = rows(kind, 3, tokens, generator)
    return [last] if place == "one batch" else [first, last]


def block(packed):
    """Return (B, T, T), 0 where two positions are of one text, else -inf."""
    return torch.where(packed[:, :, None] == packed[:, None, :], 0.0, -torch.inf)


class OwnCase:
    def __init__(self, spelling):
        self.module = Own(spelling)

    def inputs(self, made):
        given = {"ids": made.ids, "pos": torch.arange(made.ids.shape[1]), "mask": made.mask, "temperature": 1.5}
        given |= {"pad": None if made.held.all() else made.held, "double": True}
        return given if made.packed is None else given | {"mask": block(made.packed)}

    def expected(self, given):
        self.module(**given)
        return self.module.own


class EncoderCase:
    def __init__(self, batch_first):
        self.module = Encoder(batch_first).eval()

    def inputs(self, made):
        src = torch.nn.functional.one_hot(made.ids % WIDTH, WIDTH).float()
        mask = made.mask if made.packed is None else block(made.packed).repeat_interleave(HEADS, 0)
        return {
            "src": src if self.module.batch_first else src.transpose(0, 1),
            "mask": mask,
            "src_key_padding_mask": None if made.held.all() else torch.where(made.held, 0.0, -torch.inf),
            "is_causal": False,
        }

    def expected(self, given):
        self.module.own = []
        with torch.no_grad():
            self.module(**given)
        found, self.module.own = self.module.own, None
        return found


class HuggingFaceCase:
    def __init__(self, name):
        self.module = tiny.module((tiny.TEXT_CONFIGS | tiny.SEQ2SEQ_CONFIGS)[name]())

    def inputs(self, made):
        given = {"input_ids": made.ids, "use_cache": False}
        if made.mask is not None:
            return given | {"attention_mask": made.mask.expand(len(made.ids), 1, -1, -1).clone()}
        if made.packed is not None:
            place = torch.arange(made.ids.shape[1]).expand_as(made.packed)
            return given | {"position_ids": place - (made.packed == 1) * (made.packed == 0).sum(1, keepdim=True)}
        return given | {"attention_mask": made.held.long()}

    def expected(self, given):
        before = self.module.config._attn_implementation
        self.module.set_attn_implementation("eager")
        with torch.no_grad():
            found = self.attentions(self.module(**given, output_attentions=True))
        self.module.set_attn_implementation(before)
        return found

    def attentions(self, output):
        return output.attentions


class SequencesToSequences(HuggingFaceCase):
    """T5, whose decoder reads as many tokens as its encoder; the encoder's are masked."""

    def inputs(self, made):
        given = super().inputs(made)
        if "position_ids" in given:  # T5 has none
            given["attention_mask"] = block(made.packed)[:, None]
            del given["position_ids"]
        return given | {"decoder_input_ids": made.ids.flip(1)}

    def attentions(self, output):
        return (*output.encoder_attentions, *output.decoder_attentions, *output.cross_attentions)


CASES = {
    "own sdpa": lambda: OwnCase("sdpa"),
    "own softmax": lambda: OwnCase("softmax"),
    "own bool masks": lambda: OwnCase("bool_masks"),
    "own flex": lambda: OwnCase("flex"),
    "torch batch first": lambda: EncoderCase(True),
    "torch batch second": lambda: EncoderCase(False),
    "llama": lambda: HuggingFaceCase("llama"),
    "mistral": lambda: HuggingFaceCase("mistral"),
    "bert": lambda: HuggingFaceCase("bert"),
    "t5": lambda: SequencesToSequences("t5"),
}
EVERY = list(itertools.product(CASES, KINDS, PLACES))
FEW = [
    *itertools.product(["own sdpa"], ["right", "left", "holes", "own bias"], ["later batch", "one row of ten"]),
    *itertools.product(["own softmax", "torch batch second", "llama"], ["left"], ["later batch"]),
    *itertools.product(["llama"], ["right"], ["later batch"]),
    *itertools.product(["t5"], ["right", "packed"], ["one row of ten"]),
    *itertools.product(["mistral"], ["window outgrown", "holes"], ["later batch"]),
    *itertools.product(["own bool masks", "bert"], ["packed"], ["one row of ten"]),
    *itertools.product(["own flex"], ["none", "right", "packed"], ["one row of ten"]),
]
MAY_BE_REFUSED = {"holes", "left", "packed", "own bias"}
"""Where one rule a layer may not do; a mask that hides nothing but padding, or later keys, is always captured."""


@pytest.mark.parametrize(
    ("name", "kind", "place"),
    [pytest.param(*case, marks=() if case in FEW else pytest.mark.slow) for case in EVERY],
)
def test_attention_is_the_modules_own_or_refused_by_name(tmp_path, name, kind, place):
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(1)
    case, made = CASES[name](), batches(kind, place, generator)
    given = [case.inputs(one) for one in made]
    refused, run = None, None
    try:
        run = attnviz.capture(
            case.module, given, out=tmp_path / "run", maps=[], workers=1, overrides={"capture.dtype": "float32"}
        )
    except AttnvizError as error:
        refused = str(error)
    if name == "own flex":
        assert re.search(r"^Own attends by flex_attention, which cannot be seen into\. Let it attend by", refused), (
            refused
        )
    elif refused is not None:
        assert kind in MAY_BE_REFUSED, refused
        assert re.search(r"batch \d+, row \d+, masked by its input \w+: ", refused), refused
    if refused is not None:
        assert not (tmp_path / "run").exists()
        return
    first = 0
    for one, inputs in zip(made, given, strict=True):
        compare(run, one, case.expected(inputs), first)
        first += len(one.ids)
    assert run.num_sequences == first


def compare(run, made, own, first):
    """Compare every head of every sequence of a batch with the module's own."""
    assert len(run.layers) == len(own)
    for row, (layer, info) in itertools.product(range(len(made.ids)), run.layers.items()):
        held = made.held[row].nonzero()[:, 0]
        queries, keys = (
            torch.arange(len(made.ids[row])) if stream == "decoder_input_ids" else held
            for stream in (info.query_stream, info.key_stream)
        )
        for head in range(HEADS):
            expected = own[layer][row, head][queries][:, keys].detach().numpy()
            rebuilt = np.asarray(run.attention(layer, head, first + row).weights)
            assert rebuilt.shape == expected.shape
            np.testing.assert_allclose(rebuilt, expected, atol=1e-5, rtol=0)
