"""`wm-planner robot explore`: episodes of smooth random motion, recorded."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray
from tqdm import tqdm

from wm_planner.bringup import RunOptions, bring_up
from wm_planner.cli.keys import agreed, check_person
from wm_planner.cli.options import check_least
from wm_planner.cli.processes import ChildFailedError
from wm_planner.cli.robot_recorder import RecorderClient
from wm_planner.cli.robot_session import CONTROLLER, START_S, Session
from wm_planner.errors import ConfigError
from wm_planner.robot import RobotFile, read_robot
from wm_planner.ros.diagnostics import values_below, values_of

EXPLORER = "explore_node: motion"
BOX = "box "  # what the explorer's reports put before a joint's name
HOMING_S = 8.0  # a guess, for the time that all will take: home, rest, closing of the bag


def run(args: argparse.Namespace) -> int:
    """Explore and record.

    Returns:
        0; 1 when something stopped it, or the person did not agree; 130 after Ctrl-C.

    Raises:
        WmPlannerError: the robot file or an option cannot be used, or a process died.
    """
    robot = read_robot(args.file)
    check_least(args, episodes=1)
    if not 0.1 <= args.seconds <= 36000:
        raise ConfigError(f"--seconds must be from 0.1 to 36000, got {args.seconds:g}")
    explore = {"episodes": args.episodes, "seconds": float(args.seconds)}
    if args.half_width is not None:
        if not (args.half_width > 0 and math.isfinite(args.half_width)):
            raise ConfigError(f"--half-width must be positive, got {args.half_width:g}")
        explore["half_width"] = float(args.half_width)
    specs = bring_up(
        robot, RunOptions(bags=str(args.output), record=True, explore=explore, seed=args.seed)
    )
    check_person(args.yes)
    with Session(robot, specs, args.output / "logs") as session:
        exploration = Exploration(session, robot)
        print(f"{robot.name}: waiting for cameras and joints ({session.where})", flush=True)
        session.configure_controller()
        session.until(
            lambda: exploration.values.get("waits_for") == "activation",
            exploration.waits_for,
            START_S,
        )
        box = values_below(exploration.values, BOX)
        print("\n".join(_told(args, robot, box)), flush=True)
        if not args.yes and not agreed("this moves the robot; type yes:", session.step):
            return 1
        session.arm_controller()
        try:
            done = exploration.watch(args.episodes)
        except KeyboardInterrupt:
            print(f"\ninterrupted after {exploration.kept} episodes, in {args.output}", flush=True)
            return 130
        commands, limited = (int(exploration.values.get(k, 0)) for k in ("commands", "limited"))
        share = 100 * limited / max(commands, 1)
        print(f"{commands} commands; a limit cut {limited} of them ({share:.1f} %)")
        print(f"{exploration.kept} episodes, {exploration.seconds:.0f} s, in {args.output}")
        if not done:
            print(f"stopped: {exploration.values.get('why', '')}")
        return 0 if done else 1


def _told(args: argparse.Namespace, robot: RobotFile, box: Mapping[str, str]) -> list[str]:
    """What will happen, for the person who has to agree; `box` holds 'low high' of each joint."""
    minutes = args.episodes * (args.seconds + HOMING_S) / 60
    lines = [
        f"{args.episodes} episodes of {args.seconds:g} s, about {minutes:.0f} minutes; the robot "
        "will move, at up to the speeds of its file, within"
    ]
    frame = "from where it is now" if robot.action.is_twist else ""
    for name, bounds in box.items():
        low, high = bounds.split()
        lines.append(f"  {name:<32}{low:>10} .. {high:<10}{frame}".rstrip())
    return lines


@dataclass
class Exploration:
    """What the explorer and the recorder say.

    Attributes:
        session: that runs them.
        robot: that moves.
        phase: of the explorer.
        values: of its newest report.
        kept: episodes recorded.
        seconds: of them.
    """

    session: Session
    robot: RobotFile
    phase: str = ""
    values: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._recorder = RecorderClient(self.session, self.robot)
        self._wanted = self._recorder.topics("command_sent")
        node = self.session.node
        node.hear_diagnostics(self._on_report)

    def waits_for(self) -> str:
        """What is missing, for an error."""
        what = self.values.get("waits_for", "")
        if what == "joint_states":
            joints = f"all of {', '.join(self.robot.action.names)} on {self.robot.joint_states}"
            what = "joint states" if self.robot.action.is_twist else f"joint states: {joints}"
        if what == "recorder":
            what = "the recorder, which waits for cameras and joints"
        missing = f"it waits for {what}" if what else "it says nothing"
        return f"the explorer is not ready: {missing}; 'wm-planner robot check' says more"

    def watch(self, episodes: int) -> bool:
        """Until all is done; False when something stopped it.

        Raises:
            ChildFailedError: a process that is needed has ended.
            KeyboardInterrupt: SIGINT or SIGTERM came.
        """
        with tqdm(total=episodes, unit="episode", disable=None) as bar:
            try:
                while not self.session.step():
                    self._show(bar)
            except ChildFailedError:
                if self.phase != "stopped":
                    raise
                return False
            finally:
                self._show(bar)
        self.session.transition(CONTROLLER, "deactivate")
        return True

    def _show(self, bar: tqdm) -> None:
        for bag in self._recorder.new_bags():
            self.kept += 1
            self.seconds += bag.seconds
            bar.write(bag.line(self._wanted))
            for words in bag.missing(self._wanted):
                bar.write(f"  !!  no {words}")
        bar.update(min(self.kept, bar.total) - bar.n)
        exploring = self.phase == "exploring"
        text = f"{float(self.values['seconds']):.0f} s" if exploring else self.phase
        bar.set_postfix_str(text, refresh=False)

    def _on_report(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == EXPLORER:
                self.phase, self.values = status.message, values_of(status)
