"""What the finetune node can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wm_planner import __version__
from wm_planner.data.recording_message import SCHEMA
from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError
from wm_planner.files import parse_json
from wm_planner.nodes.planner_config import embodiment_parameter
from wm_planner.robot import observation_topic
from wm_planner.robot_state import StateTopic, state_parameter
from wm_planner.ros.command_topics import command_type
from wm_planner.ros.parameters import param

IMAGE_TOPIC = "observation/image"  # of a robot whose embodiment nobody has told


@dataclass(frozen=True)
class FinetuneConfig:
    """Parameters of the finetune node."""

    output: str = param("runs/bags", "directory that receives one bag per episode")
    imagined: bool = param(
        False, "record plan/imagined too, which needs more room than all else together"
    )
    compress: bool = param(False, "compress bags message by message, as rosbag2 does (zstd)")
    budget_gb: float = param(
        0.0, "gigabytes that the directory may hold; then the oldest bags go; 0: no limit", low=0.0
    )
    lockstep: bool = param(False, "the simulator waits: lose no sample")
    embodiment: str = param("", "of the robot, as JSON; written into every bag")
    checkpoint: str = param("", "name of the checkpoint that plans; written into every bag")
    checkpoint_sha256: str = param("", "checksum of the checkpoint's weights")
    planner_settings: str = param("", "of the planner, as JSON; written into every bag")
    robot_state: str = param("", "topics on which the robot says whether it obeys, as JSON")
    commands: str = param("", "topic on which others command the robot; empty: not recorded")
    commands_type: str = param("", "message type of it; empty: as found on the graph")
    commands_carry: str = param(
        "", "what its numbers are: position, velocity or effort; empty: as the embodiment's action"
    )
    commands_names: tuple[str, ...] = param(
        ("",), "joints of its Float64MultiArray, in order; empty: those of the embodiment"
    )

    def __post_init__(self) -> None:
        _ = self.body, self.planner, self.states
        if self.commands_type:
            command_type(self.commands_type)

    @property
    def body(self) -> Embodiment | None:
        """The robot; None where nobody has told.

        Raises:
            ConfigError: the parameter is no embodiment.
        """
        return embodiment_parameter(self.embodiment)

    @property
    def states(self) -> tuple[StateTopic, ...]:
        """Topics on which the robot says whether it obeys.

        Raises:
            ConfigError: the parameter is none of that.
        """
        return state_parameter(self.robot_state)

    @property
    def planner(self) -> dict[str, Any] | None:
        """Settings of the planner; None: nothing plans.

        Raises:
            ConfigError: they are no JSON object.
        """
        if not self.planner_settings:
            return None
        values = parse_json(self.planner_settings, "planner_settings")
        if not isinstance(values, dict):
            raise ConfigError(f"planner_settings: expected a JSON object, got {values!r}")
        return values

    @property
    def cameras(self) -> dict[str, str]:
        """Topic of each camera's pictures by its name, those that a recording needs first."""
        body = self.body
        if body is None:
            return {"front": IMAGE_TOPIC}
        cameras = sorted(body.cameras, key=lambda camera: camera.optional)
        return {camera.name: observation_topic(body, camera.name) for camera in cameras}

    def recording(
        self, topics: dict[str, str], plans_with: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """What a bag says of itself, as plain values.

        Args:
            topics: names of the topics in the bag, by the names that this package has for them.
            plans_with: name and checksum of the checkpoint, as the planner told them last; None:
                the checkpoint of the parameters.
        """
        body = self.body
        checkpoint = plans_with or {"name": self.checkpoint, "sha256": self.checkpoint_sha256}
        commands = {
            "topic": self.commands,
            "names": list(filter(None, self.commands_names)),
            "carries": self.commands_carry,
        }
        return {
            "schema": SCHEMA,
            "embodiment": None if body is None else body.to_json(),
            "checkpoint": checkpoint if checkpoint["name"] else None,
            "planner": self.planner,
            "version": __version__,
            "cameras": self.cameras,
            "commands": commands if self.commands else None,
            "topics": topics,
        }
