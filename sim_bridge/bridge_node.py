"""Bridge node: a simulated robot behind the same topics as a real one.

Lock-step: simulated time stands still until the command for it has come. Real time: the simulator
does not wait, and stamps are wall-clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.duration import Duration
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

import sim_bridge  # noqa: F401  (registers the environments)
from sim_bridge.pacing import Pacer
from wm_planner.errors import TaskError
from wm_planner.ros import diagnostics
from wm_planner.ros.conversions import (
    INTERFACES,
    check_interface,
    image_message,
    joint_state_message,
    to_ns,
    to_time,
)
from wm_planner.ros.parameters import param, read_parameters
from wm_planner.ros.qos import COMMAND, EVENTS, LATCHED, RELIABLE
from wm_planner.ros.run import Spin, run_node
from wm_planner.tasks import get_task

RESEND_S = 1.0  # an unanswered message is published again: discovery may not be complete
STALE_PERIODS = 3  # in real time an older command is not followed


@dataclass(frozen=True)
class BridgeConfig:
    """Parameters of the bridge node."""

    task: str = param("wall", "task to simulate")
    episodes: int = param(1, "episodes to run; the node ends after the last")
    seed: int = param(0, "problem i is drawn from (seed, i)")
    image_size: int = param(224, "side of the rendered image, pixels")
    lockstep: bool = param(True, "simulated time waits for the command")
    command_interface: str = param("velocity", "field of the command that carries the action")
    command_timeout_s: float = param(60.0, "wall seconds without an answer before giving up")
    wait_for_nodes: tuple[str, ...] = param(("",), "names of nodes that must be there first")

    def __post_init__(self) -> None:
        get_task(self.task)
        check_interface(self.command_interface)
        if self.episodes < 1 or self.command_timeout_s <= 0:
            raise ValueError("episodes must be at least 1 and command_timeout_s positive")


class BridgeNode(Node):
    """Publishes camera, joint states, goals and episode events; steps on commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            "bridge_node", automatically_declare_parameters_from_overrides=True, **options
        )
        self.config = read_parameters(self, BridgeConfig)
        self.task = get_task(self.config.task)
        self.dt_ns = round(self.task.control_dt_s * 1e9)
        made = gymnasium.make(self.task.env_id, image_size=self.config.image_size)
        self.env: Any = made.unwrapped
        self._sim_ns = 10**9
        self._accepted_ns = -1
        self._command: tuple[int, np.ndarray] | None = None
        self._image = self.create_publisher(Image, "camera/image_raw", RELIABLE)
        self._state = self.create_publisher(JointState, "joint_states", RELIABLE)
        self._goal_image = self.create_publisher(Image, "goal/image", LATCHED)
        self._goal_state = self.create_publisher(JointState, "goal/joint_states", LATCHED)
        self._event = self.create_publisher(DiagnosticStatus, "episode", EVENTS)
        self._status = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._clock_out = self.create_publisher(Clock, "/clock", RELIABLE)
        self.create_subscription(Header, "goal/accepted", self._on_accepted, LATCHED)
        self.create_subscription(JointTrajectory, "command", self._on_command, COMMAND)

    def close(self) -> None:
        """Free the renderer."""
        self.env.close()

    def now_ns(self) -> int:
        """Simulated time in lock-step, wall time otherwise."""
        if self.config.lockstep:
            return self._sim_ns
        return time.time_ns()

    # Publishing ----------------------------------------------------------------------------

    def publish_state(self, stamp_ns: int, with_image: bool) -> None:
        """Clock (lock-step), joint states and, on request, a camera frame."""
        if self.config.lockstep:
            self._clock_out.publish(Clock(clock=to_time(stamp_ns)))
        proprio = self.env.proprio_of(self.env.get_state())
        names = self.task.proprio_names
        self._state.publish(joint_state_message(proprio, names, stamp_ns))
        if with_image:
            self._image.publish(image_message(self.env.render(), stamp_ns))

    def publish_goal(self, stamp_ns: int, image: np.ndarray, proprio: np.ndarray) -> None:
        """Goal image and joint states of one stamp; an image without rows clears the goal."""
        if image.size:
            names = self.task.proprio_names
            self._goal_state.publish(joint_state_message(proprio, names, stamp_ns))
        self._goal_image.publish(image_message(image, stamp_ns))

    def publish_event(self, kind: str, episode: int, stamp_ns: int, **values: Any) -> None:
        """Start or end of an episode."""
        values = {
            "episode": episode,
            "task": self.task.name,
            "seed": self.config.seed,
            "stamp_ns": stamp_ns,
            **values,
        }
        self._event.publish(diagnostics.status("episode", diagnostics.OK, kind, values))

    def publish_progress(self, episode: int, step: int, stamp_ns: int) -> float:
        """Distance to the goal at a model step; returned too."""
        distance = self.task.distance(self.env.get_state(), self.env.goal_state)
        values = {"episode": episode, "step": step, "distance": distance, "stamp_ns": stamp_ns}
        status = diagnostics.status("bridge_node: step", diagnostics.OK, "running", values)
        self._status.publish(diagnostics.array(stamp_ns, status))
        return distance

    # Running -------------------------------------------------------------------------------

    def run(self, spin: Spin) -> int:
        """All episodes, then 0."""

        def missing() -> list[str]:
            there = self.get_node_names()
            return [name for name in self.config.wait_for_nodes if name and name not in there]

        self._wait(spin, lambda: not missing(), lambda: None, lambda: f"nodes {missing()}")
        for episode in range(self.config.episodes):
            self._run_episode(episode, spin)
        # What is latched goes with its publisher: leave only when everybody has it.
        for publisher in (self._state, self._image, self._event):
            publisher.wait_for_all_acked(Duration(seconds=5))
        return 0

    def _run_episode(self, episode: int, spin: Spin) -> None:
        rng = np.random.default_rng([self.config.seed, episode])
        start, goal = self.env.sample_problem(rng)
        _, info = self.env.reset(options={"state": start, "goal_state": goal})
        start_ns = self.now_ns()
        self.publish_event("start", episode, start_ns)
        self._settle_goal(spin, start_ns, info["goal_image"], info["goal_proprio"])
        drive = self._drive_lockstep if self.config.lockstep else self._drive_realtime
        success, steps = drive(episode, spin)
        end_ns = self.now_ns()
        self._settle_goal(spin, end_ns, np.zeros((0, 0, 3), np.uint8), info["goal_proprio"])
        self.publish_state(end_ns, with_image=True)
        distance = self.publish_progress(episode, steps, end_ns)
        self.publish_event(
            "end", episode, end_ns, success=success, num_steps=steps, distance=distance
        )
        self._sim_ns = end_ns + 10**9  # stamps of two episodes never meet

    def _settle_goal(
        self, spin: Spin, stamp_ns: int, image: np.ndarray, proprio: np.ndarray
    ) -> None:
        """Set or clear the goal and wait until the planner says that it knows."""

        def offer() -> None:
            self.publish_goal(stamp_ns, image, proprio)

        offer()
        self._wait(spin, lambda: self._accepted_ns == stamp_ns, offer, lambda: "goal/accepted")

    def _drive_lockstep(self, episode: int, spin: Spin) -> tuple[bool, int]:
        for step in range(self.task.max_model_steps):
            self.publish_progress(episode, step, self._sim_ns)
            for tick in range(self.task.frame_skip):
                self.env.advance(self._ask(spin, self._sim_ns, with_image=tick == 0))
                self._sim_ns += self.dt_ns
            if self._succeeded():
                return True, step + 1
        return False, self.task.max_model_steps

    def _ask(self, spin: Spin, stamp_ns: int, with_image: bool) -> np.ndarray:
        """The action that answers the state of `stamp_ns`."""

        def ask() -> None:
            self.publish_state(stamp_ns, with_image)

        def answered() -> bool:
            return self._command is not None and self._command[0] == stamp_ns

        ask()
        self._wait(spin, answered, ask, lambda: f"a command for stamp {stamp_ns}")
        assert self._command is not None
        return self._command[1]

    def _drive_realtime(self, episode: int, spin: Spin) -> tuple[bool, int]:
        pacer = Pacer(self.task.control_dt_s)
        rest = np.zeros(self.task.action_size)
        for step in range(self.task.max_model_steps):
            self.publish_progress(episode, step, self.now_ns())
            for tick in range(self.task.frame_skip):
                self.publish_state(self.now_ns(), with_image=tick == 0)
                pacer.tick()
                while (remaining_s := pacer.remaining_s()) > 0:
                    spin(remaining_s)
                age_ns = self.now_ns() - (self._command[0] if self._command else 0)
                fresh = self._command is not None and age_ns <= STALE_PERIODS * self.dt_ns
                self.env.advance(self._command[1] if fresh and self._command else rest)
            if self._succeeded():
                return True, step + 1
        return False, self.task.max_model_steps

    def _succeeded(self) -> bool:
        return self.task.is_success(self.env.get_state(), self.env.goal_state)

    def _wait(
        self,
        spin: Spin,
        done: Callable[[], bool],
        resend: Callable[[], None],
        what: Callable[[], str],
    ) -> None:
        begin_s = sent_s = time.monotonic()
        while not done():
            spin(0.1)
            now_s = time.monotonic()
            if now_s - begin_s > self.config.command_timeout_s:
                raise TaskError(
                    f"waited {self.config.command_timeout_s:g} s for {what()}; "
                    "look at the planner's and the controller's log"
                )
            if now_s - sent_s > RESEND_S:
                sent_s = now_s
                resend()

    def _on_accepted(self, message: Header) -> None:
        self._accepted_ns = to_ns(message.stamp)

    def _on_command(self, message: JointTrajectory) -> None:
        values = getattr(message.points[0], INTERFACES[self.config.command_interface])
        if len(values) == self.task.action_size:
            self._command = (to_ns(message.header.stamp), np.array(values))


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(BridgeNode, args, body=lambda node, spin: node.run(spin))


if __name__ == "__main__":
    sys.exit(main())
