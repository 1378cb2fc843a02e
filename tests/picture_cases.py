"""Pictures of every mode that Pillow writes, each with what a model is to see: arithmetic of the tests' own."""

import struct
import zlib

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

SIDE = 16  # of what the tiny model sees: a picture of this size is neither resized nor cropped
RAMP = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)  # 0 to 255
DOWN = RAMP.astype(np.uint8)
COLORS = np.stack([DOWN, DOWN[::-1], DOWN.T], axis=2)
HALF = np.where(np.arange(SIDE) < SIDE // 2, 0, 255) * np.ones((SIDE, 1))  # transparent on the left
MIXED = np.broadcast_to(np.arange(SIDE) * 17, (SIDE, SIDE))  # from transparent to opaque


def grey(values):
    """What a grey picture is to a model of three channels."""
    return np.repeat(np.asarray(values)[..., None], 3, axis=2)


def laid(values, alpha, background=(255, 255, 255)):
    share = np.asarray(alpha)[..., None] / 255
    return values * share + np.array(background) * (1 - share)


def scaled(values, low, high):
    return grey((np.asarray(values, float) - low) / (high - low) * 255)


def tags(**numbers):
    directory = ImageFileDirectory_v2()
    for name, value in numbers.items():
        number = {"lowest": 340, "highest": 341}[name]
        directory.tagtype[number] = 3
        directory[number] = value
    return directory


def chunk(name, data):
    info = PngInfo()
    info.add(name, data)
    return info


def sixteen_bit_png(values):
    """A PNG of 16-bit grey with alpha, colour, or both: no mode of Pillow's holds one, so its chunks are put together."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def swapped_profile():
    """A profile under which red is blue: made of sRGB's own, by exchanging the names of two of its columns."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace(b"rXYZ", b"zXYZ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"zXYZ", b"bXYZ", 1)


def oriented():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is stored must be turned by a quarter, clockwise
    return exif


def of(values, mode=None):
    picture = Image.fromarray(np.ascontiguousarray(values))
    return picture if mode is None else picture.convert(mode)


def with_alpha(mode, alpha=HALF):
    picture = of(DOWN if mode == "LA" else COLORS).convert(mode)
    picture.putalpha(of(alpha.astype(np.uint8)))
    return picture


def palette(transparent):
    picture = Image.new("P", (SIDE, SIDE))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putdata((RAMP % 2).ravel().tolist())
    picture.info["transparency"] = transparent
    return picture


TWO = np.where(RAMP[..., None] % 2, [200, 100, 50], [10, 20, 30])
TWELVE = RAMP * 16  # to 4,080, as a microscope or a depth camera writes them
FRACTIONS = RAMP / 255
KELVIN = 280 + RAMP / 10


def cmyk(values):
    c, m, y, k = np.moveaxis(values.astype(int), -1, 0)
    return np.stack([(255 - channel) * (255 - k) / 255 for channel in (c, m, y)], axis=2)


INKS = np.dstack([COLORS, DOWN.T // 2])
DEEP = np.stack([TWELVE, TWELVE[::-1], TWELVE.T], axis=2)

# name of the file → what writes it (or its bytes), with which options, and what a model is to see
PLAIN = {
    "bits.png": (of(RAMP % 3 == 0), {}, grey(np.where(RAMP % 3 == 0, 255, 0))),
    "grey.png": (of(DOWN), {}, grey(DOWN)),
    "grey.tif": (of(DOWN), {}, grey(DOWN)),
    "color.png": (of(COLORS), {}, COLORS),
    "color.TIFF": (of(COLORS), {}, COLORS),
    "color.ppm": (of(COLORS), {}, COLORS),
    "color.jp2": (of(COLORS), {"irreversible": False}, COLORS),
    "color.qoi": (of(COLORS), {}, COLORS),
    "color.tga": (of(COLORS), {}, COLORS),
    "color.webp": (of(COLORS), {"lossless": True}, COLORS),
    "palette.png": (palette(255), {}, TWO),
    "inks.tif": (Image.frombytes("CMYK", (SIDE, SIDE), INKS.tobytes()), {}, cmyk(INKS)),
    "turned.png": (of(COLORS), {"exif": oriented()}, np.rot90(COLORS, -1)),
    "turned.tif": (of(COLORS), {"exif": oriented()}, np.rot90(COLORS, -1)),
}
CLEAR = {
    "rgba.png": (with_alpha("RGBA"), {}, laid(COLORS, HALF)),
    "rgba.webp": (with_alpha("RGBA"), {"lossless": True, "exact": True}, laid(COLORS, HALF)),
    "rgba.tif": (with_alpha("RGBA"), {}, laid(COLORS, HALF)),
    "mixed.png": (with_alpha("RGBA", MIXED), {}, laid(COLORS, MIXED)),
    "la.png": (with_alpha("LA"), {}, laid(grey(DOWN), HALF)),
    "index.png": (palette(0), {}, np.where(RAMP[..., None] % 2, TWO, 255)),
    "bytes.png": (palette(b"\x80\xff"), {}, np.where(RAMP[..., None] % 2, TWO, laid(TWO, 128 + 0 * RAMP))),
    "index.gif": (palette(0), {}, np.where(RAMP[..., None] % 2, TWO, 255)),
    "key.png": (of(COLORS), {"transparency": (17, 225, 17)}, None),
    "grey-key.png": (of(DOWN), {"transparency": 7}, grey(np.where(RAMP == 7, 255, RAMP))),
    "deep-key.png": (of(TWELVE.astype(np.uint16)), {"transparency": 0}, None),
}
# one source each: its name → its one file, what a model is to see, and the note
WIDE = {
    "twelve.png": (
        of(TWELVE.astype(np.uint16)),
        {},
        scaled(TWELVE, 0, 4080),
        "uint16 values scaled: 0 is black, 4080 is",
    ),
    "twelve.tif": (
        of(TWELVE.astype(np.uint16)),
        {},
        scaled(TWELVE, 0, 4080),
        "uint16 values scaled: 0 is black, 4080 is",
    ),
    "bright.png": (of((RAMP + 65280).astype(np.uint16)), {}, grey(RAMP), "65280 is black, 65535 is white"),
    "sbit.png": (
        *(of((RAMP * 8).astype(np.uint16)), {"pnginfo": chunk(b"sBIT", b"\x0c")}),
        *(scaled(RAMP * 8, 0, 4095), "0 is black, 4095 is white"),
    ),
    "spread.png": (
        *(of((RAMP * 128).astype(np.uint16)), {"pnginfo": chunk(b"sBIT", b"\x0c")}),
        *(scaled(RAMP * 128, 0, 65535), "0 is black, 65535 is white"),
    ),
    "says.tif": (
        *(of((RAMP * 4).astype(np.uint16)), {"tiffinfo": tags(lowest=100, highest=2000)}),
        *(np.clip(scaled(RAMP * 4, 100, 2000), 0, 255), "100 is black, 2000 is white"),
    ),
    "whole.tif": (
        of((RAMP * 1000 - 90000).astype(np.int32)),
        {},
        scaled(RAMP, 0, 255),
        "int32 values scaled: -90000 is",
    ),
    "fractions.tif": (
        of(FRACTIONS.astype(np.float32)),
        {},
        grey(DOWN),
        "float32 values scaled: 0 is black, 1 is white",
    ),
    "kelvin.tif": (of(KELVIN.astype(np.float32)), {}, grey(DOWN), "280 is black, 305.5 is white"),
    "faint.tif": (of((FRACTIONS / 1000).astype(np.float32)), {}, grey(DOWN), "0 is black, 0.001 is white"),
    "holes.tif": (
        *(of(np.where(RAMP % 7, np.where(RAMP % 5, KELVIN, np.inf), np.nan).astype(np.float32)), {}),
        *(grey(np.where((RAMP % 7 == 0) | (RAMP % 5 == 0), 255, (RAMP - 1) / 253 * 255)), "without a value"),
    ),
    "maximum.pgm": (
        *(b"P5 16 16 4095\n" + (RAMP * 8).astype(">u2").tobytes(), {}),
        *(scaled(RAMP * 8, 0, 4095), "0 is black, 65535 is white"),
    ),
    "twelve.pgm": (
        of(TWELVE.astype(np.uint16)),
        {},
        scaled(TWELVE, 0, 4080),
        "int32 values scaled: 0 is black, 4080 is",
    ),
    "twelve.jp2": (of(TWELVE.astype(np.uint16)), {}, scaled(TWELVE, 0, 4080), "uint16 values scaled: 0 is black, 4080"),
    "deep.png": (sixteen_bit_png(DEEP), {}, DEEP / 4080 * 255, "uint16 values scaled: 0 is black, 4080 is white"),
    "deep-clear.png": (
        *(sixteen_bit_png(np.dstack([DEEP, HALF * 257])), {}, laid(DEEP / 4080 * 255, HALF)),
        "transparent, laid on white",
    ),
    "deep-grey.png": (
        *(sixteen_bit_png(np.dstack([TWELVE, HALF * 257])), {}, laid(scaled(TWELVE, 0, 4080), HALF)),
        "transparent, laid on white",
    ),
    "profile.png": (of(COLORS), {"icc_profile": swapped_profile()}, COLORS[..., ::-1], "converted to sRGB"),
    "broken.png": (of(COLORS), {"icc_profile": b"no profile"}, COLORS, "cannot be read, and was not used"),
    "pages.tif": (of(COLORS), {"save_all": True, "append_images": [of(DOWN)]}, COLORS, "first of several frames"),
    "moves.gif": (of(DOWN), {"save_all": True, "append_images": [of(DOWN[::-1])]}, grey(DOWN), "first of several"),
    "moves.webp": (
        *(of(COLORS), {"save_all": True, "append_images": [of(COLORS[::-1])], "lossless": True}, COLORS),
        "first of several frames",
    ),
}


def put(path, made, how):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made) if isinstance(made, bytes) else made.save(path, **how)
    return path
