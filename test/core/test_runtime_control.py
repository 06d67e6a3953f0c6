"""Plan buffer, ages and gate together, at hand-moved times."""

import numpy as np
import pytest

from wm_planner.errors import NonFiniteActionError
from wm_planner.runtime.control import ControlLoop
from wm_planner.runtime.safety import Limits, Reason, SafetyGate
from wm_planner.types import Plan

DT = 100
STALE = 1000
SOURCES = ("arm", "camera")


def make_loop(sources=SOURCES, rows_per_plan=None, now=0):
    gate = SafetyGate(Limits(low=[-1.0], high=[1.0]), np.zeros(1), STALE, DT)
    gate.enable()
    loop = ControlLoop(gate, sources, rows_per_plan)
    for source in sources:
        loop.sensed(source, now)
    return loop


def plan(stamp=0, value=0.5, rows=100):
    return Plan(stamp, DT, np.full((rows, 1), value, np.float32))


def test_follows_a_plan_while_everything_is_fresh():
    loop = make_loop()
    assert loop.tick(0).reason is Reason.NO_PLAN
    loop.put(plan())
    assert loop.tick(STALE).action == [0.5]
    assert loop.tick(STALE + 1).reason is Reason.STALE


@pytest.mark.parametrize("silent", SOURCES)
def test_a_source_that_was_never_heard_of_counts_as_dead(silent):
    loop = make_loop()
    loop.clear()
    loop.put(plan())
    loop.sensed(next(source for source in SOURCES if source != silent), 0)
    assert loop.tick(0).reason is Reason.STALE


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("stamp", [-STALE - 1, STALE + 1, 10**18])
def test_one_bad_stamp_is_enough(source, stamp):
    """A stamp far ahead must not hide behind the good one of the other source."""
    loop = make_loop()
    loop.put(plan())
    loop.sensed(source, stamp)
    assert loop.tick(0).reason is Reason.STALE
    loop.sensed(source, 0)
    assert loop.tick(0).reason is Reason.OK


STEP = 20 * STALE


@pytest.mark.parametrize("step", [-STEP, STEP])
def test_a_clock_that_steps_stops_the_robot_and_lets_it_go_on(step):
    """What is sensed and planned after the step counts as soon as it comes."""
    loop = make_loop()

    def fresh(now, steady):
        for source in SOURCES:
            loop.sensed(source, now, steady)
        loop.put(plan(now), steady)

    fresh(0, 0)
    assert loop.tick(0, 0).reason is Reason.OK
    assert loop.tick(step + DT, DT).reason.refused
    fresh(step + 2 * DT, 2 * DT)
    assert loop.tick(step + 2 * DT, 2 * DT).reason is Reason.OK


@pytest.mark.parametrize("source", [*SOURCES, "plan"])
def test_a_clock_that_stands_still_hides_no_silence(source):
    """The time since the receipt grows all the same."""
    loop = make_loop()
    loop.put(plan(), STALE if source != "plan" else 0)
    for each in SOURCES:
        loop.sensed(each, 0, STALE if each != source else 0)
    assert loop.tick(0, STALE).reason is Reason.OK
    assert loop.tick(0, STALE + 1).reason is Reason.STALE
    assert loop.ages_s(0, STALE + 1)[source] == pytest.approx((STALE + 1) * 1e-9)


def test_a_position_is_as_old_as_its_receipt():
    gate = SafetyGate(Limits(low=[-1.0], high=[1.0], max_rate=[1e9]), np.zeros(1), STALE, DT, True)
    loop = ControlLoop(gate, ("arm",))
    loop.measured(np.array([0.5]), 0, 0)
    loop.sensed("arm", 0, STALE + 1)
    gate.begin(np.zeros(1))
    gate.enable()
    loop.put(plan(value=0.1), STALE + 1)
    loop.tick(0, STALE + 1)
    loop.drop_plan()
    assert loop.tick(0, STALE + 1).action == pytest.approx([0.1])  # not the old 0.5


def test_nothing_is_followed_after_a_non_finite_plan():
    loop = make_loop()
    loop.put(plan())
    with pytest.raises(NonFiniteActionError):
        loop.put(plan(10, np.nan))
    assert loop.tick(20).reason is Reason.NON_FINITE
    assert loop.plan is None
    loop.put(plan(10))
    assert loop.tick(30).reason is Reason.OK
    loop.drop_plan()
    assert loop.tick(40).reason is Reason.NO_PLAN


def test_a_clock_that_moves_backwards_ends_the_plan_and_the_next_one_is_taken():
    loop = make_loop()
    loop.sensed("arm", 900)
    loop.sensed("camera", 900)
    loop.put(plan(900))
    assert loop.tick(950).reason is Reason.OK
    assert loop.tick(50).reason is Reason.NO_PLAN
    loop.put(plan(0))
    assert loop.tick(60).reason is Reason.OK


def test_lockstep_waits_for_the_plan_of_its_tick_and_repeats_an_answer():
    loop = make_loop(("arm",), rows_per_plan=2)
    assert loop.tick(0) is None
    loop.put(plan(0, 0.25))
    first = loop.tick(0)
    loop.put(plan(0, 0.75))  # the same tick again gets the same answer all the same
    assert loop.tick(0) is first
    assert loop.tick(DT).action == [0.75]
    assert loop.tick(2 * DT) is None
    assert loop.tick(-DT) is None


def test_lockstep_after_a_simulator_reset_is_a_new_life():
    loop = make_loop(("arm",), rows_per_plan=2)
    loop.put(plan(5 * DT, 0.25))
    loop.sensed("arm", 5 * DT)
    assert loop.tick(5 * DT).action == [0.25]
    loop.sensed("arm", 0)
    assert loop.tick(0) is None
    loop.put(plan(0, 0.75))
    assert loop.tick(0).action == [0.75]
    loop.put(plan(5 * DT, 0.5))
    loop.sensed("arm", 5 * DT)
    assert loop.tick(5 * DT).action == [0.5]  # not the answer of the former life


def test_the_safe_command_needs_neither_plan_nor_time():
    loop = make_loop()
    loop.put(plan())
    loop.gate.stop()
    command = loop.safe_command()
    assert command.reason is Reason.STOPPED and command.action == [0.0]


@pytest.mark.parametrize(
    ("value", "gap", "then"), [(0.3, 399, 0.3), (0.3, 400, 0.2), (0.5, 400, 0.2), (-0.3, 400, -0.2)]
)
def test_after_a_pause_in_which_a_guard_may_have_spoken_there_is_no_leap_from_rest(
    value, gap, then
):
    limits = Limits(low=[-1.0], high=[1.0], max_rate=[2e6])  # 0.2 a tick
    gate = SafetyGate(limits, np.zeros(1), STALE, DT)
    gate.enable()
    loop = ControlLoop(gate, ("arm",), late_ns=4 * DT)
    loop.put(plan(value=value))
    loop.sensed("arm", 0)
    sent = [loop.tick(now, now).action[0] for now in (0, DT, 2 * DT)]
    assert sent[-1] == pytest.approx(value)
    now = 2 * DT + gap
    late = loop.tick(now, now)
    assert late.action == pytest.approx([then])
    assert late.reason is (Reason.OK if then == value else Reason.LIMITED)
    assert loop.tick(now + DT, now + DT).action == pytest.approx([np.clip(value, -0.4, 0.4)])


def test_who_was_stopped_meanwhile_begins_near_rest():
    limits = Limits(low=[-1.0], high=[1.0], max_rate=[2e6])  # 0.2 a tick
    gate = SafetyGate(limits, np.zeros(1), STALE, DT)
    gate.enable()
    loop = ControlLoop(gate, ("arm",), late_ns=4 * DT)
    loop.put(plan(value=0.3))
    loop.sensed("arm", 0)
    assert [loop.tick(now, now).action[0] for now in (0, DT)] == pytest.approx([0.2, 0.3])
    loop.interrupt()
    assert loop.tick(2 * DT, 2 * DT).action == pytest.approx([0.2])
    assert loop.tick(3 * DT, 3 * DT).action == pytest.approx([0.3])


def test_what_was_before_an_activation_was_no_pause():
    gate = SafetyGate(Limits(low=[-1.0], high=[1.0]), np.zeros(1), STALE, DT)
    gate.enable()
    loop = ControlLoop(gate, ("arm",), late_ns=4 * DT)
    loop.put(plan())
    loop.tick(0, 0)
    loop.clear()
    loop.put(plan(stamp=9 * DT))
    loop.sensed("arm", 9 * DT)
    assert loop.tick(9 * DT, 9 * DT).reason is Reason.OK
