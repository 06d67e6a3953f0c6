"""A six-joint arm over a table, with the links of a UR5e."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from sim_bridge.envs.base import simulated_task
from sim_bridge.envs.scene import SceneEnv
from sim_bridge.experts import Policy, hold
from wm_planner.embodiment import ActionSpace

JOINTS = (
    "shoulder_pan_joint",
    "shoulder_lift_joint",
    "elbow_joint",
    "wrist_1_joint",
    "wrist_2_joint",
    "wrist_3_joint",
)
JOINT_PROPRIO = dict.fromkeys((f"{joint}/position" for joint in JOINTS), "rad")
TICK_S = 0.02  # period in which limits are looked at: that of the driver's joint states
REACHED_M = 0.03  # of the goal's tip
MAX_SPEED, MAX_ACCELERATION = 0.5, 5.0  # of each joint, rad/s and rad/s^2


def tip_distance(state: np.ndarray, goal: np.ndarray) -> float:
    """Distance of the tips of two states of arm_reach, m."""
    return float(np.linalg.norm(np.asarray(state)[6:9] - np.asarray(goal)[6:9]))


ARM_REACH = simulated_task(
    "arm_reach",
    "ArmReach",
    ActionSpace(
        names=JOINTS,
        low=(-MAX_SPEED,) * 6,
        high=(MAX_SPEED,) * 6,
        max_rate=(MAX_ACCELERATION,) * 6,
        unit="rad/s",
    ),
    JOINT_PROPRIO,
    image_size=96,
    state_names=(*JOINTS, "tip_x", "tip_y", "tip_z"),
    distance=tip_distance,
    is_success=lambda state, goal: tip_distance(state, goal) < REACHED_M,
    distance_unit="m",
    things={"arm": (*JOINTS, "tip_x", "tip_y", "tip_z")},
    angles=JOINTS,
)
REACH_HOME = np.array([-0.20, -1.50, 1.80, -1.87, -1.57, 0.0])
# Within this box around home the tip stays in the picture and 3 cm above the table, no link leaves
# the picture by more than a twentieth of it, and the arm is neither stretched nor folded.
REACH_HALF = np.array([0.45, 0.20, 0.28, 0.40, 0.45, 0.60])
GOAL_SHARE = 0.9  # of the box, for goals: a goal at a limit is reached from one side only
LEAST_WAY_M = 0.10  # from a target's start to its goal


class ArmEnv(SceneEnv):
    """The arm, driven by joint velocities; for the arguments see `TaskEnv`.

    The joints take a commanded velocity at once, so the arm has no memory beyond its position.
    """

    asset = "arm"
    limits: np.ndarray  # (2, 6) lowest and highest joint positions, rad

    def __init__(self, image_size: int = 96, render: bool = True, layout: dict | None = None):
        super().__init__(image_size, render, layout)
        self._scratch = self._mujoco.MjData(self.model)
        self._substeps = round(TICK_S / self.model.opt.timestep)
        self._ticks = round(self.task.embodiment.control_dt_s / TICK_S)
        self._tip = self.model.site("tip").id

    @abstractmethod
    def joint_velocities(self, action: np.ndarray) -> np.ndarray:
        """(6,) rad/s that a raw action within its bounds asks for now."""

    def tick(self, action: np.ndarray) -> None:
        """Physics of `TICK_S` under a raw action within its bounds; no joint leaves its limits."""
        self.command(self.joint_velocities(action))

    def command(self, velocities: np.ndarray) -> None:
        """Physics of `TICK_S` under (6,) joint velocities, rad/s; no joint leaves its limits."""
        low, high = (self.limits - self.joints) / TICK_S
        velocities = np.clip(velocities, low, high)
        # A servo that jumps to a velocity by itself does so by a force that the contact solver
        # passes on to what the arm touches. So the joints begin with the velocity already.
        self.data.qvel[:6] = self.data.ctrl[:] = velocities
        self._mujoco.mj_step(self.model, self.data, self._substeps)

    @property
    def joints(self) -> np.ndarray:
        """(6,) joint positions, rad."""
        return self.data.qpos[:6]

    @abstractmethod
    def aim_of(self, goal: np.ndarray) -> np.ndarray:
        """(3,) place within `REACHED_M` of which the goal counts as reached, m."""

    def seen_ring(
        self, goal: np.ndarray, width: float = 1.0, height: float = 1.0
    ) -> tuple[float, float, float]:
        """Centre and radius of what `aim_of` says, in a picture of the arm's camera."""
        camera = self.model.camera(self.camera).id
        offset = self.aim_of(goal) - self.data.cam_xpos[camera]
        right, up, back = self.data.cam_xmat[camera].reshape(3, 3).T @ offset
        focus = 0.5 * height / np.tan(0.5 * np.deg2rad(self.model.cam_fovy[camera]))
        scale = focus / -back
        return width / 2 + scale * right, height / 2 - scale * up, scale * REACHED_M

    def tip_of(self, joints: np.ndarray) -> np.ndarray:
        """(3,) place of the tip at (6,) joint positions, m."""
        self._scratch.qpos[:6] = joints
        self._mujoco.mj_kinematics(self.model, self._scratch)
        return self._scratch.site_xpos[self._tip].copy()

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """Joint positions, rad."""
        return np.asarray(state[:6], dtype=np.float32)

    def expert(self, rng: np.random.Generator) -> Policy:
        """Stretches as the arm's task has them, without jitter."""
        return self._limited(self._move(rng, exploring=False, jitter=0.0))

    def explore(self, rng: np.random.Generator) -> Policy:
        """More aimless motion; half of the episodes jitter.

        A planner is free in every single action. A model that has only seen smooth motion is
        wrong about the jerky one, and a gradient finds that out.
        """
        jitter = 0.0 if rng.random() < 0.5 else 10 ** rng.uniform(-1.5, -0.3)
        return self._limited(self._move(rng, exploring=True, jitter=jitter))

    @abstractmethod
    def _move(self, rng: np.random.Generator, exploring: bool, jitter: float) -> Policy:
        """Actions in units of the greatest speed.

        Args:
            rng: source of randomness.
            exploring: with more of the stretches aimless.
            jitter: standard deviation of what is added to every action.
        """

    def _limited(self, policy: Policy) -> Policy:
        """`policy` times the greatest speed, changing by no more than what the arm accelerates."""
        body = type(self).task.embodiment  # whose bounds are not scaled by a shift's gain
        scale = np.float32(body.action.high[0])
        most = np.float32(body.action.max_rate[0] * body.control_dt_s)
        last: np.ndarray | None = None

        def act(state: np.ndarray) -> np.ndarray:
            nonlocal last
            wanted = scale * policy(state)
            before = np.zeros_like(wanted) if last is None else last
            last = np.clip(wanted, before - most, before + most)
            return last

        return act

    def _run(self, action: np.ndarray) -> None:
        for _ in range(self._ticks):
            self.tick(action)
        self._mujoco.mj_forward(self.model, self.data)


class ArmReachEnv(ArmEnv):
    """State: the six joint positions and what follows from them, the tip's x, y, z.

    An action is six joint velocities. The joints are limited to a box around `REACH_HOME`; a
    velocity into a limit stops at it.
    """

    task = ARM_REACH
    camera = "front"
    limits = np.array([REACH_HOME - REACH_HALF, REACH_HOME + REACH_HALF])

    def joint_velocities(self, action: np.ndarray) -> np.ndarray:
        """The action itself."""
        return action

    def aim_of(self, goal: np.ndarray) -> np.ndarray:
        """The goal's tip."""
        return np.asarray(goal)[6:9]

    def get_state(self) -> np.ndarray:
        """Joint positions, rad, and the tip's x, y, z, m."""
        return np.concatenate([self.joints, self.data.site_xpos[self._tip]])

    def is_possible(self, state: np.ndarray) -> bool:
        """Whether all joints are within their limits, but for a servo's error."""
        low, high = self.limits
        joints = np.asarray(state)[:6]
        return bool(((joints > low - 0.01) & (joints < high + 0.01)).all())

    def _write_state(self, state: np.ndarray) -> None:
        self.data.qpos[:6] = state[:6]

    def _draw_state(self, rng: np.random.Generator) -> np.ndarray:
        """Uniform over the box of the joints."""
        return self._state_at(rng, 1.0)

    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Two random poses whose tips are apart."""
        while True:
            start, goal = self._state_at(rng, 1.0), self._state_at(rng, GOAL_SHARE)
            if self.task.distance(start, goal) >= LEAST_WAY_M:
                return start, goal

    def _state_at(self, rng: np.random.Generator, share: float) -> np.ndarray:
        joints = REACH_HOME + share * REACH_HALF * rng.uniform(-1, 1, 6)
        return np.concatenate([joints, self.tip_of(joints)])

    def _move(self, rng: np.random.Generator, exploring: bool, jitter: float) -> Policy:
        """From pose to pose at random speeds; aimless is a random velocity."""
        share_aimless = 0.4 if exploring else 0.0

        def draw(_state: np.ndarray) -> Policy:
            if rng.random() < share_aimless:
                velocity = rng.normal(0.0, 0.5, 6)
                return lambda now: velocity + rng.normal(0.0, jitter, 6)
            target, speed = self._state_at(rng, 1.0)[:6], rng.uniform(0.2, 1.0)

            def approach(now: np.ndarray) -> np.ndarray:
                offset = (target - now[:6]) / MAX_SPEED
                # All joints arrive together, and slow down within the last 0.2 s.
                velocity = speed * offset / max(float(np.abs(offset).max()), 0.2)
                return velocity + rng.normal(0.0, jitter, 6)

            return approach

        return hold(rng, 4, 15, draw)
