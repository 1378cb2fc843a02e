"""The explorer for Panel's own server: ``panel serve dashboards/explorer.py --args RUN [RUN…]``.

Unlike ``attnviz view`` it goes by the names of this machine alone, and by those in ``BOKEH_ALLOW_WS_ORIGIN``.
"""

import sys

import panel as pn

from attnviz.explorer import page_of, session_refusal

pn.extension()
refusal = session_refusal()
(page_of(sys.argv[1:]) if refusal is None else pn.pane.Str(refusal)).servable(title="attnviz")
