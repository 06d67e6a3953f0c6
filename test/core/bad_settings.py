"""Bad settings, made of the dataclasses that read them: a new field is tried without an edit."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from wm_planner.config import MAX_SEED, Range

Place = tuple[str, ...]
NO_NUMBER = ("x", "1", True, None, [], {}, math.nan, math.inf, -math.inf)


def bad_values(hint: Any) -> list[Any]:
    """What a field of that type cannot be, whatever it means."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        of_all = [{repr(value): value for value in bad_values(arg)} for arg in args if arg]
        kinds = [values for values, arg in zip(of_all, args, strict=True) if arg is not type(None)]
        common = set.intersection(*map(set, kinds)) - ({"None"} if type(None) in args else set())
        return [value for name, value in kinds[0].items() if name in common]
    if origin is Annotated:
        limits: Range = args[1]
        beyond = [limits.low - 1, limits.high * 2 + 1]
        return [*bad_values(args[0]), *(beyond if limits.high < MAX_SEED else beyond[:1])]
    if hint is float:
        return [*NO_NUMBER, [1.0], 10**400]
    if hint is int:
        return [*NO_NUMBER, 1.5, 2**70, -(2**70)]
    if hint is bool:
        return ["true", 1, 0, None, [], {}]
    if hint is str:
        return [1, 1.5, True, None, [], {}, ["x"]]
    if origin is tuple:
        long = [] if args[-1] is Ellipsis else [[[]] * 9]
        return ["x", 1, True, None, {}, *([value] for value in bad_values(args[0])), *long]
    if dataclasses.is_dataclass(hint):
        return ["x", 1, None, True, []]
    if hint is dict or origin is dict:
        return ["x", 1, None, True, []]
    return []


def bad_settings(cls: Any, where: Place = ()) -> Iterator[tuple[Place, Any]]:
    """(place, value) for every field of the class and of those within it."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        place, hint = (*where, field.name), hints[field.name]
        for value in bad_values(hint):
            yield place, value
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner):
                yield from bad_settings(inner, place)
    yield (*where, "no_such_key"), 1


def changed(settings: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """Settings with one value at a place."""
    key, *rest = place
    inner = settings.get(key)
    if rest:
        value = changed(inner if isinstance(inner, dict) else {}, tuple(rest), value)
    return {**settings, key: value}
