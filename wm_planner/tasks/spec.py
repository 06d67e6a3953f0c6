"""The task table: names, bounds, control period, proprioception, goals, success tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wm_planner.config import suggest
from wm_planner.errors import TaskError


@dataclass(frozen=True)
class TaskSpec:
    """One task.

    Attributes:
        name: name used on the command line and in checkpoints.
        env_id: gymnasium id; the simulator registers it.
        control_dt_s: control period of one raw action, seconds.
        frame_skip: raw actions per model step.
        action_names: one name per raw action entry.
        action_low, action_high: bounds of one raw action, physical units.
        action_unit: unit of the raw action, in words.
        proprio_names: names of the proprioception entries, '<joint>/<position|velocity>'.
        state_names: names of the full simulator state.
        max_model_steps: replans after which an episode has failed.
        objective_alpha: weight of the proprioception error in the planning objective.
        distance: (state, goal_state) -> distance in the unit of the success test.
        is_success: (state, goal_state) -> bool.
        distance_unit: unit of `distance`, in words.
        layout: what of the simulated scene can be changed; names as in `Shifts`.
    """

    name: str
    env_id: str
    control_dt_s: float
    frame_skip: int
    action_names: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    action_unit: str
    proprio_names: tuple[str, ...]
    state_names: tuple[str, ...]
    max_model_steps: int
    objective_alpha: float
    distance: Callable[[np.ndarray, np.ndarray], float]
    is_success: Callable[[np.ndarray, np.ndarray], bool]
    distance_unit: str
    layout: tuple[str, ...] = ()

    @property
    def action_size(self) -> int:
        """Entries of one raw action."""
        return len(self.action_names)

    @property
    def model_dt_s(self) -> float:
        """Duration of one model step, seconds."""
        return self.control_dt_s * self.frame_skip


def _xy_distance(state: np.ndarray, goal: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(state)[:2] - np.asarray(goal)[:2]))


def wrapped_angle(angle_rad: float) -> float:
    """Wrap an angle to [-pi, pi)."""
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)


def _pusht_distance(state: np.ndarray, goal: np.ndarray) -> float:
    """Joint distance of pusher and block position, as in the published success test."""
    return float(np.linalg.norm(np.asarray(state)[:4] - np.asarray(goal)[:4]))


def _pusht_success(state: np.ndarray, goal: np.ndarray) -> bool:
    turned = abs(wrapped_angle(float(state[4]) - float(goal[4])))
    return _pusht_distance(state, goal) < 20.0 and turned < np.pi / 9


TASKS: dict[str, TaskSpec] = {
    task.name: task
    for task in (
        TaskSpec(
            name="wall",
            env_id="wm_planner/Wall-v0",
            control_dt_s=0.1,
            frame_skip=5,
            action_names=("slide_x", "slide_y"),
            action_low=(-1.0, -1.0),
            action_high=(1.0, 1.0),
            action_unit="two pixels of displacement per control period",
            proprio_names=("slide_x/position", "slide_y/position"),
            state_names=("x", "y"),
            max_model_steps=10,
            objective_alpha=1.0,
            distance=_xy_distance,
            is_success=lambda state, goal: _xy_distance(state, goal) < 4.5,
            distance_unit="px",
            layout=("obstacle", "wall_x", "door_y"),
        ),
        TaskSpec(
            name="point_maze",
            env_id="wm_planner/PointMaze-v0",
            control_dt_s=0.05,
            frame_skip=5,
            action_names=("slide_x", "slide_y"),
            action_low=(-1.0, -1.0),
            action_high=(1.0, 1.0),
            action_unit="hundred newtons of force",
            proprio_names=(
                "slide_x/position",
                "slide_y/position",
                "slide_x/velocity",
                "slide_y/velocity",
            ),
            state_names=("x", "y", "vx", "vy"),
            max_model_steps=10,
            objective_alpha=0.0,
            distance=_xy_distance,
            is_success=lambda state, goal: _xy_distance(state, goal) < 0.5,
            distance_unit="m",
            layout=("obstacle", "maze"),
        ),
        TaskSpec(
            name="pusht",
            env_id="wm_planner/PushT-v0",
            control_dt_s=0.1,
            frame_skip=5,
            action_names=("slide_x", "slide_y"),
            action_low=(-1.0, -1.0),
            action_high=(1.0, 1.0),
            action_unit="hundred workspace units of displacement of the pusher's target",
            proprio_names=(
                "slide_x/position",
                "slide_y/position",
                "slide_x/velocity",
                "slide_y/velocity",
            ),
            state_names=("x", "y", "block_x", "block_y", "block_angle_rad", "vx", "vy"),
            max_model_steps=10,
            objective_alpha=1.0,
            distance=_pusht_distance,
            is_success=_pusht_success,
            distance_unit="workspace units",
            layout=("obstacle",),
        ),
    )
}

ARM_JOINTS = tuple(
    f"{name}_joint"
    for name in ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
)


def _tip_distance(state: np.ndarray, goal: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(state)[6:9] - np.asarray(goal)[6:9]))


TASKS["arm_reach"] = TaskSpec(
    name="arm_reach",
    env_id="wm_planner/ArmReach-v0",
    control_dt_s=0.1,
    frame_skip=5,
    action_names=ARM_JOINTS,
    action_low=(-0.5,) * 6,
    action_high=(0.5,) * 6,
    action_unit="rad/s",
    proprio_names=tuple(f"{joint}/position" for joint in ARM_JOINTS),
    state_names=(*ARM_JOINTS, "tip_x", "tip_y", "tip_z"),
    max_model_steps=10,
    objective_alpha=0.0,
    distance=_tip_distance,
    is_success=lambda state, goal: _tip_distance(state, goal) < 0.03,
    distance_unit="m",
)

# Controls: the same tasks in environments that others have made.
for _of, _env_id in (
    ("point_maze", "wm_planner/GymPointMaze-v0"),
    ("pusht", "wm_planner/GymPushT-v0"),
):
    _name = f"gym_{_of}"
    TASKS[_name] = replace(TASKS[_of], name=_name, env_id=_env_id, layout=())


def get_task(name: str) -> TaskSpec:
    """Look a task up by name.

    Raises:
        TaskError: unknown name; the message lists the choices.
    """
    if name not in TASKS:
        raise TaskError(f"unknown task '{name}'.{suggest(name, TASKS)}")
    return TASKS[name]
