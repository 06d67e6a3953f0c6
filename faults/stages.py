"""The kinds of graphs."""

from __future__ import annotations

from faults.fault import NETWORK, PLANNER, REMOTE, STAND_IN
from faults.network import NetworkStage, RemoteStage
from faults.planner import PlannerStage
from faults.stage import Stage

STAGES = {STAND_IN: Stage, PLANNER: PlannerStage, NETWORK: NetworkStage, REMOTE: RemoteStage}
