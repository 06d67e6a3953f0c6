"""What a simulated task is, and where tasks are found; without simulator, torch or ROS."""

from wm_planner.tasks.registry import embodiment_of, get_task, resized, task_names
from wm_planner.tasks.task import Task

__all__ = ["Task", "embodiment_of", "get_task", "resized", "task_names"]
