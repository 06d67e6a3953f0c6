"""The loop that learns: recorded episodes in, versions of a checkpoint out."""
