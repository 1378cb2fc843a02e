"""Folders of pictures as people have them: with other programs' litter, links, odd names and files that are no pictures."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import attnviz
from attnviz.errors import InputError
from attnviz.inputs import read
from attnviz.inputs.pixels import picture_extensions
from tests import tiny
from tests.sources import options, write_images


def opened(folder):
    return read(str(folder), options=options(), seed=0)


def labels(folder):
    return {record.reference: record.attributes.get("label") for record in opened(folder).records}


LITTER = {
    ".ipynb_checkpoints/1-checkpoint.png": "in hidden folders (.ipynb_checkpoints)",
    "cat/.ipynb_checkpoints/1-checkpoint.png": "in hidden folders (.ipynb_checkpoints)",
    "__MACOSX/cat/1.png": "in hidden folders (__MACOSX)",
    ".git/objects/1.png": "in hidden folders (.git)",
    "cat/@eaDir/1.png": "in hidden folders (@eaDir)",
    ".Trashes/501/1.png": "in hidden folders (.Trashes)",
    "$RECYCLE.BIN/1.png": "in hidden folders ($RECYCLE.BIN)",
    "System Volume Information/1.png": "in hidden folders (System Volume Information)",
    "cat/._1.png": "hidden files (._1.png)",
    "cat/.hidden.jpg": "hidden files (.hidden.jpg)",
    "Thumbs.db": "hidden files (Thumbs.db)",
    ".DS_Store": "hidden files (.DS_Store)",
    "desktop.ini": "hidden files (desktop.ini)",
    "cat/notes.txt": "no picture (.txt)",
    "README": "no picture (no extension)",
    "cat/1.svg": ".svg is not read: convert to .png",
    "cat/1.HEIC": ".heic is not read: convert to .png",
    "cat/1.mp4": ".mp4 is not read: convert to .png",
    "cat/1.pdf": ".pdf is not read: convert to .png",
    "cat/1.eps": ".eps is not read: convert to .png",
    "cat/1.dcm": ".dcm is not read: convert to .png",
}


def litter(folder, name):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".png", ".jpg"):
        Image.new("RGB", (6, 4)).save(path)
    else:
        path.write_bytes(b"\0\1litter")


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_no_picture_and_no_label(name, tmp_path):
    write_images(tmp_path, ["cat/1.png", "dog/1.png"])
    litter(tmp_path, name)
    assert labels(tmp_path) == {"cat/1.png": "cat", "dog/1.png": "dog"}
    assert opened(tmp_path).skipped == {LITTER[name]: 1}


def test_all_litter_at_once_is_counted_through_a_run(tmp_path):
    write_images(tmp_path / "pictures", ["cat/1.png", "dog/1.png"])
    for name in LITTER:
        litter(tmp_path / "pictures", name)
    (tmp_path / "pictures" / "cat" / "2.png").write_bytes(b"no picture")
    model = {"id": str(tiny.save_timm_model(tmp_path / "model")), "library": "timm"}
    data = {"source": str(tmp_path / "pictures")}
    run = attnviz.run({"name": "x", "model": model, "data": data, "maps": {"pca": {}}}, out=tmp_path / "run")
    assert run.sequences["reference"].tolist() == ["cat/1.png", "dog/1.png"]
    assert run.sequences["label"].tolist() == ["cat", "dog"]
    skipped = run.manifest.skipped
    assert sum(skipped.values()) == len(LITTER) + 1
    assert skipped["unreadable image"] == 1
    assert skipped["in hidden folders (.ipynb_checkpoints, $RECYCLE.BIN, .Trashes, …)"] == 8


def test_folder_that_holds_no_picture_says_what_it_holds(tmp_path):
    for name in ("a.svg", "b.svg", "c.txt", ".git/x.png"):
        litter(tmp_path, name)
    with pytest.raises(InputError, match=r"holds no image\. .*2 × \.svg is not read: convert to \.png\."):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["A.PNG", "a.TIF", "a.tiff", "a.JPeG", "a.jfif", "a.jp2", "a.ico", "a.ppm", "a.avif"])
def test_every_extension_that_pillow_reads_is_read(name, tmp_path):
    if os.path.splitext(name)[1].lower() not in picture_extensions():
        pytest.skip("this Pillow was built without it")
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / name)
    (record,) = opened(tmp_path).records
    assert np.abs(record.image().astype(int) - (200, 100, 50)).max() < 8
    assert read(str(tmp_path / name), options=options(), seed=0).records[0].reference == name


def test_what_pillow_reads_and_is_no_picture_is_not_read():
    assert not picture_extensions() & {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".wmf", ".emf", ".h5", ".hdf", ".grib"}


# Links


def test_linked_class_folders_are_entered(tmp_path):
    write_images(tmp_path / "elsewhere", ["1.png", "old/2.png"])
    write_images(tmp_path / "set", ["dog/1.png"])
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert labels(tmp_path / "set") == {"cat/1.png": "cat", "cat/old/2.png": "old", "dog/1.png": "dog"}
    assert opened(tmp_path / "set").skipped == {}


def test_links_to_what_is_read_already_are_no_second_copy(tmp_path):
    write_images(tmp_path / "set", ["dog/1.png", "dog/2.png"])
    write_images(tmp_path / "elsewhere", ["3.png"])
    (tmp_path / "set" / "a.png").symlink_to("dog/1.png")  # sorted before the real one
    (tmp_path / "set" / "cat").symlink_to("dog", target_is_directory=True)
    for name in ("x.png", "y.png"):  # two links to one file that is elsewhere: one picture
        (tmp_path / "set" / name).symlink_to(tmp_path / "elsewhere" / "3.png")
    for name in ("p", "q"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set" / "gone.png").symlink_to("nowhere.png")
    assert sorted(labels(tmp_path / "set")) == ["dog/1.png", "dog/2.png", "p/3.png"]
    assert opened(tmp_path / "set").skipped == {
        "link to a file that is read already": 3,
        "linked folder that is read already": 2,
        "broken link": 1,
    }


def test_links_may_go_in_circles(tmp_path):
    write_images(tmp_path / "set", ["dog/1.png"])
    write_images(tmp_path / "elsewhere", ["2.png"])
    (tmp_path / "set" / "dog" / "again").symlink_to("..", target_is_directory=True)
    (tmp_path / "set" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "set" / "there").symlink_to("../elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to("../set", target_is_directory=True)
    (tmp_path / "elsewhere" / "here").symlink_to(".", target_is_directory=True)
    (tmp_path / "set" / "self.png").symlink_to("self.png")
    assert sorted(labels(tmp_path / "set")) == ["dog/1.png", "there/2.png"]
    assert opened(tmp_path / "set").skipped == {
        "linked folder that is read already": 3,
        "linked folder that leads back up": 1,
        "broken link": 1,
    }


def test_links_into_a_hidden_store_are_pictures(tmp_path):
    """git-annex and the hub's cache keep the bytes under a hash and the names as links."""
    write_images(tmp_path, [".git/annex/1.png"])
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").symlink_to("../.git/annex/1.png")
    assert labels(tmp_path) == {"cat/1.png": "cat"}
    assert opened(tmp_path).skipped == {"in hidden folders (.git)": 1}


def test_a_folder_may_itself_be_hidden_or_a_link(tmp_path):
    write_images(tmp_path / ".cache" / "set", ["cat/1.png"])
    (tmp_path / "link").symlink_to(".cache/set", target_is_directory=True)
    for source in (".cache/set", ".cache", "link"):
        assert set(labels(tmp_path / source).values()) == {"cat"}


# Names and labels


def test_names_that_are_no_utf8_are_kept_readable(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    write_images(tmp_path, ["a.png", "b.png"])
    shutil.move(tmp_path / "a.png", folder + b"/\xff.png")
    assert labels(tmp_path) == {"b.png": None, r"caf\xe9/\xff.png": r"caf\xe9"}
    for record in opened(tmp_path).records:
        record.reference.encode()
        record.image()


@pytest.mark.parametrize("name", ["a b", "ü", "東京", "#1", "a\nb", "100%", "<b>", "'\"", "a.png"])
def test_labels_are_the_names_of_folders_whatever_they_are(name, tmp_path):
    write_images(tmp_path, [f"{name}/1.png"])
    assert labels(tmp_path) == {f"{name}/1.png": name}


def test_label_is_the_nearest_folder_and_deeper_places_are_kept_beside_it(tmp_path):
    """``train/cat`` and ``test/cat`` are one class, as for ``datasets``; which is which is in a column of its own."""
    write_images(tmp_path, ["train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "4.png"])
    found = {record.reference: record.attributes for record in opened(tmp_path).records}
    assert found == {
        "train/cat/1.png": {"label": "cat", "folder": "train/cat"},
        "train/dog/2.png": {"label": "dog", "folder": "train/dog"},
        "test/cat/3.png": {"label": "cat", "folder": "test/cat"},
        "4.png": {"label": None, "folder": "."},
    }


# A table beside the pictures, as datasets' ImageFolder reads it


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_table_beside_the_pictures_gives_them_columns(name, tmp_path):
    write_images(tmp_path, ["1.png", "b/2.png", "3.png"])
    rows = [
        {"file_name": "1.png", "breed": "pug", "age": 3},
        {"file_name": "b/2.png", "breed": "cat", "age": 4},
        {"file_name": "gone.png", "breed": "owl", "age": 5},
    ]
    if name.endswith("csv"):
        pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
    else:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    inputs = opened(tmp_path)
    assert {record.reference: dict(record.attributes) for record in inputs.records} == {
        "1.png": {"label": None, "breed": "pug", "age": 3},
        "3.png": {"label": None, "breed": None, "age": None},
        "b/2.png": {"label": "b", "breed": "cat", "age": 4},
    }
    assert inputs.skipped == {f"rows of {name} without their picture": 1}


def test_a_label_of_the_table_wins_over_the_folder(tmp_path):
    write_images(tmp_path, ["train/1.png", "train/2.png"])
    table = pd.DataFrame({"file_name": ["1.png", "2.png"], "label": ["cat", "dog"], "text": ["a cat", "a dog"]})
    table.to_csv(tmp_path / "train" / "metadata.csv", index=False)
    assert [record.attributes for record in opened(tmp_path).records] == [
        {"folder": "train", "label": "cat", "text_": "a cat"},
        {"folder": "train", "label": "dog", "text_": "a dog"},
    ]


def test_a_table_that_names_no_files_is_left_out_and_said(tmp_path):
    write_images(tmp_path, ["1.png"])
    (tmp_path / "metadata.csv").write_text("id,breed\n1,pug\n")
    inputs = opened(tmp_path)
    assert inputs.records[0].attributes == {}
    assert inputs.skipped == {"metadata.csv has no column 'file_name', so it is not read": 1}
