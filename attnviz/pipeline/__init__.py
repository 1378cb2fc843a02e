"""The pipeline: from a recipe to a run directory, resumable at every complete shard and layer.

``run`` needs a model and so torch; ``placing`` makes maps of what is stored and does not. Import what you need.
"""

__all__: list[str] = []
