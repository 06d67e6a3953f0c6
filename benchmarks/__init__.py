"""Speed, measured against a plain implementation of the released procedure in the same run."""
