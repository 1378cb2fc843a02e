"""The classes of a sequence with their probabilities, as a card and as a line; names of classes are the model's, and escaped."""

from attnviz.explorer import markup
from attnviz.store import RunDirectory
from attnviz.views import prediction_phrase, read_prediction, show_text

__all__ = ["class_line", "class_list", "class_sentence"]


def class_list(run: RunDirectory, sequence: int) -> str:
    """Return the most likely classes of a sequence as a list with bars; nothing for a model without a classification head."""
    found = read_prediction(run, sequence)
    if found is None:
        return ""
    rows = "".join(
        f'<tr><td class="name">{markup.isolated(show_text(name))}</td>'
        f'<td class="bar"><i style="width:{chance * 100:.1f}%"></i></td><td class="number">{chance * 100:.1f} %</td></tr>'
        for name, chance in found.classes
    )
    left = markup.quiet(f"The most likely of {found.left + len(found.classes):,} classes.") if found.left else ""
    return markup.subtitle(_sentence(prediction_phrase(found))) + (f"<table>{rows}</table>{left}" if rows else "")


def class_sentence(run: RunDirectory, sequence: int) -> str:
    """Return what is predicted of a sequence as a sentence; an empty text for a model without a classification head."""
    found = read_prediction(run, sequence)
    return "" if found is None else f"{_sentence(prediction_phrase(found))}."


def class_line(run: RunDirectory, sequence: int) -> str:
    """Return the most likely classes of a sequence as a sentence; an empty text where there are none."""
    found = read_prediction(run, sequence)
    if found is None or not found.classes:
        return ""
    return f"Classes: {', '.join(f'{show_text(name)}: {chance * 100:.1f} %' for name, chance in found.classes)}."


def _sentence(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:]
