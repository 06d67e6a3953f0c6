"""Everything that knows ROS messages, besides the nodes."""
