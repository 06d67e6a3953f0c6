"""Time, threads and safety, without ROS and without torch."""
