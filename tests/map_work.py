"""Work for spawned map workers. Light to import: every worker imports this file, and none of what the tests import."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attnviz.errors import DatasetError
from attnviz.maps import HeadWork
from attnviz.metrics import Judge
from attnviz.normalize import joint
from attnviz.types import LayerInfo, MapSpec, Sequences

QUICK = {
    "pca": {},
    "umap": {"n_epochs": 60},
    "tsne": {"perplexity": 10, "n_iter": 60, "early_exaggeration_iter": 40},
    "neg_tsne": {"perplexity": 10, "n_epochs": 60},
    "attention": {"n_epochs": 60},
}


@dataclass(frozen=True)
class Loader:
    """Vectors of a head from nothing but its numbers; some heads go wrong."""

    tokens: int = 60
    wrong: tuple[int, int] | None = None
    how: str = ""
    marks: str = ""  # a folder in which a file says that a head is being loaded

    def __call__(self, layer, head):
        if self.marks:
            (Path(self.marks) / f"{layer}-{head}").touch()
            time.sleep(60)
        if (layer, head) == self.wrong:
            if self.how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"foreign": KeyError("query"), "own": DatasetError("a file is missing")}[self.how]
        rng = np.random.default_rng([layer, head])
        centres = np.repeat(rng.normal(size=(4, 8)) * 4, self.tokens // 4, axis=0)
        query, key = (centres + rng.normal(size=centres.shape) for _ in range(2))
        return query, key, Sequences(np.array([0, self.tokens // 2, self.tokens]), LayerInfo(0, "", 1, 1, 8, 8**-0.5))


def work(*methods, load=None, **changes):
    specs = tuple(MapSpec(method, method, 2, QUICK[method]) for method in methods)
    return replace(HeadWork(load or Loader(), joint, specs, Judge), **changes)
