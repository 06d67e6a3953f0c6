"""One live graph: the nodes as processes, and around them the robot and an observer."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from faults.arm import Arm
from faults.clocks import SteppedClock
from faults.fault import STAND_IN, Bounds
from faults.observer import Observer
from faults.peer import ACTIVE, Peer, until
from faults.processes import Processes
from faults.stand_in import ROBOT, StandInPlanner
from faults.wire import unaltered
from wm_planner.bringup import NodeSpec, RunOptions, bring_up
from wm_planner.cli.sim import child_of
from wm_planner.robot import RobotFile, read_robot
from wm_planner.ros.diagnostics import OK, status
from wm_planner.ros.qos import EVENTS

CONTROLLER, CAMERA, RECORDER, PLANNER, GUARD = (
    "controller_node",
    "camera_node",
    "finetune_node",
    "planner_node",
    "command_guard",
)
START_S, RECOVER_S = 90.0, 60.0
DISK_MIB = 48


def profile(name: str) -> dict[str, str]:
    """Environment for one of Fast DDS's profiles beside this file, which leave others alone."""
    # The range that would leave them alone by itself ignores what a profile says of transports.
    file = Path(__file__).with_name(f"{name}.xml")
    return {"FASTRTPS_DEFAULT_PROFILES_FILE": str(file), "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}


class Stage:
    """A graph with the stand-in planner; use as a ``with`` block.

    Args:
        directory: that receives logs, parameters and bags.
        domain: ROS domain of the graph.
        seed: of the arm's noise.
        slack_s: how much later than it must everything may happen, on a machine that is busy.
    """

    kind = STAND_IN
    wire: ClassVar[dict[str, str]] = profile("loopback")  # what DDS goes over

    def __init__(self, directory: Path, domain: int, seed: int, slack_s: float = 0.0) -> None:
        self.directory, self.domain, self.seed = directory, domain, seed
        self.robot = self.read_robot()
        body = self.robot.embodiment
        rate = np.array(self.robot.action.max_rate)
        self.limit_s = self.robot.stale_after_s + body.control_dt_s + slack_s
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
        self.slack_s = slack_s
        self.lost = False  # it could not be brought back, even by hand
        self.managed: set[str] = set()  # lifecycle nodes
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
        self.arm = self.make_arm()
        self.joints, self.pictures = self.arm.joints, self.arm.pictures
        self.planner = StandInPlanner(self.robot, context=self.context)
        self.plans = self.planner.plans
        return [self.arm, self.planner]

    def make_arm(self) -> Arm:
        """The robot, and its camera."""
        return Arm(self.robot, self.seed, context=self.context)

    def inside(self, name: str) -> list[str]:
        """What a node is started by."""
        return []

    def prepare(self) -> None:
        """Before an injection: what keeps the robot moving."""

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
            **self.wire,
        }
        os.environ.update(self.wire)  # of this process, too
        try:
            self.clock = SteppedClock(self.directory / "clock")
            environment.update(self.clock.environment)
        except OSError as error:
            self.skipped["clock"] = str(error)
        self.processes = Processes(self.directory / "logs", environment)
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self.observer = Observer(self.robot, context=self.context)
        peer = rclpy.create_node("campaign_peer", context=self.context)
        self.peer = Peer(peer, self.processes, self.robot.command.topic)
        nodes = [self.observer, peer, *self.make_nodes()]
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
            while self.context.ok():
                with suppress(InvalidHandle):  # of what an injection destroyed in its own thread
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

    def whole(self) -> bool:
        """Whether the robot is moved, and the guard, where there is one, listens."""
        guarded = GUARD not in self.processes.commands or any(
            GUARD in name and level[0] > self.processes.started_s.get(GUARD, 0.0)
            for name, level in self.observer.levels.items()
        )
        return guarded and self.driving()

    def until(self, condition: Callable[[], Any], timeout_s: float) -> bool:
        """Wait for a condition; whether it came to hold."""
        return until(condition, timeout_s)

    def wait(self, seconds: float) -> None:
        """Let the graph run on."""
        time.sleep(seconds)

    def start_now(self) -> None:
        """What went before was only the preparation: the fault begins now."""
        self.t0 = time.monotonic()

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
        publisher = self.peer.publisher(publisher_kind, "episode", EVENTS)
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
                if self.peer.state(node) == ACTIVE:
                    self.peer.transition(node, 4)
                self.peer.make_active(node)
        if self.until(self.driving, 15.0):
            return True
        for name in self.processes.commands:
            if self.processes.alive(name):
                self.processes.kill(name)
        self.reset_clocks()
        for name in self.processes.commands:
            self.processes.start(name)
        self.prepare()  # what was asked for is stamped by a clock that was wrong
        self.lost = not self.until(self.driving, START_S)
        return not self.lost
