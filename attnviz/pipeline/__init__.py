"""The pipeline: from a recipe to a run directory, resumable at every complete shard and layer."""

from attnviz.pipeline.placing import make_maps
from attnviz.pipeline.run import is_complete, run_recipe

__all__ = ["is_complete", "make_maps", "run_recipe"]
