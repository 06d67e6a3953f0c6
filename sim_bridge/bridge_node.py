"""Bridge node: a simulated robot behind the same topics as a real one.

Lock-step: simulated time stands still until the command for it has come. Real time: the simulator
does not wait, and stamps are wall-clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.duration import Duration
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

import sim_bridge  # noqa: F401  (registers the environments)
from sim_bridge.episodes import EpisodeRunner
from wm_planner.ros import diagnostics
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import (
    action_array,
    check_interface,
    image_message,
    joint_state_message,
    to_ns,
    to_time,
)
from wm_planner.ros.parameters import param
from wm_planner.ros.qos import COMMAND, EVENTS, LATCHED, RECORD, RELIABLE
from wm_planner.ros.ready import ready_names
from wm_planner.ros.run import Spin, run_node
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts, simulator_shifts


@dataclass(frozen=True)
class BridgeConfig:
    """Parameters of the bridge node."""

    task: str = param("wall", "task to simulate")
    episodes: int = param(1, "episodes to run; the node ends after the last", low=1)
    seed: int = param(0, "target i is drawn from (seed, i)", low=0)
    shifts: tuple[str, ...] = param(
        ("",), "how the world differs from the usual, each 'key=value'; '' for not at all"
    )
    image_size: int = param(224, "side of the rendered image, pixels", low=16)
    lockstep: bool = param(True, "simulated time waits for the command")
    command_interface: str = param("velocity", "field of the command that carries the action")
    command_timeout_s: float = param(
        60.0, "wall seconds without an answer before giving up", low=0.1
    )
    wait_for_nodes: tuple[str, ...] = param(("",), "names of nodes that must be there first")
    wait_for_listeners: tuple[str, ...] = param(
        ("",), "names of nodes that must have said that they hear everybody"
    )
    recorder: str = param("", "node to wait for until it has closed the episode's bag")

    def __post_init__(self) -> None:
        _ = self.differences
        check_interface(self.command_interface)

    @property
    def differences(self) -> Shifts:
        """How the world differs from the usual.

        Raises:
            WmPlannerError: unknown task, or it cannot differ so.
        """
        return simulator_shifts(filter(None, self.shifts), get_task(self.task), "shifts")


class BridgeNode(NodeBase):
    """Publishes camera, joint states, goals and episode events; steps on commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__("bridge_node", BridgeConfig, **options)
        self.task = get_task(self.config.task)
        self.env: Any = self._world()
        self.ready: set[str] = set()
        self.accepted_ns = self.closed_ns = -1
        self.command: tuple[int, np.ndarray] | None = None
        self.idle = False
        self._reached = 0  # episodes
        self._image = self.create_publisher(Image, "camera/image_raw", RELIABLE)
        self._state = self.create_publisher(JointState, "joint_states", RECORD)
        self._goal_image = self.create_publisher(Image, "goal/image", LATCHED)
        self._goal_state = self.create_publisher(JointState, "goal/joint_states", LATCHED)
        self._event = self.create_publisher(DiagnosticStatus, "episode", EVENTS)
        self._clock_out = self.create_publisher(Clock, "clock", RELIABLE)
        self.create_subscription(Header, "goal/accepted", self._on_accepted, LATCHED)
        self.create_subscription(JointTrajectory, "command", self._on_command, COMMAND)
        if self.config.recorder or any(self.config.wait_for_listeners):
            self.hear_diagnostics(self._on_report)
        if not self.config.lockstep:
            self.create_timer(self.task.embodiment.control_dt_s, self._publish_idle)

    def _world(self) -> Any:
        options: dict[str, Any] = {"image_size": self.config.image_size}
        shifts = self.config.differences
        if layout := shifts.layout():
            options["layout"] = layout
        env: Any = gymnasium.make(self.task.env_id, **options).unwrapped
        return env.disturbed(shifts) if shifts.disturbances() else env

    def close(self) -> None:
        """Free the renderer."""
        self.env.close()

    # Publishing ----------------------------------------------------------------------------

    def publish_state(self, stamp_ns: int, with_image: bool) -> None:
        """Clock (lock-step), joint states and, on request, a camera frame."""
        if self.config.lockstep:
            self._clock_out.publish(Clock(clock=to_time(stamp_ns)))
        proprio = self.env.proprio_of(self.env.get_state())
        names = self.task.embodiment.proprio
        self._state.publish(joint_state_message(proprio, names, stamp_ns))
        if with_image:
            self._image.publish(image_message(self.env.render(), stamp_ns))

    def publish_goal(self, stamp_ns: int, image: np.ndarray, proprio: np.ndarray) -> None:
        """Goal image and joint states of one stamp; an image without rows clears the goal."""
        if image.size:
            names = self.task.embodiment.proprio
            self._goal_state.publish(joint_state_message(proprio, names, stamp_ns))
        self._goal_image.publish(image_message(image, stamp_ns))

    def publish_event(self, kind: str, episode: int, stamp_ns: int, **values: Any) -> None:
        """Start or end of an episode; how it ended is logged, too."""
        if "success" in values:
            self._reached += values["success"]
            how = "reached the goal" if values["success"] else "missed the goal"
            self.get_logger().info(
                f"episode {episode + 1} of {self.config.episodes}: {how}, {values['num_steps']} "
                f"model steps, distance {values['distance']:.3g}"
            )
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
        config = self.config
        self.spin = spin
        runner = EpisodeRunner(self.env, self.task, self, config.lockstep, config.command_timeout_s)
        awaited = (config.wait_for_nodes, config.wait_for_listeners)
        runner.wait_for(*(tuple(filter(None, names)) for names in awaited))
        for episode in range(config.episodes):
            end_ns = runner.run(episode, config.seed)
            if not runner.wait_closed(config.recorder, end_ns):
                self.get_logger().error(f"{config.recorder} has not closed its bag")
        count = self.config.episodes
        self.get_logger().info(f"result: {self._reached} of {count} episodes reached the goal")
        # What is latched goes with its publisher: leave only when everybody has it.
        for publisher in (self._state, self._image, self._event):
            publisher.wait_for_all_acked(Duration(seconds=5))
        return 0

    def missing(self, names: tuple[str, ...]) -> list[str]:
        """Those of the nodes `names` that are not there."""
        here = self.get_namespace()
        there = [name for name, where in self.get_node_names_and_namespaces() if where == here]
        return [name for name in names if name not in there]

    def _publish_idle(self) -> None:
        """A robot's joint states never pause: between episodes it stands still."""
        if self.idle:
            self.publish_state(time.time_ns(), with_image=False)

    def _on_report(self, message: DiagnosticArray) -> None:
        self.ready |= ready_names(message)
        for status in message.status:
            if status.name == f"{self.config.recorder}: bag":
                self.closed_ns = int(diagnostics.values_of(status)["end_stamp_ns"])

    def _on_accepted(self, message: Header) -> None:
        self.accepted_ns = to_ns(message.stamp)

    def _on_command(self, message: JointTrajectory) -> None:
        action = action_array(
            message, self.config.command_interface, self.task.embodiment.action.size
        )
        if action is not None:
            self.command = (to_ns(message.header.stamp), action)


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(BridgeNode, args, body=lambda node, spin: node.run(spin))


if __name__ == "__main__":
    main()
