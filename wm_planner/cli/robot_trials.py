"""`wm-planner robot run --episodes N`: goals that a simulated robot's driver sets, and judges."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from geometry_msgs.msg import Point
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64
from std_srvs.srv import Trigger

from wm_planner.cli.filmed import EpisodeFilm, Ring
from wm_planner.cli.options import check_least
from wm_planner.cli.robot_run import TIME_LIMIT_S, film_of, session_of
from wm_planner.cli.robot_session import START_S, Session
from wm_planner.cli.robot_way import STOPPED, Goal, Way, told, tolerances
from wm_planner.data.prepare import prepare
from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.evaluation.table import reached
from wm_planner.robot import RobotFile
from wm_planner.ros.conversions import image_array, proprio_array, to_ns
from wm_planner.ros.qos import LATCHED, RELIABLE


class Judge:
    """What a simulated driver tells of its targets; no real robot has that.

    Args:
        session: whose node listens.
        robot: whose driver judges.
        film: is told the distance; or None.
    """

    def __init__(self, session: Session, robot: RobotFile, film: EpisodeFilm | None) -> None:
        assert robot.driver is not None
        self._session, self._robot, self._film = session, robot, film
        self._name = robot.driver.name
        self.picture: np.ndarray | None = None
        self.sharp: np.ndarray | None = None  # with all pixels of the driver's
        self.proprio: np.ndarray | None = None
        self.distance, self.success = float("nan"), False
        self._stamps: dict[str, int] = {}
        self._taken_ns = -1
        node = session.node
        for topic, kind, take, profile in (
            ("goal_image", Image, self._on_image, LATCHED),
            ("goal_joint_states", JointState, self._on_joints, LATCHED),
            ("goal_ring", Point, self._on_ring, LATCHED),
            ("distance", Float64, self._on_distance, RELIABLE),
            ("success", Bool, self._on_success, RELIABLE),
        ):
            node.create_subscription(kind, f"/{self._name}/{topic}", take, profile)

    def next_target(self) -> None:
        """Put the robot at the next start."""
        self._session.call(Trigger, f"/{self._name}/reset")

    def goal(self) -> tuple[np.ndarray, np.ndarray]:
        """Picture (S, S, 3), as the planner sees it, and proprioception (P,) of the goal.

        Raises:
            WmPlannerError: the driver shows none.
        """
        self._session.until(
            lambda: (
                len(set(self._stamps.values())) == 1
                and len(self._stamps) == 2
                and self._stamps["goal_image"] != self._taken_ns
            ),
            f"the driver shows no goal on /{self._name}/goal_image and goal_joint_states",
            START_S,
        )
        self._taken_ns = self._stamps["goal_image"]
        assert self.picture is not None and self.proprio is not None
        return self.picture, self.proprio

    def _on_image(self, message: Image) -> None:
        source, picture = next(iter(self._robot.cameras.values())), image_array(message)
        self.picture = prepare(picture, source.crop, source.size)
        side = min(picture.shape[:2] if source.crop is None else source.crop[2:])
        self.sharp = prepare(picture, source.crop, side)
        self._stamps["goal_image"] = to_ns(message.header.stamp)

    def _on_joints(self, message: JointState) -> None:
        self.proprio = proprio_array(message, self._robot.proprio)
        self._stamps["goal_joint_states"] = to_ns(message.header.stamp)

    def _on_ring(self, message: Point) -> None:
        crop = next(iter(self._robot.cameras.values())).crop
        if self._film is not None and crop is not None:
            x, y, side, _ = crop
            self._film.ring = Ring((message.x - x) / side, (message.y - y) / side, message.z / side)

    def _on_distance(self, message: Float64) -> None:
        self.distance = message.data
        if self._film is not None:
            now_ns = self._session.node.get_clock().now().nanoseconds
            self._film.add_distance(now_ns, message.data)

    def _on_success(self, message: Bool) -> None:
        self.success = message.data


def run_trials(args: argparse.Namespace, robot: RobotFile, card: dict[str, Any]) -> int:
    """Drive to goal after goal; say how many the judge calls reached.

    Returns:
        0; 1 when a single goal was missed.

    Raises:
        WmPlannerError: something cannot be used, or a process died.
    """
    check_least(args, episodes=1)
    if robot.driver is None or args.dry_run:
        raise ConfigError(
            "--episodes drives to goals that a simulated robot's driver sets: the robot file needs "
            "a driver, and it is no dry run"
        )
    film = None if args.film is None else film_of(robot, "m")
    limit_s = args.time_limit or TIME_LIMIT_S
    successes = 0
    with session_of(args, robot) as session:
        print(f"{robot.name}: loading {robot.checkpoint} ({session.where})", flush=True)
        judge = Judge(session, robot, film)
        picture, proprio = judge.goal()
        goal = Goal(picture, proprio, tolerances(robot, card, True))
        way = Way(session, robot, goal, film, args.record is not None)
        way.watch.judged = True
        if film is not None and judge.sharp is not None:
            film.add_goal(judge.sharp)
        session.configure_controller()
        way.plan()
        print("\n".join(told(robot, goal)), flush=True)
        for episode in range(args.episodes):
            if episode:
                judge.next_target()
                way.watch.aim(*judge.goal())
            way.begin()
            end = way.go(limit_s, telling=episode == 0)
            way.rest(end)
            successes += judge.success
            judged = "reached" if judge.success else "not reached"
            print(
                f"episode {episode}: {judged} by the simulator's measure, {judge.distance:.3f} m "
                f"left after {way.watch.seconds:.1f} s ({end})",
                flush=True,
            )
            if end == STOPPED:
                raise WmPlannerError("the controller was stopped")
            if episode == 0 and film is not None:
                from wm_planner.cli.film import write_film

                film.reached = judge.success
                print(f"film: {write_film(args.film, [film])}", flush=True)
    print(f"reached {reached(successes, args.episodes)}")
    return 1 if args.episodes == 1 and not successes else 0
