"""Pictures: folders, archives and data sets of them."""

import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from attnviz.errors import InputError
from attnviz.inputs import read
from attnviz.inputs.pixels import see
from tests.sources import WORDS, options, save_data_set, texts, write_images


def test_folder_names_become_labels(tmp_path):
    inputs = read(write_images(tmp_path, ["b/2.png", "a/1.png", "top.png"]), options=options(), seed=0)
    assert [(record.reference, record.attributes["label"]) for record in inputs.records] == [
        ("a/1.png", "a"),
        ("b/2.png", "b"),
        ("top.png", None),
    ]
    assert inputs.records[0].image().shape == (4, 6, 3)
    assert inputs.records[0].image().dtype == np.uint8


def test_folder_without_sub_folders_has_no_labels(tmp_path):
    assert read(write_images(tmp_path, ["a.png"]), options=options(), seed=0).records[0].attributes == {}
    assert read(str(tmp_path / "a.png"), options=options(), seed=0).records[0].reference == "a.png"


KINDS_OF_FILE = [(end, mode) for end in ("png", "jpg", "jpeg", "webp", "bmp", "gif") for mode in ("RGB", "L", "P")]


@pytest.mark.parametrize(("extension", "mode"), [kind for kind in KINDS_OF_FILE if kind[0][0] != "j" or kind[1] != "P"])
def test_every_kind_of_file_becomes_rgb(extension, mode, tmp_path):
    Image.new("RGB", (5, 4), (200, 200, 200)).convert(mode).save(tmp_path / f"a.{extension}")
    image = read(str(tmp_path), options=options(), seed=0).records[0].image()
    assert image.shape == (4, 5, 3)
    assert np.abs(image.astype(int) - 200).max() < 8  # palettes and JPEG round


def test_sixteen_bit_images_are_scaled_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((3, 3), 0x4000, dtype=np.uint16)).save(tmp_path / "a.png")
    assert read(str(tmp_path), options=options(), seed=0).records[0].image().max() == 0x40


def test_images_stand_as_the_camera_was_held(tmp_path):
    picture = Image.new("RGB", (6, 4))
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read(str(tmp_path), options=options(), seed=0).records[0].image().shape == (6, 4, 3)


def test_unreadable_images_are_counted(tmp_path):
    write_images(tmp_path, ["good.png", "cut.png"])
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:45])
    (tmp_path / "text.jpg").write_text("no picture", encoding="utf-8")
    inputs = read(str(tmp_path), options=options(), seed=0)
    assert [record.reference for record in inputs.records] == ["good.png"]
    assert inputs.skipped == {"unreadable image": 2}


@pytest.mark.parametrize("limit", [5, 20])
def test_decompression_bombs_are_counted(limit, tmp_path, monkeypatch):
    write_images(tmp_path, ["a.png"])  # 24 pixels: Pillow warns above the limit and raises above twice the limit
    Image.new("RGB", (2, 2)).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    inputs = read(str(tmp_path), options=options(), seed=0)
    assert inputs.skipped == {"image too large": 1}
    assert len(inputs.records) == 1


def test_folder_without_images_says_what_is_accepted(tmp_path):
    with pytest.raises(InputError, match=r"holds no image.*\.png.*hub:"):
        read(str(tmp_path), options=options(), seed=0)


def test_npz_takes_grey_colour_and_fractions(tmp_path):
    np.savez(
        tmp_path / "a.npz", images=np.full((2, 3, 3), 0.5), label=["x", "y"], other=np.zeros((2, 2)), n=np.arange(2)
    )
    first = read(str(tmp_path / "a.npz"), options=options(), seed=0).records[0]
    assert first.image().shape == (3, 3)
    assert first.image().dtype == np.uint8
    assert first.image().max() == 128
    assert first.attributes == {"label": "x", "n": 0}
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 3, 3, 3), dtype=np.uint8))
    assert read(str(tmp_path / "b.npz"), options=options(), seed=0).records[1].image().shape == (3, 3, 3)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 3)), np.zeros((2, 3, 3, 4)), np.zeros((2, 3, 3), complex), np.zeros((2, 0, 3))]
)
def test_npz_of_another_shape_or_type_is_refused(images, tmp_path):
    np.savez(tmp_path / "a.npz", images=images)
    with pytest.raises(InputError, match=r"Accepted: \(n, height, width\)"):
        read(str(tmp_path / "a.npz"), options=options(), seed=0)


def test_npz_without_images_names_what_it_holds(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match="did you mean 'image'"):
        read(str(tmp_path / "a.npz"), options=options(), seed=0)


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 2, 2), dtype=np.uint8), label=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"cannot be read as an \.npz .*without pickled objects"):
        read(str(tmp_path / "a.npz"), options=options(), seed=0)


def test_hub_folder_gives_class_names_and_decoded_pictures(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_images(tmp_path / "files", ["a.png", "b.png"])
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "n": datasets.Value("int64")}
    )
    files = [str(tmp_path / "files" / name) for name in ("a.png", "b.png")]
    source = save_data_set(tmp_path / "set", {"image": files, "label": [1, 0], "n": [5, 6]}, features)
    first, second = read(source, options=options(), seed=0).records
    assert first.attributes == {"label": "dog", "n": 5}
    assert second.attributes["label"] == "cat"
    assert first.image().shape == (4, 6, 3)


def test_hub_dictionary_without_the_split_names_the_nearest(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": WORDS})}).save_to_disk(str(tmp_path / "set"))
    assert texts(read(f"hub:{tmp_path / 'set'}", options=options(), seed=0)) == WORDS
    with pytest.raises(InputError, match=r"no split 'trian'.*did you mean 'train'"):
        read(f"hub:{tmp_path / 'set'}", options=options(split="trian"), seed=0)


def test_hub_name_that_cannot_be_loaded_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot be loaded with split 'train'.*data\.split"):
        read(f"hub:{tmp_path}", options=options(), seed=0)


def test_parquet_with_pictures_is_read_like_a_data_set(tmp_path):
    write_images(tmp_path, ["a.png"])
    cell = {"bytes": (tmp_path / "a.png").read_bytes(), "path": "a.png"}
    pd.DataFrame({"image": [cell, {"bytes": b"?", "path": "b.png"}], "label": ["x", "y"]}).to_parquet(
        tmp_path / "a.parquet"
    )
    inputs = read(str(tmp_path / "a.parquet"), options=options(), seed=0)
    assert inputs.records[0].image().shape == (4, 6, 3)
    assert inputs.records[0].attributes == {"label": "x"}
    assert inputs.skipped == {"unreadable image": 1}


def test_decoding_leaves_the_warning_filters_alone(tmp_path):
    write_images(tmp_path, ["a.png"])
    before = list(warnings.filters)
    see(tmp_path / "a.png")
    assert list(warnings.filters) == before


def write_table(folder, extension, rows):
    """Write rows of columns as a table of one of the formats; return its path."""
    frame, path = pd.DataFrame(rows), folder / f"rows.{extension}"
    write = {
        "csv": lambda: frame.to_csv(path, index=False),
        "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "parquet": lambda: frame.to_parquet(path),
    }
    write[extension]()
    return str(path)


TABLES = ["csv", "tsv", "jsonl", "parquet"]


@pytest.mark.parametrize("extension", TABLES)
def test_tables_give_a_text_with_its_image(extension, tmp_path):
    write_images(tmp_path / "photos", ["1.png", "2.png"])
    rows = [
        {"text": "a cat", "photo": "photos/1.png", "n": 1},
        {"text": "a dog", "photo": "photos/gone.png", "n": 2},
        {"text": "a cow", "photo": None, "n": 3},
        {"text": "a pig", "photo": "photos/2.png", "n": 4},
    ]
    inputs = read(write_table(tmp_path, extension, rows), options=options(image_column="photo"), seed=0)
    assert [record.text for record in inputs.records] == ["a cat", "a pig"]
    assert [record.attributes for record in inputs.records] == [{"n": 1}, {"n": 4}]
    assert inputs.records[1].image().shape == (4, 6, 3)
    assert inputs.skipped == {"unreadable image": 1, "no image": 1}


@pytest.mark.parametrize("extension", TABLES)
def test_tables_of_paths_give_images_alone(extension, tmp_path):
    write_images(tmp_path, ["1.png"])
    source = write_table(tmp_path, extension, [{"file": "1.png", "label": "x"}])
    (record,) = read(source, options=options(image_column="file"), seed=0).records
    assert record.text is None
    assert record.image().shape == (4, 6, 3)
    assert record.attributes == {"label": "x"}


def test_parquet_gives_a_text_with_the_picture_it_holds(tmp_path):
    write_images(tmp_path, ["a.png"])
    cell = {"bytes": (tmp_path / "a.png").read_bytes(), "path": "a.png"}
    pd.DataFrame({"image": [cell], "caption": ["a cat"]}).to_parquet(tmp_path / "a.parquet")
    wanted = options(column="caption", image_column="image")
    (record,) = read(str(tmp_path / "a.parquet"), options=wanted, seed=0).records
    assert record.text == "a cat"
    assert record.image().shape == (4, 6, 3)


def test_image_column_that_is_missing_names_the_nearest(tmp_path):
    source = write_table(tmp_path, "csv", [{"text": "a cat", "photo": "1.png"}])
    with pytest.raises(InputError, match=r"no column 'foto'.*did you mean 'photo'.*data\.image_column"):
        read(source, options=options(image_column="foto"), seed=0)


def test_data_set_gives_a_text_with_its_picture(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_images(tmp_path / "files", ["a.png"])
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = {"image": [str(tmp_path / "files" / "a.png")], "text": ["a cat"]}
    source = save_data_set(tmp_path / "set", rows, features)
    (record,) = read(source, options=options(image_column="image"), seed=0).records
    assert record.text == "a cat"
    assert record.image().shape == (4, 6, 3)
