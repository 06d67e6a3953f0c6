"""A robot that a command brings up: its processes, and a node of the command's own beside them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lifecycle_msgs.srv import ChangeState

from wm_planner.bringup import NodeSpec, remappings
from wm_planner.cli.listener import ENCLAVE, Listener
from wm_planner.cli.preflight import child_environment
from wm_planner.cli.processes import Supervisor
from wm_planner.cli.sim import child_of
from wm_planner.errors import WmPlannerError
from wm_planner.robot import RobotFile
from wm_planner.ros.base import NodeBase

NAME = "wm_planner_robot"
PLAIN_NODE = partial(NodeBase, NAME)
PATIENCE_S = 10.0  # after which a command says what it is waiting for
START_S = 60.0  # time to start: loading torch and a checkpoint takes seconds on a small machine
ANSWER_S = 10.0
CONTROLLER = "controller_node"
ARM_S = 5.0  # until the controller must have heard where the joints are
TRANSITIONS = {"configure": 1, "cleanup": 2, "activate": 3, "deactivate": 4}


def robot_environment(robot: RobotFile | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment of the processes around a robot.

    A robot that runs already is met where the user's ROS settings say. One that a driver stands for
    stays on this machine, in a domain of its own unless one is given: its commands must not reach a
    real robot that happens to use the same topics. Without a robot file nothing is started.

    Raises:
        ConfigError: ROS_DOMAIN_ID is not a number that works.
    """
    children = child_environment(dict(environment))
    if robot is None or robot.driver is None:
        for key in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
            if not environment.get(key):
                children.pop(key)
    children.setdefault("ROS_DOMAIN_ID", "0")
    return children


class Session:
    """Starts the processes of a table and ends them together; use as a ``with`` block.

    Args:
        robot: whose topics have names of their own; where a driver stands for it, the processes
            meet where no real robot is. None: no robot file is given.
        specs: what to start.
        logs: directory of the processes' logs; None: one that goes with a run that ends well.
        make_node: makes the command's node with the options of `rclpy.node.Node`.
        enclave: whose keys that node has.

    Attributes:
        node: the command's own node; its callbacks are served by `step`.
        environment: of the processes.
    """

    def __init__(
        self,
        robot: RobotFile | None,
        specs: Sequence[NodeSpec],
        logs: Path | None = None,
        make_node: Callable[..., Any] = PLAIN_NODE,
        enclave: str = ENCLAVE,
    ) -> None:
        # Who starts nothing listens where others have started it.
        self.environment = robot_environment(robot if specs else None, os.environ)
        self._specs, self._given = list(specs), logs
        self._robot, self._make_node, self._enclave = robot, make_node, enclave
        self._clients: dict[str, Any] = {}

    @property
    def where(self) -> str:
        """The domain, for those who want to look at the topics."""
        return f"ROS_DOMAIN_ID={self.environment['ROS_DOMAIN_ID']}"

    def __enter__(self) -> Session:
        for key in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_DOMAIN_ID"):
            if key in self.environment:  # the node below is of this process
                os.environ[key] = self.environment[key]
        self._logs = self._given or Path(tempfile.mkdtemp(prefix="wm-planner-robot-"))
        topics = {} if self._robot is None else remappings(self._robot)
        names = [f"{name}:={topic}" for name, topic in topics.items()]
        arguments = [word for name in names for word in ("-r", name)]
        make_node = partial(self._make_node, cli_args=["--ros-args", *arguments])
        domain = int(self.environment["ROS_DOMAIN_ID"])
        self._listener = Listener(domain, make_node, self._enclave)
        self.node = self._listener.node
        children = [child_of(spec, self._logs / "parameters") for spec in self._specs]
        self._supervisor = Supervisor(children, self._logs, self.environment)
        try:
            self._supervisor.__enter__()
        except BaseException:
            self._listener.close()
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._supervisor.__exit__()
        finally:
            self._listener.close()
            if self._given is None and not isinstance(error, WmPlannerError):
                shutil.rmtree(self._logs, ignore_errors=True)

    def step(self, timeout_s: float = 0.05) -> bool:
        """Serve one callback, waiting up to `timeout_s` for it; True when the run is over, well.

        Raises:
            ChildFailedError: a process that is needed has ended.
            KeyboardInterrupt: SIGINT or SIGTERM came.
        """
        over = self._supervisor.poll()
        if self._supervisor.interrupted:
            raise KeyboardInterrupt
        self._listener.spin(timeout_s)
        return over

    def wait(self, seconds: float) -> None:
        """Serve callbacks for so long."""
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0:
            self.step(min(left_s, 0.05))

    def within(self, condition: Callable[[], Any], timeout_s: float) -> Any:
        """Serve callbacks until the condition holds or the time has passed; its last value."""
        deadline_s = time.monotonic() + timeout_s
        while not (value := condition()) and time.monotonic() < deadline_s:
            self.step(0.02)
        return value

    def until(
        self, condition: Callable[[], Any], what: str | Callable[[], str], timeout_s: float
    ) -> Any:
        """Serve callbacks until the condition holds, and return its value.

        Args:
            condition: asked over and over.
            what: what did not happen, for the error. What a function says is told after
                `PATIENCE_S` already, while there is time to mend it.
            timeout_s: how long that may take.

        Raises:
            WmPlannerError: it took longer.
        """
        patience_s = min(PATIENCE_S, timeout_s) if callable(what) else 0.0
        value = self.within(condition, patience_s)
        if not value:
            if callable(what) and patience_s < timeout_s:
                print(f"still waiting after {patience_s:g} s: {what()}", flush=True)
            value = self.within(condition, timeout_s - patience_s)
        if not value:
            text = what if isinstance(what, str) else what()
            raise WmPlannerError(f"{text} (waited {timeout_s:g} s; logs in {self._logs})")
        return value

    def call(self, kind: Any, service: str, request: Any = None) -> Any:
        """Call a service, which may first have to come.

        Raises:
            WmPlannerError: it did not come, or did not answer.
        """
        client = self.client(kind, service)
        self.until(client.service_is_ready, f"service {service} did not come", START_S)
        future = client.call_async(kind.Request() if request is None else request)
        self.until(future.done, f"service {service} did not answer", ANSWER_S)
        return future.result()

    def client(self, kind: Any, service: str) -> Any:
        """The client of a service; made once, because finding each other takes a while."""
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        return self._clients[service]

    def transition(self, node: str, name: str) -> bool:
        """Change the state of a lifecycle node; False when it refused, as its log says."""
        request = ChangeState.Request()
        request.transition.id = TRANSITIONS[name]
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def configure_controller(self) -> None:
        """Connect the controller, which still is silent.

        Raises:
            WmPlannerError: it refuses.
        """
        if not self.transition(CONTROLLER, "configure"):
            raise self._controller_refused()

    def arm_controller(self) -> None:
        """Activate the controller: from here on the robot may move.

        Raises:
            WmPlannerError: it refuses.
        """
        deadline_s = time.monotonic() + ARM_S
        while not self.transition(CONTROLLER, "activate"):
            if time.monotonic() > deadline_s:
                raise self._controller_refused()
            self.wait(0.5)  # it may not have heard yet where the joints are

    def _controller_refused(self) -> WmPlannerError:
        return WmPlannerError(f"the controller refuses: {self.last_words(CONTROLLER)}")

    def last_words(self, name: str) -> str:
        """Last line that a process has written."""
        lines = self._supervisor.log_of(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing in its log"
