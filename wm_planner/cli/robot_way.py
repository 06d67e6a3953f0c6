"""A robot's way to one goal: first plan, controller, recorder, until it has arrived."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from wm_planner.cli.filmed import EpisodeFilm
from wm_planner.cli.robot_recorder import Bag, RecorderClient
from wm_planner.cli.robot_session import CONTROLLER, START_S, Session
from wm_planner.cli.robot_watch import Watch
from wm_planner.robot import RobotFile
from wm_planner.runtime.arrival import Arrival

REST_S = 2.0  # until the controller has heard that there is no plan any more
ARRIVED, TIMED_OUT, STOPPED = "arrived", "time limit", "stopped"


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
        print(f"dry run, nothing was sent: {self.watch.planned_cuts.cuts.line()}")
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
