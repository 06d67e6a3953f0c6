"""`wm-planner robot goal`: what the robot sees and feels now, as a goal that `robot run` takes."""

from __future__ import annotations

import argparse

import numpy as np

from wm_planner.bringup import RunOptions, bring_up
from wm_planner.cli.robot_session import START_S, Session
from wm_planner.data.goal_file import FACTS, save_goal
from wm_planner.errors import ConfigError
from wm_planner.robot import read_robot
from wm_planner.ros.robot_view import View


def run(args: argparse.Namespace) -> int:
    """Write the goal.

    Returns:
        0.

    Raises:
        WmPlannerError: the robot file cannot be used, the directory holds a goal already, or
            pictures or joints did not come.
    """
    robot = read_robot(args.file)
    body = robot.embodiment
    if (args.output / FACTS).exists():
        raise ConfigError(f"--output {args.output}: holds a goal already; choose another directory")
    with Session(robot, bring_up(robot, RunOptions(record=False, control=False))) as session:
        print(f"{body.name}: waiting for pictures and joints ({session.where})", flush=True)
        view = View(session.node, body, robot.joint_states)
        session.until(view.complete, lambda: f"no goal was taken: {view.missing()}", START_S)
        picture, proprio = view.picture(), view.proprio
        assert proprio is not None
    save_goal(args.output, picture, proprio, body)
    height, width = picture.shape[:2]
    print(f"goal: {args.output} ({width} x {height} pixels)")
    for name, value in zip(body.proprio, np.round(proprio, 4).tolist(), strict=True):
        print(f"  {name:<32}{value:>10.4f}")
    return 0
