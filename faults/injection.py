"""One injection: wait until the robot moves, inject, watch, heal, watch it come back."""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from faults.fault import STOP, Fault, Outcome, held_s, judge, outside, stopped_after_s
from faults.stage import CONTROLLER, RECOVER_S, START_S, Stage

LATE_S = 1.5  # beyond the deadline, to learn how late a safe command comes
# Of so many injections one goes on after the deadline, to hear what the controller says of itself.
LISTEN_EVERY, LISTEN_S = 4, 0.4
CALM_S = 0.15  # after the safe command, in which it must stay the last word


def inject(stage: Stage, fault: Fault, number: int, seed: int, began_s: float) -> Outcome:
    """Make one injection and judge it.

    Args:
        stage: the graph.
        fault: what to inject.
        number: of the injection.
        seed: of the campaign; with the number it decides all that is drawn.
        began_s: when the stage began.
    """
    rng = np.random.default_rng([seed, number])
    allowed_s = stage.limit_s if fault.within_s is None else fault.within_s + stage.slack_s
    due_s = allowed_s - stage.slack_s  # on a machine that has nothing else to do
    outcome = Outcome(
        fault.name, fault.subject, stage.kind, number, seed, 0.0, allowed_s, fault.expect
    )
    for name, words in stage.processes.take_deaths():
        outcome.problems.append(f"before the injection {name} ended with {words}")
    stage.prepare()
    prepared_s = time.monotonic()
    stage.until(stage.whole, RECOVER_S)
    if not stage.until(lambda: stage.driving(prepared_s), RECOVER_S) and not stage.help():
        outcome.problems.append("the graph could not be brought to drive before the injection")
        return outcome
    stage.wait(float(rng.uniform(0.02, 0.2)))
    begin_s = stage.t0 = time.monotonic()
    outcome.at_s = begin_s - began_s
    heal = None
    try:
        heal = fault.inject(stage, rng)
        injected_s = stage.t0
        if fault.expect == STOP:
            stopped = partial(stopped_after_s, begin_s=injected_s)
            stage.until(
                lambda: stopped(stage.observer.since(injected_s)) is not None, allowed_s + LATE_S
            )
            stage.wait(CALM_S)
            if number % LISTEN_EVERY == 0:
                stage.wait(max(0.0, injected_s + due_s + LISTEN_S - time.monotonic()))
        else:
            stage.wait(allowed_s - stage.slack_s + CALM_S)
    finally:
        end_s = time.monotonic()
        if heal is not None:
            heal()
    seen = stage.observer.since(injected_s)
    judged = judge(seen, injected_s, end_s, fault.expect, stage.bounds, allowed_s)
    outcome.stopped_s, outcome.held_s, problems = judged
    outcome.problems += problems
    # Before the deadline a command may be zero because the plan says so, and the controller right.
    if outcome.stopped_s is not None and fault.expect == STOP:
        said = stage.observer.said(CONTROLLER, injected_s + due_s)
        if said is not None:
            outcome.problems.append(f"the controller says '{said}' of a robot that is stopped")
    healed_s = time.monotonic()
    patience_s = RECOVER_S if fault.recovers else 0.5
    came_back = stage.until(lambda: stage.driving(healed_s), patience_s / 2)
    if not came_back and fault.recovers:
        stage.prepare()  # a robot that has arrived meanwhile rests
    came_back = came_back or stage.until(lambda: stage.driving(healed_s), patience_s / 2)
    back_s = time.monotonic()
    outcome.recovered_s = back_s - healed_s if came_back else None
    if fault.recovers and not came_back:
        outcome.problems.append(f"did not move again within {RECOVER_S:.0f} s")
        outcome.problems.append(f"they say: {stage.observer.complaints()}")
    if fault.recovers is False and came_back:
        outcome.problems.append("moves again though nobody has activated it again")
    later = stage.observer.since(end_s)
    outcome.problems += outside(later, stage.bounds)
    held = held_s(later, end_s, back_s)
    if held > stage.limit_s:
        outcome.problems.append(f"afterwards a command was the last word for {held:.2f} s")
    for name, words in stage.processes.take_deaths():
        if name not in fault.ends:
            outcome.problems.append(f"{name} ended with {words}")
    for name in stage.processes.commands:
        if not stage.processes.alive(name):
            stage.processes.start(name)
    if not came_back and not stage.help():
        outcome.problems.append(f"could not be brought back within {START_S:.0f} s, with help")
    return outcome
