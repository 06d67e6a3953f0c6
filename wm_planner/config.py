"""YAML, ROS parameters or command-line values to frozen dataclasses, strictly.

An unknown key, a missing key and a value of the wrong type are errors that name the source,
the key, the value and the nearest match.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from wm_planner.errors import ConfigError, WmPlannerError

T = TypeVar("T")
# A number to everybody but YAML 1.1, which wants a point in it.
_SCIENTIFIC = re.compile(r"[+-]?[0-9]+[eE][+-]?[0-9]+")


def suggest(name: object, choices: typing.Iterable[object]) -> str:
    """Return ' Did you mean 'x'? Choices: a, b, x.' for a wrong name; YAML's may be numbers."""
    options = sorted(map(str, choices))
    near = difflib.get_close_matches(str(name), options, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{hint} Choices: {', '.join(options)}."


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no annotations
    """Dates stay text: no setting is one, and nothing behind could say so or write it as JSON."""

    yaml_implicit_resolvers: typing.ClassVar = {
        first: [(tag, form) for tag, form in known if not tag.endswith(":timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML text, or holds no mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        data = yaml.load(path.read_text(), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values")
    return data


def from_dict(cls: type[T], data: dict[str, Any], source: str) -> T:
    """Build the dataclass `cls` from a mapping; `source` names it in errors.

    Nested dataclasses, tuples of dataclasses, optional values, unions and tuples of numbers are
    built too.

    Raises:
        ConfigError: see the module; also for whatever the dataclass itself says against its values.
    """
    hints = typing.get_type_hints(cls)
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
        raise ConfigError(f"{source}: '{text}' is not of the form key=value")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: '{text}': the value is not valid YAML") from error


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
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        args = typing.get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(args) != len(value):
            raise ConfigError(f"{where}: expected {len(args)} values, got {value!r}")
        return tuple(_convert(a, v, where) for a, v in zip(args, value, strict=True))
    if hint is float:
        if isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
            return float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{where}: expected a number, got {value!r}")
        return float(value)
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{where}: expected a whole number, got {value!r}")
        return value
    if hint in (bool, str):
        if not isinstance(value, hint):
            kind = "true or false" if hint is bool else "a string"
            raise ConfigError(f"{where}: expected {kind}, got {value!r}")
        return value
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        return dict(value)
    return value
