"""The recorder, as a command sees it: episodes begin and end by its services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from std_srvs.srv import Trigger

from wm_planner.cli.robot_session import START_S, Session
from wm_planner.errors import DatasetError
from wm_planner.robot import RobotFile, observation_topic
from wm_planner.ros.diagnostics import values_below, values_of
from wm_planner.ros.ready import ready_names

RECORDER = "finetune_node"
COUNT = "count "  # what the recorder's reports put before a topic's name
SERVICES = ("start_episode", "end_episode", "success", "failure", "drop")
CLOSE_S = 15.0  # longer than the recorder waits for an episode's last messages


@dataclass(frozen=True)
class Bag:
    """A bag that the recorder has closed.

    Attributes:
        path: its directory.
        outcome: 'success', 'failure' or ''.
        seconds: from its first to its last message.
        counts: messages by this package's topic names.
        dropped: it was moved out of the way.
    """

    path: Path
    outcome: str
    seconds: float
    counts: Mapping[str, int]
    dropped: bool = False

    def line(self, wanted: Mapping[str, str]) -> str:
        """One line for people.

        Args:
            wanted: topics by the words that name them.
        """
        parts = [f"{words} {self.counts.get(topic, 0)}" for words, topic in wanted.items()]
        judged = f"{self.outcome}  " if self.outcome else ""
        return f"{self.path.name}  {judged}{self.seconds:.1f} s  {'  '.join(parts)}"

    def missing(self, wanted: Mapping[str, str]) -> list[str]:
        """Words of the topics that the bag has nothing of."""
        return [words for words, topic in wanted.items() if not self.counts.get(topic)]


@dataclass
class RecorderClient:
    """Calls the recorder's services and hears its reports.

    Attributes:
        session: that runs the recorder.
        robot: whose topics are recorded.
        bags: closed so far.
        running: name of the running episode's bag; '' when none runs.
        progress: counts of the running episode; empty before the first report.
        seconds: length of the running episode.
    """

    session: Session
    robot: RobotFile
    bags: list[Bag] = field(default_factory=list)
    running: str = ""
    progress: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        node = self.session.node
        node.hear_diagnostics(self._on_report)
        node.create_subscription(DiagnosticArray, f"{RECORDER}/status", self._on_status, 10)
        self._listening, self._given = False, 0

    def new_bags(self) -> list[Bag]:
        """Bags that were closed since the last call; a service may have ended them."""
        bags = self.bags[self._given :]
        self._given += len(bags)
        return bags

    def topics(self, commands: str) -> dict[str, str]:
        """What a bag must hold: topics by the words that name them.

        Args:
            commands: topic of the commands, by this package's name.
        """
        body = self.robot.embodiment
        cameras = [camera.name for camera in body.cameras if not camera.optional]
        words = {
            name: f"pictures of {name}" if len(cameras) > 1 else "pictures" for name in cameras
        }
        pictures = {words[name]: observation_topic(body, name) for name in cameras}
        return {**pictures, "joints": "joint_states", "commands": commands}

    def wait_ready(self) -> None:
        """Until the recorder has found cameras and joints.

        Raises:
            WmPlannerError: it did not.
        """
        clients = [self.session.client(Trigger, f"{RECORDER}/{name}") for name in SERVICES]
        self.session.until(lambda: self._listening, self._why_not_ready, START_S)
        for client in clients:
            self.session.until(client.service_is_ready, "the recorder did not come", START_S)

    def start(self) -> str:
        """Begin an episode; its bag's name.

        Raises:
            DatasetError: the recorder refused.
        """
        self.running = Path(self._call("start_episode")).name
        self.progress, self.seconds = {}, 0.0
        return self.running

    def end(self, service: str) -> Bag | None:
        """End the episode and wait for its bag; None when the recorder tells of none.

        Args:
            service: 'end_episode', 'success' or 'failure'; or 'drop', which drops the last bag
                when no episode runs.

        Raises:
            DatasetError: the recorder refused.
        """
        count = len(self.bags)
        self._call(service)
        self.session.within(lambda: len(self.bags) > count, CLOSE_S)
        return self.bags[-1] if len(self.bags) > count else None

    def _call(self, service: str) -> str:
        answer = self.session.call(Trigger, f"{RECORDER}/{service}")
        if not answer.success:
            raise DatasetError(f"recorder: {answer.message}")
        return str(answer.message)

    def _on_report(self, message: DiagnosticArray) -> None:
        self._listening |= RECORDER in ready_names(message)
        for status in message.status:
            if status.name == f"{RECORDER}: bag":
                values = values_of(status)
                bag = Bag(
                    Path(values["path"]),
                    values["outcome"],
                    float(values["seconds"]),
                    _counts(values),
                    status.message == "dropped",
                )
                self.bags.append(bag)
                self.running, self.progress = "", {}

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = values_of(status)
            name = Path(values["path"]).name
            if self.bags and self.bags[-1].path.name == name:
                return  # it was under way when the bag was closed
            self.running = name
            self.progress, self.seconds = _counts(values), float(values["seconds"])

    def _why_not_ready(self) -> str:
        node, body = self.session.node, self.robot.embodiment
        topics = [source.topic for source in self.robot.cameras.values() if source.topic]
        topics += [observation_topic(body, camera.name) for camera in body.cameras]
        silent = [t for t in [self.robot.joint_states, *topics] if not node.count_publishers(t)]
        if silent:
            return (
                f"nobody publishes {', '.join(silent)}: is the robot's driver running? "
                "'wm-planner robot check' says more"
            )
        return "the recorder does not hear cameras and joints"


def _counts(values: Mapping[str, str]) -> dict[str, int]:
    return {name: int(count) for name, count in values_below(values, COUNT).items()}
