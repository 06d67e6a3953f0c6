"""Random motion through the controller's gate, with the stand-in arm for a robot."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from std_msgs.msg import Float64MultiArray

from wm_planner.bringup import RunOptions, bring_up
from wm_planner.data.bags import Bag
from wm_planner.errors import ConfigError
from wm_planner.nodes.camera_node import CameraNode
from wm_planner.nodes.command_guard import CommandGuard
from wm_planner.nodes.controller_node import ControllerNode
from wm_planner.nodes.explore_node import STATUS, ExploreNode
from wm_planner.nodes.finetune_node import FinetuneNode
from wm_planner.robot import read_robot
from wm_planner.ros.diagnostics import values_of
from wm_planner.ros.qos import RECORD

from .domains import claim_domain
from .stand_in_arm import HIGH, HOME, LOW, StandInArm
from .waiting import until

HERE = Path(__file__).parent
FILE = HERE / "stand_in.yaml"
KINDS = {
    "camera_node": CameraNode,
    "command_guard": CommandGuard,
    "controller_node": ControllerNode,
    "finetune_node": FinetuneNode,
    "explore_node": ExploreNode,
}
DRIVER = "driver: {module: stand_in_arm, name: stand_in_arm}\n"


class Stage:
    """The arm, and the nodes of the table, in one process."""

    def __init__(self, graph, bags: Path, start=HOME, **explore) -> None:
        self.graph = graph
        arm = [Parameter("hole_every_s", value=0.0), Parameter("start", value=list(start))]
        self.arm = graph.serve(StandInArm(context=graph.context, parameter_overrides=arm))
        self.reports: list[tuple[str, dict[str, str]]] = []
        self.commands: list[np.ndarray] = []
        person = graph.peer("person")
        person.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, RECORD)
        person.create_subscription(Float64MultiArray, "/arm/velocity", self._on_command, RECORD)
        self.nodes = {}
        options = RunOptions(bags=str(bags), explore=explore, seed=1)
        for spec in bring_up(read_robot(FILE), options):
            if spec.executable in KINDS:
                self.nodes[spec.executable] = self._add(spec)
        self.controller = self.nodes["controller_node"]
        self.explorer = self.nodes["explore_node"]

    def _add(self, spec):
        words = [word for pair in spec.remappings.items() for word in ("-r", ":=".join(pair))]
        node = KINDS[spec.executable](
            context=self.graph.context,
            cli_args=["--ros-args", *words],
            parameter_overrides=[Parameter(k, value=v) for k, v in spec.parameters.items()],
        )
        return self.graph.serve(node)

    def _on_report(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == STATUS:
                self.reports.append((status.message, values_of(status)))

    def _on_command(self, message: Float64MultiArray) -> None:
        self.commands.append(np.array(message.data))

    def explore(self, during=lambda: None) -> int:
        """Activate as soon as the explorer waits for it, and run to the end."""
        self.controller.trigger_configure()
        armed = False

        def spin(timeout_s: float) -> None:
            nonlocal armed
            self.graph.spin(timeout_s)
            if not armed and self.reports:
                armed = self.reports[-1][1].get("waits_for") == "activation"
                if armed:
                    self.controller.trigger_activate()
            during()

        return self.explorer.explore(spin)

    @property
    def phases(self) -> list[str]:
        """Each phase as often as it was entered."""
        names = [name for name, _ in self.reports]
        return [n for n, before in zip(names, ["", *names], strict=False) if n != before]

    def last_is_safe(self) -> None:
        """Deactivate, and see what the robot hears last."""
        self.controller.trigger_deactivate()
        count = len(self.commands)
        self.graph.until(
            lambda: len(self.commands) >= count and not self.commands[-1].any(), "safe command"
        )


def test_two_episodes_are_recorded_from_home_and_nothing_is_cut(graph, tmp_path):
    stage = Stage(graph, tmp_path, HOME + [0.2, -0.1, 0.2, 0.0, 0.1, -0.2], episodes=2, seconds=2.5)
    assert stage.explore() == 0
    graph.until(lambda: stage.reports[-1][0] == "done", "the last report")
    assert stage.phases == [
        "waiting", *["homing", "exploring", "ending"] * 2, "done",
    ]  # fmt: skip
    values = stage.reports[-1][1]
    assert int(values["commands"]) > 60
    assert int(values["limited"]) <= 2  # a machine that is held up skips a row
    stage.last_is_safe()
    for name in ("episode_0000", "episode_0001"):
        messages = list(Bag(tmp_path / name).messages())
        topics = [message.topic for message in messages]
        assert topics.count("/observation/image") >= 15
        assert topics.count("/command_sent") >= 15
        states = [m.decode() for m in messages if m.topic == "/joint_states"]
        first = next(s for s in states if "base" in s.name)
        place = dict(zip(first.name, first.position, strict=True))
        joints = read_robot(FILE).action.names
        np.testing.assert_allclose([place[j] for j in joints], HOME, atol=0.05)
        sent = [m.decode() for m in messages if m.topic == "/command_sent"]
        rows = np.array([message.points[0].velocities for message in sent])
        assert np.abs(rows).max() <= 0.8 + 1e-6 and np.ptp(rows, axis=0).max() > 0.1
    assert (stage.arm.q > LOW).all() and (stage.arm.q < HIGH).all()


def test_a_camera_that_stops_ends_it_with_the_safe_command(graph, tmp_path):
    stage = Stage(graph, tmp_path, episodes=3, seconds=30.0)

    def during() -> None:
        if stage.reports and stage.reports[-1][0] == "exploring":
            stage.arm._shutter.cancel()

    assert stage.explore(during) == 1
    graph.until(lambda: stage.reports[-1][0] == "stopped", "the reason")
    why = stage.reports[-1][1]["why"]
    assert "refused: stale" in why and "observation/image" in why
    stage.last_is_safe()
    # What was recorded until then lies in a bag that is closed.
    assert (tmp_path / "episode_0000" / "metadata.yaml").exists()


def test_a_robot_that_does_not_move_ends_it(graph, tmp_path):
    stage = Stage(graph, tmp_path, episodes=1, seconds=60.0, half_width=1.0)
    stage.arm._move = lambda: None  # in a protective stop
    assert stage.explore() == 1
    graph.until(lambda: stage.reports[-1][0] == "stopped", "the reason")
    assert "commanded but not moving" in stage.reports[-1][1]["why"]
    stage.last_is_safe()


def test_a_person_who_stops_the_controller_ends_it(graph, tmp_path):
    stage = Stage(graph, tmp_path, episodes=1, seconds=30.0)

    def during() -> None:
        if stage.reports and stage.reports[-1][0] == "exploring":
            stage.controller._on_stop(None, type("Response", (), {})())

    assert stage.explore(during) == 1
    graph.until(lambda: stage.reports[-1][0] == "stopped", "the reason")
    assert "stopped: somebody has stopped it" in stage.reports[-1][1]["why"]
    assert not stage.commands[-1].any()


def test_home_outside_of_the_limits_is_refused(graph):
    body = read_robot(FILE).embodiment
    node = graph.add(
        ExploreNode,
        embodiment=json.dumps(body.to_json()),
        home=HOME.tolist(),
        position_low=(LOW + 1.6).tolist(),
        position_high=HIGH.tolist(),
        recorder="",
    )
    graph.serve(StandInArm(context=graph.context))
    with pytest.raises(ConfigError, match="'shoulder' is at home, or starts, at -0.3"):
        node.explore(graph.spin)


# As a user types it -------------------------------------------------------------------------

PATH = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
ENVIRONMENT = {**os.environ, "ROS_DOMAIN_ID": str(claim_domain()), "PYTHONPATH": PATH}
COMMAND = [sys.executable, "-m", "wm_planner.cli.main", "robot", "explore"]


def explore(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=110, stdin=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = FILE.read_text()
    assert old in text
    file = tmp_path / "robot.yaml"
    file.write_text(text.replace(old, new))
    return file


def test_command_records_episodes_and_says_what_they_hold(tmp_path):
    result = explore(FILE, "--episodes", 2, "--seconds", 2, "--output", tmp_path, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    for text in (
        "base                                  -0.5 .. 0.5",
        "episode_0000",
        "episode_0001",
        "a limit cut",
        "2 episodes",
    ):
        assert text in result.stdout, result.stdout
    assert "!!" not in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"episode_0000", "episode_0001", "logs"}


def test_command_says_why_it_stopped(tmp_path):
    dying = "driver: {module: stand_in_arm, name: stand_in_arm, parameters: "
    dying += "{hole_every_s: 60.0, hole_s: 44.9}}\n"  # the camera's last picture comes after 15 s
    file = changed(tmp_path, DRIVER, dying)
    result = explore(file, "--episodes", 2, "--seconds", 60, "--output", tmp_path, "--yes")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "stopped: the controller refused: stale" in result.stdout
    assert "1 episodes" in result.stdout


def test_command_refuses_what_it_cannot_use(tmp_path):
    out = "--output", tmp_path / "bags"
    file = changed(tmp_path, "home: [0.0, -0.3, 1.2, 0.0, 0.6, 0.0]\n", "")
    for words, text in (
        ((file, "--episodes", 1, "--seconds", 1, "--yes"), "'home' is missing"),
        ((FILE, "--episodes", 0, "--seconds", 1, "--yes"), "--episodes must be at least 1"),
        ((FILE, "--episodes", 1, "--seconds", 0, "--yes"), "--seconds must be from 0.1"),
        ((FILE, "--episodes", 1, "--seconds", 1, "--half-width", 0, "--yes"), "--half-width"),
        ((FILE, "--episodes", 1, "--seconds", 1), "no terminal on which a person could agree"),
    ):
        result = explore(*words, *out)
        assert result.returncode == 2, result.stdout + result.stderr
        assert text in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "bags").exists()


def test_command_moves_nothing_unless_a_person_says_yes(tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, str(FILE), "--episodes", "1", "--seconds", "1", "--output", str(tmp_path)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stdin=theirs, text=True,
    )  # fmt: skip
    os.write(ours, b"no\n")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "type yes:" in said and "nothing was moved" in said
    assert not list(tmp_path.glob("episode*"))


def test_command_ends_with_ctrl_c(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, str(FILE), "--episodes", "5", "--seconds", "60"]
        + ["--output", str(tmp_path), "--yes"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    bag = tmp_path / "episode_0000"
    until(lambda: list(bag.glob("*.mcap")), "the bag", timeout_s=60)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted after 0 episodes" in said
    assert (bag / "metadata.yaml").exists()
