"""Planner node: images, proprioception and a goal in; plans out, computed on a worker thread."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from wm_planner.data.frames import FrameAssembler
from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.ros import diagnostics
from wm_planner.ros.conversions import (
    INTERFACES,
    check_interface,
    image_array,
    image_message,
    plan_message,
    proprio_array,
    to_ns,
    to_time,
)
from wm_planner.ros.lifecycle import ManagedNode
from wm_planner.ros.parameters import param
from wm_planner.ros.qos import COMMAND, LATCHED, RELIABLE, sensor
from wm_planner.ros.run import run_node
from wm_planner.runtime.goal_planner import GoalPlanner, PlanResult, use_threads
from wm_planner.runtime.image_source import open_source
from wm_planner.runtime.worker import LatestWorker
from wm_planner.tasks import get_task
from wm_planner.types import Goal, Observation


@dataclass(frozen=True)
class PlannerNodeConfig:
    """Parameters of the planner node."""

    task: str = param("wall", "task the checkpoint was trained for")
    checkpoint: str = param("base", "shipped variant, shipped name, or directory")
    planner: str = param("gbp", "solver: gbp, cem, mppi, gradient-cem or lbfgs")
    settings: tuple[str, ...] = param(("",), "planner settings, each 'key=value'; '' for none")
    device: str = param("cpu", "torch device: cpu or cuda")
    threads: int = param(1, "CPU threads of the planner; at these sizes more only contend")
    seed: int = param(0, "of the planner's random generator")
    image_size: int = param(224, "side of the images the camera node sends, pixels")
    goal_image: str = param("", "picture of the goal; empty: wait for goal/image")
    proprio: tuple[str, ...] = param(("",), "'<joint>/<field>' entries; '' for the task's")
    action_names: tuple[str, ...] = param(("slide_x", "slide_y"), "names in the published plan")
    command_interface: str = param("velocity", "position, velocity or effort")
    imagine: bool = param(True, "publish plan/imagined when the checkpoint has a decoder")
    lockstep: bool = param(False, "the simulator waits for every plan: lose no sample")
    autostart: bool = param(True, "load and start planning at once")

    def __post_init__(self) -> None:
        get_task(self.task)
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


class PlannerNode(ManagedNode):
    """Publishes ``plan``, ``plan/imagined``, ``goal/accepted`` and a diagnostic per replan."""

    def __init__(self, **options: Any) -> None:
        super().__init__("planner_node", PlannerNodeConfig, **options)
        self._task = get_task(self.config.task)
        check_interface(self.config.command_interface)
        self._names = tuple(filter(None, self.config.proprio)) or self._task.proprio_names
        self._active = False
        self._goal: Goal | None = None
        self._goal_proprio: JointState | None = None
        self._planned: tuple[Goal, JointTrajectory] | None = None
        self._worker: LatestWorker[Any, Any] | None = None

    def configure(self) -> None:
        """Load the checkpoint and plan once, so that the first real plan is not the slow one."""
        config = self.config
        use_threads(config.threads)
        self._planner = GoalPlanner(
            config.checkpoint,
            config.task,
            config.planner,
            [setting for setting in config.settings if setting],
            config.seed,
            config.device,
            config.imagine,
        )
        self._planner.warm_up(config.image_size)
        history = self._planner.history
        self._assembler = FrameAssembler(
            history,
            round(self._task.model_dt_s * 1e9),
            round(self._task.control_dt_s * 1e9),
            self._task.frame_skip if history > 1 else None,
        )
        self._plan = self.create_publisher(JointTrajectory, "plan", COMMAND)
        self._imagined = self.create_publisher(Image, "plan/imagined", RELIABLE)
        self._accepted = self.create_publisher(Header, "goal/accepted", LATCHED)
        self._status = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        profile = sensor(config.lockstep)
        self.create_subscription(Image, "observation/image", self._on_image, profile)
        self.create_subscription(JointState, "joint_states", self._on_state, profile)
        if history > 1:
            self.create_subscription(JointTrajectory, "command_sent", self._on_sent, COMMAND)
        self.create_subscription(Image, "goal/image", self._on_goal, LATCHED)
        self.create_subscription(JointState, "goal/joint_states", self._on_goal_state, LATCHED)
        self._worker = LatestWorker(self._work, self._on_plan, self._on_failure, "planner")
        if config.goal_image:
            self._set_goal(Goal(self._read_goal(Path(config.goal_image))))

    def activate(self) -> None:
        """Begin to plan."""
        self._active = True

    def deactivate(self) -> None:
        """Plan no more; work that runs is dropped."""
        self._active = False
        if self._worker is not None:
            self._worker.reset()

    def close(self) -> None:
        """End the worker."""
        self._active = False
        if self._worker is not None:
            self._worker.stop()

    def _on_image(self, message: Image) -> None:
        stamp_ns = to_ns(message.header.stamp)
        if self._planned is not None and self._planned[0] is self._goal:
            if to_ns(self._planned[1].header.stamp) == stamp_ns:
                self._plan.publish(self._planned[1])  # asked again: the same answer
                return
        self._assembler.push_image(stamp_ns, image_array(message))
        self._try_plan()

    def _on_state(self, message: JointState) -> None:
        try:
            values = proprio_array(message, self._names)
        except ConfigError as error:  # another device, say a gripper, on the same topic
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
            return
        self._assembler.push_proprio(to_ns(message.header.stamp), values)
        self._try_plan()

    def _on_sent(self, message: JointTrajectory) -> None:
        action = getattr(message.points[0], INTERFACES[self.config.command_interface])
        self._assembler.push_action(to_ns(message.header.stamp), np.array(action, np.float32))
        self._try_plan()

    def _on_goal_state(self, message: JointState) -> None:
        self._goal_proprio = message
        if self._goal is not None and self._goal.stamp_ns == to_ns(message.header.stamp):
            self._set_goal(
                Goal(self._goal.image, self._proprio_for(self._goal.stamp_ns), self._goal.stamp_ns)
            )

    def _on_goal(self, message: Image) -> None:
        stamp_ns = to_ns(message.header.stamp)
        if self._goal is not None and self._goal.stamp_ns == stamp_ns and message.height:
            self._accept(stamp_ns)
            return
        if message.height == 0:
            self._set_goal(None)
            self._accept(stamp_ns)
            return
        try:
            self._check_size(image_array(message).shape, "goal/image")
        except WmPlannerError as error:
            self.get_logger().error(str(error))
            return
        self._set_goal(Goal(image_array(message), self._proprio_for(stamp_ns), stamp_ns))

    def _proprio_for(self, stamp_ns: int) -> np.ndarray | None:
        state = self._goal_proprio
        if state is None or to_ns(state.header.stamp) != stamp_ns:
            return None
        return proprio_array(state, self._names)

    def _set_goal(self, goal: Goal | None) -> None:
        if self._worker is not None:
            self._worker.reset()
        self._assembler.clear()
        self._goal, self._planned = goal, None
        if goal is None:
            self._plan.publish(JointTrajectory())  # nothing of the old plan may be followed
        if goal is not None and (goal.proprio is not None or not self.config.lockstep):
            self._accept(goal.stamp_ns)

    def _accept(self, stamp_ns: int) -> None:
        self._accepted.publish(Header(stamp=to_time(stamp_ns)))

    def _try_plan(self) -> None:
        if not self._active or self._goal is None or self._worker is None:
            return
        observation = self._assembler.take()
        if observation is not None:
            self._check_size(observation.images.shape[1:], "observation/image")
            self._worker.submit((self._goal, observation))

    def _work(self, item: tuple[Goal, Observation], should_stop: Any) -> PlanResult:
        return self._planner(*item, should_stop)

    def _on_plan(self, result: PlanResult) -> None:
        plan = result.plan
        message = plan_message(plan, self.config.action_names, self.config.command_interface)
        values = {
            "stamp_ns": plan.stamp_ns,
            "cost": plan.cost,
            "initial_cost": result.initial_cost,
            "plan_seconds": plan.seconds,
            "num_evaluations": result.num_evaluations,
        }
        status = diagnostics.status("planner_node: plan", diagnostics.OK, "planned", values)
        # Before the plan: whoever sees the plan's effects has seen its cost.
        self._status.publish(diagnostics.array(plan.stamp_ns, status))
        if result.imagined is not None:
            self._imagined.publish(image_message(result.imagined, plan.stamp_ns))
        self._planned = (result.goal, message)
        self._plan.publish(message)

    def _on_failure(self, error: Exception) -> None:
        self.get_logger().error(f"no plan: {error}")
        status = diagnostics.status("planner_node: plan", diagnostics.ERROR, str(error), {})
        self._status.publish(diagnostics.array(self.get_clock().now().nanoseconds, status))

    def _check_size(self, shape: tuple[int, ...], name: str) -> None:
        size = self.config.image_size
        if tuple(shape[:2]) != (size, size):
            raise ConfigError(
                f"{name} is {shape[1]} x {shape[0]} pixels, the camera node sends {size} x {size}: "
                "use the same crop and size for both"
            )

    def _read_goal(self, path: Path) -> np.ndarray:
        with open_source(str(path)) as source:
            image = source.read()
        assert image is not None
        self._check_size(image.shape, f"goal_image {path}")
        return image


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(PlannerNode, args)


if __name__ == "__main__":
    sys.exit(main())
