"""One live graph: the nodes as processes, and around them the robot and an observer."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from faults.arm import Arm
from faults.clocks import SteppedClock
from faults.fault import STAND_IN, Bounds
from faults.observer import INTRUDER, Observer
from faults.processes import Processes
from faults.stand_in import ROBOT, StandInPlanner
from faults.wire import unaltered
from wm_planner.bringup import NodeSpec, RunOptions, bring_up
from wm_planner.cli.sim import child_of
from wm_planner.robot import RobotFile, read_robot
from wm_planner.ros.diagnostics import OK, status
from wm_planner.ros.qos import COMMAND, EVENTS

CONTROLLER, CAMERA, RECORDER, PLANNER = (
    "controller_node",
    "camera_node",
    "finetune_node",
    "planner_node",
)
START_S, RECOVER_S, ANSWER_S = 90.0, 30.0, 10.0
UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = 1, 2, 3, 4
DISK_MIB = 48


class Stage:
    """A graph with the stand-in planner; use as a ``with`` block.

    Args:
        directory: that receives logs, parameters and bags.
        domain: ROS domain of the graph.
        seed: of the arm's noise.
    """

    kind = STAND_IN

    def __init__(self, directory: Path, domain: int, seed: int) -> None:
        self.directory, self.domain, self.seed = directory, domain, seed
        self.robot = self.read_robot()
        body = self.robot.embodiment
        rate = np.array(self.robot.action.max_rate)
        self.limit_s = self.robot.stale_after_s + body.control_dt_s
        self.bounds = Bounds(
            np.array(self.robot.action.low),
            np.array(self.robot.action.high),
            rate * body.control_dt_s,
            self.limit_s,
        )
        self.clock: SteppedClock | None = None
        self.arm: Any = None
        self.skipped: dict[str, str] = {}  # subject -> why none of it can be injected
        self.bags = directory / "bags"
        self.t0 = 0.0  # when the fault began
        self.managed: set[str] = set()  # lifecycle nodes
        self._publishers: dict[tuple[type, str], Any] = {}
        self._clients: dict[str, Any] = {}
        self._episode = 0

    # What differs between graphs ----------------------------------------------------------

    def read_robot(self) -> RobotFile:
        """The robot file of this graph."""
        return read_robot(ROBOT)

    def specs(self) -> list[NodeSpec]:
        """What runs."""
        options = RunOptions(str(self.directory), bags=str(self.bags), activate=True)
        return bring_up(self.robot, options)

    def make_nodes(self) -> list[Any]:
        """The robot, and what else lives in this process."""
        self.arm = Arm(self.robot, self.seed, context=self.context)
        self.joints, self.pictures = self.arm.joints, self.arm.pictures
        self.planner = StandInPlanner(self.robot, context=self.context)
        self.plans = self.planner.plans
        return [self.arm, self.planner]

    def inside(self, name: str) -> list[str]:
        """What a node is started by."""
        return []

    def stamp_ns(self) -> int:
        """Now, by the robot's clock."""
        return self.arm.stamp_ns()

    def wall_ns(self) -> int:
        """Now, by the clock of the nodes."""
        return time.time_ns() + (self.clock.offset_ns if self.clock is not None else 0)

    def reset_clocks(self) -> None:
        """Every clock is right again."""
        if self.clock is not None:
            self.clock.set(0)
        if self.arm is not None:
            self.arm.offset_ns = 0

    # Beginning and end --------------------------------------------------------------------

    def __enter__(self) -> Stage:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "logs").mkdir(exist_ok=True)
        self._mount()
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(self.domain),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = environment["ROS_AUTOMATIC_DISCOVERY_RANGE"]
        try:
            self.clock = SteppedClock(self.directory / "clock")
            environment.update(self.clock.environment)
        except OSError as error:
            self.skipped["clock"] = str(error)
        self.processes = Processes(self.directory / "logs", environment)
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self.observer = Observer(self.robot, context=self.context)
        self.peer = rclpy.create_node("campaign_peer", context=self.context)
        nodes = [self.observer, self.peer, *self.make_nodes()]
        self._executor = SingleThreadedExecutor(context=self.context)
        for node in nodes:
            self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        for spec in self.specs():
            if spec.managed:
                self.managed.add(spec.name)
            child = child_of(spec, self.directory / "parameters")
            self.processes.commands[spec.name] = list(child.command)
            self.processes.inside[spec.name] = self.inside(spec.name)
            self.processes.start(spec.name)
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.close()
        self._executor.shutdown()
        self._thread.join(10)
        rclpy.shutdown(context=self.context)
        self._unmount()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _mount(self) -> None:
        """A small disk for the bags, where this process may mount one."""
        self.bags.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(self.bags)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            self.skipped["disk"] = str(error)
            return
        if done.returncode:
            self.skipped["disk"] = f"a small disk needs root: {done.stderr.strip()}"

    def _unmount(self) -> None:
        if "disk" not in self.skipped:
            subprocess.run(["umount", "-l", str(self.bags)], capture_output=True, check=False)

    # What is seen -------------------------------------------------------------------------

    def driving(self, since_s: float = 0.0) -> bool:
        """Whether the robot is moved now, by commands that all came after `since_s`."""
        last = self.observer.since(time.monotonic() - 0.5)[-3:]
        period_s = self.robot.control_dt_s
        return (
            len(last) == 3
            and not any(one.safe or one.at_s < since_s for one in last)
            and time.monotonic() - last[-1].at_s < 3 * period_s
        )

    def until(self, condition: Callable[[], Any], timeout_s: float) -> bool:
        """Wait for a condition; whether it came to hold."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.005)
        return True

    # What injections use -------------------------------------------------------------------

    def publisher(self, kind: type, topic: str, profile: Any = COMMAND) -> Any:
        """A publisher of the campaign's own, which stays."""
        key = kind, topic
        if key not in self._publishers:
            self._publishers[key] = self.peer.create_publisher(kind, topic, profile)
            publisher = self._publishers[key]
            self.until(publisher.get_subscription_count, 5.0)
        return self._publishers[key]

    def call(self, kind: type, service: str, request: Any, timeout_s: float = ANSWER_S) -> Any:
        """Answer of a service; None where none came."""
        if service not in self._clients:
            self._clients[service] = self.peer.create_client(kind, service)
        client = self._clients[service]
        node = service.strip("/").partition("/")[0]

        def over() -> bool:
            return client.service_is_ready() or not self.processes.alive(node)

        if not self.until(over, timeout_s) or not self.processes.alive(node):
            return None
        future = client.call_async(request)
        self.until(lambda: future.done() or not self.processes.alive(node), timeout_s)
        return future.result() if future.done() else None

    def trigger(self, service: str) -> Any:
        """Call a service that takes nothing."""
        return self.call(Trigger, service, Trigger.Request())

    def transition(self, node: str, number: int, timeout_s: float = ANSWER_S) -> bool:
        """Ask for a transition of a lifecycle node; whether it was made."""
        request = ChangeState.Request()
        request.transition.id = number
        answer = self.call(ChangeState, f"/{node}/change_state", request, timeout_s)
        return answer is not None and answer.success

    def state(self, node: str) -> int:
        """State of a lifecycle node; 0: it does not say."""
        answer = self.call(GetState, f"/{node}/get_state", GetState.Request(), 5.0)
        return 0 if answer is None else answer.current_state.id

    def make_active(self, node: str) -> None:
        """Bring a lifecycle node to 'active', whatever state it is in; start it where it ended."""
        for _ in range(8):
            if not self.processes.alive(node):
                self.processes.start(node)
                return
            state = self.state(node)
            if state == ACTIVE:
                return
            if state in (0, FINALIZED):
                self.processes.kill(node)
            else:
                self.transition(node, 3 if state == INACTIVE else 1)

    def set_parameter(self, node: str, name: str, value: Any) -> bool:
        """Set a parameter at run time; whether it was taken."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        answer = self.call(SetParameters, f"/{node}/set_parameters", request, 5.0)
        return answer is not None and all(result.successful for result in answer.results)

    def start_now(self) -> None:
        """What went before was only the preparation: the fault begins now."""
        self.t0 = time.monotonic()

    def intruder(self) -> Callable[[Sequence[float]], None]:
        """A second publisher of commands; what it gives publishes one."""
        self._intruder = self.peer.create_publisher(
            Float64MultiArray, self.robot.command.topic, COMMAND
        )

        def command(values: Sequence[float]) -> None:
            message = Float64MultiArray(data=list(values))
            message.layout.data_offset = INTRUDER
            self._intruder.publish(message)

        return command

    def end_intruder(self) -> None:
        """Destroy it."""
        self.peer.destroy_publisher(self._intruder)

    # Episodes -------------------------------------------------------------------------------

    def begin_episode(self) -> None:
        """Have the recorder begin a bag."""
        self._episode += 1
        self._tell("start")

    def end_episode(self) -> None:
        """Have the recorder close it."""
        self._tell("end")

    def _tell(self, what: str) -> None:
        publisher_kind = type(status("", OK, "", {}))
        values = {"episode": self._episode, "stamp_ns": self.stamp_ns()}
        publisher = self.publisher(publisher_kind, "episode", EVENTS)
        publisher.publish(status("episode", OK, what, values))

    # Help -----------------------------------------------------------------------------------

    def heal(self) -> None:
        """Undo whatever an injection may have left altered in this process."""
        for wire in (self.joints, self.pictures, self.plans):
            if wire is not None:
                wire.alter = unaltered

    def help(self) -> bool:
        """Bring the graph back by hand; whether it came back."""
        self.heal()
        for name in self.processes.commands:
            if not self.processes.alive(name):
                self.processes.start(name)
        for node in (CONTROLLER, PLANNER):
            if node in self.managed:
                if self.state(node) == ACTIVE:
                    self.transition(node, 4)
                self.make_active(node)
        if self.until(self.driving, 15.0):
            return True
        for name in self.processes.commands:
            if self.processes.alive(name):
                self.processes.kill(name)
        self.reset_clocks()
        for name in self.processes.commands:
            self.processes.start(name)
        return self.until(self.driving, START_S)
