"""Things that are found by name: each is an entry point, of this package or of somebody else's.

So a solver, an encoder or a task of another package is chosen like one of ours, without an edit
here. Nothing is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from wm_planner.config import suggest
from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.extras import install

T = TypeVar("T")


def names_of(group: str) -> list[str]:
    """Names of a group's entry points, in alphabetical order; nothing is imported."""
    return sorted({point.name for point in entry_points(group=group)})


def listed(group: str) -> str:
    """Names of a group's entry points, for a help text: 'cem, gbp or mppi'."""
    *names, last = names_of(group) or ["none"]
    return f"{', '.join(names)} or {last}" if names else last


class Registry(Generic[T]):
    """All entry points of one group.

    Args:
        group: of the entry points, for example 'wm_planner.solvers'.
        noun: what one of them is called, for errors.
        complaint: what is wrong with an object that was found under a name, for errors; empty if
            nothing is.
        error: raised for what cannot be used.
        extra: of this package, which brings the libraries that they need.
    """

    def __init__(
        self,
        group: str,
        noun: str,
        complaint: Callable[[str, object], str],
        error: type[WmPlannerError] = ConfigError,
        extra: str = "model",
    ) -> None:
        self.group, self.noun = group, noun
        self._complaint, self._error, self._extra = complaint, error, extra
        self._loaded: dict[str, T] = {}

    @cached_property
    def _points(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, []).append(point)
        return found

    def names(self) -> list[str]:
        """What is installed, in alphabetical order."""
        return sorted(self._points)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._points

    def __getitem__(self, name: str) -> T:
        """What is installed under a name.

        Raises:
            WmPlannerError: of the registry's kind: unknown name, with the choices; two packages
                use the name; or what is there cannot be imported or is of another kind.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        if name not in self._points:
            raise self._error(f"unknown {self.noun} '{name}'.{self._choices(name)}")
        point, *others = self._points[name]
        if others:
            places = " and ".join(p.value for p in (point, *others))
            raise self._error(
                f"{self.noun} '{name}' is installed more than once: {places}; remove one of them"
            )
        try:
            found = point.load()
        except ImportError as error:
            raise self._error(
                f"{self.noun} '{name}' ({point.value}) cannot be imported: {error}; "
                f"{self._way_out(point)}"
            ) from error
        except Exception as error:
            raise self._error(
                f"{self.noun} '{name}' ({point.value}) cannot be loaded: {error}"
            ) from error
        if complaint := self._complaint(name, found):
            raise self._error(
                f"entry point '{name}' of group '{self.group}' ({point.value}) {complaint}"
            )
        return found  # type: ignore[no-any-return]

    def _way_out(self, point: EntryPoint) -> str:
        """Our parts need an extra of this package; a stranger's need what the stranger says."""
        package = "wm_planner" if point.dist is None else point.dist.name
        if package.replace("-", "_") == "wm_planner":
            return install(self._extra)
        return f"install what its package, {package}, needs, or remove that package"

    def _choices(self, name: str) -> str:
        if self._points:
            return suggest(name, self._points)
        return (
            f" No package has an entry point of the group '{self.group}': install wm_planner "
            "(pip install -e .)"
        )
