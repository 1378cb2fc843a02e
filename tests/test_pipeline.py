"""The whole line on tiny models: what it writes, and what it refuses."""

import shutil

import numpy as np
import pytest

import attnviz
from attnviz.errors import AttnvizError, CaptureError, DatasetError, InputError
from attnviz.maps import head_seed
from attnviz.metrics import METRICS
from attnviz.normalize import joint
from attnviz.pipeline.prepare import Prepared, select_layers
from attnviz.types import LayerInfo, Sequences
from tests import tiny
from tests.pace import some
from tests.pipeline_runs import LINES, digests, finished_run, tiny_data, tiny_model, tiny_recipe  # noqa: F401  # fixtures


def test_the_run_holds_what_the_model_computed(finished, model, data):
    from attnviz.capturing.transformers import watch
    from attnviz.models import load
    from attnviz.types import ModelSpec, Record

    assert finished.num_sequences == len(LINES)
    assert len(finished.manifest.shards) > 3
    assert list(finished.sequences["tone"]) == [i % 3 for i in range(len(LINES))]
    assert finished.manifest.attributes == ("tone", "who")
    assert list(finished.layers) == [0, 1]
    loaded = load(ModelSpec(str(model)))
    for index in (0, 17, len(LINES) - 1):  # alone and unpadded, against batched and padded
        sequence = loaded.encode(Record("x", text=LINES[index]))
        calls = []
        with watch(loaded.module, calls.append, own="weights"):
            loaded.forward(loaded.collate([sequence]))
        call = calls[1]
        rebuilt = finished.attention(1, 2, index)
        assert rebuilt.tokens == sequence.texts
        np.testing.assert_allclose(rebuilt.weights, call.weights[0, 2], atol=1e-3)


def test_tables_say_what_the_tokens_are(finished):
    tokens = finished.tokens
    assert len(tokens) == finished.num_tokens
    assert tokens.groupby("sequence_id").position.agg(["min"]).eq(0).all().all()
    assert tokens.is_special.sum() == 2 * finished.num_sequences
    assert (tokens.frequency == tokens.text.map(tokens.text.value_counts())).all()
    assert tokens.patch_row.isna().all()


def test_maps_come_with_scores(finished):
    assert set(finished.maps) == {"pca", "pca_3d"}
    assert finished.maps["pca_3d"].spec.dims == 3
    scores = finished.scores("pca")
    assert len(scores) == 8
    assert set(scores) == {*METRICS, "neighbors_recall"}
    assert (scores["neighbors_recall"] == 1).all()
    joined = finished.head_scores()
    assert joined["pca_3d.trust_key"].tolist() == finished.scores("pca_3d")["trust_key"].tolist()
    assert scores.notna().all().all()
    assert len(finished.heads) == 8
    assert finished.heads["kv_head"].tolist() == [0, 0, 1, 1] * 2


def test_maps_say_how_far_to_trust_each_point(finished):
    for layer in finished.layers:
        kept = finished.faithfulness("pca", layer)
        assert kept.shape == (4, 2 * finished.num_tokens, 2)
        assert 0 <= kept.min() < kept.max() <= 1
        recall = finished.scores("pca")["attention_recall"].loc[layer]
        np.testing.assert_allclose(kept[:, : finished.num_tokens, 1].mean(axis=1), recall, atol=1e-3)


def test_scores_are_those_of_the_stored_vectors_under_the_layers_mask(finished):
    head = finished.head(1, 2)
    vectors = head.vectors()
    space = joint(vectors.query, vectors.key, Sequences(finished.bounds, head.layer))
    seed = head_seed(finished.manifest.seed, 1, 2)
    placed = finished.coordinates("pca", 1, 2)
    assert head.layer.causal
    for name, stored in finished.scores("pca").loc[(1, 2), [*METRICS]].items():
        assert METRICS[name](space, placed, seed=seed) == pytest.approx(stored, abs=1e-6), name


def test_a_map_made_before_there_was_faithfulness_is_complete(finished, recipe, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(finished.path, old)
    shutil.rmtree(old / "faithfulness")
    before = digests(old)
    attnviz.run(recipe, out=old, workers=1)
    assert digests(old) == before
    shutil.rmtree(old / "maps" / "pca")  # as the error that names the missing file says
    attnviz.run(recipe, out=old, workers=1)
    assert attnviz.open(old).has_faithfulness("pca")
    assert before.items() <= digests(old).items()


def test_a_finished_run_is_left_alone(finished, recipe):
    before = {f: f.stat().st_mtime_ns for f in finished.path.rglob("*") if f.is_file()}
    attnviz.run(recipe, out=finished.path, workers=1)
    assert {f: f.stat().st_mtime_ns for f in finished.path.rglob("*") if f.is_file()} == before


def test_the_same_recipe_gives_the_same_bytes_on_two_workers(finished, recipe, tmp_path):
    one = attnviz.run(recipe, out=tmp_path / "one", workers=1)
    two = attnviz.run(recipe, out=tmp_path / "two", workers=2)
    assert digests(one.path) == digests(two.path)
    assert digests(finished.path) == digests(one.path)


def test_adding_a_map_rewrites_nothing(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    before = digests(copy)
    run = attnviz.open(copy)
    run.project("wide", method="umap", parameters={"n_neighbors": 5, "n_epochs": 11}, workers=1)
    after = digests(copy)
    assert before.items() <= after.items()
    assert run.maps["wide"].spec.parameters["n_neighbors"] == 5
    assert "min_dist" in run.maps["wide"].spec.parameters  # defaults are written out
    with pytest.raises(DatasetError, match="has a map 'wide' already, made with umap"):
        run.project("wide", method="umap", parameters={"n_neighbors": 6}, workers=1)


def test_a_folder_with_something_else_is_not_touched(recipe, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(DatasetError, match="no attnviz run"):
            attnviz.run(recipe, out=tmp_path, force=force)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_token_limits_draw_with_the_seed_and_not_the_first(recipe, tmp_path):
    def references(seed):
        recipe["data"]["max_tokens"] = 120
        recipe["seed"] = seed
        run = attnviz.run(recipe, out=tmp_path / str(seed), workers=1)
        assert 120 <= run.num_tokens < 150
        return run.sequences["reference"].tolist()

    drawn = references(0)
    assert drawn != references(1)
    numbers = [int(reference.rsplit(":", 1)[1]) for reference in drawn]
    assert numbers == sorted(numbers)
    assert max(numbers) > len(LINES) / 2


def test_images_go_through_the_line(tmp_path):
    from PIL import Image

    model = tiny.save_timm_model(tmp_path / "model")
    rng = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 255, (30, 20, 3), np.uint8)).save(tmp_path / "images" / label / f"{i}.png")
    (tmp_path / "images" / "dogs" / "broken.png").write_bytes(b"no picture")
    run = attnviz.run(model=str(model), data=str(tmp_path / "images"), maps=["pca"], out=tmp_path / "run", workers=1)
    assert run.manifest.model.grid == (4, 4)
    assert run.num_tokens == 6 * 17
    assert run.sequences["label"].tolist() == ["cats"] * 3 + ["dogs"] * 3
    assert sum(run.manifest.skipped.values()) == 1
    patch = run.tokens.iloc[6]
    assert (patch.text, patch.patch_row, patch.patch_col) == ("1,1", 1, 1)
    picture = Image.open(__import__("io").BytesIO(run.image_png(4)))
    assert picture.size == (16, 16)


def test_data_of_the_other_modality_is_refused(recipe, tmp_path):
    recipe["data"]["source"] = "builtin:digits"
    with pytest.raises(InputError, match=r"is an image, but .* reads text"):
        attnviz.run(recipe, out=tmp_path / "run")


def test_vectors_that_float16_cannot_hold_are_refused(model, data, recipe, tmp_path):
    import safetensors.torch

    folder = tmp_path / "big"
    shutil.copytree(model, folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["layers.1.self_attn.q_proj.weight"] *= 1e6
    weights["layers.1.self_attn.k_proj.weight"] *= 1e-6
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    recipe["model"]["id"] = str(folder)
    with pytest.raises(AttnvizError, match="float32"):
        attnviz.run(recipe, out=tmp_path / "run", workers=1)
    recipe["capture"]["dtype"] = "float32"
    assert attnviz.run(recipe, out=tmp_path / "run32", workers=1).manifest.dtype == "float32"


def test_select_layers_counts_as_timm_does():
    layers = [LayerInfo(n, f"layers.{n}", 4, 4, 8, 1.0) for n in range(5)]

    def numbers(wanted):
        return [info.layer for info in select_layers(layers, wanted)]

    assert numbers(None) == [0, 1, 2, 3, 4]
    assert numbers(2) == [3, 4]
    assert numbers((0, -1, 2)) == [0, 2, 4]
    for wrong in (0, 6, (5,), (-6,)):
        with pytest.raises(CaptureError, match="the model has"):
            numbers(wrong)


def test_shards_never_cut_a_sequence():
    class Fake:
        def __init__(self, length):
            self.length = length

        def __len__(self):
            return self.length

    prepared = Prepared(tuple(map(Fake, [3, 4, 9, 1, 1, 1, 30])), {})
    assert [list(shard) for shard in prepared.shards(8)] == [[0, 1], [2], [3, 4, 5], [6]]
    assert prepared.first_tokens.tolist() == [0, 3, 7, 16, 17, 18, 19, 49]


HUB_RECIPES = {"bert_base_wiki": "bert", "gpt2_wiki": "gpt2", "llama_text": "llama", "vit_b32_images": "vit"}


@pytest.mark.parametrize("name", some(HUB_RECIPES, "llama_text"))
def test_recipes_that_need_a_hub_run_dry(name, data, tmp_path):
    """With a tiny model of the family and a few of our own sequences, all else as shipped."""
    if HUB_RECIPES[name] == "vit":
        folder, source = tiny.save_timm_model(tmp_path / "model"), "builtin:photos"
    else:
        folder, source = tiny.save_text_model(tmp_path / "model", HUB_RECIPES[name]), str(data)
    less = {"model.id": str(folder), "data.source": source, "maps.umap.n_epochs": 11, "maps.attention.n_epochs": 11}
    run = attnviz.run(name, overrides=less, out=tmp_path / name, workers=1)
    assert set(run.maps) == {"pca", "umap", "attention"}
    assert run.num_tokens > 30
