"""Planning through a world model: a bundle in, a plan out. No ROS, no disk, no clock."""

from wm_planner.planning.config import PlannerConfig, planner_config
from wm_planner.planning.planner import Planner
from wm_planner.planning.registry import SOLVERS

__all__ = ["SOLVERS", "Planner", "PlannerConfig", "planner_config"]
