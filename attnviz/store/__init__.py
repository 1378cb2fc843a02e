"""The run directory on disk: its layout, how it is written, how it is opened.

Receives arrays and frozen dataclasses; gives plain Parquet that any tool reads in one line, and reads it back.
"""

from attnviz.store.columns import Column
from attnviz.store.manifest import Manifest, MapInfo
from attnviz.store.points import Points
from attnviz.store.read import Head, HeadVectors, RunDirectory

__all__ = ["Column", "Head", "HeadVectors", "Manifest", "MapInfo", "Points", "RunDirectory"]
