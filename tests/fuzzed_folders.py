"""Random folders of pictures for the fuzz of the doors: modes and writers of Pillow, broken files, litter, links, odd names."""

import io
import os
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]
WRITERS = [
    "png",
    "jpg",
    "gif",
    "bmp",
    "tif",
    "webp",
    "ppm",
    "ico",
    "tga",
    "jp2",
    "avif",
    "pcx",
    "dds",
    "sgi",
    "TIFF",
    "JPG",
]
FILE_NAMES = [
    b"a",
    b"b c",
    b"\xc3\xbc",
    b"caf\xe9",
    b"\xff\xfe",
    b"100%",
    b"new\nline",
    b"<b>",
    "東京".encode(),
    b"metadata",
]
FOLDERS = [b"", b"cat", b"dog", b"train/cat", b"\xe9t\xe9", b".ipynb_checkpoints", b"__MACOSX", b"cat/@eaDir", b"a.png"]
OTHERS = [
    b"Thumbs.db",
    b".DS_Store",
    b"._a.png",
    b"notes.txt",
    b"x.svg",
    b"README",
    b"metadata.csv",
    b"data.json",
    b"empty.png",
]


@st.composite
def folders(draw):
    picture = st.fixed_dictionaries(
        {
            "kind": st.just("picture"),
            "mode": st.sampled_from(MODES),
            "writer": st.sampled_from(WRITERS),
            "size": st.tuples(st.integers(1, 24), st.integers(1, 24)),
            "seed": st.integers(0, 9),
            "broken": st.sampled_from([None] * 4 + ["cut", "flipped", "zeros"]),
        }
    )
    other = st.fixed_dictionaries({"kind": st.just("other"), "name": st.sampled_from(OTHERS)})
    link = st.fixed_dictionaries(
        {
            "kind": st.just("link"),
            "to": st.sampled_from(["file", "nowhere", "root", "up", "elsewhere", "folder", "self"]),
        }
    )
    items = draw(st.lists(st.tuples(st.sampled_from(FOLDERS), picture | picture | other | link), max_size=9))
    return {
        "items": [{"folder": folder, "file": draw(st.sampled_from(FILE_NAMES)), **item} for folder, item in items],
        "root": draw(st.sampled_from([b"pictures"] * 8 + [b"pict\xfcres", b".hidden"])),
    }


def encoded(item):
    """Return a picture's bytes; None where no writer takes that mode."""
    rng = np.random.default_rng(item["seed"])
    width, height = item["size"]
    mode = item["mode"]
    values = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    if mode in ("F", "I", "I;16"):
        kind = {"F": np.float32, "I": np.int32, "I;16": np.uint16}[mode]
        picture = Image.fromarray((values[..., 0] * rng.choice([1, 16, 1000])).astype(kind))
    else:
        picture = Image.fromarray(values).convert("RGBA" if mode in ("LA", "RGBA", "PA") else "RGB")
        try:
            picture = picture.convert(mode)
        except ValueError:
            picture = Image.frombytes(mode, item["size"], values[..., :3].tobytes())
    buffer = io.BytesIO()
    try:
        form = Image.registered_extensions()["." + item["writer"].lower()]
        picture.save(buffer, form)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    data = bytearray(buffer.getvalue())
    if item["broken"] == "cut":
        data = data[: max(len(data) // 2, 1)]
    elif item["broken"] == "flipped":
        for place in rng.integers(0, len(data), 4):
            data[place] ^= 1 << int(rng.integers(8))
    elif item["broken"] == "zeros":
        data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    return bytes(data)


def write_folder(base, drawn):
    """Write it; return the folder, how many things are in it, and how many are sound pictures outside of hidden folders."""
    root = os.path.join(os.fsencode(base), drawn["root"])
    elsewhere = os.path.join(os.fsencode(base), b"elsewhere")
    for folder in (root, elsewhere):
        os.makedirs(folder)
    Image.new("RGB", (5, 5)).save(os.fsdecode(os.path.join(elsewhere, b"far.png")))
    count, sound, files = 0, 0, []
    for item in drawn["items"]:
        folder = os.path.join(root, item["folder"])
        os.makedirs(folder, exist_ok=True)
        hidden = any(part in item["folder"] for part in (b".ipynb", b"__MACOSX", b"@eaDir"))
        if item["kind"] == "picture" and (data := encoded(item)) is not None:
            path = os.path.join(folder, item["file"] + b"." + item["writer"].encode())
            if not os.path.lexists(path):
                with open(path, "wb") as file:
                    file.write(data)
                count, sound = count + 1, sound + (item["broken"] is None and not hidden)
                files.append(path)
        elif item["kind"] == "other":
            path = os.path.join(folder, item["name"])
            if not os.path.lexists(path):
                with open(path, "wb") as file:
                    file.write(b"" if item["name"] == b"empty.png" else b"no picture")
                count += 1
        elif item["kind"] == "link" and not hidden:
            path = os.path.join(folder, item["file"] + (b".png" if item["to"] in ("file", "nowhere", "self") else b""))
            goal = {
                "nowhere": b"nowhere",
                "root": root,
                "up": os.path.dirname(root),
                "elsewhere": elsewhere,
                "self": path,
            }
            goal |= {"folder": folder, "file": files[0] if files else b"nowhere"}
            if not os.path.lexists(path):
                os.symlink(goal[item["to"]], path)
                count += 1  # a link that is followed brings one file, far.png; any other is counted itself
    return Path(os.fsdecode(root)), count, sound
