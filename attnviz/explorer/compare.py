"""A second map of the same head, beside the first: what the pointer is on and what is chosen light up in both."""

from attnviz.explorer.headmap import HeadMap

__all__ = ["ComparedMap"]


class ComparedMap(HeadMap):
    """The head on the map that the first is compared with; nothing, while there is none."""

    @property
    def _map(self) -> str | None:
        name: str = self.state.compare
        return name or None
