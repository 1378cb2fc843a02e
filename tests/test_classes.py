"""Classification heads: class logits are the model's own, once per batch, kept per sequence, and shown beside given labels."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import attnviz
from attnviz.capturing import capture, inspect
from attnviz.errors import DatasetError, InputError, ModelError
from attnviz.export import export
from attnviz.models import classifier_of, load
from attnviz.store.predictions import probabilities
from attnviz.types import ModelSpec, Record
from attnviz.views import class_probabilities, colorings, read_prediction, sequence_table
from tests import tiny
from tests.pipeline_runs import LINES, digests
from tests.test_resume import KILLED

NAMES = ("negative", "<b>neutral</b>", "positive")
SEQUENCE_HEAD = transformers.AutoModelForSequenceClassification


def table(path, **columns):
    pd.DataFrame({"text": LINES, **columns}).to_csv(path, index=False)
    return path


def recipe_of(model, source, **sections):
    sizes = {"shard_tokens": 100, "batch_tokens": 64}
    given = {"name": "classes", "model": {"id": str(model)}, "data": {"source": str(source)}, "maps": {}}
    given["capture"] = sizes | sections.pop("capture", {})
    return given | {name: given.get(name, {}) | value for name, value in sections.items()}


def own_logits(folder, texts, pairs=None, dtype=torch.float32):
    """What the model itself says of each text alone: without padding, and without anything of attnviz."""
    module = SEQUENCE_HEAD.from_pretrained(folder, dtype=dtype).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.no_grad():
        for number, text in enumerate(texts):
            given = (text,) if pairs is None else (text, pairs[number])
            rows.append(module(**tokenizer(*given, return_tensors="pt")).logits[0].float().numpy())
    return np.stack(rows)


def stored_logits(run):
    return np.stack([np.asarray(row, np.float32) for row in run.sequences["class_logits"]])


@pytest.fixture(name="data", scope="module")
def classes_data(tmp_path_factory):
    return table(tmp_path_factory.mktemp("data") / "lines.csv", label=[i % 3 for i in range(len(LINES))], who="me")


@pytest.fixture(name="model", scope="module")
def classes_model(tmp_path_factory):
    return tiny.save_text_classifier(tmp_path_factory.mktemp("albert"), "albert", NAMES)


@pytest.fixture(name="finished", scope="module")
def classes_finished(tmp_path_factory, model, data):
    run = attnviz.run(recipe_of(model, data), out=tmp_path_factory.mktemp("runs") / "classes", workers=1)
    run.project("pca", workers=1)
    assert set(run.sequences["predicted"]) == set(NAMES)
    return run


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "albert", "gpt2", "llama"])
def test_class_logits_are_the_models_own(family, data, tmp_path):
    """Heads lie behind bases of every prefix; GPT-2 has no padding token, so its head must be told which one padding is."""
    folder = tiny.save_text_classifier(tmp_path / "model", family, NAMES)
    run = attnviz.run(recipe_of(folder, data), out=tmp_path / "run", workers=1)
    assert run.num_sequences == len(LINES)
    assert len(run.manifest.shards) > 1
    own = own_logits(folder, LINES)
    np.testing.assert_allclose(stored_logits(run), own, rtol=1e-5, atol=1e-5)
    shares = torch.softmax(torch.from_numpy(own), dim=1).numpy()
    assert list(run.sequences["predicted"]) == [NAMES[i] for i in own.argmax(axis=1)]
    np.testing.assert_allclose(run.sequences["predicted_probability"], shares.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(run.class_probabilities(), shares, atol=1e-5)
    made = run.manifest.model
    assert (made.problem_type, made.class_names) == ("single_label_classification", NAMES)
    assert made.architecture.endswith("ForSequenceClassification")


def test_a_text_that_ends_with_the_padding_token_is_read_to_its_end(tmp_path):
    """A decoder without a padding token in its configuration: what pads a batch must not be taken off a text that ends with it."""
    folder = tiny.save_text_classifier(tmp_path / "model", "gpt2", NAMES)
    model = load(ModelSpec(str(folder), device="cpu"))
    texts = [f"{LINES[0]} {model.tokenizer.pad_token}", LINES[3], f"{LINES[1]} {model.tokenizer.pad_token}"]
    sequences = [model.encode(Record(str(number), text)) for number, text in enumerate(texts)]
    classifier = classifier_of(model)
    logits = classifier.logits(classifier.run(model.collate(sequences))).numpy()
    np.testing.assert_allclose(logits, own_logits(folder, texts), rtol=1e-5, atol=1e-5)
    assert model.module.config.pad_token_id is None  # as it was


def test_pairs_are_classified_as_pairs(model, tmp_path):
    pairs = LINES[::-1]
    data = table(tmp_path / "pairs.csv", other=pairs)
    run = attnviz.run(recipe_of(model, data, data={"pair_column": "other"}), out=tmp_path / "run", workers=1)
    np.testing.assert_allclose(stored_logits(run), own_logits(model, LINES, pairs), rtol=1e-5, atol=1e-5)
    assert np.abs(stored_logits(run) - own_logits(model, LINES)).max() > 1e-3


def test_half_precision_is_the_models_own(data, tmp_path):
    model = tiny.save_text_classifier(tmp_path / "model", "bert", NAMES)
    recipe = recipe_of(model, data, capture={"batch_tokens": 1})  # alone, for padding changes the last bits
    recipe["model"]["dtype"] = "bfloat16"
    run = attnviz.run(recipe, out=tmp_path / "run", workers=1)
    own = own_logits(model, LINES, dtype=torch.bfloat16)
    np.testing.assert_allclose(stored_logits(run), own, atol=1e-5)
    assert np.isfinite(run.sequences["predicted_probability"]).all()


def test_a_batch_runs_once_and_its_vectors_are_those_without_the_head(model):
    """Bit for bit: the head goes over what was captured."""
    loaded = load(ModelSpec(str(model), device="cpu"))
    sequences = [loaded.encode(Record(str(number), text)) for number, text in enumerate(LINES[:5])]
    layers, batch = inspect(loaded, sequences), loaded.collate(sequences)
    calls, plain, headed = [], [], []
    loaded.module.register_forward_hook(lambda *_: calls.append(1))
    capture(loaded, batch, layers, plain.append)
    classifier = classifier_of(loaded)
    watched = capture(loaded, batch, layers, headed.append, forward=classifier.run)
    assert len(calls) == 2  # one each
    torch.testing.assert_close(watched, classifier.run(batch), rtol=0, atol=0)
    for one, other in zip(plain, headed, strict=True):
        np.testing.assert_array_equal(one.query, other.query)
        np.testing.assert_array_equal(one.key, other.key)


def test_a_regression_keeps_its_value(data, tmp_path):
    folder = tiny.save_text_classifier(tmp_path / "model", "bert", ("score",))
    run = attnviz.run(recipe_of(folder, data), out=tmp_path / "run", workers=1)
    np.testing.assert_allclose(run.sequences["predicted"], own_logits(folder, LINES)[:, 0], rtol=1e-5, atol=1e-5)
    assert run.sequences["predicted"].dtype == np.float32
    assert not {"predicted_probability", "class_logits", "given"} & set(run.sequences)
    with pytest.raises(DatasetError, match="is a regression, whose value is `predicted`"):
        run.class_probabilities()
    assert read_prediction(run, 2).predicted == f"{own_logits(folder, LINES[2:3])[0, 0]:.4g}"


def test_several_labels_have_a_probability_each(data, tmp_path):
    more = {"problem_type": "multi_label_classification"}
    folder = tiny.save_text_classifier(tmp_path / "model", "bert", NAMES, **more)
    run = attnviz.run(recipe_of(folder, data), out=tmp_path / "run", workers=1)
    own = own_logits(folder, LINES)
    np.testing.assert_allclose(run.class_probabilities(), 1 / (1 + np.exp(-own)), atol=1e-5)
    np.testing.assert_allclose(run.sequences["predicted_probability"], 1 / (1 + np.exp(-own.max(axis=1))), atol=1e-5)
    assert "given" not in run.sequences  # a number cannot say which of several hold


def test_probabilities_of_extreme_logits_are_numbers():
    logits = np.array([[1e4, -1e4], [0, 0]], np.float32)
    for problem, expected in (
        ("single_label_classification", [[1, 0], [0.5, 0.5]]),
        ("multi_label_classification", [[1, 0], [0.5, 0.5]]),
    ):
        np.testing.assert_allclose(probabilities(logits, problem), expected)


def test_an_encoder_decoder_has_no_class_logits_and_says_so(tmp_path):
    folder = tiny.save_text_classifier(tmp_path / "model", "bart", NAMES)
    data = table(tmp_path / "pairs.csv", other=LINES)
    run = attnviz.run(recipe_of(folder, data, data={"pair_column": "other"}), out=tmp_path / "run", workers=1)
    assert run.manifest.model.problem_type is None
    assert "predicted" not in run.sequences
    assert any("BartForSequenceClassification" in note for note in run.manifest.notes)


def test_writing_goes_before_classifying(data, tmp_path):
    folder = tiny.save_text_classifier(tmp_path / "model", "gpt2", NAMES)
    run = attnviz.run(recipe_of(folder, data, capture={"generate": 2}), out=tmp_path / "run", workers=1)
    assert run.tokens["is_generated"].any()
    assert not (run.path / "predictions").exists()
    assert any("without its classification head" in note for note in run.manifest.notes)


@pytest.mark.parametrize("lost", ["classifier.weight", "bert.pooler.dense.weight"])
def test_a_head_without_its_weights_is_refused(lost, tmp_path):
    """The pooler too: no hidden state needs it, but this head does."""
    folder = tiny.save_text_classifier(tmp_path / "model", "bert", NAMES)
    weights = load_file(folder / "model.safetensors")
    del weights[lost]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"lacks 1 of the weights of BertForSequenceClassification, such as {lost}"):
        load(ModelSpec(str(folder), device="cpu"))


def pictures(folder, count=9):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / str(number % 3)
        place.mkdir(exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(place / f"{number}.png")
    return folder


def test_images_are_classified(tmp_path):
    folder = tiny.save_image_classifier(tmp_path / "model", ("0", "1", "2"))
    source = pictures(tmp_path / "pictures")
    run = attnviz.run(recipe_of(folder, source), out=tmp_path / "run", workers=1)
    module = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    files = [source / reference for reference in run.sequences["reference"]]
    pixels = processor([PIL.Image.open(file).convert("RGB") for file in files], return_tensors="pt")
    with torch.no_grad():
        own = module(**pixels).logits.numpy()
    np.testing.assert_allclose(stored_logits(run), own, rtol=1e-5, atol=1e-5)
    assert list(run.sequences["given"]) == list(run.sequences["label"])  # the folders


@pytest.mark.parametrize("pool", ["token", "map"])
def test_images_are_classified_by_timm(pool, tmp_path):
    """A head that pools by attention runs unwatched: its attention is none of the layers."""
    folder = tiny.save_timm_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] |= {"global_pool": pool, "class_token": pool == "token"}
    config["label_names"] = ["ant", "bee", "<i>cow</i>"]
    (folder / "config.json").write_text(json.dumps(config))
    module = tiny.timm_module(**config["model_args"])
    save_file(module.state_dict(), folder / "model.safetensors")
    run = attnviz.run(recipe_of(folder, pictures(tmp_path / "pictures")), out=tmp_path / "run", workers=1)
    loaded = load(ModelSpec(str(folder), device="cpu"))
    records = [Record(name, image=opened(tmp_path / "pictures" / name)) for name in run.sequences["reference"]]
    pixels = loaded.collate([loaded.encode(record) for record in records]).inputs["x"]
    with torch.no_grad():
        own = module.eval()(pixels).numpy()
    np.testing.assert_allclose(stored_logits(run), own, rtol=1e-5, atol=1e-5)
    assert run.manifest.model.class_names == ("ant", "bee", "<i>cow</i>")


def opened(file):
    return lambda: np.asarray(PIL.Image.open(file).convert("RGB"))


def test_predictions_are_plain_parquet(finished):
    made = pq.read_table(finished.path / "predictions")
    assert made.column_names == ["sequence_id", "predicted", "predicted_probability", "class_logits"]
    assert made["sequence_id"].to_pylist() == list(range(len(LINES)))
    assert made.schema.field("class_logits").type == pa.list_(pa.float32())


@pytest.mark.parametrize(("stage", "place"), [("table", "predictions/shard-00002"), ("vectors", "layer=0/shard-00002")])
def test_a_killed_run_resumes_to_the_same_bytes(finished, model, data, tmp_path, stage, place):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_of(model, data)))
    out = tmp_path / "killed"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "recipe.json"), str(out), place, stage]
    died = subprocess.run(command, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    kept = {file: file.stat().st_mtime_ns for file in (out / "predictions").iterdir() if file.suffix == ".parquet"}
    assert len(kept) == 2
    attnviz.run(recipe_of(model, data), out=out, workers=1)
    attnviz.open(out).project("pca", workers=1)
    assert digests(out) == digests(finished.path)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def test_a_lost_prediction_is_named(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    (copy / "predictions" / "shard-00001.parquet").unlink()
    with pytest.raises(DatasetError, match=r"shard-00001\.parquet is missing from the run"):
        _ = attnviz.open(copy).sequences


@pytest.mark.parametrize(
    ("labels", "given"),
    [
        ([2, 0, -1], ["positive", "negative", None]),
        (["Positive", "NEGATIVE", None], ["positive", "negative", None]),
        ([2.0, None, 0.0], ["positive", None, "negative"]),
    ],
)
@pytest.mark.parametrize("column", ["label", "labels"])
def test_given_labels_are_names_of_classes(labels, given, column, model, tmp_path):
    rows = {"text": LINES[:3], column: labels}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    run = attnviz.run(recipe_of(model, tmp_path / "rows.parquet"), out=tmp_path / "run", workers=1)
    found = [None if pd.isna(value) else value for value in run.sequences["given"]]
    assert found == given
    assert run.manifest.attributes == (column, "given")


def test_a_column_of_another_name_can_hold_the_labels(model, tmp_path):
    data = table(tmp_path / "rows.csv", truth=[i % 3 for i in range(len(LINES))], label="a genre")
    recipe = recipe_of(model, data)
    run = attnviz.run(recipe, out=tmp_path / "plain", workers=1)
    assert "given" not in run.sequences
    assert any("column 'label' holds 'a genre', which is no class" in note for note in run.manifest.notes)
    recipe["data"]["label_column"] = "truth"
    run = attnviz.run(recipe, out=tmp_path / "named", workers=1)
    assert list(run.sequences["given"][:4]) == [*NAMES, NAMES[0]]
    recipe["data"]["label_column"] = "label"
    with pytest.raises(InputError, match=r"data\.label_column: column 'label' holds 'a genre'.*numbers from 0 to 2"):
        attnviz.run(recipe, out=tmp_path / "unfit", workers=1)
    recipe["data"]["label_column"] = "truht"
    with pytest.raises(InputError, match=r"which the data does not have: .*truth"):
        attnviz.run(recipe, out=tmp_path / "absent", workers=1)
    recipe["model"]["id"] = str(tiny.save_text_model(tmp_path / "base", "bert"))
    with pytest.raises(InputError, match="is for models that choose one of several classes"):
        attnviz.run(recipe, out=tmp_path / "base-run", workers=1)


def test_columns_that_have_the_names_of_ours_are_kept_under_others(model, data, tmp_path):
    columns = {"predicted": "mine", "class_logits": 1, "given": "also mine", "label": 0}
    own = table(tmp_path / "rows.csv", **columns)
    run = attnviz.run(recipe_of(model, own), out=tmp_path / "run", workers=1)
    assert run.manifest.attributes == ("predicted_", "class_logits_", "given_", "label", "given")
    assert set(run.sequences["predicted_"]) == {"mine"}
    assert set(run.sequences["predicted"]) <= set(NAMES)
    base = tiny.save_text_model(tmp_path / "base", "bert")
    plain = attnviz.run(recipe_of(base, own), out=tmp_path / "plain", workers=1)
    assert plain.manifest.attributes == ("predicted", "class_logits", "given", "label")  # nothing else needs them there


def test_predictions_are_columns_like_any_other(finished, tmp_path):
    assert {"data:given", "data:predicted", "data:predicted_probability"} <= set(colorings(finished))
    assert list(sequence_table(finished).columns[-3:]) == ["given", "predicted", "predicted_probability"]
    assert len(sequence_table(finished, wanted="<b>neutral")) > 0
    path, _ = export(finished, "parquet", out=tmp_path / "map.parquet")
    tidy = pd.read_parquet(path)
    assert {"given", "predicted", "predicted_probability"} <= set(tidy)
    first = finished.sequences["predicted"]
    assert (tidy["predicted"].to_numpy() == first.to_numpy()[tidy["sequence_id"]]).all()
    assert class_probabilities(finished).shape == (len(LINES), 3)


def test_the_most_likely_classes_come_first(finished):
    own = finished.class_probabilities()
    found = read_prediction(finished, 4, most=2)
    ranked = own.iloc[4].sort_values(ascending=False)
    assert [name for name, _ in found.classes] == list(ranked.index[:2])
    assert [chance for _, chance in found.classes] == pytest.approx(list(ranked[:2]))
    assert (found.left, found.given) == (1, NAMES[4 % 3])
    assert read_prediction(finished, len(LINES)) is None
