"""YAML, ROS parameters or command-line values to frozen dataclasses, strictly.

An unknown key, a missing key and a value of the wrong type are errors that name the source,
the key, the value and the nearest match.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.files import read_text
from wm_planner.yaml_text import MAX_BYTES, parse_yaml

T = TypeVar("T")
MAX_SEED = 2**63 - 1  # torch takes it, and ROS as a parameter


@dataclasses.dataclass(frozen=True)
class Range:
    """What a number read into a field of ``Annotated[int, Range(...)]`` may be."""

    low: float
    high: float


Seed = Annotated[int, Range(0, MAX_SEED)]
Natural = Annotated[int, Range(0, 10**8)]  # how many, or how often
Size = Annotated[int, Range(1, 2**14)]  # of a layer, a picture or a vector
Weight = Annotated[float, Range(0, 1e9)]
Fraction = Annotated[float, Range(0, 1)]
_SHOWN = 120  # characters of a value in a message


def suggest(name: object, choices: typing.Iterable[object]) -> str:
    """Return ' Did you mean 'x'? Choices: a, b, x.' for a wrong name; YAML's may be numbers."""
    options = sorted(map(str, choices))
    near = difflib.get_close_matches(str(name), options, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{hint} Choices: {', '.join(options)}."


def shown(value: object) -> str:
    """A value for a message: as Python writes it, and short."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: the file is missing, is no file, is too large, is not YAML text (see
            `yaml_text`), or holds no mapping.
    """
    path = Path(path)
    try:
        data = parse_yaml(read_text(path, MAX_BYTES))
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        got = "nothing" if data is None else shown(data)
        raise ConfigError(f"{path}: expected a mapping of keys to values, got {got}")
    return data


def from_dict(cls: type[T], data: dict[str, Any], source: str) -> T:
    """Build the dataclass `cls` from a mapping; `source` names it in errors.

    Nested dataclasses, tuples of dataclasses, optional values, unions and tuples of numbers are
    built too.

    Raises:
        ConfigError: see the module; also for whatever the dataclass itself says against its values.
    """
    hints = _hints(cls)  # type: ignore[arg-type]
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise ConfigError(f"{source}: unknown key '{key}'.{suggest(key, fields)}")
    values = {}
    for name, spec in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], f"{source}: {name}")
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{source}: key '{name}' is missing")
    try:
        return cls(**values)
    except (ValueError, WmPlannerError) as error:  # of the class's own checks: they know no source
        raise ConfigError(f"{source}: {error}") from error


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{'a.b': 1} of {'a': {'b': 1}}."""
    if not isinstance(value, dict):
        return {prefix: value}
    result: dict[str, Any] = {}
    for key, item in value.items():
        result |= flat(item, f"{prefix}.{key}" if prefix else key)
    return result


def check_at_least(settings: object, **least: float) -> None:
    """Hold settings, each named by its key, against the smallest values that they may have.

    Raises:
        ValueError: one is smaller.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if not value >= bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")


def parse_setting(text: str, source: str) -> tuple[str, Any]:
    """Key and value of 'key=value', with the value in YAML.

    Raises:
        ConfigError: it is not of this form; `source` names the option in the message.
    """
    key, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"{source}: {shown(text)} is not of the form key=value")
    try:
        return key.strip(), parse_yaml(value)
    except ValueError as error:
        raise ConfigError(
            f"{source}: {shown(text)}: the value is not valid YAML: {error}"
        ) from error


def parse_settings(texts: typing.Iterable[str], source: str) -> dict[str, Any]:
    """Values by key of several 'key=value'.

    Raises:
        ConfigError: see `parse_setting`; or a key is given more than once.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, value = parse_setting(text, source)
        if key in settings:
            raise ConfigError(f"{source}: '{key}' is given more than once; remove all but one")
        settings[key] = value
    return settings


def from_yaml(cls: type[T], path: Path | str) -> T:
    """Read `path` into the dataclass `cls`."""
    return from_dict(cls, read_yaml(path), str(path))


def to_dict(value: Any) -> Any:
    """Turn a dataclass (nested) into plain JSON/YAML values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_dict(item) for item in value]
    if isinstance(value, dict):
        return {key: to_dict(item) for key, item in value.items()}
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        kind, limits = typing.get_args(hint)
        number = _convert(kind, value, where)
        if not limits.low <= number <= limits.high:
            raise ConfigError(
                f"{where}: expected a number from {limits.low} to {limits.high}, got {value!r}"
            )
        return number
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None:
            if type(None) in options:
                return None
            raise ConfigError(f"{where}: a value is needed, got null")
        errors = []
        for option in options:
            if option is not type(None):
                try:
                    return _convert(option, value, where)
                except ConfigError as error:
                    errors.append(str(error))
        raise ConfigError("; or ".join(errors))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, got {shown(value)}")
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, got {shown(value)}")
        args = typing.get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(args) != len(value):
            raise ConfigError(f"{where}: expected {len(args)} values, got {shown(value)}")
        return tuple(_convert(a, v, where) for a, v in zip(args, value, strict=True))
    if hint is float:
        return _number(value, where)
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{where}: expected a whole number, got {shown(value)}")
        if abs(value) > 2**64:
            raise ConfigError(f"{where}: expected a number below 2^64, got {shown(value)}")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: expected true or false, got {shown(value)}")
        return value
    if hint is str:
        if not isinstance(value, str):
            raise ConfigError(f"{where}: expected a string, got {shown(value)}")
        return value
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, got {shown(value)}")
        return dict(value)
    return value


def _number(value: Any, where: str) -> float:
    """A finite number: no setting is infinite, and none is NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{where}: expected a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f"{where}: expected a finite number, got {shown(value)}")
    return number
