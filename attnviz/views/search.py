"""Search: which tokens a text matches.

One boolean per token is enough for every view: a token's query and key match together, in all heads at once.
"""

import numpy as np
from numpy.typing import NDArray

from attnviz.store import RunDirectory

__all__ = ["match_tokens"]

WORD_STARTS = "Ġ▁"  # what byte-level BPE and SentencePiece write for the space before a word


def match_tokens(run: RunDirectory, text: str, *, whole: bool = False, case: bool = False) -> NDArray[np.bool_]:
    """Return which tokens match, ``(tokens,)``; an empty text matches none.

    Parameters
    ----------
    whole
        The token must equal the text (a word-start mark before it is allowed), not only contain it.
    case
        Whether "Paris" and "paris" differ.
    """
    if not text:
        return np.zeros(run.num_tokens, bool)
    wanted = text if case else text.casefold()
    # Decided once per distinct token: a vocabulary is some hundred times smaller than a run.
    matching = [token for token in run.tokens["text"].unique() if _matches(token, wanted, whole=whole, case=case)]
    return run.tokens["text"].isin(matching).to_numpy()


def _matches(token: str, wanted: str, *, whole: bool, case: bool) -> bool:
    given = token if case else token.casefold()
    return wanted in (given, given.lstrip(WORD_STARTS.casefold() + WORD_STARTS)) if whole else wanted in given
