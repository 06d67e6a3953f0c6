"""The `wm-planner` command."""
