"""Readers: from files, folders, data sets and built-in data to Records.

Receives the sources that a recipe names, gives ``Inputs``. ``READERS`` is the table of formats: each reader says how many
rows its source holds and reads the chosen ones, so that sampling lies in one place, in ``attnviz.inputs.reading``.
"""

from attnviz.inputs.cells import Cell
from attnviz.inputs.columns import name_columns
from attnviz.inputs.drawing import Draw
from attnviz.inputs.reading import READERS, Inputs, Reader, draw, nothing_usable, read
from attnviz.inputs.rows import DataOptions, Rows, Skip, Source

__all__ = [
    "READERS",
    "Cell",
    "DataOptions",
    "Draw",
    "Inputs",
    "Reader",
    "Rows",
    "Skip",
    "Source",
    "draw",
    "name_columns",
    "nothing_usable",
    "read",
]
