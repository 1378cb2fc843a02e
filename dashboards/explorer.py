"""The explorer for Panel's own server: ``panel serve dashboards/explorer.py --args RUN [RUN…]``."""

import sys

import panel as pn

from attnviz.explorer import Explorer

pn.extension()
Explorer(sys.argv[1:]).servable(title="attnviz")
