"""A robot file: the one place of what is known of a robot, as YAML.

It holds the embodiment, and how this one robot is reached: topics, command adapter, limits, home,
and when a goal counts as reached. A simulated robot is a robot file whose driver is a simulator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from wm_planner.config import from_dict, parse_settings, read_yaml, suggest
from wm_planner.embodiment import (
    KINDS,
    TWIST_AXES,
    ActionSpace,
    Camera,
    Embodiment,
    check_unique,
)
from wm_planner.errors import ConfigError
from wm_planner.robot_state import state_topics
from wm_planner.topic_names import check_remapping, check_topic

# The message type that each command adapter sends.
ADAPTERS = {
    "forward": "std_msgs/msg/Float64MultiArray",  # ros2_control's forward command controllers
    "joint_trajectory": "trajectory_msgs/msg/JointTrajectory",  # joint_trajectory_controller
    "twist": "geometry_msgs/msg/TwistStamped",  # MoveIt Servo, mobile bases
    "twist_unstamped": "geometry_msgs/msg/Twist",  # older mobile bases
    "simulator": "trajectory_msgs/msg/JointTrajectory",  # this package's: raw actions, stamped
}
CHECK_ACTIONS = ("stop", "warn", "ignore")
TWIST_ADAPTERS = ("twist", "twist_unstamped")
DESCRIPTION = "robot_description"
GUARD_PERIODS = 5  # of silence, after which the command guard takes the controller for dead
COLLISION_DISTANCE = 0.01  # metres, where a robot file says no more than that it is kept
# The field of a trajectory point that carries the action, by the kind of action.
INTERFACE = {
    "velocity": "velocity",
    "effort": "effort",
    "position": "position",
    "position_delta": "position",
}


@dataclass(frozen=True)
class CameraSource:
    """Where one camera's pictures come from, and what the model sees of them.

    Attributes:
        topic: of the driver's sensor_msgs/Image or CompressedImage; or, with `source`, unused.
        source: 'topic', or a device, file or URL that the camera node opens itself.
        crop: x, y, width, height in pixels of the driver's picture; null: the centre square.
        size: side of the square picture, pixels.
        optional: a recording may lack it.
        rate_hz: capture rate of a device, file or URL, hertz.
    """

    topic: str = ""
    source: str = "topic"
    crop: tuple[int, int, int, int] | None = None
    size: int = 96
    optional: bool = False
    rate_hz: float = 10.0

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"size must be at least 16 pixels, got {self.size}")
        if self.source == "topic" and not self.topic:
            raise ValueError("topic: name the topic of the camera's driver")
        if self.topic:
            check_topic("topic", self.topic)
        if not 0.01 <= self.rate_hz <= 1000:
            raise ValueError(f"rate_hz must be from 0.01 to 1000, got {self.rate_hz:g}")


@dataclass(frozen=True)
class CommandSink:
    """How commands reach the robot.

    Attributes:
        adapter: 'forward' (Float64MultiArray), 'joint_trajectory' (positions), 'twist'
            (TwistStamped), 'twist_unstamped' (Twist) or 'simulator' (raw actions as they stand).
        topic: of the robot's controller.
        frame_id: frame in which a twist is expressed.
        integrate: of an action of kind 'velocity': send the positions that the velocities lead to,
            to a robot that takes positions. 'joint_trajectory' does so by itself.
        tracking_error: positions that are sent are no further than this from the measured ones,
            radians or metres: a robot that is blocked is not pushed harder and harder.
        timeout_s: after so long without a command the robot's own controller stops it, seconds;
            null: it does not, or nobody knows.
    """

    topic: str
    adapter: str = "forward"
    frame_id: str = ""
    integrate: bool = False
    tracking_error: float = 0.2
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        check_topic("topic", self.topic)
        if self.adapter not in ADAPTERS:
            raise ValueError(f"unknown adapter '{self.adapter}'.{suggest(self.adapter, ADAPTERS)}")
        if self.adapter == "twist" and not self.frame_id:
            raise ValueError("adapter 'twist' needs frame_id: the frame of its axes")
        if not 1e-6 <= self.tracking_error <= 1e3:
            raise ValueError(
                f"tracking_error must be positive and finite, got {self.tracking_error}"
            )
        if self.timeout_s is not None and not 0 < self.timeout_s <= 60:
            raise ValueError(f"timeout_s must be above 0 and at most 60 s, got {self.timeout_s:g}")


@dataclass(frozen=True)
class PositionLimits:
    """Where joints may be, in the order of `action.names`; radians or metres."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high):
            raise ValueError(f"low has {len(self.low)} entries, high {len(self.high)}")
        for low, high in zip(self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"low must be below high, and finite, got {low:g} and {high:g}")


@dataclass(frozen=True)
class Workspace:
    """A box that the robot's tip stays in.

    Attributes:
        link: of the URDF, whose origin stays inside; of a twist, the link that the twist moves.
        low, high: x, y and z of the box, metres.
        frame: link of the URDF along whose axes the box lies; empty: that at the root.
    """

    link: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    frame: str = ""

    def __post_init__(self) -> None:
        if not self.link:
            raise ValueError("link: name the link of the URDF that stays in the box")
        for axis, low, high in zip("xyz", self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(
                    f"low must be below high, and finite; {axis} is from {low:g} to {high:g}"
                )


@dataclass(frozen=True)
class Record:
    """What a recording holds, and how forgiving its reader is.

    Attributes:
        commands: topic on which others command the robot while an episode is recorded:
            Float64MultiArray, JointTrajectory, Twist, TwistStamped or JointState.
        names: joints of a Float64MultiArray, in its order; empty: the action's.
        image_tolerance_s: greatest distance of a picture from its model step; null: 0.75 of the
            camera's period, at most a control period and half a model step.
        joint_gap_s: joint states further apart than this are not interpolated; null: two control
            periods or 0.1 s, whichever is longer.
        command_hold_s: how long a robot goes on with its last command. null: until the next one,
            as a controller without a timeout does.
        compress: bags are compressed, message by message.
        budget_gb: gigabytes that the directory of bags may hold; then the oldest go. 0: no limit.
    """

    commands: str = ""
    names: tuple[str, ...] = ()
    image_tolerance_s: float | None = None
    joint_gap_s: float | None = None
    command_hold_s: float | None = None
    compress: bool = False
    budget_gb: float = 0.0

    def __post_init__(self) -> None:
        if self.commands:
            check_topic("commands", self.commands)
        check_unique("names", self.names)
        for key in ("image_tolerance_s", "joint_gap_s", "command_hold_s"):
            value = getattr(self, key)
            if value is not None and not 0 < value <= 60:
                raise ValueError(f"{key} must be above 0 and at most 60 s, got {value:g}")
        if not 0 <= self.budget_gb < 1e6:
            raise ValueError(f"budget_gb must be from 0 to 1e6, got {self.budget_gb:g}")


@dataclass(frozen=True)
class Arrived:
    """When a goal counts as reached.

    Attributes:
        proprio: greatest difference of any entry of the proprioception from the goal's, in its
            unit; null: not asked.
        picture: greatest latent distance of the picture from the goal's (mean squared error of
            the visual tokens); null: as calibrated when the checkpoint was trained.
        for_s: for how long, seconds.
    """

    proprio: float | None = None
    picture: float | None = None
    for_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("proprio", "picture"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1e9:
                raise ValueError(f"{name} must be above 0 and at most 1e9, got {value:g}")
        if not 0 <= self.for_s <= 3600:
            raise ValueError(f"for_s must be from 0 to 3600 s, got {self.for_s:g}")


@dataclass(frozen=True)
class CameraCheck:
    """What becomes of pictures that cannot be planned from.

    Each check is 'stop', 'warn' or 'ignore'. From a picture that fails one of kind 'stop' nothing
    is planned; after `stop_after_s` the planner withdraws its plan, and the controller sends the
    safe command until the pictures have been good for `resume_after_s`.

    Attributes:
        stop_after_s, resume_after_s: seconds.
        frozen: every pixel stays the same while the robot moves.
        exposure: a single colour, noise, or light and focus other than in training.
        view: the camera does not show what it showed in training.
        surprise: what is seen is not what the model expected of the commands that were sent.
        least_view: of `view`, 1 as in training, 0 as of a moved camera; null: as calibrated.
        most_surprise: of `surprise`, in multiples of what hardly any held-out step exceeds.
    """

    stop_after_s: float = 1.0
    resume_after_s: float = 1.0
    frozen: str = "stop"
    exposure: str = "stop"
    view: str = "stop"
    surprise: str = "stop"
    least_view: float | None = None
    most_surprise: float = 1.5

    def __post_init__(self) -> None:
        for key in ("stop_after_s", "resume_after_s"):
            value = getattr(self, key)
            if not 0 <= value <= 60:
                raise ValueError(f"{key} must be from 0 to 60 s, got {value:g}")
        for key in ("frozen", "exposure", "view", "surprise"):
            value = getattr(self, key)
            if value not in CHECK_ACTIONS:
                raise ValueError(f"{key}: unknown action '{value}'.{suggest(value, CHECK_ACTIONS)}")
        if self.least_view is not None and not -10 <= self.least_view <= 1:
            raise ValueError(f"least_view must be from -10 to 1, got {self.least_view:g}")
        if not 0 < self.most_surprise < math.inf:
            raise ValueError(
                f"most_surprise must be above 0 and finite, got {self.most_surprise:g}"
            )


@dataclass(frozen=True)
class LeRobotKeys:
    """Where a LeRobot data set of this robot has what.

    Attributes:
        state: feature that holds the proprioception, or several of them.
        action: feature that holds the action.
        cameras: feature by the camera's name; of a camera that is not named here
            'observation.images.<name>' or 'observation.image'.
        names: the robot's joint by the data set's name of it, where they differ.
        scale: factor from the data set's unit to the robot's, by the robot's joint; 1 where it
            is missing. Degrees become radians by 0.0174533.
        fps: frames per second, where info.json is wrong; null: as it says.
    """

    state: tuple[str, ...] | str = "observation.state"
    action: str = "action"
    cameras: dict[str, Any] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    scale: dict[str, Any] = field(default_factory=dict)
    fps: float | None = None

    def __post_init__(self) -> None:
        for key in ("cameras", "names"):
            for name, value in getattr(self, key).items():
                if not isinstance(name, str) or not isinstance(value, str) or not value:
                    raise ValueError(f"{key}: expected names, got {name!r}: {value!r}")
        for name, value in self.scale.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value == 0:
                raise ValueError(f"scale: {name}: expected a number other than 0, got {value!r}")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError(f"fps must be above 0 and at most 1000, got {self.fps:g}")


@dataclass(frozen=True)
class Driver:
    """A process that stands for the robot: a simulator, or the user's own.

    Attributes:
        module: Python module with a ``main``; started as ``python -m``.
        parameters: its ROS parameters.
        name: node name.
        package: that installs the executable of the same name, for ros2 launch.
    """

    module: str
    name: str = "driver"
    parameters: dict[str, Any] = field(default_factory=dict)
    package: str = "wm_planner"


@dataclass(frozen=True)
class RobotFile:
    """See the module.

    Attributes:
        name, control_dt_s, frame_skip, action, proprio, proprio_units, angles: see `Embodiment`.
        cameras: by name, in the order of the model's picture.
        command: see `CommandSink`.
        stale_after_s: greatest age of plan and observation, seconds.
        joint_states: topic of sensor_msgs/JointState.
        safe_action: sent when a plan must not be followed; null: rest, which is zero or the bound
            that is nearest. A robot that takes positions holds where it is.
        position_limits: lists, or 'robot_description' for those of the robot's URDF; null: none.
        workspace: see `Workspace`; null: the tip may be anywhere.
        self_collision: links are kept so far from each other, metres, by the collision geometry of
            the URDF; true: 0.01; false: not checked.
        state: what the robot says of itself, one `StateTopic` or a list of them; while one of them
            is not good, the controller sends the safe command, and nothing counts as executed.
        home: joint positions that `explore` starts episodes from, in the order of `action.names`.
        arrived: see `Arrived`.
        camera_check: see `CameraCheck`.
        record: see `Record`.
        driver: see `Driver`; null: the robot runs already.
        checkpoint: variant, shipped name or directory.
        planner: solver.
        settings: planner settings, 'key=value'.
        device: torch device.
        topics: further remappings, from this package's names to the robot's.
        lerobot: see `LeRobotKeys`.
    """

    name: str
    control_dt_s: float
    frame_skip: int
    action: ActionSpace
    proprio: tuple[str, ...]
    cameras: dict[str, Any]
    command: CommandSink
    stale_after_s: float
    proprio_units: tuple[str, ...] = ()
    angles: tuple[str, ...] = ()
    joint_states: str = "joint_states"
    safe_action: tuple[float, ...] | None = None
    position_limits: PositionLimits | str | None = None
    workspace: Workspace | None = None
    self_collision: bool | float = False
    state: Any = ()
    home: tuple[float, ...] = ()
    arrived: Arrived = field(default_factory=Arrived)
    camera_check: CameraCheck = field(default_factory=CameraCheck)
    record: Record = field(default_factory=Record)
    driver: Driver | None = None
    checkpoint: str = ""
    planner: str = "gbp"
    settings: tuple[str, ...] = ()
    device: str = "cpu"
    topics: dict[str, Any] = field(default_factory=dict)
    lerobot: LeRobotKeys = field(default_factory=LeRobotKeys)

    def __post_init__(self) -> None:
        if not self.cameras:
            raise ValueError("cameras: expected at least one, as {front: {topic: ...}}, got none")
        check_topic("joint_states", self.joint_states)
        for name, topic in self.topics.items():
            check_remapping("topics", name, topic)
        parse_settings(self.settings, "settings")
        sources: dict[str, CameraSource] = {}
        for name, values in self.cameras.items():
            if not isinstance(values, CameraSource):
                if not isinstance(values, dict):
                    raise ValueError(f"cameras: {name}: expected a mapping, got {values!r}")
                values = from_dict(CameraSource, values, f"cameras: {name}")
            same = [other for other, source in sources.items() if _sees_the_same(source, values)]
            if same:
                raise ValueError(f"cameras: {name} and {same[0]} are the same camera")
            sources[str(name)] = values
        object.__setattr__(self, "cameras", sources)
        object.__setattr__(self, "state", state_topics(self.state))
        _ = self.embodiment  # its own checks
        size = self.action.size
        for key, given in (("safe_action", self.safe_action), ("home", self.home or None)):
            if given is not None and not all(math.isfinite(value) for value in given):
                raise ValueError(f"{key}: must be finite, got {list(given)}")
            if given is not None and len(given) != size:
                raise ValueError(f"{key}: needs {size} entries, one per action name, got {given}")
        for name in self.lerobot.cameras:
            if name not in self.cameras:
                raise ValueError(
                    f"lerobot: cameras: there is no camera '{name}'.{suggest(name, self.cameras)}"
                )
        limits = self.position_limits
        if isinstance(limits, str) and limits != DESCRIPTION:
            raise ValueError(
                f"position_limits: expected lists low and high, or '{DESCRIPTION}', got '{limits}'"
            )
        if isinstance(limits, PositionLimits) and len(limits.low) != size:
            raise ValueError(f"position_limits: needs {size} entries, one per action name")
        if self.action.is_twist != (self.command.adapter in TWIST_ADAPTERS):
            raise ValueError(
                f"command.adapter '{self.command.adapter}' does not fit action.names "
                f"{list(self.action.names)}: twist axes ({', '.join(TWIST_AXES)}) go with the "
                f"adapters {' and '.join(TWIST_ADAPTERS)}"
            )
        if self.command.integrate and self.action.kind != "velocity":
            raise ValueError(
                f"command.integrate turns velocities into positions; action.kind is "
                f"'{self.action.kind}'"
            )
        if self.command.adapter == "joint_trajectory" and self.action.kind == "effort":
            raise ValueError(
                "command.adapter 'joint_trajectory' sends positions, action.kind is 'effort': take "
                "an effort controller and the adapter forward"
            )
        if limits is not None and self.action.is_twist:
            raise ValueError("position_limits: they are of joints, the action is a twist")
        timeout_s = self.command.timeout_s
        if timeout_s is not None and timeout_s < 2 * self.control_dt_s:
            raise ValueError(
                f"command.timeout_s is {timeout_s:g} s, less than two control periods of "
                f"{self.control_dt_s:g} s: the robot would stop between commands"
            )
        self._check_positions()
        self._check_space()
        if not 1e-3 <= self.stale_after_s <= 60:
            raise ValueError(f"stale_after_s must be from 0.001 to 60 s, got {self.stale_after_s}")

    def _check_positions(self) -> None:
        action = self.action
        if action.kind == "position" and not (
            action.max_rate and all(rate > 0 for rate in action.max_rate)
        ):
            raise ValueError(
                f"action: max_rate: kind 'position' needs one above 0 for every joint, got "
                f"{list(action.max_rate)}: without it the first plan may begin with a jump"
            )
        if action.kind in ("velocity", "position_delta"):
            if not self.sends_positions and self.safe_action and any(self.safe_action):
                raise ValueError(
                    f"safe_action: a robot that takes a {action.kind} is stopped by zeros; leave "
                    f"it out, got {list(self.safe_action)}"
                )
            for name, low, high in zip(action.names, action.low, action.high, strict=True):
                if not low <= 0 <= high:
                    raise ValueError(
                        f"action: '{name}' is from {low:g} to {high:g}: zero, which stops it, must "
                        "lie within its bounds"
                    )
        wrapping = [name for name in action.names if f"{name}/position" in self.angles]
        if self.sends_positions and wrapping:
            raise ValueError(
                f"angles: '{wrapping[0]}/position' wraps, and positions cannot be sent to a joint "
                "that wraps; take it out of angles, or command its velocity"
            )
        if self.sends_positions and self.safe_action is not None and any(self.safe_action):
            raise ValueError(
                f"safe_action: positions hold where the robot is; leave it out, got "
                f"{list(self.safe_action)}"
            )

    def _check_space(self) -> None:
        if not 0 <= self.self_collision <= 1 and self.self_collision is not True:
            raise ValueError(
                f"self_collision must be true, false or from 0 to 1 m, got {self.self_collision:g}"
            )
        if self.action.kind == "effort" and (self.workspace or self.collision_distance is not None):
            raise ValueError(
                "workspace and self_collision: nobody can tell where efforts lead; leave them out, "
                "or command velocities or positions"
            )
        if self.action.is_twist and self.collision_distance is not None:
            raise ValueError(
                "self_collision: the receiver of a twist chooses the joints: leave it out, and use "
                "the receiver's own check (MoveIt Servo: check_collisions)"
            )

    @property
    def collision_distance(self) -> float | None:
        """Smallest distance of links, metres; None: not checked."""
        if isinstance(self.self_collision, bool):
            return COLLISION_DISTANCE if self.self_collision else None
        return self.self_collision

    @property
    def needs_description(self) -> bool:
        """Whether the controller needs the robot's URDF."""
        checked = self.workspace is not None or self.collision_distance is not None
        return checked or self.position_limits == DESCRIPTION

    @cached_property
    def embodiment(self) -> Embodiment:
        """What of this file travels with data and checkpoints."""
        return Embodiment(
            name=self.name,
            control_dt_s=self.control_dt_s,
            frame_skip=self.frame_skip,
            action=self.action,
            proprio=self.proprio,
            cameras=tuple(
                Camera(name, source.size, source.crop, source.optional)
                for name, source in self.cameras.items()
            ),
            proprio_units=self.proprio_units,
            angles=self.angles,
        )

    @property
    def sends_positions(self) -> bool:
        """Whether what goes to the robot are positions, whatever the planner's action is."""
        adds_up = self.command.integrate or self.command.adapter == "joint_trajectory"
        return self.action.kind in ("position", "position_delta") or adds_up


def adapter_hint(message_type: str) -> str:
    """What to write for a robot that takes messages of a type."""
    for adapter, sent in ADAPTERS.items():
        if sent == message_type:
            return f"write command.adapter: {adapter}"
    return f"choose a controller that takes one of {', '.join(dict.fromkeys(ADAPTERS.values()))}"


def guard_after_s(control_dt_s: float, stale_after_s: float) -> float:
    """Silence after which the command guard speaks in the controller's place, seconds."""
    return min(GUARD_PERIODS * control_dt_s, stale_after_s)


def _sees_the_same(one: CameraSource, other: CameraSource) -> bool:
    return (one.source, one.topic, one.crop) == (other.source, other.topic, other.crop)


def observation_topic(embodiment: Embodiment, camera: str) -> str:
    """Topic on which a camera node publishes what the model sees of a camera."""
    if len(embodiment.cameras) == 1:
        return "observation/image"
    return f"observation/{camera}"


def read_robot(path: Path | str) -> RobotFile:
    """Read a robot file.

    Raises:
        ConfigError: missing file, unknown or missing key, a value that cannot be used. A key of
            robot files before there were embodiments is named with what has taken its place.
    """
    values = read_yaml(path)
    for key, now in _FORMER.items():
        if key in values:
            raise ConfigError(f"{path}: key '{key}' is of an older version; {now}")
    action: Any = values.get("action")
    if isinstance(action, dict) and action.get("kind", "velocity") not in KINDS:
        kind = str(action["kind"])
        raise ConfigError(f"{path}: action: kind: unknown kind '{kind}'.{suggest(kind, KINDS)}")
    return from_dict(RobotFile, values, str(path))


_FORMER = {
    "task": "write name, control_dt_s and frame_skip: the robot needs no task of the simulator",
    "action_names": "write action: {names: [...], kind: ..., low: [...], high: [...]}",
    "adapter": "write command: {adapter: ..., topic: ...}",
    "camera": "write cameras: {front: {topic: ..., crop: [...], size: ...}}",
    "low": "write action: {low: [...], high: [...]}",
    "command_interface": "write action: {kind: ...}",
    "hold": "positions hold by themselves",
    "goal_image": "give --goal to 'wm-planner robot run'",
}
