"""What the controller node can be told, and the parts that are built from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_planner.config import from_dict, suggest
from wm_planner.embodiment import KINDS, TWIST_AXES, ActionSpace
from wm_planner.kinematics.checks import Space, space_of
from wm_planner.robot import DESCRIPTION, INTERFACE, Workspace, guard_after_s
from wm_planner.robot_state import StateTopic, state_parameter
from wm_planner.ros.adapters import CommandAdapter
from wm_planner.ros.parameters import param, required
from wm_planner.runtime.control import ControlLoop
from wm_planner.runtime.free_space import Guards, PositionSpaceGuard, VelocityGuard
from wm_planner.runtime.integrator import Integrator
from wm_planner.runtime.position_limits import PositionGuard, tightened, within_positions
from wm_planner.runtime.robot_description import described_limits
from wm_planner.runtime.safety import Guard, Limits, SafetyGate, limits_of

NONE = (0.0,)  # ROS has no empty list of numbers


@dataclass(frozen=True)
class ControllerConfig:
    """Parameters of the controller node."""

    action_names: tuple[str, ...] = required("joints, or axes as linear.x")
    kind: str = param("velocity", "of the actions: velocity, position, position_delta or effort")
    low: tuple[float, ...] = required("lower bounds, physical units")
    high: tuple[float, ...] = required("upper bounds, physical units")
    max_rate: tuple[float, ...] = required("largest change, units per second; 0: no limit", low=0)
    safe_action: tuple[float, ...] = required(
        "sent whenever a plan must not be followed; positions hold instead"
    )
    position_limits: str = param(
        "", "robot_description: those of the URDF on that topic; empty: those below"
    )
    position_low: tuple[float, ...] = param(
        NONE, "lower position limits, rad or m; a single 0 here and below: none"
    )
    position_high: tuple[float, ...] = param(NONE, "upper position limits, rad or m")
    integrate: bool = param(False, "send the positions that velocities lead to")
    tracking_error: float = param(
        0.2,
        "positions that are sent are no further than this from the measured ones, rad or m",
        low=1e-6,
        high=1e3,
    )
    control_dt_s: float = param(0.1, "control period, seconds", low=1e-3, high=10)
    stale_after_s: float = param(
        1.5, "greatest age of plan and observation, seconds", low=1e-3, high=60
    )
    workspace_link: str = param("", "link that stays in the box below; empty: none does")
    workspace_frame: str = param("", "link along whose axes the box lies; empty: the root")
    workspace_low: tuple[float, ...] = param(NONE, "x, y and z of the box, metres")
    workspace_high: tuple[float, ...] = param(NONE, "x, y and z of the box, metres")
    self_collision: float = param(
        -1.0, "links keep this distance, metres; below 0: not checked", low=-1, high=1
    )
    home: tuple[float, ...] = param(
        NONE, "links that touch with the joints there are not checked; a single 0: not known"
    )
    robot_state: str = param("", "topics on which the robot says whether it obeys, as JSON")
    guarded: bool = param(
        False, "follow no plan before the command guard hears the commands: it is started, too"
    )
    adapter: str = param(
        "joint_trajectory", "forward, joint_trajectory, twist, twist_unstamped or simulator"
    )
    frame_id: str = param("", "frame in which a twist is expressed")
    lockstep: bool = param(False, "answer each joint state once its plan is there; no timer")
    rows_per_plan: int = param(5, "control periods per plan in lock-step", low=1)
    autostart: bool = param(False, "activate as soon as possible; leave it false on hardware")

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind '{self.kind}'.{suggest(self.kind, KINDS)}")
        sized = ["low", "high", "max_rate", "safe_action"]
        if self.has_lists:
            sized += ["position_low", "position_high"]
        if self.home != NONE:
            sized.append("home")
        for name in sized:
            if len(getattr(self, name)) != len(self.action_names):
                raise ValueError(
                    f"{name} needs {len(self.action_names)} entries, one per action name"
                )
        if self.position_limits not in ("", DESCRIPTION):
            raise ValueError(
                f"position_limits: expected '{DESCRIPTION}' or '', got '{self.position_limits}'"
            )
        if self.position_limits and self.has_lists:
            raise ValueError("position_limits: give robot_description or the lists, not both")
        _ = self.states
        self._check_kind()

    def _check_kind(self) -> None:
        """What would make a wrong command itself the danger."""
        if self.integrate and self.kind != "velocity":
            raise ValueError(f"integrate turns velocities into positions; kind is '{self.kind}'")
        if self.adapter == "joint_trajectory" and self.kind == "effort":
            raise ValueError(
                "adapter 'joint_trajectory' sends positions, kind is 'effort': take an effort "
                "controller and the adapter forward"
            )
        if self.kind == "position" and not all(rate > 0 for rate in self.max_rate):
            raise ValueError(
                f"kind 'position' needs max_rate above 0, got {list(self.max_rate)}: without it "
                "the first plan may begin with a jump"
            )
        if self.holds:
            self._check_tracking()
        if self.kind in ("velocity", "position_delta"):
            self._check_rest()
        _ = self.workspace
        if self.kind == "effort" and self.has_space:
            raise ValueError(
                "workspace and self_collision: nobody can tell where efforts lead; leave them out"
            )
        if self.self_collision >= 0 and not self.joints:
            raise ValueError("self_collision: the receiver of a twist chooses the joints")
        limited = self.begins_somewhere or self.has_lists or self.position_limits
        if limited and not self.joints:
            raise ValueError(
                "position limits, and positions, are those of joints; action_names are the axes "
                "of a twist"
            )

    def _check_tracking(self) -> None:
        """One control period must not lead further than the tracking error."""
        step = max(self.max_rate) * self.control_dt_s
        if step > self.tracking_error:
            raise ValueError(
                f"tracking_error {self.tracking_error:g} is below the step of one control period, "
                f"{step:g} (max_rate times control_dt_s): every full step would be refused"
            )

    def _check_rest(self) -> None:
        """Zero stops the robot, so it must be allowed, and be what is sent."""
        if any(self.safe_action):
            raise ValueError(
                f"safe_action: only zero stops a robot that takes a {self.kind}, got "
                f"{list(self.safe_action)}"
            )
        for name, low, high in zip(self.action_names, self.low, self.high, strict=True):
            if not low <= 0 <= high:
                raise ValueError(
                    f"low and high: '{name}' is from {low:g} to {high:g}: zero, which stops it, "
                    "must lie within"
                )

    @property
    def states(self) -> tuple[StateTopic, ...]:
        """Topics on which the robot says whether it obeys.

        Raises:
            ConfigError: `robot_state` is none of that.
        """
        return state_parameter(self.robot_state)

    @property
    def workspace(self) -> Workspace | None:
        """The box of the tip; None: it may be anywhere.

        Raises:
            ConfigError: it is no box.
        """
        if not self.workspace_link:
            return None
        values = {"link": self.workspace_link, "frame": self.workspace_frame}
        box = {"low": self.workspace_low, "high": self.workspace_high}
        return from_dict(Workspace, values | box, "workspace")

    @property
    def has_space(self) -> bool:
        """Whether the tip has a box, or links are kept apart."""
        return bool(self.workspace_link) or self.self_collision >= 0

    @property
    def needs_description(self) -> bool:
        """Whether activation needs the robot's URDF."""
        return bool(self.position_limits) or self.has_space

    @property
    def has_lists(self) -> bool:
        """Whether position limits are given as lists."""
        return (self.position_low, self.position_high) != (NONE, NONE)

    @property
    def integrates(self) -> bool:
        """Whether actions are added up to positions."""
        adds_up = self.integrate or self.adapter == "joint_trajectory"
        return self.kind == "position_delta" or (adds_up and self.kind == "velocity")

    @property
    def holds(self) -> bool:
        """Whether the safe action is a place: where the robot is."""
        return self.kind == "position"

    @property
    def begins_somewhere(self) -> bool:
        """Whether activation needs to know where the joints are."""
        return self.holds or self.integrates

    @property
    def needs_positions(self) -> bool:
        """Whether the controller must know where the joints are."""
        return self.begins_somewhere or self.has_lists or self.needs_description

    @property
    def command_interface(self) -> str:
        """Field of a trajectory's points that carries an action."""
        return INTERFACE[self.kind]

    @property
    def dt_ns(self) -> int:
        """Control period, nanoseconds."""
        return round(self.control_dt_s * 1e9)

    @property
    def stale_after_ns(self) -> int:
        """Greatest age of plan and observation, nanoseconds."""
        return round(self.stale_after_s * 1e9)

    @property
    def joints(self) -> frozenset[str]:
        """Joints that joint_states must name; none for the axes of a twist."""
        return frozenset(self.action_names) - set(TWIST_AXES)

    @property
    def is_twist(self) -> bool:
        """Whether the action is a twist, not one of joints."""
        return not self.joints

    @property
    def action(self) -> ActionSpace:
        """The action as a robot file has it."""
        return ActionSpace(self.action_names, self.low, self.high, self.kind, self.max_rate)

    def control_loop(self) -> ControlLoop:
        """Plan buffer, ages and safety gate, with the limits that are known before activation.

        Raises:
            ConfigError: limits or safe action cannot be used.
        """
        limits, guard = self._bounds(), None
        if not self.needs_description:
            limits, guard = self.limits_and_guard()
        safe = np.array(self.safe_action)
        if self.holds:  # `begin` says where
            safe = np.clip(safe, limits.low, limits.high)
        # A tick may be late by a tenth of a period, and the safe command must not be.
        late_ns = 0 if self.lockstep else self.dt_ns // 10
        gate = SafetyGate(
            limits,
            safe,
            max(self.stale_after_ns - late_ns, 1),
            self.dt_ns,
            self.holds,
            guard,
            self.tracking_error if self.holds else np.inf,
        )
        if self.lockstep:
            return ControlLoop(gate, ("joint_states",), self.rows_per_plan)
        guard_ns = None
        if not self.begins_somewhere:
            # A period before the command guard speaks: which of the two comes first is chance.
            after_s = guard_after_s(self.control_dt_s, self.stale_after_s) - self.control_dt_s
            guard_ns = round(max(after_s, 1.5 * self.control_dt_s) * 1e9)
        return ControlLoop(gate, ("joint_states", "observation/image"), late_ns=guard_ns)

    def space(self, description: str) -> Space | None:
        """Where the robot may go beside position limits; None: that is not limited.

        Args:
            description: the robot's URDF.

        Raises:
            ConfigError: the description cannot be used.
        """
        if not self.has_space:
            return None
        distance = self.self_collision if self.self_collision >= 0 else None
        home = None if self.home == NONE else np.array(self.home)
        names, frame = self.action_names, self.frame_id
        return space_of(description, names, self.workspace, distance, home, frame)

    def limits_and_guard(
        self, description: str = "", space: Space | None = None
    ) -> tuple[Limits, Guard | None]:
        """Bounds and rates, and what depends on where the joints are.

        Args:
            description: the robot's URDF, where `position_limits` asks for it.
            space: see `space`.

        Raises:
            ConfigError: limits, or the description, cannot be used.
        """
        limits = self._bounds()
        low, high = (np.full(len(limits.low), sign * np.inf) for sign in (-1, 1))
        if self.has_lists:
            low, high = np.array(self.position_low), np.array(self.position_high)
        elif self.position_limits:
            joints = described_limits(description, self.action_names)
            low = np.array([joint.low for joint in joints])
            high = np.array([joint.high for joint in joints])
            limits = tightened(limits, self.kind, self.control_dt_s, joints)
        free = None if space is None else space.free
        dt_s = self.control_dt_s
        if self.integrates:
            return limits, Integrator(self.kind, low, high, dt_s, self.tracking_error, free)
        if self.kind == "position":
            guard = None if free is None else PositionSpaceGuard(free)
            return within_positions(limits, low, high), guard
        guards: list[Guard] = []
        if self.has_lists or self.position_limits:
            guards.append(PositionGuard(self.kind, low, high, dt_s, limits.max_rate))
        if space is not None:
            guards.append(VelocityGuard(space.free, space.place, dt_s, limits.max_rate))
        return limits, Guards(guards) if guards else None

    def _bounds(self) -> Limits:
        return limits_of(self.low, self.high, self.max_rate)

    def command_adapter(self) -> CommandAdapter:
        """From actions, or the positions that they lead to, to the robot's messages.

        Raises:
            ConfigError: unknown adapter or axis.
        """
        interface = "position" if self.begins_somewhere else self.command_interface
        return CommandAdapter(self.adapter, self.action_names, interface, self.dt_ns, self.frame_id)
