"""What holds across types of processor: scores of the same vectors agree within 1e-3, and what must be equal is equal on each.

Environment variables make one machine compute as others do: OpenBLAS's kernels, numba's target, the C library's functions, threads.
Measured 2026-11-28, 1,000 tokens, 8 heads, six maps: before, OpenBLAS's Haswell kernel changed recall by up to 0.0009, and code
for a processor without AVX single scores by up to 0.23. Now all bytes of maps are the same under all of these.

Not so where torch computes as on another processor: stored vectors then differ in their last bits, and layouts amplify that as they
do another seed. 400 tokens, 8 heads, torch held to AVX2 and to SSE4: PCA's scores differ by 0.0001 at most, those of single heads
on the other maps by up to 0.20, their means by up to 0.03.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import attnviz
from attnviz.metrics import METRICS

SETTINGS = {
    "prescott": {"OPENBLAS_CORETYPE": "Prescott"},
    "haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "zen": {"OPENBLAS_CORETYPE": "Zen"},
    "skylakex": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "generic": {"NUMBA_CPU_NAME": "generic"},
    "old": {
        "OPENBLAS_CORETYPE": "Prescott",
        "NUMBA_CPU_NAME": "generic",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
        "NPY_DISABLE_CPU_FEATURES": "AVX512_SKX AVX512F AVX2 FMA3",
    },
    "torch of AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "four threads": {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "NUMBA_NUM_THREADS": "4"},
}
MAPS = {
    "pca": {},
    "umap": {},
    "umap_3d": {"method": "umap", "dims": 3},
    "curve": {"method": "umap", "min_dist": 0.3},
    "attention": {},
    "neg_tsne": {},
    "tsne": {"n_iter": 50, "early_exaggeration_iter": 50},
}


def made(out, **environment):
    """A small run of the docs-llama, made in a process of its own."""
    recipe = {
        "name": "small",
        "model": {"id": "builtin:docs-llama"},
        "data": {"source": "builtin:docs", "max_tokens": 400},
        "capture": {"layers": [2]},
        "maps": MAPS,
    }
    script = "import attnviz, json, sys\nattnviz.run(json.loads(sys.argv[1]), out=sys.argv[2], workers=1)"
    lacking = environment.get("NPY_DISABLE_CPU_FEATURES", "").split()
    if lacking:  # numpy refuses to disable what it does not know
        known = np._core._multiarray_umath.__cpu_features__
        environment["NPY_DISABLE_CPU_FEATURES"] = " ".join(name for name in lacking if known.get(name))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, json.dumps(recipe), str(out)],
        env=os.environ | environment,
        check=True,
        capture_output=True,
    )
    return attnviz.open(out)


@pytest.fixture(name="here", scope="module")
def made_as_it_comes(tmp_path_factory):
    return made(tmp_path_factory.mktemp("runs") / "here")


def bytes_of(run, folder):
    return {
        file.relative_to(run.path): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((Path(run.path) / folder).rglob("*.parquet"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_scores_agree_on_any_processor(here, tmp_path, name):
    run = made(tmp_path / "run", **SETTINGS[name])
    same = bytes_of(run, "vectors") == bytes_of(here, "vectors")
    assert same or "torch" in name or "threads" in name
    for of_map in MAPS:
        ours, theirs = (given.scores(of_map)[[*METRICS]] for given in (here, run))
        if same or of_map == "pca":
            assert np.abs(ours - theirs).max(axis=None) <= 1e-3, of_map
        for layer in run.layers:
            kept = run.faithfulness(of_map, layer)[:, : run.num_tokens, 1].mean(axis=1, dtype=np.float64)
            recall = theirs["attention_recall"].loc[layer]
            np.testing.assert_allclose(kept, recall, atol=2e-4)  # of shares that are stored as float16
    if same and name == "four threads":
        assert bytes_of(run, "maps") == bytes_of(here, "maps")
        assert bytes_of(run, "scores") == bytes_of(here, "scores")
