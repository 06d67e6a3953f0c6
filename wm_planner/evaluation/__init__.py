"""How well a checkpoint and a planner do, without ROS."""
