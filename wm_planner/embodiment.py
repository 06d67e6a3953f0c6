"""What a robot is, as data: its actions, its proprioception, its cameras and its clock.

An embodiment is read from a robot file or belongs to a simulated task. It is written, whole, into
every bag, store and checkpoint card that comes of the robot, and it is taken from there by whoever
reads them. So nothing has to be looked up by the robot's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from wm_planner.config import from_dict, suggest, to_dict
from wm_planner.errors import ConfigError

# The kind of an action says what its number does during one control period, and so what rest is.
KINDS = ("velocity", "position", "position_delta", "effort")
FIELDS = ("position", "velocity", "effort")  # of sensor_msgs/JointState
TWIST_AXES = tuple(f"{part}.{axis}" for part in ("linear", "angular") for axis in "xyz")
Crop = tuple[int, int, int, int]


@dataclass(frozen=True)
class ActionSpace:
    """One raw action: what the robot is told for one control period.

    Attributes:
        names: joints, or axes of a twist such as 'linear.x'.
        kind: 'velocity' and 'effort' act for the control period; 'position' is where a joint shall
            be at its end; 'position_delta' how far it shall move in it.
        low, high: bounds, in `unit`.
        max_rate: greatest change per second, in `unit`; empty, or 0 for an entry: no limit.
        unit: unit of the action, in words.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    kind: str = "velocity"
    max_rate: tuple[float, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("names: expected at least one joint or axis, got none")
        check_unique("names", self.names)
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind '{self.kind}'.{suggest(self.kind, KINDS)}")
        for name in ("low", "high", "max_rate"):
            values = getattr(self, name)
            if name == "max_rate" and not values:
                continue
            if len(values) != len(self.names):
                raise ValueError(
                    f"{name}: needs {len(self.names)} entries, one per action name, got "
                    f"{list(values)}"
                )
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name}: must be finite, got {list(values)}")
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not low < high:
                raise ValueError(f"low must be below high, got {low:g} and {high:g} for '{name}'")
        if any(rate < 0 for rate in self.max_rate):
            raise ValueError(f"max_rate: must be at least 0, got {list(self.max_rate)}")
        axes = [name for name in self.names if name in TWIST_AXES]
        if axes and (len(axes) != len(self.names) or self.kind != "velocity"):
            raise ValueError(
                f"names: the axes of a twist ({', '.join(axes)}) are velocities and cannot be "
                f"mixed with joints, got {list(self.names)} of kind '{self.kind}'"
            )

    @property
    def size(self) -> int:
        """Entries of one raw action."""
        return len(self.names)

    @property
    def is_twist(self) -> bool:
        """Whether the action is a twist of the tool or the base, not of joints."""
        return self.names[0] in TWIST_AXES

    @property
    def rests_at_zero(self) -> bool:
        """Whether the raw action zero leaves the robot where it is; a position does not."""
        return self.kind != "position"

    @property
    def limits_rate(self) -> bool:
        """Whether the change of an action is limited at all."""
        return any(rate > 0 for rate in self.max_rate)


@dataclass(frozen=True)
class Camera:
    """One view of the scene, as the model gets it.

    Attributes:
        name: for example 'front' or 'wrist'.
        size: side of the square picture, pixels.
        crop: x, y, width and height of what is used of the driver's picture, pixels; None: all.
        optional: a recording may lack it; its picture is black then.
    """

    name: str
    size: int
    crop: Crop | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 2048:
            raise ValueError(f"size must be from 1 to 2048 pixels, got {self.size}")
        if not self.name.isidentifier():
            raise ValueError(f"a camera's name is one word, got '{self.name}'")
        if self.crop is not None:
            x, y, width, height = self.crop
            if min(x, y) < 0 or min(width, height) < 1:
                raise ValueError(f"crop is x, y, width, height in pixels, got {list(self.crop)}")


@dataclass(frozen=True)
class Embodiment:
    """The body that a model is trained on.

    Attributes:
        name: of the robot and what it does, for example 'ur5e_push'.
        control_dt_s: control period of one raw action, seconds.
        frame_skip: raw actions per model step.
        action: what the robot is told.
        proprio: entries of the proprioception, '<joint>/<position|velocity|effort>'.
        cameras: views, in the order of the model's picture (side by side, left to right).
        proprio_units: unit of each entry, in words; empty where nobody said.
        angles: those of `proprio` that are angles which wrap, radians.
    """

    name: str
    control_dt_s: float
    frame_skip: int
    action: ActionSpace
    proprio: tuple[str, ...]
    cameras: tuple[Camera, ...] = field(default=(Camera("front", 96),))
    proprio_units: tuple[str, ...] = ()
    angles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/\\ \n"):
            raise ValueError(f"name: expected one word without '/', got '{self.name}'")
        if not 1e-3 <= self.control_dt_s <= 10:
            raise ValueError(f"control_dt_s must be from 0.001 to 10 s, got {self.control_dt_s:g}")
        if not 1 <= self.frame_skip <= 1000:
            raise ValueError(f"frame_skip must be from 1 to 1000, got {self.frame_skip}")
        if not self.proprio:
            raise ValueError("proprio: expected at least one '<joint>/<field>' entry, got none")
        check_unique("proprio", self.proprio)
        for entry in self.proprio:
            joint, _, quantity = entry.rpartition("/")
            if not joint or quantity not in FIELDS:
                raise ValueError(
                    f"proprio: '{entry}' is not '<joint>/<field>' with a field of "
                    f"{', '.join(FIELDS)}"
                )
        if self.proprio_units and len(self.proprio_units) != len(self.proprio):
            raise ValueError(
                f"proprio_units: needs {len(self.proprio)} entries, one per proprio entry, got "
                f"{list(self.proprio_units)}"
            )
        check_unique("angles", self.angles)
        for name in self.angles:
            if name not in self.proprio:
                raise ValueError(f"angles: '{name}' is no entry of proprio.")
        if not self.cameras:
            raise ValueError("cameras: expected at least one, got none")
        check_unique("cameras", tuple(camera.name for camera in self.cameras))
        sizes = {camera.size for camera in self.cameras}
        if len(sizes) > 1:
            raise ValueError(
                f"cameras: one encoder sees them all, so their sizes must be equal, got "
                f"{sorted(sizes)}"
            )
        if all(camera.optional for camera in self.cameras):
            raise ValueError("cameras: at least one must not be optional")

    @property
    def model_dt_s(self) -> float:
        """Duration of one model step, seconds."""
        return self.control_dt_s * self.frame_skip

    @property
    def dt_ns(self) -> int:
        """Control period, nanoseconds."""
        return round(self.control_dt_s * 1e9)

    @property
    def model_dt_ns(self) -> int:
        """Duration of one model step, nanoseconds."""
        return self.dt_ns * self.frame_skip

    @property
    def image_size(self) -> int:
        """Side of each camera's square picture, pixels."""
        return self.cameras[0].size

    def to_json(self) -> dict[str, Any]:
        """Plain values, for bags, stores and cards."""
        result: dict[str, Any] = to_dict(self)
        return result

    @classmethod
    def from_json(cls, values: Any, source: str) -> Embodiment:
        """What `to_json` gave; `source` names it in errors.

        Raises:
            ConfigError: a key is unknown or missing, or a value cannot be used.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: expected a mapping, got {values!r}")
        return from_dict(cls, values, source)

    def difference(self, other: Embodiment) -> str | None:
        """What keeps a model of `other` from driving this robot, in words; None: nothing does.

        Bounds and rates may differ: a planner obeys those of the robot in front of it. So may the
        crop, which belongs to where a camera stands.
        """
        pairs: list[tuple[str, Any, Any]] = [
            ("control_dt_s", self.control_dt_s, other.control_dt_s),
            ("frame_skip", self.frame_skip, other.frame_skip),
            ("action.names", self.action.names, other.action.names),
            ("action.kind", self.action.kind, other.action.kind),
            ("proprio", self.proprio, other.proprio),
            (
                "cameras",
                tuple((c.name, c.size) for c in self.cameras),
                tuple((c.name, c.size) for c in other.cameras),
            ),
        ]
        for name, here, there in pairs:
            same = math.isclose(here, there) if isinstance(here, float) else here == there
            if not same:
                return f"{name} is {_shown(there)} there and {_shown(here)} here"
        return None


def check_unique(key: str, names: tuple[str, ...]) -> None:
    """Raises:
    ValueError: one of the names stands twice.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{key}: '{twice[0]}' is named more than once")


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
