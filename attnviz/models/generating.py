"""Greedy decoding: what a model writes after a prompt, one prompt at a time.

Nothing is drawn at random and nothing of the checkpoint's generation settings is taken over (beams, penalties, temperature)
but the tokens that it stops at, begins with, and never says. Capture then runs once over prompt and answer: the vectors are
those of decoding step by step (``tests/test_models_loading.py`` holds them to 1e-5). Prompts are not batched, because
padding would have to be on the left, where some models count positions differently.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from attnviz.errors import ModelError
from attnviz.models.tokenizing import token_device

__all__ = ["begins_with", "refusal", "require_decoder", "room", "write"]


def write(head: Any, start: torch.Tensor, count: int, encoded: Mapping[str, Any] | None = None) -> list[int]:
    """Return the ids that a model writes after ``start``, at most ``count``, the last one the end of its text if it came.

    Parameters
    ----------
    head
        A model with its language-model head.
    start
        The prompt, or what the decoder begins with, ``(1, tokens)``.
    encoded
        ``encoder_outputs`` and the like, of an encoder-decoder.
    """
    name = "input_ids" if encoded is None else "decoder_input_ids"
    stops, never = _ids(head, "eos_token_id"), _never(head)
    remembers = "past_key_values" in inspect.signature(head.forward).parameters
    said: list[int] = []
    step, cache = start, None
    with torch.no_grad():
        while len(said) < count and not (said and said[-1] in stops):
            memory = {"past_key_values": cache, "use_cache": True} if remembers else {}
            output = head(**{name: step}, **(encoded or {}), **memory)
            scores = output.logits[0, -1]
            scores[never] = -torch.inf
            said.append(int(scores.argmax()))
            cache = getattr(output, "past_key_values", None)
            fresh = start.new_tensor([said[-1:]])
            step = fresh if cache is not None else torch.cat([step, fresh], dim=1)
    return said


def require_decoder(head: Any, name: str) -> None:
    """Make sure that a model writes from left to right: a later token changes nothing before it.

    Raises
    ------
    ModelError
        If it reads both ways, as BERT does.
    """
    device = token_device(head)
    one, other = (torch.tensor([[5, 6, last]], device=device) for last in (7, 8))
    with torch.no_grad():
        moved = (head(input_ids=one).logits[0, 0] - head(input_ids=other).logits[0, 0]).abs().max()
    if moved > 1e-3:
        raise ModelError(refusal(name, f"{type(head).__name__} reads in both directions"))


def refusal(name: str, why: str) -> str:
    """Say that a model cannot write, and what to do."""
    return f"{name} cannot write text: {why}. Set capture.generate = 0, or give a decoder or an encoder-decoder."


def room(generate: int, most: int | None, name: str) -> int | None:
    """Return how many tokens a prompt may have where so many are to follow; None: any number.

    Raises
    ------
    ModelError
        If none would be left.
    """
    if most is None or generate < most:
        return None if most is None else most - generate
    raise ModelError(f"capture.generate = {generate} leaves no room for a prompt: {name} takes {most} tokens in all.")


def begins_with(head: Any) -> list[int]:
    """Return what the decoder is given to begin with: its start token, and the one that must follow if there is one."""
    start = _ids(head, "decoder_start_token_id") or _ids(head, "bos_token_id")
    return [*start[:1], *_ids(head, "forced_bos_token_id")]


def _never(head: Any) -> list[int]:
    """Return the tokens that the checkpoint says a model must not write (Marian: padding)."""
    config = getattr(head, "generation_config", None)
    single = [words[0] for words in getattr(config, "bad_words_ids", None) or [] if len(words) == 1]
    return [*single, *(getattr(config, "suppress_tokens", None) or [])]


def _ids(head: Any, name: str) -> list[int]:
    """Return a setting that may be none, one or several tokens."""
    places = (getattr(head, "generation_config", None), head.config)
    found = next((value for place in places if (value := getattr(place, name, None)) is not None), None)
    return [] if found is None else [found] if isinstance(found, int) else list(found)
