"""What to say where a model computes numbers that its own dtype cannot hold, or that a run's cannot.

Three things make a value that cannot be kept: a weight that is broken, a model that runs in less than its weights need, and
vectors that are stored in less than they need. Each has a remedy of its own, and the wrong one helps nobody.
"""

import math

import torch

from attnviz.capturing.contract import Call
from attnviz.errors import CaptureError
from attnviz.models import LoadedModel
from attnviz.types import LayerInfo

__all__ = ["in_float32", "is_half", "named", "not_held"]


def named(dtype: torch.dtype) -> str:
    """Return what a dtype is called in ``EXACT`` and in recipes."""
    return str(dtype).removeprefix("torch.")


def is_half(dtype: str) -> bool:
    """Tell whether a dtype keeps less than float32 does."""
    return dtype in ("float16", "bfloat16")


def in_float32(model: LoadedModel) -> str:
    """Say how to run a model in float32."""
    if model.info.library == "torch":
        return "Capture module.float(), with batches of float32 and without autocast."
    return "Set model.dtype = 'float32'."


def not_held(
    model: LoadedModel,
    call: Call,
    info: LayerInfo,
    name: str,
    values: torch.Tensor,
    kept: torch.dtype,
) -> CaptureError:
    """Return what to raise where ``kept`` cannot hold what a layer made, called ``name``: it says what to do."""
    low, high = (float(extreme) for extreme in values.aminmax())
    what = f"Layer {info.label} ({info.name}) has {name} values from {low:.3g} to {high:.3g}"
    if math.isfinite(low) and math.isfinite(high):
        return CaptureError(f"{what}, which {named(kept)} cannot hold. Set capture.dtype = 'float32'.")
    return CaptureError(f"{what}, not finite: {_why(model, call)}")


def _why(model: LoadedModel, call: Call) -> str:
    broken = next((name for name, weight in model.module.named_parameters() if _is_broken(weight)), None)
    if broken is not None:
        return f"the weight {broken} of {model.info.id} holds numbers that are not finite. Load weights that are whole."
    if call.computed_in == torch.float16:
        return f"{model.info.id} runs in float16, which holds no number beyond 65,504. {in_float32(model)}"
    return (
        f"{model.info.id} makes them so from its inputs, though its weights are finite. Leave the input that does out."
    )


def _is_broken(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and not weight.is_meta and not bool(weight.isfinite().all())
