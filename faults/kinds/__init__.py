"""The table of faults, by subject."""

from __future__ import annotations

from faults.fault import Fault
from faults.kinds import (
    camera,
    clock,
    controller,
    goals,
    joints,
    network,
    plans,
    processes,
    recorder,
)


def all_faults() -> tuple[Fault, ...]:
    """Every kind of fault."""
    tables = (camera, clock, controller, goals, joints, network, plans, processes, recorder)
    return tuple(fault for table in tables for fault in table.FAULTS)
