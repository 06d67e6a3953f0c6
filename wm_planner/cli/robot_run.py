"""`wm-planner robot run`: to a goal picture, until the robot has arrived."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wm_planner.bringup import RunOptions, bring_up
from wm_planner.cli.filmed import EpisodeFilm, check_film
from wm_planner.cli.keys import agreed, check_person
from wm_planner.cli.preflight import check_planning
from wm_planner.cli.robot_recorder import Bag, RecorderClient
from wm_planner.cli.robot_session import CONTROLLER, START_S, Session
from wm_planner.cli.robot_watch import Watch
from wm_planner.data.goal_file import load_goal
from wm_planner.errors import ConfigError
from wm_planner.robot import RobotFile, read_robot
from wm_planner.runtime.arrival import Arrival
from wm_planner.tasks.shifts import parse_shifts

TIME_LIMIT_S, DRY_RUN_S = 60.0, 10.0
REST_S = 2.0  # until the controller has heard that there is no plan any more
ARRIVED, TIMED_OUT, STOPPED = "arrived", "time limit", "stopped"


def run(args: argparse.Namespace) -> int:
    """Drive to the goal; with --dry-run only plan.

    Returns:
        0 when the robot has arrived, or the dry run is over; 1 when the time was up, the
        controller was stopped, or the person did not agree; 130 after Ctrl-C.

    Raises:
        WmPlannerError: something cannot be used, or a process died.
    """
    robot = planning_robot(args)
    card = check_planning(
        robot.checkpoint, robot.name, robot.planner, robot.settings, f"{args.file}: settings"
    )
    if args.episodes is not None:
        from wm_planner.cli.robot_trials import run_trials

        return run_trials(args, robot, card)
    picture, proprio = load_goal(args.goal, robot.embodiment)
    if not args.dry_run:
        check_person(args.yes)
    goal = Goal(picture, proprio, tolerances(robot, card, proprio is not None))
    with session_of(args, robot) as session:
        film = None if args.film is None else film_of(robot)
        way = Way(session, robot, goal, film, args.record is not None)
        print(f"{robot.name}: loading {robot.checkpoint} ({session.where})", flush=True)
        if args.dry_run:
            return way.dry_run(args.time_limit or DRY_RUN_S)
        return _drive(args, way, film)


def planning_robot(args: argparse.Namespace) -> RobotFile:
    """The robot file, with the checkpoint of the command line.

    Raises:
        ConfigError: it, or an option, cannot be used.
    """
    robot = shifted(read_robot(args.file), args)
    if args.checkpoint:
        robot = replace(robot, checkpoint=args.checkpoint)
    if not robot.checkpoint:
        raise ConfigError(
            f"{args.file}: names no checkpoint; give --checkpoint, for example the --output of "
            "'wm-planner train'"
        )
    if (args.goal is None) == (args.episodes is None):
        raise ConfigError(
            "give --goal, for example a directory of 'wm-planner robot goal'; or, of a simulated "
            "robot, --episodes"
        )
    if args.time_limit is not None and not args.time_limit > 0:
        raise ConfigError(f"--time-limit must be positive, got {args.time_limit:g}")
    if args.dry_run and args.record is not None:
        raise ConfigError("--record: a dry run sends nothing, so there is nothing to record")
    check_film(args.film)
    return robot


def shifted(robot: RobotFile, args: argparse.Namespace) -> RobotFile:
    """The robot file, whose simulator differs as the command line says.

    Raises:
        ConfigError: the robot is not simulated.
    """
    if not args.shifts:
        return robot
    if robot.driver is None:
        raise ConfigError(f"{args.file}: --shift is for simulated robots, which name a driver")
    parse_shifts(args.shifts)
    parameters = {**robot.driver.parameters, "shifts": list(args.shifts)}
    return replace(robot, driver=replace(robot.driver, parameters=parameters))


def session_of(args: argparse.Namespace, robot: RobotFile) -> Session:
    """The processes that the command line asks for."""
    options = RunOptions(
        bags=str(args.record or ""),
        checkpoint=robot.checkpoint,
        record=args.record is not None,
        control=not args.dry_run,
        seed=args.seed,
        imagine=args.film is not None,
        versions=str(args.versions or ""),
    )
    logs = None if args.record is None else args.record / "logs"
    return Session(robot, bring_up(robot, options), logs)


@dataclass(frozen=True)
class Goal:
    """Where to go, and when that is reached.

    Attributes:
        picture: (S, C * S, 3) uint8.
        proprio: (P,) or None.
        tolerances: by measure; None: not asked for.
    """

    picture: np.ndarray
    proprio: np.ndarray | None
    tolerances: dict[str, float | None]


def film_of(robot: RobotFile, unit: str | None = None) -> EpisodeFilm:
    """A film of the robot; `unit` is that of the distance, None: of the proprioception."""
    units = set(robot.proprio_units)
    return EpisodeFilm(
        title=f"{robot.name}, {robot.planner}",
        unit=unit or (units.pop() if len(units) == 1 else ""),
        step_s=robot.embodiment.model_dt_s,
    )


def tolerances(
    robot: RobotFile, card: dict[str, Any], knows_proprio: bool
) -> dict[str, float | None]:
    """What the robot file asks for, and, of the picture, what training has found."""
    calibrated = card["info"].get("arrived") if isinstance(card["info"], dict) else None
    picture = robot.arrived.picture
    if picture is None and isinstance(calibrated, dict) and "picture" in calibrated:
        picture = float(calibrated["picture"])
    return {"proprio": robot.arrived.proprio if knows_proprio else None, "picture": picture}


def told(robot: RobotFile, goal: Goal) -> list[str]:
    """When the goal counts as reached, for people."""
    asked = [f"{name} within {t:.3g}" for name, t in goal.tolerances.items() if t is not None]
    if not asked:
        return [
            "nothing says when the goal is reached, so the time limit ends the run: write "
            "arrived: {proprio: ...} into the robot file, and take the goal with 'robot goal'"
        ]
    lines = [f"arrived means {' and '.join(asked)} for {robot.arrived.for_s:g} s"]
    if goal.tolerances["picture"] is None:
        lines.append(
            "the picture has no say in it: the checkpoint has no calibrated tolerance (train it "
            "with 'wm-planner train', or write arrived: {picture: ...})"
        )
    if goal.tolerances["proprio"] is None and robot.arrived.proprio is not None:
        lines.append("the proprioception has no say in it: the goal is a picture alone")
    return lines


class Way:
    """From start to goal.

    Args:
        session: that runs planner and, unless it is a dry run, controller.
        robot: that goes there.
        goal: where to.
        film: is shown everything; or None.
        record: whether the session's recorder writes a bag of each way.
    """

    def __init__(
        self, session: Session, robot: RobotFile, goal: Goal, film: EpisodeFilm | None, record: bool
    ) -> None:
        self.session, self.robot, self.goal = session, robot, goal
        self.arrival = Arrival(goal.tolerances, robot.arrived.for_s)
        say = partial(print, flush=True)
        self.watch = Watch(session.node, robot, goal.picture, goal.proprio, self.arrival, film, say)
        self.recorder = RecorderClient(session, robot) if record else None

    def plan(self) -> None:
        """Wait for the first plan.

        Raises:
            WmPlannerError: none came.
        """
        self.watch.set_goal()
        self.session.until(
            lambda: self.watch.accepted, "the planner did not take the goal", 2 * START_S
        )
        self.session.until(
            lambda: self.watch.planned,
            lambda: f"no plan came: {self.watch.lacking or self.watch.view.missing()}",
            START_S,
        )

    def dry_run(self, seconds: float) -> int:
        """Plan for so long, and say what limits would have cut."""
        self.plan()
        self.watch.telling = True
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            self.session.step()
        print(f"dry run, nothing was sent: {self.watch.cuts.line()}")
        return 0

    def begin(self) -> None:
        """Activate the controller, and record: from here on the robot may move.

        Raises:
            WmPlannerError: the controller or the recorder refuses.
        """
        self.watch.clear_goal()  # the robot must not move before everything watches
        self.session.arm_controller()
        self.session.until(
            lambda: self.watch.controller_active, "the controller does not report", START_S
        )
        if self.recorder is not None:
            self.recorder.start()

    def go(self, time_limit_s: float, telling: bool = True) -> str:
        """Until arrived, the time is up, or the controller is stopped; says which."""
        watch = self.watch
        watch.set_goal()
        watch.telling = telling
        while True:
            self.session.step()
            if self.arrival.arrived:
                return ARRIVED
            if watch.seconds > time_limit_s:
                return TIMED_OUT
            if not watch.controller_active:
                return STOPPED

    def what_is_missing(self) -> str:
        """Why the robot has not arrived, and what can be done."""
        newest, asked = self.watch.newest, self.goal.tolerances
        off = []
        if asked["proprio"] is not None:
            worst, allowed = self.watch.worst_entry(), asked["proprio"]
            off.append(f"{worst} is {newest.proprio:.3g} off ({allowed:g} allowed)")
        if asked["picture"] is not None:
            off.append(f"the picture is {newest.picture:.3g} off ({asked['picture']:.3g} allowed)")
        return (
            f"not arrived: {'; '.join(off) or 'no tolerance is given'}. Allow more time "
            "(--time-limit), allow more in 'arrived' of the robot file, or record more and train on"
        )

    def rest(self, end: str) -> Bag | None:
        """Clear the goal, wait for the safe command, and take the controller out of the way.

        Returns:
            The bag of the way that ended so; None when there is none.
        """
        watch = self.watch
        watch.telling = False
        watch.clear_goal()
        self.session.within(lambda: watch.controller in ("no_plan", "stopped"), REST_S)
        if watch.controller_active:
            self.session.transition(CONTROLLER, "deactivate")
        if self.recorder is None:
            return None
        return self.recorder.end("success" if end == ARRIVED else "failure")


def _drive(args: argparse.Namespace, way: Way, film: EpisodeFilm | None) -> int:
    limit_s = args.time_limit or TIME_LIMIT_S
    way.session.configure_controller()
    way.plan()
    if way.recorder is not None:
        way.recorder.wait_ready()
    print(f"first plan: {way.watch.line().strip()}")
    print("\n".join(told(way.robot, way.goal)), flush=True)
    question = f"this moves the robot, for up to {limit_s:g} s; type yes:"
    if not args.yes and not agreed(question, way.session.step):
        return 1
    way.begin()
    end = way.go(limit_s)
    print(f"{end}: {way.watch.line().strip()}", flush=True)
    if end == TIMED_OUT:
        print(way.what_is_missing(), flush=True)
    bag = way.rest(end)
    if bag is not None and way.recorder is not None:
        print(bag.line(way.recorder.topics("command_sent")), flush=True)
    if film is not None:
        from wm_planner.cli.film import write_film

        film.reached = end == ARRIVED
        written = write_film(args.film, [film])
        print(f"film: {written}" if written else "no film: no picture came")
    return 0 if end == ARRIVED else 1
