"""Every kind of picture that Pillow writes, through a whole run, against arithmetic of the test's own."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageCms

import attnviz
from attnviz.errors import InputError, RecipeError
from attnviz.inputs import read
from attnviz.recipe import make_recipe
from tests import tiny
from tests.picture_cases import (
    CLEAR,
    COLORS,
    DOWN,
    HALF,
    KELVIN,
    PLAIN,
    RAMP,
    SIDE,
    TWELVE,
    WIDE,
    grey,
    laid,
    of,
    put,
    with_alpha,
)
from tests.sources import options, save_data_set


@pytest.fixture(scope="module", name="model")
def tiny_model(tmp_path_factory):
    return tiny.save_timm_model(tmp_path_factory.mktemp("model"))


def seen_by(model, out, *sources, **data):
    """Make a run; return what its pictures show, by reference, and its manifest."""
    given = {"name": "pictures", "model": {"id": str(model), "library": "timm"}, "maps": {"pca": {}}}
    run = attnviz.run(given | {"data": {"source": list(map(str, sources)), **data}}, out=out)
    rows = pq.read_table(run.path / "media" / "images.parquet").to_pylist()
    pictures = {row["image"]["path"]: np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in rows}
    return pictures, run.manifest


@pytest.fixture(scope="module", name="seen")
def seen_pictures(tmp_path_factory, model):
    """A run over a folder of plain files, one of transparent files, and a folder for each of the wide ones."""
    folder = tmp_path_factory.mktemp("pictures")
    for source, files in (("plain", PLAIN), ("clear", CLEAR)):
        for name, (made, how, _) in files.items():
            put(folder / source / name, made, how)
    for name, (made, how, *_) in WIDE.items():
        put(folder / name.replace(".", "-") / name, made, how)
    return seen_by(model, folder / "run", *(path for path in sorted(folder.iterdir())))


def assert_shows(shown, expected, name):
    assert shown.shape == (SIDE, SIDE, 3)
    np.testing.assert_allclose(shown, expected, atol=1.01, err_msg=name)


@pytest.mark.parametrize("name", PLAIN)
def test_pictures_of_eight_bits_are_seen_as_they_are(seen, name):
    assert_shows(seen[0][name], PLAIN[name][2], name)


@pytest.mark.parametrize("name", [name for name, (*_, expected) in CLEAR.items() if expected is not None])
def test_transparent_pictures_lie_on_white(seen, name):
    assert_shows(seen[0][name], CLEAR[name][2], name)


def test_one_transparent_colour_lies_on_white(seen):
    key = (COLORS == (17, 225, 17)).all(axis=2)
    assert key.any()
    assert_shows(seen[0]["key.png"], np.where(key[..., None], 255, COLORS), "key.png")
    expected = np.where(TWELVE == 0, 255, TWELVE / 4080 * 255)
    assert_shows(seen[0]["deep-key.png"], grey(expected), "deep-key.png")


@pytest.mark.parametrize("name", WIDE)
def test_wide_pictures_are_scaled_and_the_run_says_so(seen, name):
    assert_shows(seen[0][name], WIDE[name][2], name)
    assert any(WIDE[name][3] in note for note in seen[1].notes), seen[1].notes


def test_every_picture_is_in_the_run_and_every_note_has_its_count(seen):
    pictures, manifest = seen
    assert set(pictures) == {*PLAIN, *CLEAR, *WIDE}
    assert manifest.skipped == {}
    assert f"{len(CLEAR) + 2} × transparent, laid on white" in manifest.notes
    assert "3 × first of several frames or pages" in manifest.notes


@pytest.mark.parametrize(("background", "color"), [("black", (0, 0, 0)), ("#102030", (16, 32, 48))])
def test_background_is_chosen(tmp_path, model, background, color):
    put(tmp_path / "pictures" / "a.png", with_alpha("RGBA"), {})
    pictures, manifest = seen_by(model, tmp_path / "run", tmp_path / "pictures", background=background)
    assert_shows(pictures["a.png"], laid(COLORS, HALF, color), background)
    assert manifest.notes == (f"1 × transparent, laid on {background}",)


@pytest.mark.parametrize("background", ["whit", "#12345", "rgb(1,2,3)", ""])
def test_background_that_is_no_colour_is_refused(background, tmp_path):
    given = {"name": "x", "model": {"id": "m"}, "data": {"source": "a", "background": background}}
    with pytest.raises(RecipeError, match=r"accepted: white, black or a color as #rrggbb"):
        make_recipe(given)
    put(tmp_path / "a.png", of(COLORS), {})
    with pytest.raises(InputError, match="accepted: white, black"):
        read(str(tmp_path), options=options(background=background), seed=0)


@pytest.mark.parametrize(
    "name", ["rgba.png", "la.png", "index.png", "twelve.png", "kelvin.tif", "whole.tif", "sbit.png"]
)
def test_a_table_of_pictures_shows_the_same(name, tmp_path):
    """Each file by itself, in a table: no folder decides which of them are looked at."""
    made, how, expected, *_ = (CLEAR | WIDE)[name]
    put(tmp_path / name, made, how)
    (tmp_path / "a.csv").write_text(f"file\n{name}\n")
    (image,) = shown(tmp_path / "a.csv", image_column="file").values()
    assert_shows(image if image.ndim == 3 else grey(image), expected, name)


# One range for all pictures of a source


def shown(source, **how):
    return {record.reference: record.image() for record in read(str(source), options=options(**how), seed=3).records}


def dim_and_bright(folder):
    for number in range(12):
        put(folder / f"{number:02}.png", of((RAMP * (number + 1)).astype(np.uint16)), {})
    return folder


def test_all_pictures_of_a_source_have_one_range(tmp_path):
    """Each picture by its own range would make the dimmest as bright as the brightest."""
    for name, image in shown(dim_and_bright(tmp_path)).items():
        np.testing.assert_allclose(image, (RAMP * (int(name[:2]) + 1)) / (255 * 12) * 255, atol=0.51)


def test_range_does_not_depend_on_which_rows_are_drawn(tmp_path):
    whole = shown(dim_and_bright(tmp_path))
    for limit in (1, 5):
        for name, image in shown(tmp_path, max_sequences=limit).items():
            np.testing.assert_array_equal(image, whole[name])


def test_range_is_of_a_sample_where_there_are_many(tmp_path, monkeypatch):
    from attnviz.inputs import pictures

    monkeypatch.setattr(pictures, "_MEASURED", 4)
    measured = [record.notes for record in read(str(dim_and_bright(tmp_path)), options=options(), seed=0).records]
    assert len(set(measured)) == 1
    assert measured[0] == next(record.notes for record in read(str(tmp_path), options=options(), seed=9).records)


def test_a_source_of_bytes_and_wide_values_has_a_range_for_the_wide_ones_alone(tmp_path):
    put(dim_and_bright(tmp_path) / "byte.png", of(DOWN), {})
    put(tmp_path / "real.tif", of(KELVIN.astype(np.float32)), {})
    images = shown(tmp_path)
    np.testing.assert_array_equal(images["byte.png"], grey(DOWN))
    np.testing.assert_array_equal(images["11.png"], DOWN)
    np.testing.assert_allclose(images["real.tif"], DOWN, atol=1)


def test_tables_of_pictures_are_scaled_by_one_range_too(tmp_path):
    import pandas as pd

    files = sorted(dim_and_bright(tmp_path / "files").iterdir())
    expected = shown(tmp_path / "files")
    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pd.DataFrame({"image": cells}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"file": [f"files/{file.name}" for file in files]}).to_csv(tmp_path / "a.csv", index=False)
    datasets = pytest.importorskip("datasets")
    hub = save_data_set(
        tmp_path / "set", {"image": list(map(str, files))}, datasets.Features({"image": datasets.Image()})
    )
    for source, column in ((tmp_path / "a.parquet", None), (tmp_path / "a.csv", "file"), (hub, None)):
        images = list(shown(source, image_column=column).values())
        for image, wanted in zip(images, expected.values(), strict=True):
            np.testing.assert_array_equal(image, wanted)


@pytest.mark.parametrize(
    ("kind", "factor", "expected"),
    [
        ("uint8", 1, DOWN),
        ("uint16", 16, DOWN),
        ("int64", 1000, DOWN),
        ("float32", 1 / 255, DOWN),
        ("float64", 100, DOWN),
        ("float64", 7e305, DOWN),
        ("bool", 1, np.where(RAMP, 255, 0)),
    ],
)
def test_arrays_are_scaled_by_the_same_rule(tmp_path, kind, factor, expected):
    np.savez(tmp_path / "a.npz", images=np.stack([RAMP, RAMP[::-1]]).astype(kind) * np.array(factor, kind))
    first, second = shown(tmp_path / "a.npz").values()
    np.testing.assert_allclose(first, expected, atol=0.51)
    np.testing.assert_array_equal(second, first[::-1])


def test_a_value_that_stands_for_white_is_not_black(tmp_path):
    """``WhiteIsZero``, as scanners write it; Pillow writes the other one, so its tag is exchanged."""
    file = put(tmp_path / "a.tif", of(TWELVE.astype(np.uint16)), {})
    data = file.read_bytes()
    tag = (262).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little")
    assert data.count(tag + b"\1") == 1
    file.write_bytes(data.replace(tag + b"\1", tag + b"\0"))
    np.testing.assert_allclose(shown(tmp_path)["a.tif"], 255 - DOWN, atol=0.51)


def test_twelve_bits_packed_in_a_tiff_are_scaled_by_what_it_says(tmp_path):
    """No writer of ours packs twelve bits: two values in three bytes, put into a TIFF that Pillow wrote of bytes."""
    values = RAMP * 8
    packed = np.zeros((SIDE, SIDE * 3 // 2), np.uint8)
    packed[:, 0::3], packed[:, 2::3] = values[:, 0::2] >> 4, values[:, 1::2] & 255
    packed[:, 1::3] = (values[:, 0::2] & 15) << 4 | values[:, 1::2] >> 8
    data = put(tmp_path / "a.tif", of(packed), {}).read_bytes()

    def tag(number, value, kind=3):
        return number.to_bytes(2, "little") + kind.to_bytes(2, "little") + b"\1\0\0\0" + value.to_bytes(4, "little")

    for number, was, now in ((256, 24, 16), (258, 8, 12)):
        kind = 4 if tag(number, was, 4) in data else 3
        assert data.count(tag(number, was, kind)) == 1
        data = data.replace(tag(number, was, kind), tag(number, now, kind))
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_allclose(shown(tmp_path)["a.tif"], values / 4095 * 255, atol=0.51)


def test_lab_becomes_srgb(tmp_path):
    grey_lab = np.dstack([DOWN, 0 * DOWN, 0 * DOWN])
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.buildTransform(srgb, lab, "RGB", "LAB").apply(of(COLORS))
    put(tmp_path / "a.tif", picture, {})
    put(tmp_path / "b.tif", Image.frombytes("LAB", (SIDE, SIDE), grey_lab.tobytes()), {})
    images = shown(tmp_path)
    assert np.abs(images["a.tif"].astype(int) - COLORS).mean() < 4  # eight bits of Lab are coarse
    assert (np.ptp(images["b.tif"].astype(int), axis=2) < 4).all()


def test_inks_of_photoshop_are_not_inverted(tmp_path):
    """Adobe writes CMYK as its complement and says so; Pillow does too."""
    put(tmp_path / "a.jpg", Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)), {"quality": 95})
    assert np.abs(shown(tmp_path)["a.jpg"][0, 0].astype(int) - (255, 0, 0)).max() < 6


def test_postscript_named_png_is_not_run(tmp_path):
    """Pillow gives an EPS file to Ghostscript, whatever the file is called."""
    of(COLORS).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    put(tmp_path / "b.png", of(COLORS), {})
    assert read(str(tmp_path), options=options(), seed=0).skipped == {"unreadable image": 1}
