"""What runs of earlier schema versions do not hold: made up for as well as can be, and said.

Before version 3 a run held no more of a token than a text to read, from which words and punctuation are guessed.
"""

import numpy as np
import pandas as pd

from attnviz.store.manifest import Manifest
from attnviz.token_text import guess

__all__ = ["lacking", "with_token_texts"]

_TOLD_SINCE = 3  # schema version
_PLACE = ["sequence_id", "stream", "segment"]


def lacking(manifest: Manifest) -> str:
    """Return a sentence on what a run does not know of its tokens; an empty one, if it is of this version or of images alone."""
    if manifest.schema_version >= _TOLD_SINCE or manifest.model.modality == "image":
        return ""
    return (
        f"This run is of schema version {manifest.schema_version}: words and punctuation are guessed from the texts of its "
        "tokens, and parts of characters are not named. Make it again with `attnviz run` to have them from the tokenizer."
    )


def with_token_texts(tokens: pd.DataFrame) -> pd.DataFrame:
    """Return the tokens of a run with the columns of ``types.TokenText``, guessed if they are not there."""
    if "plain" in tokens:
        return tokens
    codes, texts = pd.factorize(tokens["text"])
    alone = (tokens["is_special"] | (tokens["modality"] == "image")).to_numpy(bool)
    first = (tokens[_PLACE] != tokens[_PLACE].shift()).any(axis=1).to_numpy(bool)
    made = guess(codes, [str(text) for text in texts], alone, first)
    unknown = pd.Series(np.full(len(tokens), None, dtype=object), index=tokens.index).astype(tokens["text"].dtype)
    return tokens.assign(
        plain=pd.Series(made.plain, index=tokens.index, dtype=tokens["text"].dtype),
        starts_word=made.starts_word,
        is_punctuation=made.is_punctuation,
        character=unknown,
        part=unknown,
        byte_values=unknown,
    )
