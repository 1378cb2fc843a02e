"""Vision models: where their patches stand, what their special tokens are called, how their windows are cut."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
import transformers
from timm.models import convit, hiera, mvitv2, nest, volo, xcit
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.swin.modeling_swin import window_partition

from attnviz.capturing.check import inspect
from attnviz.capturing.run import BACKENDS, SEAMS
from attnviz.capturing.windows import merged
from attnviz.errors import InputError, ModelError
from attnviz.models.families import families
from attnviz.models.families.timm_vision import FAMILIES as TIMM
from attnviz.models.families.timm_vision import REFUSED_TIMM
from attnviz.models.families.timm_vision import tiny as tiny_timm
from attnviz.models.families.vision import FAMILIES, REFUSED_VISION
from attnviz.models.families.vision import tiny as tiny_vision
from attnviz.models.images import tiles
from attnviz.models.loaded import Batch
from attnviz.models.transformers_images import ImageModel, reads_images
from attnviz.types import ModelSpec, Record

VISION = {family.name: family for family in (*FAMILIES, *TIMM)}
PLAIN = [
    "vit_base_patch16_clip_224",
    "vit_small_patch16_rope_mixed_224",
    "eva02_tiny_patch14_224",
    "naflexvit_base_patch16_gap",
]
PATCHED = "siglip2_vision_model"  # its pixels are patches already
KINDS = [name for name in VISION if not name.startswith(("vit_", "eva", "deit", "beit", "naflex", "aimv2_l"))]


def record(seed=0, height=50, width=60):
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Record(f"{seed}.png", image=lambda: image)


def in_stream(sequence, name, values):
    """What a sequence's array holds for one stream."""
    streams = sequence.streams or {"": len(sequence)}
    first = sum(count for other, count in streams.items() if list(streams).index(other) < list(streams).index(name))
    return values[first : first + streams[name]]


@pytest.mark.parametrize("name", [name for name in (*KINDS, *PLAIN) if name != PATCHED])
def test_a_patch_stands_where_its_pixels_are(name):
    """Change the pixels of one patch: its own key changes, and those around it where convolutions came before."""
    model = VISION[name].build()
    sequence = model.encode(record())
    batch = model.collate([sequence, sequence])
    entry = "x" if "x" in batch.inputs else "pixel_values"
    keys = first_keys(model, batch)
    tokens = keys.shape[1]
    stream = next(name for name, counts in batch.lengths.items() if counts[0] == tokens)
    row, col = (in_stream(sequence, stream, values) for values in (sequence.patch_row, sequence.patch_col))
    place = int(row.max() * 0.7), int(col.max() * 0.3)
    pixels = batch.inputs[entry].clone()
    high, wide = pixels.shape[-2] // (row.max() + 1), pixels.shape[-1] // (col.max() + 1)
    pixels[1, :, place[0] * high : (place[0] + 1) * high, place[1] * wide : (place[1] + 1) * wide] += 3
    first, second = first_keys(model, Batch({**batch.inputs, entry: pixels}, batch.lengths))
    changed = np.where(row >= 0, np.abs(first - second).max(axis=1), 0) ** 2
    if (changed > 1e-6).sum() == 1:
        assert (row[changed.argmax()], col[changed.argmax()]) == place
    centre = (changed @ np.stack([row, col], axis=1)) / changed.sum()
    assert np.abs(centre - place).max() < max(1, 0.2 * row.max())


def first_keys(model, batch):
    """Keys of the first attention, ``(batch, tokens, heads * head_dim)``, in the order of its tokens."""
    calls = []
    for seam in SEAMS[model.info.library]:
        with BACKENDS[seam]()(model.module, calls.append):
            model.forward(batch)
        if calls:
            break
    call = calls[0]
    call = merged(call, model.windows[call.name]) if call.name in model.windows else call
    return call.key.transpose(1, 2).flatten(2).float().numpy()


SPECIAL = {
    "vit": ["[CLS]"],
    "deit": ["[CLS]", "[DIST]"],
    "dinov2_with_registers": ["[CLS]", "[REG1]", "[REG2]", "[REG3]"],
    "dinov3_vit": ["[CLS]", "[REG1]", "[REG2]", "[REG3]", "[REG4]"],
    "pixio": ["[CLS1]", "[CLS2]"],
    "yolos": ["[CLS]", "[DET1]", "[DET2]", "[DET3]"],
    "siglip_vision_model": [],
    "siglip2_vision_model": [],
    "ijepa": [],
    "vit_tiny_patch16_224": ["[CLS]"],
    "deit_tiny_distilled_patch16_224": ["[CLS]", "[DIST]"],
    "vit_small_patch14_reg4_dinov2": ["[CLS]", "[REG1]", "[REG2]", "[REG3]", "[REG4]"],
    "vit_small_patch16_dinov3": ["[CLS]", "[REG1]", "[REG2]", "[REG3]", "[REG4]"],
    "vit_medium_patch16_reg1_gap_256": ["[REG1]"],
    "vit_base_patch16_siglip_224": [],
    "naflexvit_base_patch16_gap": ["[REG1]", "[REG2]", "[REG3]", "[REG4]"],
    "pit_ti_distilled_224": ["[CLS]", "[DIST]"] * 2,
    "tnt_s_patch16_224": ["[CLS]"],
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_tokens_are_named(name):
    sequence = VISION[name].build().encode(record())
    special = np.flatnonzero(sequence.is_special)
    assert [sequence.texts[at] for at in special] == SPECIAL[name]
    assert (sequence.patch_row[special] == -1).all()
    assert (np.delete(sequence.patch_row, special) >= 0).all()


def test_detection_tokens_come_after_the_patches():
    assert VISION["yolos"].build().encode(record()).texts[-3:] == ("[DET1]", "[DET2]", "[DET3]")


def test_stages_have_grids_of_their_own():
    model = VISION["segformer"].build()
    sequence = model.encode(record())
    assert sequence.streams == {"stage 0": 384, "stage 1": 96, "stage 2": 24, "stage 3": 6}
    assert model.info.grid == (16, 24)
    assert in_stream(sequence, "stage 3", sequence.texts) == ("0,0", "0,1", "0,2", "1,0", "1,1", "1,2")
    layers = inspect(model, [sequence, model.encode(record(1))])
    assert [(layer.query_stream, layer.key_stream) for layer in layers] == [
        (f"stage {number}", "stage 3") for number in range(4)
    ]


def own_windows(grid, size, shift):
    """How transformers' Swin cuts a grid: padded, then shifted, then cut."""
    numbers = torch.arange(1, grid[0] * grid[1] + 1).reshape(1, *grid, 1)
    padded = torch.nn.functional.pad(numbers, (0, 0, 0, -grid[1] % size, 0, -grid[0] % size))
    shifted = torch.roll(padded, shifts=(-shift, -shift), dims=(1, 2))
    return window_partition(shifted, size).reshape(-1, size * size).numpy() - 1


@pytest.mark.parametrize("size", [(40, 56), (32, 48), (32, 32)])
def test_windows_are_those_of_swin(size):
    """Padded, not padded, and with a stage that is one window."""
    options = {"patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
    model = tiny_vision("swin", size, options | {"image_size": size})
    assert len(model.windows) == 4
    for name, windows in model.windows.items():
        stage, block = int(name.split(".")[2]), int(name.split(".")[4])
        grid = model.layout.stages[stage].grid
        small = min(grid) <= 4
        expected = own_windows(grid, min(grid) if small else 4, 0 if small or block == 0 else 2)
        np.testing.assert_array_equal(np.where(windows < grid[0] * grid[1], windows, -1), expected)
        assert np.array_equal(np.sort(windows.ravel()), np.arange(windows.size))


def test_windows_of_timm_are_shifted_before_they_are_padded():
    model = VISION["swin_tiny_patch4_window7_224"].build()
    numbers = np.roll(np.arange(140).reshape(10, 14), (-2, -2), axis=(0, 1))
    padded = np.pad(numbers, ((0, 2), (0, 2)), constant_values=-1)
    expected = padded.reshape(3, 4, 4, 4).swapaxes(1, 2).reshape(12, 16)
    windows = model.windows["layers.0.blocks.1.attn"]
    np.testing.assert_array_equal(np.where(windows < 140, windows, -1), expected)


def test_window_shrinks_to_a_small_stage():
    sizes = {"window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 3}
    make = partial(timm.create_model, "swin_tiny_patch4_window7_224", img_size=(24, 40), **sizes)
    model = tiny_timm(make, "swin", (24, 40))
    assert model.layout.stages[1].grid == (3, 5)
    assert model.windows["layers.1.blocks.1.attn"].shape == (2, 3 * 4)


def test_model_that_cannot_run_on_its_images_says_so():
    options = {"patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
    with pytest.raises(ModelError, match="SwinModel cannot run on an image of 24 × 20 pixels"):
        tiny_vision("swin", (24, 20), options | {"image_size": (24, 20)})


def test_padding_is_special():
    sequence = VISION["swin"].build().encode(record())
    assert sequence.streams == {"stage 0": 12 * 16, "stage 1": 8 * 8}
    assert sequence.texts[140:192] == ("[PAD]",) * 52
    assert sequence.is_special[140:192].all()


def test_tiles_are_cut_row_by_row():
    assert tiles((2, 4), (2, 2)).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_each_image_may_have_its_own_grid():
    model = VISION["siglip2_vision_model"].build()
    wide, high = model.encode(record(0, 20, 60)), model.encode(record(1, 60, 20))
    assert (wide.patch_row.max() + 1, wide.patch_col.max() + 1) == (3, 8)
    assert (high.patch_row.max() + 1, high.patch_col.max() + 1) == (8, 3)
    assert model.info.grid is None
    assert model.picture(wide).shape == (12, 32, 3)
    assert len(inspect(model, [wide, model.encode(record(2, 30, 30))])) == 2


def test_image_of_a_patches_model_is_put_together_again():
    model = VISION["siglip2_vision_model"].build()
    image = np.zeros((16, 24, 3), np.uint8)
    image[4:8, 8:12] = 255
    shown = model.picture(model.encode(Record("a.png", image=lambda: image)))
    np.testing.assert_array_equal(shown, image)


def test_image_is_shown_as_the_model_sees_it():
    for name in ("swin", "swin_tiny_patch4_window7_224"):
        model = VISION[name].build()
        assert model.picture(model.encode(record())).shape == (40, 56, 3)


def test_processor_that_keeps_proportions_needs_squares():
    options = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, do_center_crop=False)
    model = ImageModel(tiny_vision("vit", (16, 16), options).module, processor, ModelSpec("tiny/vit"))
    assert len(model.collate([model.encode(record(0, 30, 30))]).lengths[""]) == 1
    with pytest.raises(InputError, match=r"16 × 32 pixels, a square image 16 × 16.*Crop"):
        model.collate([model.encode(record(0, 30, 60))])


def test_text_is_refused():
    with pytest.raises(InputError, match="is a text, but tiny/vit reads images"):
        VISION["vit"].build().encode(Record("a.csv:1", text="a cat"))


SIZES = {"img_size": 32, "num_classes": 3, "embed_dim": 32, "depth": 2, "num_heads": 4}
HAND_MADE = {
    "cait": (32, lambda: timm.create_model("cait_xxs24_224", **SIZES)),
    "convit": (32, lambda: convit.ConVit(patch_size=8, local_up_to_layer=1, **SIZES | {"embed_dim": 8})),
    "hiera": (64, lambda: hiera.Hiera(img_size=(64, 64), embed_dim=16, num_heads=2, stages=(1, 1, 1, 1))),
    "mvitv2": (64, lambda: mvitv2.MultiScaleVit(mvitv2.MultiScaleVitCfg(depths=(1, 1), embed_dim=16), img_size=64)),
    "nest": (32, lambda: nest.Nest(32, num_levels=2, embed_dims=(16, 32), num_heads=(2, 4), depths=(1, 1))),
    "vision_transformer_sam": (16, lambda: timm.create_model("samvit_base_patch16", **SIZES | {"img_size": 16})),
    "volo": (
        32,
        lambda: volo.VOLO([1, 1], img_size=32, embed_dims=(16, 32), num_heads=(2, 4), downsamples=(True, False)),
    ),
    "xcit": (32, lambda: xcit.Xcit(patch_size=16, **SIZES)),
}


@pytest.mark.parametrize("family", HAND_MADE)
def test_timm_models_are_refused_by_name(family):
    size, make = HAND_MADE[family]
    with pytest.raises(ModelError) as refusal:
        tiny_timm(make, family, (size, size))
    assert REFUSED_TIMM[family] in str(refusal.value)


def test_convolutional_networks_have_no_grid():
    with pytest.raises(ModelError, match="ResNet has no grid of patches"):
        tiny_timm(lambda: timm.create_model("resnet10t"), "resnet", (32, 32))


@pytest.mark.parametrize("name", REFUSED_VISION)
def test_refused_types_have_one_reason(name):
    assert name not in families()
    assert not REFUSED_VISION[name].endswith(".")


def test_type_is_refused_before_its_weights_are_read(tmp_path):
    from attnviz.models.transformers_images import load

    transformers.ResNetConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="'resnet' are refused: it has no attention"):
        load(ModelSpec(str(tmp_path)), str(tmp_path))


@pytest.mark.parametrize("name", sorted(family.name for family in FAMILIES))
def test_vision_models_are_told_by_their_configuration(name, tmp_path):
    CONFIG_MAPPING[name]().save_pretrained(tmp_path)
    assert reads_images(ModelSpec(str(tmp_path)), str(tmp_path))


@pytest.mark.parametrize("name", ["bert", "llama", "clip", "siglip", "t5", "vilt", "layoutlmv3"])
def test_other_models_are_not_vision_models(name, tmp_path):
    CONFIG_MAPPING[name]().save_pretrained(tmp_path)
    assert not reads_images(ModelSpec(str(tmp_path)), str(tmp_path))
