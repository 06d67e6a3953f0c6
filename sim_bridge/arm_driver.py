"""Arm driver: a simulated arm behind the topics of ros2_control and of a camera's driver.

It knows nothing of planning. Physics keeps the pace of a steady clock, pictures are drawn beside
it, and all stamps are wall time. The arm follows the newest command of whatever kind, as if the
controllers of a real arm were switched by it. Goals are for judges only: the topics below the
node's own name are no robot's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from geometry_msgs.msg import Point, TwistStamped
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64, Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from sim_bridge.camera import SceneCamera
from sim_bridge.controllers import (
    MAX_JOINT_SPEED,
    Controller,
    ForwardPosition,
    ForwardVelocity,
    TipTwist,
    trajectory_of,
)
from sim_bridge.envs.arm import JOINTS, TICK_S, ArmEnv
from sim_bridge.rendering import check_rendering, load_mujoco
from sim_bridge.urdf import urdf_of
from wm_planner.config import suggest
from wm_planner.errors import ConfigError
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import image_message, to_time
from wm_planner.ros.parameters import param
from wm_planner.ros.qos import COMMAND, LATCHED, RELIABLE
from wm_planner.ros.run import run_node
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts, simulator_shifts

SCENES = ("arm_reach", "arm_push")
# A real driver's joint states come in an order of their own.
PUBLISHED = tuple(JOINTS[i] for i in (1, 2, 3, 4, 5, 0))
GRIPPER_JOINT, GRIPPER_HZ = "finger_joint", 12.0
CAMERA_FRAME = "camera_color_optical_frame"
BASE_FRAMES = ("", "base_link", "world")
_NOT_SEEN = ("image_noise", "proprio_noise")  # its pictures and joints are those of a driver
MOST_LATE_TICKS = 25  # what the machine owes beyond is dropped: the arm then was slow
WARN_EVERY_S = 5.0


@dataclass(frozen=True)
class ArmDriverConfig:
    """Parameters of the arm driver."""

    scene: str = param("arm_reach", "arm_reach or arm_push")
    shifts: tuple[str, ...] = param(
        ("",), "how the world differs from the usual, each 'key=value'; '' for not at all"
    )
    seed: int = param(0, "target i is drawn from (seed, i)", low=0)
    image_rate_hz: float = param(10.0, "rate of the camera, hertz", low=0.1, high=60.0)
    image_jitter_s: float = param(0.0, "pictures come up to so much early or late", 0.0, 1.0)
    image_width: int = param(320, "width of the camera's picture, pixels", low=16, high=1024)
    image_height: int = param(240, "height of the camera's picture, pixels", low=16, high=1024)
    joint_rate_hz: float = param(50.0, "rate of the joint states, hertz", 0.1, 1 / TICK_S)
    command_timeout_s: float = param(
        0.0, "seconds that a velocity or twist lasts; 0: for ever, as with forward controllers", 0.0
    )
    gripper: bool = param(True, "a gripper's joint is on the same topic, in messages of its own")

    def __post_init__(self) -> None:
        if self.scene not in SCENES:
            raise ConfigError(f"unknown scene '{self.scene}'.{suggest(self.scene, SCENES)}")
        noise = [name for name in self.differences.changes() if name in _NOT_SEEN]
        if noise:
            raise ConfigError(f"shifts: the arm's driver has no {', '.join(noise)}")

    @property
    def differences(self) -> Shifts:
        """How the world differs from the usual.

        Raises:
            ConfigError: it cannot differ so.
        """
        return simulator_shifts(filter(None, self.shifts), get_task(self.scene), "shifts")


class ArmDriver(NodeBase):
    """Simulates the arm; see the module."""

    def __init__(self, **options: Any) -> None:
        super().__init__("arm_driver", ArmDriverConfig, **options)
        check_rendering()
        made = gymnasium.make(get_task(self.config.scene).env_id, render=False)
        arm = made.unwrapped
        assert isinstance(arm, ArmEnv)
        self.arm = arm
        shifts = self.config.differences
        # Pictures are drawn of the model, which is changed in place.
        self._moved: Any = arm.disturbed(shifts) if shifts.disturbances() else arm
        self.episode = -1
        self._goal = arm.get_state()
        self._controller: Controller = ForwardVelocity(np.zeros(len(JOINTS)))
        self._begin_s, self._ticks, self._joints_due = time.monotonic(), 0, 1.0
        self._shown: tuple[int, np.ndarray, np.ndarray] = (0, arm.data.qpos, arm.data.qvel)
        self._publish_outputs()
        self._camera = SceneCamera(
            arm.model,
            arm.camera,
            self.config.image_width,
            self.config.image_height,
            1 / self.config.image_rate_hz,
            self.config.image_jitter_s,
            np.random.default_rng(self.config.seed),
            self._capture,
            self._on_picture,
        )
        self._camera.start()
        self._next_problem()
        self._take_inputs()
        self.create_timer(TICK_S, self._on_tick)
        if self.config.gripper:
            self.create_timer(1 / GRIPPER_HZ, self._publish_gripper)

    def close(self) -> None:
        """End the camera, and free the renderer."""
        if self._camera.is_alive():
            self._camera.stop()
        self.arm.close()

    # Out -----------------------------------------------------------------------------------

    def _publish_outputs(self) -> None:
        self._joints = self.create_publisher(JointState, "joint_states", RELIABLE)
        self._image = self.create_publisher(Image, "camera/color/image_raw", RELIABLE)
        self._urdf = self.create_publisher(String, "robot_description", LATCHED)
        gripper = GRIPPER_JOINT if self.config.gripper else ""
        self._urdf.publish(String(data=urdf_of(self.arm, MAX_JOINT_SPEED, gripper)))
        self._goal_image = self.create_publisher(Image, "~/goal_image", LATCHED)
        self._goal_joints = self.create_publisher(JointState, "~/goal_joint_states", LATCHED)
        self._goal_ring = self.create_publisher(Point, "~/goal_ring", LATCHED)
        self._distance = self.create_publisher(Float64, "~/distance", RELIABLE)
        self._success = self.create_publisher(Bool, "~/success", RELIABLE)

    def _publish_joints(self) -> None:
        stamp_ns, positions, velocities = self._shown
        self._joints.publish(_joint_state(positions, velocities, stamp_ns))
        state, task = self.arm.get_state(), self.arm.task
        self._distance.publish(Float64(data=task.distance(state, self._goal)))
        self._success.publish(Bool(data=task.is_success(state, self._goal)))

    def _publish_gripper(self) -> None:
        message = JointState(name=[GRIPPER_JOINT], position=[0.4], velocity=[0.0])
        message.header.stamp = to_time(time.time_ns())
        self._joints.publish(message)

    def _capture(self) -> tuple[int, np.ndarray]:
        """Stamp and positions of now: of the last tick, and what has moved since."""
        now_ns = time.time_ns()
        then_ns, positions, velocities = self._shown
        since_s = min(max((now_ns - then_ns) / 1e9, 0.0), TICK_S)
        positions = positions.copy()
        load_mujoco().mj_integratePos(self.arm.model, positions, velocities, since_s)
        return now_ns, positions

    def _on_picture(self, stamp_ns: int, picture: np.ndarray) -> None:
        self._image.publish(image_message(picture, stamp_ns, CAMERA_FRAME))

    # In ------------------------------------------------------------------------------------

    def _take_inputs(self) -> None:
        for kind, topic, take in (
            (Float64MultiArray, "forward_velocity_controller/commands", self._on_velocities),
            (Float64MultiArray, "forward_position_controller/commands", self._on_positions),
            (
                JointTrajectory,
                "joint_trajectory_controller/joint_trajectory",
                self._on_trajectory,
            ),
            (TwistStamped, "servo_node/delta_twist_cmds", self._on_twist),
        ):
            self.create_subscription(kind, topic, take, COMMAND)
        self.create_service(Trigger, "~/reset", self._on_reset)

    def _on_velocities(self, message: Float64MultiArray) -> None:
        values = self._values(message, "velocities")
        if values is not None:
            self._controller = ForwardVelocity(values, self._ends_s())

    def _on_positions(self, message: Float64MultiArray) -> None:
        values = self._values(message, "positions")
        if values is not None:
            self._controller = ForwardPosition(values)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        trajectory, refusal = trajectory_of(
            message, self.arm.joints.copy(), time.monotonic(), time.time_ns()
        )
        if trajectory is None:
            self._refuse(f"trajectory refused: {refusal}")
        else:
            self._controller = trajectory

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        values = np.array([linear.x, linear.y])
        others = (linear.z, angular.x, angular.y, angular.z)
        if not self.arm.task.embodiment.action.is_twist:
            self._refuse(f"twist refused: the scene '{self.config.scene}' has no servoing")
        elif message.header.frame_id not in BASE_FRAMES:
            self._refuse(
                f"twist refused: frame '{message.header.frame_id}' is not the arm's base_link"
            )
        elif not np.isfinite([*values, *others]).all():
            self._refuse("twist refused: it is not finite")
        else:
            if any(others):
                self._refuse("of a twist only linear.x and linear.y are followed")
            self._controller = TipTwist(values, self._ends_s())

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._next_problem()
        response.success, response.message = True, f"episode {self.episode}"
        return response

    def _values(self, message: Float64MultiArray, what: str) -> np.ndarray | None:
        values = np.array(message.data, dtype=np.float64)
        if values.shape != (len(JOINTS),) or not np.isfinite(values).all():
            self._refuse(
                f"{what} refused: needs {len(JOINTS)} finite values, one per joint, got "
                f"{values.tolist()}"
            )
            return None
        return values

    def _refuse(self, why: str) -> None:
        self.get_logger().warning(why, throttle_duration_sec=WARN_EVERY_S)

    def _ends_s(self) -> float:
        timeout_s = self.config.command_timeout_s
        return time.monotonic() + timeout_s if timeout_s > 0 else np.inf

    # Between -------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        """As many ticks of physics as the clock has gone on."""
        if self._camera.error is not None:
            raise self._camera.error
        due = int((time.monotonic() - self._begin_s) / TICK_S) - self._ticks
        if due > MOST_LATE_TICKS:
            self.get_logger().warning(
                f"the machine is too slow: the arm stood still for {due * TICK_S:.1f} s",
                throttle_duration_sec=WARN_EVERY_S,
            )
            self._ticks, due = self._ticks + due - 1, 1
        for _ in range(due):
            now_s = self._begin_s + self._ticks * TICK_S
            self._moved.command(self._controller.joint_velocities(self.arm, now_s))
            self._ticks += 1
        if due <= 0:
            return
        self._note()
        period = 1 / (self.config.joint_rate_hz * TICK_S)  # ticks between joint states
        if self._ticks >= self._joints_due - 1e-6:
            self._joints_due = max(self._joints_due + period, self._ticks)
            self._publish_joints()

    def _note(self) -> None:
        """The state of now, for joint states and pictures."""
        data = self.arm.data
        load_mujoco().mj_kinematics(self.arm.model, data)
        self._shown = (time.time_ns(), data.qpos.copy(), data.qvel.copy())

    def _next_problem(self) -> None:
        """Put the scene at the start of the next target, at rest, and show its goal."""
        self.episode += 1
        rng = np.random.default_rng([self.config.seed, self.episode])
        task = self.arm.task
        start, goal = self.arm.sample_target(rng)
        while task.is_success(start, goal):
            start, goal = self.arm.sample_target(rng)
        self.arm.set_state(goal)
        self._goal, positions = goal, self.arm.data.qpos.copy()
        ring = self.arm.seen_ring(goal, self.config.image_width, self.config.image_height)
        self.arm.set_state(start)
        self._controller = ForwardVelocity(np.zeros(len(JOINTS)))
        # To find a target takes a while, which is not to be made up for.
        self._begin_s, self._ticks, self._joints_due = time.monotonic(), 0, 1.0
        self._note()
        stamp_ns = self._shown[0]
        self._goal_joints.publish(_joint_state(positions, np.zeros(len(JOINTS)), stamp_ns))
        # Pixels of the picture: centre x, y, and, as z, the radius that counts as reached.
        self._goal_ring.publish(Point(x=ring[0], y=ring[1], z=ring[2]))

        def show(_: int, picture: np.ndarray) -> None:
            self._goal_image.publish(image_message(picture, stamp_ns, CAMERA_FRAME))

        self._camera.draw(positions, show)


def _joint_state(positions: np.ndarray, velocities: np.ndarray, stamp_ns: int) -> JointState:
    order = [JOINTS.index(joint) for joint in PUBLISHED]
    message = JointState(name=list(PUBLISHED))
    message.header.stamp = to_time(stamp_ns)
    message.position = [float(positions[i]) for i in order]
    message.velocity = [float(velocities[i]) for i in order]
    return message


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(ArmDriver, args)


if __name__ == "__main__":
    main()
