"""Faults injected into live graphs of nodes, and what came of them."""
