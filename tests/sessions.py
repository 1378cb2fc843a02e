"""What a server makes for one browser, without a server: a document of a session, and the text that its page holds."""

import json
import weakref
from html import unescape
from types import SimpleNamespace

from bokeh.document import Document
from bokeh.server.contexts import BokehSessionContext

__all__ = ["session_of", "text_of"]

ASKED = {"arguments": {}, "cookies": {}, "path": "/", "uri": "/", "protocol": "http"}


def session_of(application):
    """Return the document that an application makes, as Bokeh's own ``create_session_if_needed`` does, and its session."""
    made = Document()
    context = BokehSessionContext("a-session", None, made)
    context._request = SimpleNamespace(headers={"Host": "localhost:5006"}, host="localhost:5006", **ASKED)
    made._session_context = weakref.ref(context)
    application.initialize_document(made)
    return made, context


def text_of(document):
    """Return all that a document holds."""
    return unescape(unescape(json.dumps(document.to_json(), default=str, ensure_ascii=False)))
