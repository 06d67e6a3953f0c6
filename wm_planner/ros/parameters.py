"""ROS parameters declared from a frozen dataclass, strictly.

Each field of the dataclass is a parameter; its ``metadata`` holds ``doc``, which says what it is,
with the unit, and, for numbers, ``range``.
"""

from __future__ import annotations

import array
import dataclasses
import itertools
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from wm_planner.config import from_dict, read_yaml, suggest
from wm_planner.errors import ConfigError

T = TypeVar("T")
_ROS_OWN = ("use_sim_time", "start_type_description_service")
_INT64_MAX = 2**63 - 1


def required(doc: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """As `param`, without a default; a node does not start without it."""
    return dataclasses.field(kw_only=True, metadata={"doc": doc, "range": (low, high)})


def param(
    default: Any,
    doc: str,
    low: float = -math.inf,
    high: float = math.inf,
    changeable: bool = False,
) -> Any:
    """A documented dataclass field; every number in it must be finite and lie in low .. high.

    Where it is `changeable`, it may be set while the node runs, which the node must see to.
    """
    metadata = {"doc": doc, "range": (low, high), "changeable": changeable}
    return dataclasses.field(default=default, metadata=metadata)


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
        if name.startswith("qos_overrides"):
            raise ConfigError(
                f"{source}: '{name}': these nodes take no QoS overrides: sensors are heard best "
                "effort and reliable alike, and commands and goals need what they have"
            )
        if name == "use_sim_time" and not isinstance(node.get_parameter(name).value, bool):
            raise ConfigError(f"{source}: use_sim_time: expected true or false")
        if name not in fields and name not in _ROS_OWN:
            raise ConfigError(f"{source}: unknown key '{name}'.{suggest(name, fields)}")
    values = {}
    for name, spec in fields.items():
        if not node.has_parameter(name):
            default = spec.default
            if default is dataclasses.MISSING:
                raise ConfigError(
                    f"{source}: '{name}' is missing, which has no default: {spec.metadata['doc']}. "
                    "'wm-planner robot' and robot.launch.py take it from the robot file; by hand, "
                    "give --ros-args --params-file with the key "
                    f"'/**/{node.get_name()}:'"
                )
            value = list(default) if isinstance(default, tuple) else default
            node.declare_parameter(name, value, ParameterDescriptor(dynamic_typing=True))
        value = node.get_parameter(name).value
        values[name] = list(value) if isinstance(value, (array.array, tuple)) else value
        _check_range(spec, values[name], f"{source}: {name}")
        node.set_descriptor(name, _descriptor(spec))
    return from_dict(cls, values, source)


def check_parameter_files(
    node: str, usual_name: str, arguments: Sequence[str] = sys.argv
) -> list[str]:
    """Look whether what the command line's parameter files hold reaches a node.

    ROS drops without a word what is written for another name or namespace.

    Args:
        node: name with its namespace.
        usual_name: name of the node where nobody gives it another.
        arguments: of the process.

    Returns:
        What to tell of files that are for other nodes alone.

    Raises:
        ConfigError: a file is meant for this node, and nothing of it reaches the node.
    """
    told, own = [], node.rpartition("/")[2]
    for option, file in itertools.pairwise(arguments):
        if option != "--params-file":
            continue
        names = list(_nodes_of(read_yaml(file)))
        if any(_matches(name, node) for name in names):
            continue
        text = (
            f"{file}: holds nothing for node {node}, only for {', '.join(names) or 'nobody'}; "
            f"write '/**/{own}:', which holds in every namespace"
        )
        if {name.rpartition("/")[2] for name in names} & {own, usual_name, "*", "**"}:
            raise ConfigError(text)
        told.append(text)
    return told


def _nodes_of(content: Any, name: str = "") -> Iterator[str]:
    """Names, which may have wildcards, of the nodes that a parameter file is for."""
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if key == "ros__parameters":
            yield name
        else:
            yield from _nodes_of(value, f"{name}/{str(key).strip('/')}")


def _matches(pattern: str, node: str) -> bool:
    """As ROS does it: `*` is one part of a name, `**` any number of parts."""
    parts = {"**": r"(/\w+)*", "*": r"/\w+"}
    regex = "".join(parts.get(part, "/" + re.escape(part)) for part in pattern.split("/") if part)
    return re.fullmatch(regex, node) is not None


def _descriptor(spec: dataclasses.Field) -> ParameterDescriptor:
    """What ``ros2 param describe`` shows; ROS has ranges for single numbers only."""
    descriptor = ParameterDescriptor(
        description=spec.metadata["doc"],
        read_only=not spec.metadata.get("changeable", False),
        dynamic_typing=True,
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
