"""What a recorder and a learner beside the robot add to the time from camera to command.

``python -m benchmarks.recording BAGS`` lets the graph of the fault campaign drive its robot, with
pictures of 224 x 224 at 30 Hz and a planner without a network, whose time would hide the rest. By
turns nothing else runs, and a recorder keeps all of it while a learner trains on the bags. Behind
each command stands the newest plan, and behind that the picture that it was made from: measured is
the time from the stamp of that picture to the command.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from benchmarks.report import report
from faults.arm import Arm
from faults.peer import until
from faults.stage import RECORDER, START_S, Stage
from wm_planner.robot import RobotFile
from wm_planner.ros.conversions import to_ns
from wm_planner.ros.qos import recorded

SIZE, PICTURE_S = 224, 1 / 30
SETTLE_S = 3.0  # after a change, before it counts
LOADED_S = 10.0  # processor time after which the learner trains


@dataclass(frozen=True)
class Heard:
    """One message: when the middleware received it, and for a plan the stamp of its picture."""

    at_ns: int
    picture_ns: int | None = None


class Listener(Node):
    """Keeps when plans and commands came."""

    def __init__(self, robot: RobotFile, **options: Any) -> None:
        super().__init__("latency_listener", **options)
        self.heard: list[Heard] = []
        qos = recorded(reliable=False)
        self.create_subscription(Float64MultiArray, robot.command.topic, self._on_command, qos)
        self.create_subscription(JointTrajectory, "plan", self._on_plan, qos)

    def _on_command(self, _message: Float64MultiArray, info: Any) -> None:
        self.heard.append(Heard(info["received_timestamp"]))

    def _on_plan(self, message: JointTrajectory, info: Any) -> None:
        self.heard.append(Heard(info["received_timestamp"], to_ns(message.header.stamp)))


def ages_ms(heard: Sequence[Heard]) -> list[float]:
    """Of each command, the age of the picture behind the newest plan that came before it."""
    found, newest_ns = [], None
    for one in sorted(heard, key=lambda one: one.at_ns):
        if one.picture_ns is not None:
            newest_ns = one.picture_ns
        elif newest_ns is not None:
            found.append((one.at_ns - newest_ns) * 1e-6)
    return found


class CameraStage(Stage):
    """The campaign's graph with a larger and faster camera, on the disk that is there."""

    def read_robot(self) -> RobotFile:
        """With pictures of 224 x 224."""
        robot = super().read_robot()
        front = replace(robot.cameras["front"], size=SIZE)
        return replace(robot, cameras={"front": front})

    def make_nodes(self) -> list[Any]:
        """The robot, the planner, and who listens."""
        nodes = super().make_nodes()
        self.listener = Listener(self.robot, context=self.context)
        return [*nodes, self.listener]

    def make_arm(self) -> Arm:
        """With a picture thirty times a second."""
        return Arm(self.robot, self.seed, SIZE, PICTURE_S, context=self.context)

    def _mount(self) -> None:
        self.bags.mkdir(exist_ok=True)
        self.skipped["disk"] = "not needed"

    def listen(self, seconds: float) -> list[float]:
        """What `ages_ms` says of the next seconds."""
        self.wait(SETTLE_S)
        self.listener.heard.clear()
        self.wait(seconds)
        return ages_ms(list(self.listener.heard))


class Learner:
    """`wm-planner learn` on bags that are there, training without an end; use as a ``with`` block.

    Args:
        bags: to learn from.
        checkpoint: to begin with.
        output: receives its log.
    """

    def __init__(self, bags: Path, checkpoint: str, output: Path) -> None:
        settings = ("num_updates=1000000", "every=1")
        self._command = [sys.executable, "-m", "wm_planner.cli.main", "learn", str(bags)]
        self._command += ["--checkpoint", checkpoint, "--output", str(output / "learnt")]
        self._command += [word for setting in settings for word in ("--set", setting)]
        self._log = output / "learner.log"

    def __enter__(self) -> Learner:
        with self._log.open("wb") as log:
            self._parent = subprocess.Popen(self._command, stdout=log, stderr=log)
        pid = self._parent.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        until(lambda: self._has_ended() or children.read_text().strip(), START_S)
        if not self._has_ended():
            self._child = int(children.read_text())
            trains = until(lambda: self._has_ended() or self.cpu_s() > LOADED_S, START_S)
            if trains and not self._has_ended():
                return self
        self.__exit__()
        raise SystemExit(f"the learner does not train: {self._log.read_text().strip()}")

    def __exit__(self, *_: object) -> None:
        self._parent.kill()  # the kernel ends its child then
        self._parent.wait()

    def _has_ended(self) -> bool:
        return self._parent.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """To the process that learns."""
        os.kill(self._child, number)

    def cpu_s(self) -> float:
        """Processor seconds that it has had."""
        fields = Path(f"/proc/{self._child}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(stage: CameraStage, learner: Learner, turns: int, seconds: float) -> dict[str, Any]:
    """Both by turns, which begin with the one and the other.

    Returns:
        Commands, and the ages of the pictures behind them, ms: median and 99 of 100, and what was
        added to them; of all turns together, and of each.
    """
    ages: dict[bool, list[list[float]]] = {False: [], True: []}
    trained_s = 0.0
    for turn in range(turns):
        for beside in (False, True) if turn % 2 else (True, False):
            learner.send(signal.SIGCONT if beside else signal.SIGSTOP)
            if beside:
                if not stage.processes.alive(RECORDER):
                    stage.processes.start(RECORDER)
                stage.begin_episode()
            elif stage.processes.alive(RECORDER):
                stage.end_episode()
                stage.wait(SETTLE_S)
                stage.processes.kill(RECORDER)
            before_s = learner.cpu_s()
            ages[beside].append(stage.listen(seconds))
            trained_s += learner.cpu_s() - before_s
    written = sum(file.stat().st_size for file in stage.bags.rglob("*") if file.is_file())
    each = [(_of(a), _of(b)) for a, b in zip(ages[False], ages[True], strict=True)]
    without, with_both = (_of([age for turn in ages[key] for age in turn]) for key in (False, True))
    return {
        "without": without,
        "recording_and_learning": with_both,
        "added_ms": {key: round(with_both[key] - without[key], 2) for key in ("p50", "p99")},
        "added_p99_ms_of_each_turn": [round(b["p99"] - a["p99"], 2) for a, b in each],
        "recorded_mib": round(written / 2**20, 1),
        "learner_cpu_share": round(trained_s / (turns * (seconds + SETTLE_S)), 2),
    }


def _of(ages: Sequence[float]) -> dict[str, float]:
    points = {"p50": 50, "p99": 99}
    found = {key: round(float(np.percentile(ages, p)), 2) for key, p in points.items()}
    return {"commands": len(ages), **found}


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", allow_abbrev=False)
    parser.add_argument("bags", type=Path, help="to learn from")
    parser.add_argument("--checkpoint", default="wall-base")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each turn, of each kind")
    parser.add_argument("--domain", type=int, default=40, help="ROS domain (default 40)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        with (
            Learner(args.bags, args.checkpoint, place) as learner,
            CameraStage(place, args.domain, seed=0) as stage,
        ):
            if not stage.until(stage.driving, START_S):
                raise SystemExit(f"the robot does not move: {stage.observer.complaints()}")
            result = measure(stage, learner, args.turns, args.seconds)
    report(result, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
