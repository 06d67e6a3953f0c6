"""What the explore node can be told, and the box that it keeps the robot in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_planner.embodiment import ActionSpace, Embodiment
from wm_planner.errors import ConfigError
from wm_planner.nodes.planner_config import embodiment_parameter
from wm_planner.ros.parameters import param
from wm_planner.runtime.motion import Box, allowed_box
from wm_planner.runtime.robot_description import joint_limits

REACH_S, REACH = 2.0, 0.5  # half width where nobody has said one: see `half_width`


@dataclass(frozen=True)
class ExploreConfig:
    """Parameters of the explore node."""

    embodiment: str = param("", "of the robot, as JSON")
    home: tuple[float, ...] = param(
        (0.0,), "joint positions that episodes begin from; a twist has none"
    )
    episodes: int = param(10, "episodes to record", low=1)
    seconds: float = param(25.0, "length of an episode, seconds", low=0.1, high=36000)
    seed: int = param(0, "of the random motion", low=0)
    position_low: tuple[float, ...] = param(
        (0.0,),
        "lower position limits, radians or metres; only zeros here and in position_high: none",
    )
    position_high: tuple[float, ...] = param((0.0,), "upper position limits")
    use_description: bool = param(False, "position limits come from the topic robot_description")
    half_width: float = param(
        0.0,
        "greatest distance from home, radians or metres; 0: the position limits if they are "
        "given here, else where full speed leads in 2 s, and 0.5 at most",
        low=0,
    )
    margin: float = param(
        0.05, "share of the width between position limits left free at each", low=0, high=0.45
    )
    homing_speed: float = param(0.3, "share of the greatest speed", low=0.01, high=1)
    home_tolerance: float = param(0.05, "from home, radians or metres", low=1e-6)
    start_delay_s: float = param(0.5, "rest before each episode, seconds", low=0, high=3600)
    recorder: str = param("finetune_node", "node that records; empty: nothing is recorded")

    def __post_init__(self) -> None:
        size = self.body.action.size
        if not self.body.action.is_twist and len(self.home) != size:
            raise ValueError(f"home needs {size} entries, one per action name")
        for name in ("position_low", "position_high"):
            if self.has_limits and len(getattr(self, name)) != size:
                raise ValueError(f"{name} needs {size} entries, one per action name")
        if self.use_description and (self.has_limits or self.body.action.is_twist):
            raise ValueError("use_description: position limits are given, or the action is a twist")

    @property
    def body(self) -> Embodiment:
        """The robot.

        Raises:
            ConfigError: the parameter is no embodiment.
        """
        body = embodiment_parameter(self.embodiment)
        if body is None:
            raise ConfigError("embodiment: needed; 'wm-planner robot explore' fills it in")
        return body

    @property
    def has_limits(self) -> bool:
        """Whether position limits are given."""
        return any(self.position_low) or any(self.position_high)

    @property
    def home_position(self) -> np.ndarray | None:
        """(A,) home; None of a twist."""
        return None if self.body.action.is_twist else np.array(self.home)

    def box(self, description: str | None) -> Box:
        """Where the robot is kept; of a twist, around the place where it starts.

        Args:
            description: URDF, when the limits come from it.

        Raises:
            ConfigError: limits cannot be used, or home lies outside of them.
        """
        action = self.body.action
        if action.kind in ("velocity", "position_delta"):
            for name, least, most in zip(action.names, action.low, action.high, strict=True):
                if not least < 0 < most:
                    raise ConfigError(
                        f"action '{name}' is from {least:g} to {most:g}: exploring goes both ways "
                        "and back, so its bounds must lie on both sides of zero"
                    )
        low, high = np.full(action.size, -np.inf), np.full(action.size, np.inf)
        if self.has_limits:
            low, high = np.array(self.position_low), np.array(self.position_high)
        elif description is not None:
            low, high = np.array(joint_limits(description, action.names)).T
        reach = np.full(action.size, self.half_width)
        if self.half_width == 0:
            reach = np.full(action.size, np.inf) if self.has_limits else usual_reach(action)
        home = self.home_position
        centre = np.zeros(action.size) if home is None else home
        return allowed_box(action, low, high, centre, reach, self.margin)


def usual_reach(action: ActionSpace) -> np.ndarray:
    """(A,) how far from home a robot is led of which nobody has said how far.

    Limits of a robot's description say what its joints can do, not where a table stands: most arms
    would reach through it.
    """
    fastest = np.full(action.size, np.inf)
    if action.kind == "velocity":
        fastest = np.maximum(np.abs(action.low), np.abs(action.high))
    elif action.kind == "position" and action.max_rate:
        fastest = np.where(np.array(action.max_rate) > 0, action.max_rate, np.inf)
    return np.minimum(REACH_S * fastest, REACH)
