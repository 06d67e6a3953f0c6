"""The arm of `sim_bridge.envs.arm` pushes a T over its table."""

from __future__ import annotations

import math

import numpy as np

from sim_bridge.envs.arm import JOINT_PROPRIO, JOINTS, TICK_S, ArmEnv
from sim_bridge.envs.base import simulated_task
from sim_bridge.experts import Policy, hold, random_offset, rotate, unit
from wm_planner.embodiment import ActionSpace
from wm_planner.tasks.task import wrapped_angle

TIP, BLOCK = slice(6, 8), slice(8, 11)  # of a state: tip x, y; block x, y, angle
MAX_SPEED, MAX_ACCELERATION = 0.2, 2.0  # of the tip, along each axis, m/s and m/s^2
TIP_LOW, TIP_HIGH = np.array([0.34, -0.26]), np.array([0.66, 0.26])  # m: where the tip may be
BLOCK_LOW, BLOCK_HIGH = np.array([0.40, -0.18]), np.array([0.60, 0.18])  # where the T starts
SEEN_LOW, SEEN_HIGH = np.array([0.22, -0.40]), np.array([0.80, 0.40])  # where the T is in view
TIP_HEIGHT = 0.006  # m; the ball at the tip then touches the T below its upper edge
TOOL_DOWN = np.array([0.0, 1.0, -1.0, 0.0]) / np.sqrt(2)  # orientation of the tip, w, x, y, z
BENT = np.array([0.0, -1.5, 2.0, -2.07, -1.57, 0.0])  # elbow up, where the search for a pose starts
DAMPING = 1e-3  # of the least squares: small beside the arm's least singular value, 0.1
MOST_JOINT_SPEED = np.pi  # rad/s, of a UR5e

# 15 degrees move the ends of the bar, 0.1 m away from its middle, by 2.6 cm: about as far as the
# place of the T may be off. Both are ten times what repeated pushes differ by between time steps.
REACHED_M, REACHED_RAD = 0.03, math.radians(15)


def block_distance(state: np.ndarray, goal: np.ndarray) -> float:
    """Distance of the places of the T in two states, m."""
    return float(np.linalg.norm(np.asarray(state)[8:10] - np.asarray(goal)[8:10]))


def block_reached(state: np.ndarray, goal: np.ndarray) -> bool:
    """Whether the T lies as in the goal: within 3 cm and 15 degrees."""
    turned = abs(wrapped_angle(float(state[10]) - float(goal[10])))
    return block_distance(state, goal) < REACHED_M and turned < REACHED_RAD


ARM_PUSH = simulated_task(
    "arm_push",
    "ArmPush",
    ActionSpace(
        names=("linear.x", "linear.y"),
        low=(-MAX_SPEED,) * 2,
        high=(MAX_SPEED,) * 2,
        max_rate=(MAX_ACCELERATION,) * 2,
        unit="m/s",
    ),
    JOINT_PROPRIO,
    image_size=96,
    state_names=(*JOINTS, "tip_x", "tip_y", "block_x", "block_y", "block_angle_rad"),
    distance=block_distance,
    is_success=block_reached,
    distance_unit="m",
    things={
        "arm": (*JOINTS, "tip_x", "tip_y"),
        "block": ("block_x", "block_y", "block_angle_rad"),
    },
    angles=(*JOINTS, "block_angle_rad"),
)


class ArmPushEnv(ArmEnv):
    """State: joint positions; the tip's x and y, which follow from them; x, y and angle of the T.

    An action is the velocity of the tip over the table. The tool is kept upright and at its
    height, and the tip within its region: a velocity out of it stops at its edge. Friction stops
    the T within milliseconds, so its velocity is no part of the state.
    """

    task = ARM_PUSH
    asset = "arm_push"
    camera = "table"

    def __init__(self, image_size: int = 96, render: bool = True, layout: dict | None = None):
        super().__init__(image_size, render, layout)
        self.limits = self.model.jnt_range[:6].T.copy()
        self._jacobian = np.zeros((6, self.model.nv))
        self._bent = self.solve(BENT, (TIP_LOW + TIP_HIGH) / 2, rounds=50)
        self._rest_height = self._settle()

    def joint_velocities(self, action: np.ndarray) -> np.ndarray:
        """Damped least squares; the error of height and orientation is fed back."""
        tip = self.tip_of(self.joints)[:2]  # MuJoCo's own is that of one step before
        target = np.clip(tip + TICK_S * action, TIP_LOW, TIP_HIGH)
        wanted = (self.solve(self.joints, target) - self.joints) / TICK_S
        return np.clip(wanted, -MOST_JOINT_SPEED, MOST_JOINT_SPEED)

    def solve(self, joints: np.ndarray, tip: np.ndarray, rounds: int = 2) -> np.ndarray:
        """(6,) joint positions near `joints` with the tip at (2,) x, y, upright, at its height."""
        mujoco, data, jacobian = self._mujoco, self._scratch, self._jacobian
        joints, error = np.array(joints), np.empty(6)
        target = np.array([*tip, TIP_HEIGHT])
        here, turn = np.empty(4), np.empty(4)
        for _ in range(rounds):
            data.qpos[:6] = joints
            mujoco.mj_kinematics(self.model, data)
            mujoco.mj_comPos(self.model, data)
            mujoco.mj_jacSite(self.model, data, jacobian[:3], jacobian[3:], self._tip)
            error[:3] = target - data.site_xpos[self._tip]
            mujoco.mju_mat2Quat(here, data.site_xmat[self._tip])
            mujoco.mju_negQuat(here, here)
            mujoco.mju_mulQuat(turn, TOOL_DOWN, here)
            mujoco.mju_quat2Vel(error[3:], turn, 1.0)
            arm = jacobian[:, :6]
            joints += arm.T @ np.linalg.solve(arm @ arm.T + DAMPING**2 * np.eye(6), error)
        return joints

    def state_at(self, tip: np.ndarray, block: np.ndarray) -> np.ndarray:
        """(11,) state with the tip at (2,) x, y and the T at (3,) x, y, angle."""
        joints = self.solve(self._bent, tip, rounds=20)
        return np.concatenate([joints, self.tip_of(joints)[:2], block])

    def aim_of(self, goal: np.ndarray) -> np.ndarray:
        """Where the T lies in the goal."""
        return np.array([*np.asarray(goal)[8:10], 0.0])

    def get_state(self) -> np.ndarray:
        """Joint positions, rad; tip x, y, m; block x, y, m, and angle in [0, 2 pi)."""
        w, z = self.data.qpos[9], self.data.qpos[12]  # it lies flat: turned about the vertical only
        angle = 2 * np.arctan2(z, w) % (2 * np.pi)
        tip = self.data.site_xpos[self._tip][:2]
        return np.concatenate([self.joints, tip, self.data.qpos[6:8], [angle]])

    def touches(self) -> bool:
        """Whether the arm touches the T."""
        return any("block" in pair and "world" not in pair for pair in self.contacts())

    def is_possible(self, state: np.ndarray) -> bool:
        """Whether the T is in view, and the tip in its region but for a servo's error."""
        state, slack = np.asarray(state), 0.005
        tip, block = state[TIP], state[BLOCK][:2]
        seen = ((block > SEEN_LOW) & (block < SEEN_HIGH)).all()
        return bool(seen and ((tip > TIP_LOW - slack) & (tip < TIP_HIGH + slack)).all())

    def _write_state(self, state: np.ndarray) -> None:
        x, y, angle = state[BLOCK]
        self.data.qpos[:6] = state[:6]
        upright = [np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)]
        self.data.qpos[6:13] = [x, y, self._rest_height, *upright]

    def _settle(self) -> float:
        """Height of the T at rest: its weight presses it a little into the table."""
        self._rest_height = 0.02
        far = np.array([0.5, -0.5, 0.0])
        self._put(np.concatenate([self._bent, np.zeros(2), far]))
        for _ in range(25):
            self.command(np.zeros(6))
        height = float(self.data.qpos[8])
        self._mujoco.mj_resetData(self.model, self.data)
        return height

    def _draw_state(self, rng: np.random.Generator) -> np.ndarray:
        """Tip and T anywhere, not touching; three quarters of the tips are near the T."""
        with self.aside():
            while True:
                block = np.array([*rng.uniform(BLOCK_LOW, BLOCK_HIGH), rng.uniform(0, 2 * np.pi)])
                tip = rng.uniform(TIP_LOW, TIP_HIGH)
                if rng.random() < 0.75:
                    tip = np.clip(block[:2] + random_offset(rng, 0.09, 0.18), TIP_LOW, TIP_HIGH)
                state = self.state_at(tip, block)
                self.set_state(state)
                if not self.touches():
                    return state

    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The goal is where pushes took the T, in view and away from the start; the arm as then."""

        def is_worth(start: np.ndarray, goal: np.ndarray) -> bool:
            moved = block_distance(start, goal)
            turned = abs(wrapped_angle(goal[10] - start[10]))
            far = moved >= 1.5 * REACHED_M or turned >= 1.5 * REACHED_RAD
            return bool(far) and self.is_possible(goal)

        return self._drive_to_goal(rng, is_worth)

    def _move(self, rng: np.random.Generator, exploring: bool, jitter: float) -> Policy:
        """Pushes of the T towards places on the table, always when it has strayed.

        Most aimless stretches push it wherever that leads.
        """
        share_aimed = 0.6 if exploring else 0.8

        def noisy(policy: Policy) -> Policy:
            return lambda now: policy(now) + rng.normal(0.0, jitter, 2)

        def draw(state: np.ndarray) -> Policy:
            speed = rng.uniform(0.5, 1.0)
            offset = rng.normal(0.0, 0.03, 2)
            block = state[BLOCK][:2]
            strayed = ((block < BLOCK_LOW) | (block > BLOCK_HIGH)).any()
            if strayed or rng.random() < share_aimed:
                place = _place_ahead(state, rng.uniform(BLOCK_LOW, BLOCK_HIGH, (4, 2)))
                return noisy(lambda now: speed * _towards(now, place, offset))
            if rng.random() < 0.75:
                return noisy(lambda now: speed * unit(now[BLOCK][:2] + offset - now[TIP]))
            velocity = rng.normal(0.0, 0.5, 2)
            return noisy(lambda now: velocity)

        return hold(rng, 10, 30, draw)


def _place_ahead(now: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Of (n, 2) places the one that takes least going around the T to push it there."""
    block, tip = now[BLOCK][:2], now[TIP]
    return max(places, key=lambda place: float(unit(place - block) @ unit(block - tip)))


def _towards(now: np.ndarray, place: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Direction of the tip that pushes the T to `place`: around it first, then through it."""
    block, tip = now[BLOCK][:2], now[TIP]
    ahead = unit(place - block)
    from_block = tip - block
    along = float(from_block @ ahead)
    aside = from_block - along * ahead
    off = float(np.linalg.norm(aside))
    if along < 0 and off < 0.05:
        return unit(block + offset - tip)
    if along > -0.13 and off < 0.13:  # not past the T yet: keep clear of it
        side = aside if off > 1e-6 else rotate(ahead, np.pi / 2)
        return unit(0.5 * unit(side) - 0.5 * ahead if off > 0.10 else unit(side))
    return unit(block - 0.15 * ahead - tip)
