"""`wm-planner robot record`: bags of what a robot does while others drive it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from wm_planner.bringup import RunOptions, bring_up
from wm_planner.cli.keys import Keys
from wm_planner.cli.options import check_least
from wm_planner.cli.robot_recorder import RECORDER, Bag, RecorderClient
from wm_planner.cli.robot_session import Session
from wm_planner.errors import ConfigError, DatasetError
from wm_planner.robot import RobotFile, read_robot

KEYS = "s start   e end   y end, success   n end, failure   d drop   q quit"
ENDS = {"e": "end_episode", "y": "success", "n": "failure"}


def run(args: argparse.Namespace) -> int:
    """Record until the episodes are done, or somebody says that it is enough.

    Returns:
        0; 1 when an episode that was asked for lacks pictures, joints or commands; 130 after
        Ctrl-C.

    Raises:
        WmPlannerError: the robot file or an option cannot be used, or nothing is heard of the
            robot.
    """
    robot = read_robot(args.file)
    if (args.episodes is None) != (args.seconds is None):
        raise ConfigError("--episodes and --seconds belong together: so many of so long")
    check_least(args, episodes=1)
    if args.seconds is not None and not args.seconds > 0:
        raise ConfigError(f"--seconds must be positive, got {args.seconds:g}")
    if not robot.record.commands:
        raise ConfigError(
            f"{args.file}: key 'record' is missing: without the commands nothing can be learnt "
            "from a recording; name the topic that you drive the robot with, as record: "
            f"{{commands: {robot.command.topic}}}"
        )
    options = RunOptions(bags=str(args.output), record=True, control=False)
    with Session(robot, bring_up(robot, options), args.output / "logs") as session:
        recorder = RecorderClient(session, robot)
        print(f"{robot.name}: waiting for cameras and joints ({session.where})", flush=True)
        recorder.wait_ready()
        recording = Recording(session, recorder, robot)
        try:
            if args.episodes is not None:
                recording.slices(args.episodes, args.seconds)
            else:
                recording.by_hand()
        except KeyboardInterrupt:
            # The recorder closes what it has open.
            running = "; the running one is kept, unjudged" if recorder.running else ""
            print(f"\ninterrupted after {len(recording.kept)} episodes{running}", flush=True)
            return 130
    seconds = sum(bag.seconds for bag in recording.kept)
    print(f"{len(recording.kept)} episodes, {seconds:.0f} s, in {args.output}")
    if recording.incomplete:
        print(f"{recording.incomplete} of them lack something (!!)")
    return 1 if args.episodes is not None and recording.incomplete else 0


class Recording:
    """What was recorded so far, and how it is told.

    Args:
        session: that runs the recorder.
        recorder: its client.
        robot: whose topics are recorded.
    """

    def __init__(self, session: Session, recorder: RecorderClient, robot: RobotFile) -> None:
        self._session, self._recorder, self._robot = session, recorder, robot
        self._wanted = recorder.topics("commands")
        self._tty = sys.stdout.isatty()
        self.kept: list[Bag] = []
        self.incomplete = 0

    def slices(self, episodes: int, seconds: float) -> None:
        """So many episodes of so long, one after the other."""
        for number in range(episodes):
            self._recorder.start()
            deadline_s = time.monotonic() + seconds
            while time.monotonic() < deadline_s:
                self._session.step()
                self._show(f"{number + 1}/{episodes}  ")
            self._end("end_episode")

    def by_hand(self) -> None:
        """Episodes by keys and services, until q or, without a terminal, until Ctrl-C."""
        with Keys() as keys:
            if keys.present:
                print(f"keys: {KEYS}", flush=True)
            else:
                print(
                    f"no terminal for keys: call the services /{RECORDER}/start_episode, "
                    "end_episode, success, failure and drop; Ctrl-C ends",
                    flush=True,
                )
            key = ""
            while key != "q":
                self._session.step()
                self._tell_new()
                self._show("")
                key = keys.pressed()
                try:
                    self._obey(key)
                except DatasetError as error:
                    print(error, flush=True)

    def _obey(self, key: str) -> None:
        if key == "s":
            print(f"recording {self._recorder.start()}", flush=True)
        elif key == "d":
            self._recorder.end("drop")
            self._tell_new()
        elif key in ENDS:
            self._end(ENDS[key])
        elif key == "q":
            if self._recorder.running:
                self._end("end_episode")
        elif key:
            print(f"keys: {KEYS}", flush=True)

    def _end(self, service: str) -> None:
        if self._recorder.end(service) is None:
            print(f"!!  no bag was closed: {self._session.last_words(RECORDER)}", flush=True)
            self.incomplete += 1
        self._tell_new()

    def _tell_new(self) -> None:
        for bag in self._recorder.new_bags():
            self._tell(bag)

    def _tell(self, bag: Bag) -> None:
        self._clear_line()
        if bag.dropped:
            print(f"dropped: {bag.path}", flush=True)
            self.kept = [kept for kept in self.kept if kept.path.name != bag.path.name]
            return
        self.kept.append(bag)
        print(bag.line(self._wanted), flush=True)
        missing = bag.missing(self._wanted)
        self.incomplete += bool(missing)
        for words in missing:
            topic = self._robot.record.commands if words == "commands" else ""
            hint = f" on {topic}: did anybody drive?" if topic else ": is the driver running?"
            print(f"  !!  no {words}{hint}", flush=True)

    def _show(self, before: str) -> None:
        """The running episode, on one line of a terminal that is written over."""
        recorder = self._recorder
        if self._tty and recorder.running and recorder.progress:
            bag = Bag(Path(recorder.running), "", recorder.seconds, recorder.progress)
            print(f"\r{before}{bag.line(self._wanted)}\033[K", end="", flush=True)

    def _clear_line(self) -> None:
        if self._tty:
            print("\r\033[K", end="")
