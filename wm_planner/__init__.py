"""Closed-loop robot control by planning through a learned visual world model.

Importing this package pulls in neither torch nor ROS.
"""

__version__ = "0.1.0"
