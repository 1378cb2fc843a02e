"""The door of models: what a folder is, is told before its weights are read, and whatever is left out is named."""

import pytest

from attnviz.errors import ModelError
from attnviz.models import load
from attnviz.models.families import families, quietly
from attnviz.pipeline.checking import check_model
from attnviz.types import ModelSpec, Record
from tests import every_type

BEHIND_PADDING = ("esm", "data2vec-text", "ibert", "luke", "markuplm", "mpnet", "roberta", "xlm-roberta-xl", "xmod")
FROM_ZERO = {"bert": 64, "opt": 64, "gpt2": 64, "llama": 64}


@pytest.mark.parametrize("family", BEHIND_PADDING)
def test_longest_text_still_fits_positions_counted_from_behind_the_padding_token(family):
    with quietly():
        model = families()[family].build()
    sequence = model.encode(Record("long", "cat " * 200))
    assert len(sequence) == model.max_length == (62 if family == "mpnet" else 63)
    assert model.forward(model.collate([sequence])).shape[1] == len(sequence)


@pytest.mark.parametrize("family", FROM_ZERO)
def test_positions_counted_from_zero_are_all_used(family):
    with quietly():
        assert families()[family].build().max_length == FROM_ZERO[family]


def outcome(model_type, folder):
    """Return "exact", "refused" or the sentence that says why a tiny model of a type cannot be checked."""
    every_type.save(model_type, folder)
    try:
        results = check_model(ModelSpec(str(folder), device="cpu"), "float32")
    except ModelError as error:
        said = str(error)
    else:
        said = "exact." if all(one.ok for one in results) else "refused."
    assert "\n" not in said
    assert said.endswith((".", "?"))
    return said


SAMPLE = {
    "bert": "exact",
    "flava": "exact",
    "vit": "exact",
    "whisper": "(WhisperModel) and reads audio",
    "wav2vec2": "must be given input_values",
    "blip-2": "must be given pixel_values",
    "blip": "On text alone its code fails: You have to specify pixel_values.",
    "owlvit": "reads images",
    "patchtst": "reads time series",
    "seggpt": "prompt_pixel_values",
    "vilt": "cannot run: ValueError: You have to specify either pixel_values or image_embeds",
    "colpali": "Load it with transformers.ColPaliForRetrieval",
}


@pytest.mark.parametrize("model_type", SAMPLE)
def test_folder_of_any_type_is_exact_or_one_sentence(model_type, tmp_path):
    assert SAMPLE[model_type] in outcome(model_type, tmp_path)


@pytest.mark.parametrize("model_type", ["whisper", "wav2vec2", "blip", "blip-2", "patchtst", "timesfm", "sam"])
def test_a_model_of_something_else_is_refused_before_its_weights_are_read(model_type, tmp_path):
    every_type.save(model_type, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"attnviz\.capture"):
        load(ModelSpec(str(tmp_path), device="cpu"))


@pytest.mark.slow
def test_every_type_of_the_installed_transformers_is_exact_or_one_sentence(tmp_path):
    found = {"exact": 0, "sentence": 0, "not made": 0}
    wrong = []
    for model_type in every_type.TYPES:
        folder = tmp_path / model_type
        try:
            said = outcome(model_type, folder)
        except every_type.NotMadeError:
            found["not made"] += 1
            continue
        except Exception as error:  # a traceback is what this test is for
            wrong.append(f"{model_type}: {type(error).__name__}: {error}")
            continue
        found["exact" if said == "exact." else "sentence"] += 1
    assert not wrong
    assert found["exact"] >= 260
    assert found["exact"] + found["sentence"] >= 450
