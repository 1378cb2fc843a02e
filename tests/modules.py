"""What the tests of a user's own modules share: a module that tells its own weights, and how it is captured."""

import itertools

import numpy as np
import torch
from torch.nn import functional

import attnviz

WIDTH, HEADS, VOCABULARY = 32, 4, 40
_numbers = itertools.count()


def captured(module, batches, folder, **options):
    """Capture into a fresh folder, in float32 and without maps unless told otherwise."""
    overrides = {"capture.dtype": "float32"} | options.pop("overrides", {})
    options = {"out": folder / f"run {next(_numbers)}", "maps": [], "workers": 1} | options
    return attnviz.capture(module, batches, overrides=overrides, **options)


def off(run, own, *, layer=0, row=0):
    """Return how far the first head of a sequence is from its own weights, ``(queries, keys)``."""
    rebuilt, own = np.asarray(run.attention(layer, 0, row).weights), own.detach().float().numpy()
    assert rebuilt.shape == own.shape
    return float(np.abs(rebuilt - own).max())


def streams(run):
    """Return whose tokens have queries and keys, layer by layer."""
    return [(info.query_stream, info.key_stream) for info in run.layers.values()]


def split(values):
    """Turn ``(batch, tokens, channels)`` into ``(batch, heads, tokens, head_dim)``."""
    return values.view(*values.shape[:2], HEADS, -1).transpose(1, 2)


class Attending(torch.nn.Module):
    """What modules of the tests are made of; ``own`` holds the weights of its last attention."""

    def __init__(self):
        super().__init__()
        self.to_query, self.to_key, self.to_value = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.words, self.places = torch.nn.Embedding(VOCABULARY, WIDTH), torch.nn.Embedding(64, WIDTH)
        self.own = None

    def attend(self, x, y=None, mask=None):
        y = x if y is None else y
        query, key, value = split(self.to_query(x)), split(self.to_key(y)), split(self.to_value(y))
        logits = query.detach() @ key.detach().mT * query.shape[-1] ** -0.5
        self.own = torch.softmax(logits if mask is None else logits + mask, -1)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


class Encoder(Attending):
    def forward(self, x):
        return self.attend(x)
