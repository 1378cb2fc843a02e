"""The explorer: Panel Viewers that hold layout and wiring; what is seen is decided in ``State`` and drawn in ``plots``.

This package alone imports panel. It never imports torch: the dashboard opens a run on a machine without a model.
"""

from attnviz.explorer.app import Explorer
from attnviz.explorer.gate import session_refusal
from attnviz.explorer.new_page import page_of
from attnviz.explorer.server import serve
from attnviz.explorer.state import State

__all__ = ["Explorer", "State", "page_of", "serve", "session_refusal"]
