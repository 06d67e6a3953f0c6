"""ROS parameters declared from a frozen dataclass, strictly.

Each field of the dataclass is a parameter; its ``metadata['doc']`` says what it is, with the unit.
"""

from __future__ import annotations

import array
import dataclasses
from typing import Any, TypeVar

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from wm_planner.config import from_dict, suggest
from wm_planner.errors import ConfigError

T = TypeVar("T")
_ROS_OWN = ("use_sim_time", "start_type_description_service")


def param(default: Any, doc: str) -> Any:
    """A documented dataclass field."""
    return dataclasses.field(default=default, metadata={"doc": doc})


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
        descriptor = ParameterDescriptor(
            description=spec.metadata.get("doc", ""), read_only=True, dynamic_typing=True
        )
        if node.has_parameter(name):
            node.set_descriptor(name, descriptor)
        else:
            default = spec.default
            value = list(default) if isinstance(default, tuple) else default
            node.declare_parameter(name, value, descriptor)
        value = node.get_parameter(name).value
        values[name] = list(value) if isinstance(value, (array.array, tuple)) else value
    return from_dict(cls, values, source)
