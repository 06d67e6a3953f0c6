"""ROS parameters declared from a frozen dataclass, strictly.

Each field of the dataclass is a parameter; its ``metadata`` holds ``doc``, which says what it is,
with the unit, and, for numbers, ``range``.
"""

from __future__ import annotations

import array
import dataclasses
import math
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from wm_planner.config import from_dict, suggest
from wm_planner.errors import ConfigError

T = TypeVar("T")
_ROS_OWN = ("use_sim_time", "start_type_description_service")
_INT64_MAX = 2**63 - 1


def param(default: Any, doc: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """A documented dataclass field; every number in it must be finite and lie in low .. high."""
    return dataclasses.field(default=default, metadata={"doc": doc, "range": (low, high)})


def read_parameters(node: Node, cls: type[T]) -> T:
    """Declare every field of `cls` on `node` and read the values.

    The node must have been made with ``automatically_declare_parameters_from_overrides=True``:
    that is how a key that no field has becomes visible.

    Raises:
        ConfigError: an unknown key or a value of the wrong type or out of range.
    """
    fields = {spec.name: spec for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]
    source = f"parameters of {node.get_name()}"
    for name in node.get_parameters_by_prefix(""):
        if name not in fields and name not in _ROS_OWN and not name.startswith("qos_overrides"):
            raise ConfigError(f"{source}: unknown key '{name}'.{suggest(name, fields)}")
    values = {}
    for name, spec in fields.items():
        if not node.has_parameter(name):
            default = spec.default
            value = list(default) if isinstance(default, tuple) else default
            node.declare_parameter(name, value, ParameterDescriptor(dynamic_typing=True))
        value = node.get_parameter(name).value
        values[name] = list(value) if isinstance(value, (array.array, tuple)) else value
        _check_range(spec, values[name], f"{source}: {name}")
        node.set_descriptor(name, _descriptor(spec))
    return from_dict(cls, values, source)


def _descriptor(spec: dataclasses.Field) -> ParameterDescriptor:
    """What ``ros2 param describe`` shows; ROS has ranges for single numbers only."""
    descriptor = ParameterDescriptor(
        description=spec.metadata["doc"], read_only=True, dynamic_typing=True
    )
    low, high = spec.metadata["range"]
    if isinstance(spec.default, bool) or (low, high) == (-math.inf, math.inf):
        return descriptor
    if isinstance(spec.default, int):
        whole = IntegerRange(
            from_value=-_INT64_MAX if low == -math.inf else int(low),
            to_value=_INT64_MAX if high == math.inf else int(high),
        )
        descriptor.integer_range = [whole]
    elif isinstance(spec.default, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high))
        ]
    return descriptor


def _check_range(spec: dataclasses.Field, value: Any, where: str) -> None:
    low, high = spec.metadata["range"]
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        if not math.isfinite(number) or not low <= number <= high:
            bounds = f"{low:g} .. {high:g}".replace("-inf .. inf", "a finite number")
            raise ConfigError(f"{where}: expected {bounds}, got {value!r}")
