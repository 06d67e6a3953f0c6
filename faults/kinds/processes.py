"""Faults of whole processes: they die, or stand still."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import numpy as np

from faults.fault import FRESH, NETWORK, PLANNER, REMOTE, STAND_IN, Fault, Heal

ALL = (STAND_IN, PLANNER)


def killed(node: str) -> Any:
    """End it by kill -9; whoever watches over the processes starts it again."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        stage.processes.kill(node)
        return lambda: stage.processes.start(node)

    return inject


def ended(node: str) -> Any:
    """SIGTERM, as at the end of a run; then started again."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        stage.processes.expected_dead.add(node)
        stage.processes.send(node, signal.SIGTERM)
        stage.until(lambda: not stage.processes.alive(node), 10.0)
        stage.start_now()  # it may act until it has ended
        return lambda: stage.processes.start(node)

    return inject


def paused(node: str) -> Any:
    """SIGSTOP, and SIGCONT later."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        stage.processes.send(node, signal.SIGSTOP)
        return lambda: stage.processes.send(node, signal.SIGCONT)

    return inject


def _faults(node: str, subject: str, stages: Sequence[str], expect: str) -> list[Fault]:
    common = {"stages": tuple(stages)}
    return [
        Fault(f"{subject}: killed", subject, f"kill -9 of {node}", killed(node), expect, **common),
        Fault(f"{subject}: ended", subject, f"SIGTERM to {node}", ended(node), expect, **common),
        Fault(
            f"{subject}: paused", subject, f"{node} stands still", paused(node), expect, **common
        ),
    ]


FAULTS = (
    *_faults("controller_node", "controller", (*ALL, REMOTE), "stop"),
    *_faults("camera_node", "camera", ALL, "stop"),
    *_faults("planner_node", "planner", (PLANNER, NETWORK, REMOTE), "stop"),
    *_faults("finetune_node", "recorder", ALL, FRESH),
    *_faults("command_guard", "guard", ALL, FRESH),
)
