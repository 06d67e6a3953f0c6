"""`wm-planner robot run`: to a goal picture, until the robot has arrived."""

from __future__ import annotations

import argparse
from dataclasses import replace

from wm_planner.bringup import RunOptions, bring_up
from wm_planner.cli.filmed import EpisodeFilm, check_film
from wm_planner.cli.keys import agreed, check_person
from wm_planner.cli.preflight import check_planning
from wm_planner.cli.robot_session import Session
from wm_planner.cli.robot_way import ARRIVED, TIMED_OUT, Goal, Way, told, tolerances
from wm_planner.data.goal_file import load_goal
from wm_planner.errors import ConfigError
from wm_planner.robot import RobotFile, read_robot
from wm_planner.tasks.shifts import parse_shifts

TIME_LIMIT_S, DRY_RUN_S = 60.0, 10.0


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


def film_of(robot: RobotFile, unit: str | None = None) -> EpisodeFilm:
    """A film of the robot; `unit` is that of the distance, None: of the proprioception."""
    units = set(robot.proprio_units)
    return EpisodeFilm(
        title=f"{robot.name}, {robot.planner}",
        unit=unit or (units.pop() if len(units) == 1 else ""),
        step_s=robot.embodiment.model_dt_s,
    )


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
