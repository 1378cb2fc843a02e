"""What a session shows of images: the part of ``State`` that is about the image view, and pictures beside a head."""

import param

from attnviz.explorer.guard import Guard

__all__ = ["ImageChoices"]


class ImageChoices(param.Parameterized):  # type: ignore[misc]  # param publishes no usable types
    """One image or many, heat or arrows, and how much of the picture they cover."""

    image_form = param.Selector(
        default="one",
        objects={"One image": "one", "Grid": "grid"},
        label="Images",
        doc="One image, or many side by side under the same head. Click an image of the grid to open it.",
    )
    image_show = param.Selector(
        default="heat",
        objects={"Heat map": "heat", "Strongest": "strongest", "Flows": "flows"},
        label="Show",
        doc="Heat map: what one token gives to each patch, or gets from it. Strongest: from every patch an arrow to its strongest "
        "partner. Flows: every weight that is not below a threshold. Arrows lead from the query to the key.",
    )
    image_least = param.Number(
        default=0.1, bounds=(0.0, 1.0), label="Least weight", doc="Flows below this weight are left out."
    )
    image_opacity = param.Integer(
        default=100,
        bounds=(0, 100),
        label="Heat in %",
        doc="How much the heat covers the picture. At 0 the picture is seen alone, as it is.",
    )
    image_of = param.Selector(
        default="all",
        objects={"All": "all", "Search hits": "found", "Same label": "label"},
        label="Images of",
        doc="All images; those that the search in the side bar finds; or those with the label of the chosen image.",
    )
    image_count = param.Selector(
        default="24", objects={"24": "24", "48": "48"}, label="At once", doc="How many images stand side by side."
    )
    image_page = param.Integer(
        default=0, bounds=(0, 1_000_000), label="Page", doc="Which of the pages of images is shown."
    )

    IMAGES = ("image_form", "image_show", "image_least", "image_opacity", "image_of", "image_count", "image_page")
    """What of it the address of the page carries."""

    guard: Guard

    def __init__(self, **params: object) -> None:
        super().__init__(**params)
        first = self.guard(lambda *events: self.param.update(image_page=0))
        self.param.watch(first, ["run", "search", "image_of", "image_count"])
