"""Capture: everything that knows how a library computes attention. Needs torch, so nothing above imports it at the top.

Receives a loaded model and batches; gives ``LayerVectors``, checked against the model's own attention.
"""

from attnviz.errors import require

require("torch", "capture")  # says how to install it, where the next import would only fail

from attnviz.capturing.check import EXACT, LONG, ROUNDED, LayerCheck, check, inspect, require_exact
from attnviz.capturing.run import BACKENDS, Sink, capture
from attnviz.capturing.streams import Declared
from attnviz.capturing.survey import Surveyed, survey

__all__ = [
    "BACKENDS",
    "EXACT",
    "LONG",
    "ROUNDED",
    "Declared",
    "LayerCheck",
    "Sink",
    "Surveyed",
    "capture",
    "check",
    "inspect",
    "require_exact",
    "survey",
]
