"""Faults of clocks: steps of the wall clock, of one host or of both, and simulated time."""

from __future__ import annotations

from typing import Any

import numpy as np
from rosgraph_msgs.msg import Clock

from faults.fault import FRESH, NETWORK, PLANNER, STAND_IN, Fault, Heal
from faults.kinds.altered import silence
from faults.kinds.processes import killed
from wm_planner.ros.conversions import to_time

BOTH = (STAND_IN, PLANNER)


def _fault(name: str, does: str, inject: Any, *args: Any, **options: Any) -> Fault:
    return Fault(f"clock: {name}", "clock", does, inject, *args, **options)


def host(seconds: float) -> Any:
    """The clock of the one machine on which all runs: nodes and drivers. It stays stepped."""

    def inject(stage: Any, rng: np.random.Generator) -> None:
        stage.clock.step(seconds)
        if stage.arm is not None:  # else the driver is a process of its own, on the same clock
            stage.arm.offset_ns = stage.clock.offset_ns

    return inject


def host_for_a_while(seconds: float) -> Any:
    """The same, and back."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        host(seconds)(stage, rng)
        return lambda: host(-seconds)(stage, rng)

    return inject


def with_silence(seconds: float, wire: str) -> Any:
    """A step, and at the same moment a source falls silent: nothing wakes who waits for a time."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        heal = silence(wire)(stage, rng)
        host(seconds)(stage, rng)
        return heal

    return inject


def with_death(seconds: float) -> Any:
    """A step, and at the same moment the controller is killed."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        host(seconds)(stage, rng)
        return killed("controller_node")(stage, rng)

    return inject


def ours(seconds: float) -> Any:
    """The clock of the nodes' machine; that of the robot's stays."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        before = stage.clock.offset_ns
        stage.clock.step(seconds)
        return lambda: stage.clock.set(before)

    return inject


def _simulated(node: str, clock: bool) -> Any:
    """use_sim_time set on a node that runs; with or without somebody who publishes /clock."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        stage.peer.set_parameter(node, "use_sim_time", True)
        if clock:
            publisher = stage.peer.publisher(Clock, "/clock")
            publisher.publish(Clock(clock=to_time(5 * 10**9)))
        return lambda: stage.peer.set_parameter(node, "use_sim_time", False)

    return inject


FAULTS = (
    _fault(
        "host 20 s back",
        "the machine's clock is set back by 20 s",
        host(-20),
        FRESH,
        share=2,
        stages=BOTH,
    ),
    _fault(
        "host 20 s on",
        "the machine's clock is set forward by 20 s",
        host(20),
        FRESH,
        share=2,
        stages=BOTH,
    ),
    _fault("host 1 h back", "set back by an hour", host(-3600), FRESH, stages=BOTH),
    _fault("host 1 h on", "set forward by an hour", host(3600), FRESH, stages=BOTH),
    _fault("host 0.2 s back", "set back by 0.2 s", host(-0.2), FRESH),
    _fault("host 0.2 s on", "set forward by 0.2 s", host(0.2), FRESH),
    _fault("host 2 s back", "set back by 2 s", host(-2), FRESH),
    _fault("host 1 year back", "a year back, and right again", host_for_a_while(-3.15e7), FRESH),
    _fault("20 s back, joints silent", "and no joint states", with_silence(-20, "joints")),
    _fault("20 s back, camera silent", "and no pictures", with_silence(-20, "pictures")),
    _fault("20 s back, controller killed", "and kill -9 of the controller", with_death(-20)),
    _fault("20 s on, controller killed", "and kill -9 of the controller", with_death(20)),
    _fault("ours 20 s back", "the nodes' clock alone goes back by 20 s", ours(-20)),
    _fault("ours 20 s on", "the nodes' clock alone goes on by 20 s", ours(20)),
    _fault("ours 1 h on", "the nodes' clock alone goes on by an hour", ours(3600)),
    _fault(
        "planner's host 20 s back",
        "its clock goes back by 20 s",
        ours(-20),
        FRESH,
        stages=(NETWORK,),
    ),
    _fault(
        "planner's host 20 s on", "its clock goes on by 20 s", ours(20), FRESH, stages=(NETWORK,)
    ),
    _fault(
        "controller simulated",
        "use_sim_time on the active controller",
        _simulated("controller_node", False),
        FRESH,
    ),
    _fault(
        "controller simulated, /clock",
        "the same, and somebody publishes /clock",
        _simulated("controller_node", True),
        FRESH,
    ),
    _fault(
        "camera simulated", "use_sim_time on the camera", _simulated("camera_node", False), FRESH
    ),
)
