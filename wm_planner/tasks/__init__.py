"""What a task is, without simulator, torch or ROS."""

from wm_planner.tasks.spec import TASKS, TaskSpec, get_task

__all__ = ["TASKS", "TaskSpec", "get_task"]
