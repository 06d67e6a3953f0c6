"""Recorded and live samples as the values of `wm_planner.types`."""
