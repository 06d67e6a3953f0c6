"""`wm-planner robot check`: listen to a robot, and say what its file finds and what it misses."""

from __future__ import annotations

import argparse

from wm_planner.bringup import driver_of
from wm_planner.cli.robot_inspection import Inspection
from wm_planner.cli.robot_report import HEADINGS, Mark
from wm_planner.cli.robot_session import Session
from wm_planner.errors import ConfigError
from wm_planner.evaluation.table import aligned
from wm_planner.robot import read_robot

DISCOVER_S, DRIVER_S = 3.0, 20.0  # until topics are there: of a robot that runs, of one we start


def run(args: argparse.Namespace) -> int:
    """Print the report.

    Returns:
        0 when nothing is missing, else 1.

    Raises:
        ConfigError: the robot file cannot be used.
    """
    robot = read_robot(args.file)
    if args.seconds <= 0:
        raise ConfigError(f"--seconds must be positive, got {args.seconds:g}")
    with Session(robot, driver_of(robot)) as session:
        print(f"{robot.name}: listening for {args.seconds:g} s ({session.where})", flush=True)
        inspection = Inspection(session.node, robot)
        session.within(inspection.hears_all, DRIVER_S if robot.driver else DISCOVER_S)
        inspection.begin()
        session.wait(args.seconds)
        sections = inspection.sections()
    print("\n".join(aligned([HEADINGS, *(part.row for part in sections if part.row)])))
    for section in sections:
        print(section.title)
        for line in section.lines:
            print(f"  {line.mark.value}  {line.text}")
    count = sum(line.mark == Mark.WRONG for section in sections for line in section.lines)
    print(f"{count} to mend (!!)" if count else "nothing is missing")
    return 1 if count else 0
