"""Torch modules of a user's own: whatever happens while they are captured, module and folder stay usable."""

import shutil

import pytest
import torch
from torch.nn import functional

import attnviz
from attnviz.errors import AttnvizError, DatasetError
from attnviz.store import layout

WIDTH, HEADS = 32, 4


def captured(module, batches, out, **options):
    overrides = {"capture.dtype": "float32"} | options.pop("overrides", {})
    return attnviz.capture(module, batches, out=out, maps=["pca"], workers=1, overrides=overrides, **options)


class Keeping(torch.nn.Module):
    """Keeps the mask that it made in its first forward, and breaks on a batch of nines."""

    def __init__(self):
        super().__init__()
        self.qkv, self.gain, self.mask = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Parameter(torch.ones(1)), None

    def forward(self, x):
        if (x == 9).all():
            raise ValueError("nines are not for me")
        if self.mask is None:
            self.mask = torch.full((7, 7), -1e4).triu(1)
        query, key, value = self.qkv(x).view(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=self.mask * self.gain)


def test_a_module_trains_after_it_was_captured(tmp_path):
    module = Keeping()
    captured(module, [torch.randn(3, 7, WIDTH)], tmp_path / "run")
    module(torch.randn(3, 7, WIDTH)).sum().backward()
    assert module.gain.grad is not None


def test_what_a_crash_leaves_is_replaced_by_the_same_call(tmp_path, monkeypatch):
    from attnviz.pipeline import module as line

    module, batches, out = Keeping(), [torch.randn(3, 7, WIDTH) for _ in range(2)], tmp_path / "run"
    write_run = line.write_run

    def dies(*given, **options):
        write_run(*given, **options)
        (given[1] / layout.MANIFEST_FILE).unlink()
        raise RuntimeError("the machine went away")

    monkeypatch.setattr(line, "write_run", dies)
    with pytest.raises(RuntimeError, match="went away"):
        captured(module, batches, out)
    assert not any(tmp_path.iterdir())  # nothing half-written
    monkeypatch.undo()
    captured(module, batches, out)
    (out / layout.MANIFEST_FILE).unlink()  # as an earlier version left it, under its own name
    assert captured(module, batches, out).num_sequences == 6
    assert [item.name for item in tmp_path.iterdir()] == ["run"]


def test_a_finished_run_and_a_strangers_folder_are_left_alone(tmp_path):
    module, batches = Keeping(), [torch.randn(3, 7, WIDTH)]
    run = captured(module, batches, tmp_path / "run")
    before = sorted(file.name for file in run.path.rglob("*"))
    with pytest.raises(DatasetError, match=r"exists and holds a run.*out="):
        captured(module, batches, tmp_path / "run")
    assert sorted(file.name for file in run.path.rglob("*")) == before
    shutil.copytree(run.path, tmp_path / "other")
    (tmp_path / "other" / layout.MANIFEST_FILE).unlink()  # ours and unfinished, but for a file that is not
    for name in ("thesis", "other"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "thesis.tex").write_text("years of work")
        with pytest.raises(DatasetError, match=r"no run of attnviz\.capture"):
            captured(module, batches, tmp_path / name)
        assert (tmp_path / name / "thesis.tex").exists()


def test_a_module_that_fails_is_as_it_was(tmp_path):
    module = Keeping().train()
    with pytest.raises((AttnvizError, ValueError), match="nines are not for me"):
        captured(module, [torch.randn(3, 7, WIDTH), torch.full((3, 7, WIDTH), 9.0)], tmp_path / "run")
    assert module.training
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(tmp_path.iterdir())
