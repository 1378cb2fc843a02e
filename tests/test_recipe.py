"""Recipes: every key known, every value typed, and what is written is read back equal."""

import tomllib

import pytest

from attnviz.errors import AttnvizError, RecipeError
from attnviz.recipe import load_recipe, make_recipe, parse_overrides, shipped_recipes, to_toml
from attnviz.types import MapSpec

MINIMAL = {"name": "x", "model": {"id": "some/model"}, "data": {"source": "a.txt"}}


def test_defaults():
    recipe = make_recipe(MINIMAL)
    assert [spec.name for spec in recipe.maps] == ["pca", "umap", "attention"]
    assert recipe.capture.dtype == "float16"
    assert recipe.data.source == "a.txt"


def test_overrides_reach_every_section():
    words = [
        "data.max_tokens=500",
        "capture.layers=[-1, 0]",
        "model.dtype=bfloat16",
        "maps.umap.n_neighbors=30",
        "seed=7",
    ]
    recipe = make_recipe(MINIMAL | {"maps": {"umap": {}}}, parse_overrides(words))
    assert recipe.data.max_tokens == 500
    assert recipe.capture.layers == (-1, 0)
    assert recipe.model.dtype == "bfloat16"
    assert recipe.maps == (MapSpec("umap", "umap", 2, {"n_neighbors": 30}),)
    assert recipe.seed == 7


def test_overrides_leave_the_given_mapping_alone():
    given = {"name": "x", "model": {"id": "m"}, "data": {"source": "a"}, "maps": {"umap": {}}}
    make_recipe(given, {"maps.umap.n_neighbors": 3})
    assert given["maps"] == {"umap": {}}


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("data.max_token=5", "did you mean 'max_tokens'"),
        ("modle.id=x", "did you mean 'model'"),
        ("capture.dtype=int8", "accepted: 'float16', 'float32'"),
        ("seed=1.5", "seed is 1.5; accepted: a whole number"),
        ("seed=true", "seed is True"),
        ("data.source=[1]", "data.source is"),
        ("maps.umap.n_neighbor=3", "did you mean 'n_neighbors'"),
        ("maps.umap.n_neighbors=0", "n_neighbors = 0"),
        ("maps.umap.dims=4", "dims = 4"),
        ("maps.x.method=umpa", "did you mean 'umap'"),
        ("maps.../x.method=pca", "cannot name a map"),
        ("model=3", "model is 3; it must be a table"),
        ("maps.pca=4", "maps must be tables"),
        ("capture.batch_tokens=0", "must be at least 1"),
        ("nonsense", "is no key=value"),
        ("name.x=3", "which is a value"),
    ],
)
def test_what_is_wrong_is_said(word, sentence):
    with pytest.raises(AttnvizError, match=sentence):
        make_recipe(MINIMAL | {"maps": {"umap": {}}}, parse_overrides([word]))


def test_what_is_missing_is_said():
    with pytest.raises(RecipeError, match="names no data"):
        make_recipe({"name": "x", "model": {"id": "m"}, "data": {}})
    with pytest.raises(RecipeError, match="model needs 'id'"):
        make_recipe({"name": "x", "model": {}, "data": {"source": "a"}})
    with pytest.raises(RecipeError, match="did you mean 'minilm_docs'"):
        load_recipe("minilm_doc")
    with pytest.raises(RecipeError, match="does not exist"):
        load_recipe("nowhere.toml")


def test_toml_that_cannot_be_read(tmp_path):
    (tmp_path / "a.toml").write_text("a = ")
    with pytest.raises(RecipeError, match="cannot be read as TOML"):
        load_recipe(tmp_path / "a.toml")


def test_written_recipes_are_read_back_equal(tmp_path):
    awkward = {
        "data.source": ['quote".txt', "back\\slash", "ü ☃"],
        "data.max_tokens": 3,
        "maps.my-map.method": "umap",
        "maps.my-map.dims": 3,
    }
    recipe = make_recipe(MINIMAL, awkward)
    (tmp_path / "r.toml").write_text(to_toml(recipe), "utf-8")
    assert load_recipe(tmp_path / "r.toml") == recipe


def test_the_fingerprint_follows_the_data_and_not_the_maps():
    base = make_recipe(MINIMAL)
    assert make_recipe(MINIMAL, {"maps.tsne.dims": 2, "name": "y"}).fingerprint() == base.fingerprint()
    for change in ({"seed": 1}, {"data.max_tokens": 9}, {"model.revision": "v2"}, {"normalize.scale": "none"}):
        assert make_recipe(MINIMAL, change).fingerprint() != base.fingerprint()


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid_and_say_how_to_run_them(name):
    path = shipped_recipes()[name]
    recipe = load_recipe(path)
    assert recipe.name == name
    assert f"attnviz run {name}" in path.read_text("utf-8")
    assert recipe.maps


def test_the_recipes_that_users_are_promised_are_there():
    promised = {"minilm_docs", "digits_vit", "bert_base_wiki", "gpt2_wiki", "vit_b32_images", "llama_text"}
    assert promised <= set(shipped_recipes())


@pytest.mark.parametrize(
    "override",
    [
        {"model.id": "https://me:secret@hub.example/x"},
        {"model.revision": "hf_abcdefghijklmnopqrst"},
        {"data.source": ["a.txt", "hub:https://me:secret@hub.example/x"]},
    ],
)
def test_recipes_hold_no_token_and_no_password(override):
    with pytest.raises(RecipeError, match=r"holds a token or a password.*HF_TOKEN") as caught:
        make_recipe(MINIMAL, override)
    assert str(caught.value).startswith(next(iter(override)))
    assert "secret" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


def test_how_a_model_is_loaded_is_part_of_the_recipe():
    words = ["model.dtype=auto", "model.device_map=auto", "model.quantize=4bit", "model.allow_pickle=true"]
    recipe = make_recipe(MINIMAL, parse_overrides([*words, "capture.generate=12", "data.image_column=picture"]))
    assert (recipe.model.dtype, recipe.model.device_map, recipe.model.quantize) == ("auto", "auto", "4bit")
    assert recipe.model.allow_pickle
    assert recipe.capture.generate == 12
    assert make_recipe(tomllib.loads(to_toml(recipe))) == recipe
    with pytest.raises(RecipeError, match=r"capture\.generate is -1; it must be 0, or a number of tokens"):
        make_recipe(MINIMAL, {"capture.generate": -1})
    with pytest.raises(RecipeError, match=r"model\.quantize is '2bit'; accepted: '8bit', '4bit'"):
        make_recipe(MINIMAL, {"model.quantize": "2bit"})
