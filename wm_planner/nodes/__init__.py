"""The node processes: parameters, topics, and one call into the core each."""
