"""Tables of rows to click: columns as wide as what they hold, one of them taking what is left.

The browser is given one page of rows. Cells are plain text to it, and titles, which it reads as HTML, are escaped. Where there is
no room for all columns, the table scrolls sideways.
"""

from html import escape

import pandas as pd
import panel as pn
from bokeh.models.widgets.tables import StringFormatter

from attnviz.explorer.guard import Guarded
from attnviz.explorer.style import sheet

__all__ = ["fill", "plain_table"]

LEAST, MOST = 48, 192  # pixels of a column: the most hold a whole identifier of 20 digits
LETTER, DIGIT, BOLD = 7.0, 8.5, 8.0
EDGE = 18  # of a cell
SEEN = 200  # rows that decide on a width


def plain_table(
    frame: pd.DataFrame, click: Guarded, *, stretch: str, least: int, page_size: int, place: str
) -> pn.widgets.Tabulator:
    """Return the table.

    Parameters
    ----------
    stretch, least
        The column that takes what is left, and the fewest pixels it gets.
    place
        The class that says how high the table is: ``tall`` or ``low``.
    """
    names = _names(frame)
    table = pn.widgets.Tabulator(
        frame.set_axis(list(names), axis=1),
        titles={column: escape(name) for column, name in names.items()},
        formatters={column: StringFormatter(nan_format="", null_format="") for column in names},  # no HTML is read
        widths=_widths(frame, stretch),
        configuration={"columns": _columns(frame, stretch, least)},
        pagination="remote",
        page_size=page_size,
        show_index=False,
        disabled=True,
        selectable=False,
        theme="simple",
        layout="fit_columns",
        sizing_mode="stretch_both",
        css_classes=["table", place],
        stylesheets=sheet(),
        margin=0,
    )
    table.on_click(click)
    return table


def fill(table: pn.widgets.Tabulator, frame: pd.DataFrame) -> None:
    """Give the table other rows of the same columns."""
    table.page = 1
    table.value = frame.set_axis(list(_names(frame)), axis=1)


def _names(frame: pd.DataFrame) -> dict[str, str]:
    """Call the columns c0, c1…, so that a dot in a name is no path."""
    return {f"c{number}": str(name) for number, name in enumerate(frame)}


def _widths(frame: pd.DataFrame, stretch: str) -> dict[str, int]:
    return {column: _width(name, frame[name]) for column, name in _names(frame).items() if name != stretch}


def _columns(frame: pd.DataFrame, stretch: str, least: int) -> list[dict[str, object]]:
    """Return how narrow each column may become."""
    return [
        {"field": column, "minWidth": least if name == stretch else LEAST} for column, name in _names(frame).items()
    ]


def _width(name: str, values: "pd.Series") -> int:
    texts = values.head(SEEN).astype(str).str
    pixels = LETTER * texts.len() + (DIGIT - LETTER) * texts.count(r"\d")
    most = float(pixels.quantile(0.9)) if len(pixels) else 0.0
    return int(min(MOST, max(LEAST, most + EDGE, BOLD * len(name) + EDGE)))
