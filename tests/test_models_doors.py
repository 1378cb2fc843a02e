"""The door of models: what a folder is, is told before its weights are read, and whatever is left out is named."""

import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from attnviz.cli import cli
from attnviz.errors import AttnvizError, InputError, ModelError
from attnviz.models import load
from attnviz.models.families import families, quietly
from attnviz.models.transformers_text import TextModel
from attnviz.pipeline.checking import check_model
from attnviz.pipeline.prepare import prepare
from attnviz.recipe import make_recipe
from attnviz.types import ModelSpec, Record
from tests import every_type, tiny

README = " ".join((Path(__file__).parent.parent / "README.md").read_text("utf-8").split())
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
        found = check_model(ModelSpec(str(folder), device="cpu"), "float32")
    except AttnvizError as error:
        said = str(error)
    else:
        said = "exact." if found.ok else "refused."
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
    "llava": "has no token 32000, which config.json names",
    "mgp-str": "returns no tokens of one grid",
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
@pytest.mark.filterwarnings("ignore")  # of the libraries' own code on sizes that nobody uses
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
    assert not wrong, "\n".join(wrong)
    assert found["exact"] >= 260
    assert found["exact"] + found["sentence"] >= 450
    made = found["exact"] + found["sentence"]
    types = f"Of the {len(every_type.TYPES)} model types of transformers"
    assert f"{types} 5.23, a tiny folder of {made} can be made without a download: {found['exact']} are exact" in README


# Folders that are no plain model


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nothere", "../nothere", "a/b/c"])
def test_a_path_that_leads_nowhere_is_said_to(name):
    with pytest.raises(ModelError, match=rf"^There is no folder {re.escape(name)}\. Give a hub id"):
        load(ModelSpec(name))


def refused(folder, **spec):
    with pytest.raises(ModelError) as caught:
        load(ModelSpec(str(folder), device="cpu", **spec))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewritten(folder, name, **fields):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")


def test_adapter_is_named_and_never_runs_as_its_base(tmp_path):
    folder = tiny.save_text_model(tmp_path / "lora")
    settings = {"peft_type": "LORA", "base_model_name_or_path": "meta/base"}
    (folder / "adapter_config.json").write_text(json.dumps(settings), "utf-8")
    assert "is an adapter (adapter_config.json) of meta/base, and no model" in refused(folder)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    assert "merge_and_unload()" in refused(folder)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_prefix_of_a_wrapper_is_taken_off(prefix, tmp_path):
    folder = tiny.save_text_model(tmp_path / "wrapped")
    plain = load(ModelSpec(str(folder), device="cpu"))
    file = folder / "model.safetensors"
    weights = {prefix + name: weight.clone() for name, weight in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    model = load(ModelSpec(str(folder), device="cpu"))
    theirs = plain.module.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in model.module.state_dict().items())


@pytest.mark.parametrize(
    ("name", "kind"), [("tf_model.h5", "TensorFlow"), ("model.Q4.gguf", "GGUF"), ("flax_model.msgpack", "Flax")]
)
def test_weights_of_other_libraries_are_named(name, kind, tmp_path):
    folder = tiny.save_text_model(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / name)
    assert f"holds weights of {kind} and none of PyTorch" in refused(folder)


def test_pruned_heads_are_named(tmp_path):
    folder = tiny.save_text_model(tmp_path / "model", "bert")
    rewritten(folder, "config.json", pruned_heads={"0": [1, 3]})
    assert "heads pruned (layer 0: 1, 3)" in refused(folder)


def test_quantised_weights_without_their_package_are_named(tmp_path):
    folder = tiny.save_text_model(tmp_path / "model")
    rewritten(folder, "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    assert "It was quantised with gptq: install the package" in refused(folder)


@pytest.mark.parametrize("inner", ["", "0_Transformer"])
def test_sentence_transformers_folder_is_found_and_its_limit_followed(inner, tmp_path):
    written = pytest.importorskip("sentence_transformers.base.modules.transformer").Transformer
    source = tiny.save_text_model(tmp_path / "source", "bert")
    made = written(str(source), max_seq_length=7)
    folder = tmp_path / "sentences"
    (folder / inner).mkdir(parents=True)
    made.save(str(folder / inner))
    modules = [{"idx": 0, "name": "0", "path": inner, "type": "sentence_transformers.models.Transformer"}]
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    model = load(ModelSpec(str(folder), device="cpu"))
    assert model.max_length == 7
    assert len(model.encode(Record("long", "cat " * 20))) == 7


def test_text_with_a_token_beyond_the_table_is_skipped_and_counted(tmp_path):
    folder = tiny.save_text_model(tmp_path / "model", "bert")
    config = tiny.TEXT_CONFIGS["bert"]()
    config.vocab_size = len(tiny.tokenizer())
    tiny.module(config).save_pretrained(folder)
    words = tiny.tokenizer()
    words.add_tokens(["zebra"])
    words.save_pretrained(folder)
    (tmp_path / "texts.txt").write_text("the cat sat\nthe zebra sat\na dog ran\n", "utf-8")
    recipe = make_recipe({"name": "x", "model": {"id": str(folder)}, "data": {"source": str(tmp_path / "texts.txt")}})
    prepared = prepare(recipe, load(recipe.model), lambda *_: None)
    assert [sequence.record.text for sequence in prepared.sequences] == ["the cat sat", "a dog ran"]
    assert prepared.skipped == {"nothing for the model to read": 1}
    assert "has the token 'zebra', number 30 of the tokenizer" in prepared.examples["nothing for the model to read"]


def test_padding_token_beyond_the_table_is_replaced(tmp_path):
    words = tiny.tokenizer()
    words.add_special_tokens({"pad_token": "[FILL]"})
    config = tiny.TEXT_CONFIGS["bert"]()
    config.vocab_size = len(tiny.tokenizer())
    model = TextModel(tiny.module(config), words, tiny.SPEC)
    sequences = [model.encode(Record("a", text)) for text in tiny.SENTENCES[:2]]
    together = model.forward(model.collate(sequences))
    alone = model.forward(model.collate(sequences[1:]))
    torch.testing.assert_close(together[1, : len(sequences[1])], alone[0], atol=1e-5, rtol=1e-4)


# Pictures of models that run on text alone


def pictured(tmp_path, **data):
    """Write a table of two texts, one of which has a picture, and return a recipe's data."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    (tmp_path / "table.csv").write_text("text,photo\nthe cat sat,a.png\na dog ran,\n", "utf-8")
    return {"source": str(tmp_path / "table.csv"), "column": "text", **data}


def prepared_by(model, data):
    recipe = make_recipe({"name": "x", "model": {"id": model.info.id}, "data": data})
    return prepare(recipe, model, lambda *_: None)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A model of text and images that runs as one of text."""
    folder = tmp_path_factory.mktemp("gemma3")
    every_type.save("gemma3", folder)
    return load(ModelSpec(str(folder), device="cpu"))


def test_pictures_that_a_model_could_read_and_does_not_get_are_refused(mixed, tmp_path):
    with pytest.raises(
        InputError,
        match=r"a Gemma3Model is run on text alone here, though it also reads images.*Drop data\.image_column",
    ):
        prepared_by(mixed, pictured(tmp_path, image_column="photo"))
    prepared = prepared_by(mixed, pictured(tmp_path))
    assert len(prepared.sequences) == 2
    assert any("also reads images; it was given texts alone" in note for note in prepared.notes)


def test_check_says_that_a_model_of_images_was_given_texts_alone(mixed):
    said = CliRunner().invoke(cli, ["check", mixed.info.id, "--device", "cpu"]).output
    assert "It also reads images; it was checked on texts alone." in " ".join(said.split())
    told = json.loads(CliRunner().invoke(cli, ["check", mixed.info.id, "--device", "cpu", "--json"]).output)
    assert told["also_reads"] == ["images"]


def test_model_of_text_skips_no_row_for_want_of_a_picture(tmp_path):
    prepared = prepared_by(tiny.text_model("bert"), pictured(tmp_path, image_column="photo"))
    assert prepared.sequences[0].record.attributes["photo"] == "a.png"
    assert (len(prepared.sequences), prepared.skipped) == (2, {})
    assert "the pictures of 'photo' were not read: tiny/bert reads text" in prepared.notes
