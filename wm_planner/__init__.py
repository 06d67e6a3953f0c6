"""Closed-loop robot control by planning through a learned visual world model.

Importing this package pulls in neither torch nor ROS.
"""

import os

# OpenCV reads this when it is imported: a small file must not become a picture of gigabytes.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))

__version__ = "0.2.0"
