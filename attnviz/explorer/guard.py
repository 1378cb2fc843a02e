"""What stands between every handler of a session and whoever calls it: an exception becomes a sentence, and the page lives on.

An ``AttnvizError`` is expected, and its message is shown in place of the picture. Any other exception is a fault of attnviz: it is
logged with its traceback and told in one sentence, with details to copy.

A handler that follows the state and fails runs again at the next change of the state, whatever that is: what it left half done is
made good then, and its sentence goes. The sentence of any other handler (of a click, of the pointer) goes with that change.
Components take ``Guarded`` handlers only, so none is registered past the guard.
"""

import functools
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, ParamSpec

from attnviz.errors import AttnvizError
from attnviz.faults import Fault, fault_of

__all__ = ["Guard", "Guarded", "guarded", "sentence"]

log = logging.getLogger("attnviz.explorer")

Given = ParamSpec("Given")


class Guarded:
    """A handler that lets no exception through."""

    __slots__ = ("_act", "_guard", "_refuse")

    def __init__(self, guard: "Guard", act: Callable[..., object], refuse: Callable[[str], None] | None) -> None:
        self._guard, self._act, self._refuse = guard, act, refuse

    def __call__(self, *given: Any) -> None:
        """Call the handler."""
        self._guard.run(self._act, *given, key=self, refuse=self._refuse)


class Guard:
    """The guard of one session.

    Parameters
    ----------
    refuse
        Called with the message of an ``AttnvizError``.
    about
        Returns what a report of a fault says of the session, ``view`` among it: the name of what is open.
    """

    def __init__(self, refuse: Callable[[str], None], about: Callable[[], Mapping[str, str]]) -> None:
        self._refuse, self._about = refuse, about
        self._faults: dict[Hashable, Fault] = {}
        self._again: dict[Hashable, Callable[[], None]] = {}
        self.raises = False  # while a session is made, and where there is no page, whoever asked is told
        self.tell: Callable[[], None] = lambda: None
        """Called when ``faults`` are others."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What went wrong and has not been made good."""
        return tuple(self._faults.values())

    def __call__(self, act: Callable[..., object], *, refuse: Callable[[str], None] | None = None) -> Guarded:
        """Return a handler that lets no exception through; ``refuse`` is called with a sentence for whatever went wrong."""
        return Guarded(self, act, refuse)

    def repeat(self, key: Hashable, demand: Callable[[], None]) -> None:
        """Let ``demand`` be called at the next change of the state after what is known by ``key`` has failed."""
        self._again[key] = demand

    def catch(self, error: BaseException) -> None:
        """Tell an exception that was met elsewhere."""
        if isinstance(error, AttnvizError):
            self._refuse(str(error))
        else:
            self.note(error)

    def run(
        self,
        act: Callable[..., object],
        *given: Any,
        key: Hashable | None = None,
        refuse: Callable[[str], None] | None = None,
    ) -> None:
        """Call ``act``, whose fault is forgotten where it succeeds; ``key`` is what it is known by, if not itself."""
        known = act if key is None else key
        try:
            act(*given)
        except AttnvizError as error:
            if self.raises:
                raise
            self._forget([known])
            (refuse or self._refuse)(str(error))
        except Exception as error:
            if self.raises:
                raise
            self.note(error, act=act, key=known)
            if refuse is not None:
                refuse("This could not be done. The page says why.")
        else:
            self._forget([known])

    def note(self, error: BaseException, act: Callable[..., object] | None = None, key: Hashable = "") -> None:
        """Log a fault and tell it; one that stands already is neither logged nor told again."""
        about = self._about()
        owner = getattr(act, "__self__", None) or getattr(key, "__self__", None)
        fault = fault_of(error, {"in": str(getattr(owner, "place", "") or about["view"]), **about})
        before = self._faults.get(key)
        if before is not None and (before.place, before.error) == (fault.place, fault.error):
            return
        log.error("The explorer failed in %s.", fault.place, exc_info=error)
        self._faults[key] = fault
        self._told()

    def changed(self) -> None:
        """Take notice of a change of the state: try again what failed in following it, and forget the rest."""
        self._forget([key for key in self._faults if key not in self._again])
        for key in list(self._faults):
            self._again[key]()

    def has_failed(self, owner: object) -> bool:
        """Tell whether something that belongs to ``owner`` and follows the state has failed."""
        return any(getattr(key, "__self__", None) is owner for key in self._faults)

    def _forget(self, keys: Iterable[Hashable]) -> None:
        gone = [self._faults.pop(key, None) for key in keys]
        if any(gone):
            self._told()

    def _told(self) -> None:
        try:
            self.tell()
        except Exception:
            log.exception("The explorer could not tell what went wrong.")


def guarded(method: Callable[Given, None]) -> Callable[Given, None]:
    """Let a method of what has a ``guard`` let no exception through."""

    @functools.wraps(method)
    def call(*given: Given.args, **named: Given.kwargs) -> None:
        owner: Any = given[0]
        owner.guard.run(functools.partial(method, *given, **named), key=getattr(owner, method.__name__))

    return call


def sentence(faults: Iterable[Fault]) -> str:
    """Return the sentence that tells of some faults, at least one."""
    first, *rest = faults
    places = dict.fromkeys([first.place, *(fault.place for fault in rest if fault.error == first.error)])
    others = len({(fault.place, fault.error) for fault in rest if fault.error != first.error})
    more = f" (and {others} more)" if others else ""
    return (
        f"Something went wrong in {' and in '.join(places)}: {first.error.rstrip('.')}{more}. "
        "This is a fault of attnviz; the rest of the page goes on."
    )
