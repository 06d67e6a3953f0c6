"""Gymnasium environments, one file per task."""
