"""What cannot be had of a model is said in one sentence, with what to do."""

import json
import re

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models

from attnviz.errors import InputError, ModelError
from attnviz.models import load
from attnviz.models.transformers_text import TextModel
from attnviz.types import ModelSpec, Record
from tests import tiny
from tests.tiny import SPEC


def broken(tmp_path, *, without=(), **config):
    """Write a model folder without some files, with other settings in its configuration."""
    folder = tiny.save_text_model(tmp_path / "model")
    for name in without:
        (folder / name).unlink()
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | config), "utf-8")
    return folder


def refused(folder, **spec):
    with pytest.raises(ModelError) as caught:
        load(ModelSpec(str(folder), device="cpu", **spec))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def test_unknown_model_offline():
    message = refused("nobody/no-such-model")
    assert "'nobody/no-such-model' cannot be loaded" in message
    assert "Give a hub id, a folder" in message


def test_unknown_revision():
    assert "Check that the revision 'v9' exists" in refused("nobody/no-such-model", revision="v9")


def test_folder_has_no_revision(tmp_path):
    assert "a folder has no revision 'v9'. Leave model.revision out" in refused(broken(tmp_path), revision="v9")


def test_no_tokenizer(tmp_path):
    message = refused(broken(tmp_path, without=["tokenizer.json", "tokenizer_config.json"]))
    assert "The tokenizer of" in message
    assert "put its tokenizer.json beside config.json" in message


@pytest.mark.parametrize("kept", [5, 3000])
def test_damaged_weights(kept, tmp_path):
    folder = broken(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    assert "The weights file is damaged: fetch it again." in refused(folder)


def test_weights_of_another_size(tmp_path):
    assert "do not belong together: fetch both again" in refused(broken(tmp_path, hidden_size=64, head_dim=16))


def test_weights_that_are_missing_are_not_made_up(tmp_path):
    assert re.search(
        r"lacks \d+ of the weights of LlamaModel, such as layers\.2\.", refused(broken(tmp_path, num_hidden_layers=3))
    )


def test_tokenizer_of_another_model(tmp_path):
    folder = broken(tmp_path)
    vocabulary = {"[UNK]": 0, "[PAD]": 1} | {f"word{number}": number + 2 for number in range(68)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(
        folder
    )
    assert re.search(r"The tokenizer of .* has \d+ tokens but the model only 40", refused(folder))


def test_pickles_are_opened_only_on_request(tmp_path):
    folder = broken(tmp_path, without=["model.safetensors"])
    torch.save(tiny.module(tiny.TEXT_CONFIGS["llama"]()).state_dict(), folder / "pytorch_model.bin")
    assert "set model.allow_pickle = true" in refused(folder)
    assert load(ModelSpec(str(folder), device="cpu", allow_pickle=True)).info.num_parameters > 0


def test_remote_code_runs_only_on_request(tmp_path):
    folder = broken(tmp_path, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    (folder / "own.py").write_text("raise SystemExit('this code ran')", "utf-8")
    assert "read it, then set model.trust_remote_code = true" in refused(folder)


@pytest.mark.parametrize("device", ["gpu", "cuda:77"])
def test_device_that_is_not_there(device, tmp_path):
    folder = broken(tmp_path)
    with pytest.raises(
        ModelError, match=rf"Device '{device}' cannot be used: .*Accepted: auto, cpu, cuda, cuda:N, mps"
    ):
        load(ModelSpec(str(folder), device=device))


@pytest.mark.parametrize("address", ["https://me:hf_abcdefghijklmnopqrstuv@hub.example/x/y", "https://hub.example/x/y"])
def test_addresses_are_refused_without_repeating_them(address):
    message = refused(address)
    assert "not by an address" in message
    assert "hf_" not in message


def test_messages_hold_no_token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "my-secret-token")
    with pytest.raises(ModelError) as caught:
        load(ModelSpec("nobody/my-secret-token-hf_abcdefghijkl"))
    assert "cannot be loaded" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "abcdefghijkl" not in str(caught.value)


def test_images_for_a_language_model_and_texts_for_a_vision_model():
    with pytest.raises(
        InputError, match=r"is an image, but tiny/llama reads text\. Choose an image model or a text column"
    ):
        tiny.text_model("llama").encode(Record("a.png", image=lambda: np.zeros((20, 20, 3), np.uint8)))
    for model in (tiny.timm_vit(), tiny.hf_vit()):
        with pytest.raises(InputError, match=r"is a text, but .* reads images\. Choose a language model or image data"):
            model.encode(Record("data.csv:2", "a cat"))


def test_empty_text_gives_no_token():
    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    model = TextModel(tiny.module(tiny.TEXT_CONFIGS["llama"]()), tokenizer, SPEC)
    with pytest.raises(InputError, match=r"gives no token: its text is empty\. Give every row a text"):
        model.encode(Record("data.csv:2", " "))


def test_slow_tokenizers_serve():
    module = tiny.module(transformers.LlamaConfig(**tiny._sizes(vocab_size=384)))
    model = TextModel(module, transformers.ByT5Tokenizer(), SPEC)
    sequence = model.encode(Record("data.csv:2", "a cat"), max_length=4)
    assert sequence.texts == ("a", " ", "c", "</s>")
    assert sequence.is_special.tolist() == [False, False, False, True]
    assert sequence.truncated
