"""Planning through a world model: a session takes pictures and gives plans. No ROS, no disk."""

from wm_planner.planning.config import PlannerConfig, planner_config
from wm_planner.planning.planner import Planner
from wm_planner.planning.registry import SOLVERS
from wm_planner.planning.session import Session

__all__ = ["SOLVERS", "Planner", "PlannerConfig", "Session", "planner_config"]
