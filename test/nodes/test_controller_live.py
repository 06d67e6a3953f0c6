"""The controller against a driver of the test's own in place of the arm, with injected faults."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.clock import ClockType
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from wm_planner.errors import ConfigError
from wm_planner.nodes import controller_node
from wm_planner.nodes.controller_config import ControllerConfig
from wm_planner.nodes.controller_node import ControllerNode
from wm_planner.nodes.controller_watch import positions_of
from wm_planner.robot import ADAPTERS
from wm_planner.ros.command_topics import TYPES
from wm_planner.ros.conversions import (
    image_message,
    joint_state_message,
    plan_message,
    to_ns,
)
from wm_planner.ros.lifecycle import SUCCESS
from wm_planner.ros.qos import LATCHED
from wm_planner.types import Plan

DT_S = 0.05
STALE_S = 0.4
STALE_NS = round(STALE_S * 1e9)
NEVER_S = 60.0  # staleness cannot be why the robot stops
POSITIONS = ("slide_x/position", "slide_y/position")
LIMITS = {
    "low": [-1.0, -1.0],
    "high": [1.0, 1.0],
    "max_rate": [0.0, 0.0],
    "safe_action": [0.0, 0.0],
}
HOLD = {"kind": "position", "max_rate": [2.0, 2.0], "tracking_error": 1.0}
EFFORT = {"kind": "effort", "adapter": "forward"}
AXES = ["linear.x", "linear.y"]
NAMES = {"twist": AXES, "twist_unstamped": AXES}
URDF = """<robot name="slides">
  <joint name="slide_x" type="prismatic">
    <limit lower="-1" upper="0.31" velocity="0.4" effort="1"/>
  </joint>
  <joint name="slide_y" type="continuous"><limit velocity="0.2" effort="1"/></joint>
</robot>"""


def read(message: Any) -> list[float]:
    """The action in a command of any adapter."""
    if hasattr(message, "data"):
        return list(message.data)
    twist = getattr(message, "twist", message)
    if hasattr(twist, "linear"):
        return [twist.linear.x, twist.linear.y]
    return list(message.points[0].velocities or message.points[0].positions)


class Arm:
    """What a robot's driver sees, and the sensors and planner it would come with."""

    def __init__(self, graph, adapter: str = "forward", **parameters: Any) -> None:
        self.graph = graph
        self.commands: list[list[float]] = []
        self.messages: list[Any] = []
        self.sent: list[list[float]] = []
        self.sent_ns: list[int] = []  # by the controller's clock, in the order of `commands`
        self.place = (0.3, -0.2)
        self.last_plan_ns = self.last_image_ns = 0
        self.controller = graph.add(
            ControllerNode,
            adapter=adapter,
            action_names=NAMES.get(adapter, ["slide_x", "slide_y"]),
            frame_id="base_link",
            **{
                **LIMITS,
                "control_dt_s": DT_S,
                "stale_after_s": STALE_S,
                "tracking_error": 100.0,  # the arm stands still unless a test moves it
                **parameters,
            },
        )
        self.controller.trigger_configure()
        self.node = graph.peer("arm")
        depth = QoSProfile(depth=50)
        self.node.create_subscription(TYPES[ADAPTERS[adapter]], "command", self._on_command, depth)
        self.node.create_subscription(
            JointTrajectory,
            "command_sent",
            self._on_sent,
            depth,
        )
        self._plans = self.node.create_publisher(JointTrajectory, "plan", depth)
        self._states = self.node.create_publisher(JointState, "joint_states", depth)
        self._images = self.node.create_publisher(Image, "observation/image", depth)
        heard = [self._plans, self._states]
        if not self.controller.config.lockstep:
            heard.append(self._images)
        graph.until(
            lambda: (
                all(p.get_subscription_count() for p in heard)
                and self.node.count_publishers("command")
                and self.node.count_publishers("command_sent")
            ),
            "discovery",
        )

    def _on_command(self, message: Any) -> None:
        self.messages.append(message)
        self.commands.append(read(message))

    def _on_sent(self, message: JointTrajectory) -> None:
        self.sent.append(read(message))
        self.sent_ns.append(to_ns(message.header.stamp))

    def describe(self, text: str = URDF) -> None:
        self._description = self.node.create_publisher(String, "robot_description", LATCHED)
        self._description.publish(String(data=text))

    def sense(self) -> None:
        """Until the controller knows where the joints are."""
        self.state()
        self.graph.until(lambda: self.controller._measured is not None, "joint states")

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def state(self, stamp_ns: int | None = None, names=POSITIONS, values=None) -> None:
        values = self.place if values is None else values
        stamp_ns = self.now_ns() if stamp_ns is None else stamp_ns
        self._states.publish(joint_state_message(np.array(values), names, stamp_ns))

    def image(self) -> None:
        self.last_image_ns = self.now_ns()
        self._images.publish(image_message(np.zeros((8, 8, 3), np.uint8), self.last_image_ns))

    def plan(
        self,
        value: float = 0.5,
        rows: int = 100,
        stamp_ns: int | None = None,
        dt_s: float = DT_S,
        size: int = 2,
    ) -> None:
        actions = np.full((rows, size), value, np.float32)
        stamp_ns = self.last_plan_ns = self.now_ns() if stamp_ns is None else stamp_ns
        plan = Plan(stamp_ns, round(dt_s * 1e9), actions)
        config = self.controller.config
        self._plans.publish(plan_message(plan, config.action_names, config.command_interface))

    def live(self, condition, what: str, sense: bool = True, plan: bool = True) -> None:
        """Keep sensors and planner running until the condition holds."""
        last_s = 0.0

        def step() -> Any:
            nonlocal last_s
            if time.monotonic() - last_s > DT_S:
                last_s = time.monotonic()
                self.state()
                if sense:
                    self.image()
                if plan:
                    self.plan()
            return condition()

        self.graph.until(step, what, timeout_s=60.0)  # the machine may be busy

    def drive(self) -> None:
        """Activate and wait until the robot moves."""
        if self.controller.config.begins_somewhere:
            self.sense()
        # One that was killed in another test stays on the graph for a while.
        self.graph.until(lambda: self.controller.trigger_activate() == SUCCESS, "activation")
        self.live(lambda: self.sent and self.sent[-1] == [0.5, 0.5], "motion")

    def last_is_safe(self) -> bool:
        came = len(self.commands) == len(self.sent)
        return bool(self.sent) and came and self.sent[-1] == [0.0, 0.0]

    def moves(self) -> bool:
        return bool(self.sent) and self.sent[-1] != [0.0, 0.0]

    def moved_last_ns(self) -> int:
        """When the last command that moves was sent, by the controller's own clock: what a test
        receives late, on a busy machine, was not sent late."""
        self.graph.until(lambda: len(self.sent_ns) == len(self.commands), "the stamps")
        moving = [i for i, action in enumerate(self.sent) if action != [0.0, 0.0]]
        return self.sent_ns[moving[-1]]


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_moves_only_once_activated_and_ends_with_the_safe_command(graph, adapter):
    arm = Arm(graph, adapter)
    deadline = time.monotonic() + 3 * DT_S
    arm.live(lambda: time.monotonic() > deadline, "a few periods")
    assert arm.commands == []
    arm.drive()
    arm.controller.trigger_deactivate()
    graph.until(arm.last_is_safe, "safe command on deactivation")
    count = len(arm.commands)
    deadline = time.monotonic() + 3 * DT_S
    arm.live(lambda: time.monotonic() > deadline, "a few periods")
    assert len(arm.commands) == count


class Stepped:
    """A settable clock under controller, sensors and planner, in place of the system's."""

    def __init__(self, arm: Arm) -> None:
        self.step_s = 0.0
        self.tick()
        self._clock = arm.controller.get_clock()
        self._clock._set_ros_time_is_active(True)
        arm.now_ns = self.now_ns
        spin = arm.graph.spin

        def spin_and_tick(timeout_s: float) -> None:
            self.tick()
            spin(timeout_s)

        arm.graph.spin = spin_and_tick

    def tick(self) -> None:
        if hasattr(self, "_clock"):
            now = Time(nanoseconds=self.now_ns(), clock_type=ClockType.ROS_TIME)
            self._clock.set_ros_time_override(now)

    def now_ns(self) -> int:
        return time.time_ns() + round(self.step_s * 1e9)


def moving_since(controller: ControllerNode) -> list[float]:
    """Steady times of the commands, from now on, that the gate let through."""
    times, publish = [], controller._publish

    def noting(command, stamp_ns: int) -> None:
        if not command.reason.refused:
            times.append(time.monotonic())
        publish(command, stamp_ns)

    controller._publish = noting
    return times


@pytest.mark.parametrize("alive", [True, False], ids=["sensors live", "sensors die"])
@pytest.mark.parametrize("step_s", [-20.0, 20.0])
def test_a_step_of_the_clock_stops_the_robot_which_goes_on_by_itself(graph, step_s, alive):
    arm = Arm(graph)
    clock = Stepped(arm)
    arm.drive()
    moving = moving_since(arm.controller)
    count, stepped_s = len(arm.commands), time.monotonic()
    clock.step_s = step_s
    graph.until(lambda: [0.0, 0.0] in arm.commands[count:], "the safe command", 60.0)
    if not alive:
        deadline = stepped_s + STALE_S + 4 * DT_S
        graph.until(lambda: time.monotonic() > deadline, "a while")
        assert all(each_s <= stepped_s + STALE_S + DT_S for each_s in moving)
        graph.until(arm.last_is_safe, "the safe command as the last one", 60.0)
    arm.live(lambda: arm.commands[-1] == [0.5, 0.5], "motion after the step")


def test_a_clock_that_stands_still_hides_no_silence(graph):
    """As after use_sim_time without a /clock: stamps stay fresh for ever, receipts do not."""
    arm = Arm(graph)
    clock = Stepped(arm)
    arm.drive()
    moving = moving_since(arm.controller)
    arm.plan()
    frozen_ns = clock.now_ns()
    clock.now_ns = lambda: frozen_ns
    silent_s = time.monotonic()
    graph.until(arm.last_is_safe, "the safe command")
    assert all(each_s <= silent_s + STALE_S + DT_S for each_s in moving)


def test_the_clock_cannot_be_replaced_while_the_robot_may_move(graph):
    arm = Arm(graph)
    arm.drive()
    simulated = [Parameter("use_sim_time", value=True)]
    (answer,) = arm.controller.set_parameters(simulated)
    assert not answer.successful and "cannot be changed while controller_node acts" in answer.reason
    arm.live(lambda: arm.commands[-1] == [0.5, 0.5], "motion")
    arm.controller.trigger_deactivate()
    (answer,) = arm.controller.set_parameters(simulated)
    assert answer.successful


def test_a_tick_that_fails_ends_in_the_safe_command(graph):
    arm = Arm(graph)
    arm.drive()
    check = arm.controller._loop.gate.check

    def broken(action, *others):
        if action is not None:
            raise ZeroDivisionError("planted")
        return check(action, *others)

    arm.controller._loop.gate.check = broken
    count = len(arm.commands)
    arm.live(lambda: arm.last_is_safe() and len(arm.commands) > count + 2, "safe commands")
    arm.controller._loop.gate.check = check
    arm.live(lambda: arm.commands[-1] == [0.5, 0.5], "motion")


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_stop_is_latched_and_nothing_follows_the_safe_command(graph, adapter):
    arm = Arm(graph, adapter)
    arm.drive()
    assert graph.call(arm.node, Trigger, "controller_node/stop").success
    graph.until(arm.last_is_safe, "safe command on stop")
    count = len(arm.commands)
    deadline = time.monotonic() + 4 * DT_S
    arm.live(lambda: time.monotonic() > deadline, "a few periods")
    assert len(arm.commands) == count
    arm.controller.trigger_deactivate()
    arm.drive()


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_dead_planner_stops_the_robot_in_time(graph, adapter):
    arm = Arm(graph, adapter)
    arm.drive()
    arm.live(arm.last_is_safe, "safe command", plan=False)
    assert arm.moved_last_ns() <= arm.last_plan_ns + STALE_NS


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_stopped_camera_stops_the_robot_though_plans_go_on(graph, adapter):
    arm = Arm(graph, adapter)
    arm.drive()
    arm.live(arm.last_is_safe, "safe command", sense=False)
    assert arm.moved_last_ns() <= arm.last_image_ns + STALE_NS


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_plan_is_refused_at_once(graph, value):
    arm = Arm(graph, stale_after_s=NEVER_S)
    arm.drive()
    arm.plan(value)
    arm.live(arm.last_is_safe, "safe command", plan=False)
    assert all(np.isfinite(action).all() for action in arm.commands)
    arm.live(arm.moves, "recovery with the next good plan")


def test_plan_for_other_joints_is_refused(graph):
    arm = Arm(graph)
    arm.controller.trigger_activate()
    actions = np.full((100, 2), 0.5, np.float32)
    plan = Plan(arm.now_ns(), round(DT_S * 1e9), actions)
    arm._plans.publish(plan_message(plan, ["slide_y", "slide_x"], "velocity"))
    arm.live(lambda: len(arm.commands) > 5, "commands", plan=False)
    assert all(action == [0.0, 0.0] for action in arm.commands)


def test_empty_plan_ends_what_was_planned(graph):
    arm = Arm(graph, stale_after_s=NEVER_S)
    arm.drive()
    arm._plans.publish(JointTrajectory())
    arm.live(arm.last_is_safe, "safe command", plan=False)


def test_cleanup_frees_what_configure_made(graph):
    arm = Arm(graph)
    arm.controller.trigger_cleanup()
    graph.until(lambda: not arm.node.count_publishers("command"), "the end of the publisher")
    arm.controller.trigger_configure()
    graph.until(lambda: arm.node.count_publishers("command") == 1, "one publisher")
    arm.drive()


def test_commands_are_clamped_and_rate_limited(graph):
    arm = Arm(graph, low=[-0.4, -0.4], high=[0.4, 0.4], max_rate=[2.0, 2.0], stale_after_s=NEVER_S)
    arm.controller.trigger_activate()
    arm.live(lambda: arm.commands and arm.commands[-1] == [0.4, 0.4], "the clamped action")
    sent = np.array([action for action in arm.commands])
    assert np.abs(np.diff(sent, axis=0)).max() <= 2.0 * DT_S + 1e-9
    assert sent.max() <= 0.4


def test_position_robot_holds_where_it_is(graph):
    arm = Arm(graph, "joint_trajectory", **HOLD)
    arm.sense()
    arm.controller.trigger_activate()
    arm.live(lambda: arm.commands, "a command", plan=False)
    assert arm.commands[-1] == pytest.approx([0.3, -0.2])


def test_first_command_of_a_position_robot_starts_where_it_is(graph):
    arm = Arm(graph, "joint_trajectory", **HOLD)
    arm.sense()
    arm.controller.trigger_activate()
    arm.live(lambda: arm.commands and arm.commands[-1] == [0.5, 0.5], "the planned place")
    sent = np.array([[0.3, -0.2], *(action for action in arm.commands)])
    assert np.abs(np.diff(sent, axis=0)).max() <= 2.0 * DT_S + 1e-9


def test_a_blocked_position_robot_is_held_where_it_is(graph):
    arm = Arm(graph, "joint_trajectory", stale_after_s=NEVER_S, **HOLD)
    arm.sense()
    arm.controller.trigger_activate()
    arm.live(lambda: arm.commands and arm.commands[-1] == [0.5, 0.5], "the planned place")
    arm.place = (0.25, -0.25)  # blocked, and pushed back a little
    arm.live(lambda: arm.controller._measured.positions[0] == 0.25, "the place", plan=False)
    arm._plans.publish(JointTrajectory())
    arm.live(lambda: arm.commands[-1] == [0.25, -0.25], "the hold", plan=False)
    arm.place = (0.2, -0.3)  # it sags
    count = len(arm.commands)
    arm.live(lambda: len(arm.commands) > count + 5, "commands", plan=False)
    assert arm.commands[-1] == [0.25, -0.25]


def test_a_blocked_position_robot_is_not_led_away_from_where_it_is(graph):
    """Wind-up: step by step it would be told to go to the end of the plan."""
    arm = Arm(graph, stale_after_s=NEVER_S, **{**HOLD, "tracking_error": 0.15})
    arm.sense()
    arm.controller.trigger_activate()
    arm.live(lambda: arm.controller._reason == "tracking_error", "the refusal")
    count = len(arm.commands)
    arm.live(lambda: len(arm.commands) > count + 20, "commands")
    assert np.abs(np.array(arm.commands) - arm.place).max() <= 0.15 + 1e-9


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (None, "joint_states with positions of slide_x, slide_y"),
        ({"stamp_ns": 10**9}, "of now"),
        ({"values": (float("nan"), 0.0)}, "none came"),
        ({"values": (0.3, 7.0)}, "outside the limits"),
    ],
)
def test_hold_without_a_usable_place_does_not_activate(graph, monkeypatch, state, text):
    from rclpy.lifecycle import TransitionCallbackReturn

    arm = Arm(graph, **HOLD)
    heard = []
    monkeypatch.setattr(
        controller_node, "positions_of", lambda *given: heard.append(1) or positions_of(*given)
    )
    if state is not None:
        arm.state(**state)
        graph.until(lambda: heard, "joint states")
    assert arm.controller.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert text in str(arm.controller._failure)
    arm.live(lambda: True, "a round")
    assert arm.commands == []


@pytest.mark.parametrize(
    ("parameters", "step"),
    [({"kind": "position_delta"}, 0.5), ({"kind": "velocity", "integrate": True}, 0.5 * DT_S)],
)
@pytest.mark.parametrize("adapter", ["forward", "joint_trajectory"])
def test_positions_are_sent_and_actions_are_told(graph, adapter, parameters, step):
    """The robot stands still, as if it were blocked: one tracking error ahead all ends."""
    arm = Arm(graph, adapter, stale_after_s=NEVER_S, tracking_error=1.2, **parameters)
    arm.sense()
    arm.controller.trigger_activate()
    place = np.array(arm.place)
    arm.live(lambda: [0.5, 0.5] in arm.sent, "motion")
    arm.live(lambda: arm.commands[-1] == pytest.approx(place + 1.2), "the end")
    graph.until(lambda: len(arm.sent) == len(arm.commands), "what was executed")
    moved = np.diff(np.vstack([place, arm.commands]), axis=0)
    np.testing.assert_allclose(moved, step / 0.5 * np.array(arm.sent), atol=1e-9)
    assert np.abs(moved).max() <= step + 1e-9
    if adapter == "joint_trajectory":  # what a joint_trajectory_controller takes
        message = arm.messages[-1]
        assert to_ns(message.header.stamp) == 0 and not message.points[0].velocities
        assert to_ns(message.points[0].time_from_start) == round(DT_S * 1e9)
    arm._plans.publish(JointTrajectory())
    arm.live(lambda: arm.commands[-1] == pytest.approx(place), "the hold", plan=False)
    graph.until(lambda: len(arm.sent) == len(arm.commands), "what was executed")
    assert arm.sent[-1] == [0.0, 0.0]


def test_nothing_leads_beyond_the_position_limits(graph):
    limits = {"position_low": [-1.0, -1.0], "position_high": [0.31, 1.0]}
    arm = Arm(graph, stale_after_s=NEVER_S, **limits)
    arm.controller.trigger_activate()
    arm.live(lambda: arm.commands and arm.commands[-1][1] == 0.5, "motion")
    assert 0 < arm.commands[-1][0] <= 0.01 / DT_S + 1e-9  # 0.01 m are left
    arm.place = (0.4, 0.0)
    arm.live(lambda: arm.commands[-1] == [0.0, 0.5], "the end of the motion")
    assert arm.controller._reason == "limited"


def test_activation_waits_for_the_robots_description(graph):
    from rclpy.lifecycle import TransitionCallbackReturn

    arm = Arm(graph, stale_after_s=NEVER_S, position_limits="robot_description")
    for _ in range(2):
        assert arm.controller.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert "nobody has published" in str(arm.controller._failure)
    arm.describe(URDF.replace("slide_x", "slide"))
    graph.until(lambda: arm.controller._description, "the description")
    assert arm.controller.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert "no joint 'slide_x'" in str(arm.controller._failure)
    arm.describe()
    graph.until(lambda: arm.controller._description == URDF, "the description")
    assert arm.controller.trigger_activate() == TransitionCallbackReturn.SUCCESS
    arm.live(lambda: arm.commands and arm.commands[-1][1] == 0.2, "motion at the joint's speed")
    assert 0 < arm.commands[-1][0] <= 0.01 / DT_S + 1e-9


def test_autostart_begins_once_everything_is_known(graph):
    parameters = {"position_limits": "robot_description", "integrate": True}
    arm = Arm(graph, autostart=True, stale_after_s=NEVER_S, **parameters)
    arm.controller.trigger_cleanup()
    arm.controller.start()
    assert not arm.controller._active
    arm.describe()
    arm.live(lambda: arm.commands and arm.commands[-1][1] > -0.2, "motion")


def test_joint_states_of_a_gripper_do_not_stand_for_the_arm(graph):
    arm = Arm(graph)
    arm.drive()

    def gripper_only() -> bool:
        arm.state(names=("gripper/position", "slide_x/position"))
        arm.image()
        arm.plan()
        return arm.last_is_safe()

    graph.until(gripper_only, "safe command")


def test_stamps_of_the_future_do_not_hide_a_dead_source(graph):
    arm = Arm(graph)
    arm.drive()

    def ahead() -> bool:
        arm.state(arm.now_ns() + 3600 * 10**9)
        arm.image()
        arm.plan()
        return arm.last_is_safe()

    graph.until(ahead, "safe command")
    arm.live(arm.moves, "recovery with good stamps")


def test_camera_that_never_sent_keeps_the_robot_still(graph):
    arm = Arm(graph)
    arm.controller.trigger_activate()
    arm.live(lambda: len(arm.commands) > 5, "commands", sense=False)
    assert all(action == [0.0, 0.0] for action in arm.commands)


def test_plan_of_the_future_does_not_keep_the_others_out(graph):
    arm = Arm(graph)
    arm.drive()
    arm.plan(stamp_ns=arm.now_ns() + 3600 * 10**9)
    arm.live(arm.last_is_safe, "safe command", plan=False)
    arm.live(arm.moves, "recovery with the next good plan")


def test_late_plan_skips_the_rows_that_are_past(graph):
    arm = Arm(graph, stale_after_s=NEVER_S)
    arm.controller.trigger_activate()
    ramp = np.repeat(np.linspace(0, 1, 1001, dtype=np.float32)[:, None], 2, axis=1)
    late_ns = arm.now_ns() - 6 * round(DT_S * 1e9)
    plan = Plan(late_ns, round(DT_S * 1e9), ramp)
    arm._plans.publish(plan_message(plan, ["slide_x", "slide_y"], "velocity"))
    arm.live(arm.moves, "the late plan", plan=False)
    first = next(action[0] for action in arm.sent if action[0] > 0)
    assert first >= 0.006 - 1e-6  # row 6 or later


@pytest.mark.parametrize("wrong", [{"dt_s": 2 * DT_S}, {"size": 3}, {"size": 1}])
def test_plan_of_another_shape_or_period_is_refused(graph, wrong):
    arm = Arm(graph)
    arm.controller.trigger_activate()

    def bad() -> bool:
        arm.state()
        arm.image()
        arm.plan(**wrong)
        return len(arm.commands) > 5

    graph.until(bad, "commands")
    assert all(action == [0.0, 0.0] for action in arm.commands)


def test_lifecycle_shutdown_ends_with_the_safe_command(graph):
    arm = Arm(graph)
    arm.drive()
    arm.controller.trigger_shutdown()
    graph.until(arm.last_is_safe, "safe command on shutdown")
    count = len(arm.commands)
    deadline = time.monotonic() + 4 * DT_S
    arm.live(lambda: time.monotonic() > deadline, "a few periods")
    assert len(arm.commands) == count


def test_closing_the_node_sends_the_safe_command_last(graph):
    arm = Arm(graph)
    arm.drive()
    arm.controller.close()
    graph.until(arm.last_is_safe, "safe command on close")


def test_lockstep_answers_a_repeated_tick_alike_and_waits_for_a_fresh_plan(graph):
    arm = Arm(graph, lockstep=True, rows_per_plan=2)
    arm.controller.trigger_activate()
    second = 10**9
    dt_ns = round(DT_S * 1e9)
    arm.plan(0.25, stamp_ns=second)
    graph.until(lambda: arm.controller._loop.plan, "the plan")
    for tick in (0, 0, 1):
        arm.state(second + tick * dt_ns)
        graph.until(lambda n=tick: len(arm.commands) > n, "an answer")
    graph.until(lambda: len(arm.commands) == 3, "three answers")
    arm.state(second + 2 * dt_ns)  # the plan has been used up
    graph.until(lambda: arm.controller._pending_ns == second + 2 * dt_ns, "the pending tick")
    assert len(arm.commands) == 3
    arm.plan(0.125, stamp_ns=second + 2 * dt_ns)
    graph.until(lambda: len(arm.commands) == 4, "the answer")
    assert [action[0] for action in arm.commands] == [0.25, 0.25, 0.25, 0.125]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"adapter": "forwards"}, "Did you mean 'forward'"),
        ({"stale_after": 1.0}, "Did you mean 'stale_after_s'"),
        ({"low": [-1.0]}, "low needs 2 entries"),
        ({"kind": "torque"}, "unknown kind 'torque'"),
        ({"command_interface": "velocity"}, "unknown key 'command_interface'"),
        ({**EFFORT, "safe_action": [5.0, 0.0]}, "outside the limits"),
        ({"adapter": "twist", "frame_id": "map"}, "unknown twist axis"),
        ({"control_dt_s": "fast"}, "expected a number, got 'fast'"),
        ({"control_dt_s": 0.0}, "control_dt_s: expected 0.001 .. 10, got 0.0"),
        ({"stale_after_s": float("nan")}, "stale_after_s: expected 0.001 .. 60, got nan"),
        ({"max_rate": [float("nan"), 1.0]}, "max_rate: expected 0 .. inf"),
        ({"low": [-float("inf"), 0.0]}, "low: expected a finite number"),
        ({**EFFORT, "low": [1.0, -1.0]}, "must be below"),
        ({"kind": "effort"}, "'joint_trajectory' sends positions, kind is 'effort'"),
        ({"kind": "position"}, "needs max_rate above 0"),
        ({**EFFORT, "integrate": True}, "integrate turns velocities into positions"),
        ({"kind": "position_delta", "safe_action": [0.1, 0.0]}, "only zero stops a robot"),
        ({"low": [0.1, -1.0], "safe_action": [0.1, 0.0]}, "only zero stops a robot"),
        ({"low": [0.1, -1.0]}, "'slide_x' is from 0.1 to 1: zero, which stops it"),
        ({**HOLD, "tracking_error": 0.01}, "tracking_error 0.01 is below the step"),
        ({"position_low": [-1.0]}, "position_low needs 2 entries"),
        ({"position_limits": "urdf"}, "expected 'robot_description' or ''"),
        (
            {
                "position_limits": "robot_description",
                "position_low": [-1.0, -1.0],
                "position_high": [1.0, 1.0],
            },
            "not both",
        ),
        ({"position_low": [1.0, 1.0], "position_high": [1.0, 1.0]}, "must be below"),
        (
            {"action_names": AXES, "adapter": "twist", "frame_id": "a", "integrate": True},
            "the axes of a twist",
        ),
    ],
)
def test_bad_parameters_name_the_key_and_the_choices(graph, parameters, text):
    names = {"action_names": ["slide_x", "slide_y"]}
    with pytest.raises(ConfigError, match=text.replace("(", r"\(")):
        graph.add(ControllerNode, **{**names, **LIMITS, **parameters})


@pytest.mark.parametrize("key", ["action_names", *LIMITS])
def test_limits_have_no_default(graph, key):
    parameters = {"action_names": ["slide_x", "slide_y"], **LIMITS}
    del parameters[key]
    with pytest.raises(ConfigError, match=f"'{key}' is missing, which has no default"):
        graph.add(ControllerNode, **parameters)


@pytest.mark.parametrize("parameters", [{"kind": "position_delta"}, {"integrate": True}, HOLD])
def test_a_joint_trajectory_controller_takes_what_is_sent(parameters):
    """By the rules of ros2_controllers, also where its clock is a second ahead."""
    controllers = pytest.importorskip("sim_bridge.controllers")
    names = controllers.JOINTS
    six = {key: [1.0] * 6 for key in ("high", "max_rate")}
    six |= {"low": [-1.0] * 6, "safe_action": [0.0] * 6}
    config = ControllerConfig(action_names=names, **{**parameters, **six})
    places, now_ns = np.linspace(-0.5, 0.5, 6), 5 * 10**9
    message = config.command_adapter().message(places, now_ns)
    taken, why = controllers.trajectory_of(message, np.zeros(6), 100.0, now_ns + 10**9)
    assert taken is not None, why
    np.testing.assert_allclose(taken.at(100.0 + config.control_dt_s), places)
