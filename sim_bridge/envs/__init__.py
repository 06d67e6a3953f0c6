"""Gymnasium environments over MuJoCo, one file per task."""
