"""The predictor's fast form, for planning: the same function, computed with less work."""
