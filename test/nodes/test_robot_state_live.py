"""A robot that says that it does not execute commands: controller and recorder believe it."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, Int8
from std_srvs.srv import Trigger

from wm_planner.data.bags import Bag
from wm_planner.errors import ConfigError
from wm_planner.nodes.controller_node import ControllerNode
from wm_planner.nodes.finetune_node import FinetuneNode
from wm_planner.robot_state import state_parameter
from wm_planner.ros.diagnostics import values_of
from wm_planner.ros.qos import LATCHED, SENSOR
from wm_planner.ros.robot_state import StateWatch
from wm_planner.runtime.safety import Measured, SafetyGate, limits_of

from .test_controller_live import LIMITS, Arm

MODE = {"topic": "/arm/mode", "type": "std_msgs/msg/Int8", "field": "data", "good": [7]}


def parameter(**changed: Any) -> str:
    return json.dumps([{**MODE, **changed}])


@pytest.mark.parametrize("profile", [LATCHED, SENSOR], ids=["latched", "best effort"])
def test_a_robot_in_a_protective_stop_gets_the_safe_command(graph, profile):
    arm = Arm(graph, robot_state=parameter())
    told: list[Any] = []
    arm.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: told.extend(m.status), 50
    )
    mode = arm.node.create_publisher(Int8, "/arm/mode", profile)

    def says(value: int) -> bool:
        mode.publish(Int8(data=value))
        return True

    def is_told(text: str) -> bool:
        return any(
            s.message == "robot_state" and text in values_of(s).get("robot_state", "") for s in told
        )

    arm.controller.trigger_activate()
    arm.live(lambda: is_told("nothing has come yet"), "a refusal before anything came")
    assert all(action == [0.0, 0.0] for action in arm.sent)
    says(7) if profile is LATCHED else None
    arm.live(lambda: (profile is LATCHED or says(7)) and arm.sent[-1] == [0.5, 0.5], "motion")
    says(3)
    arm.live(
        lambda: (profile is LATCHED or says(3)) and arm.last_is_safe() and is_told("data is 3"),
        "the safe command",
    )
    says(7)
    arm.live(lambda: (profile is LATCHED or says(7)) and arm.sent[-1] == [0.5, 0.5], "motion again")
    arm.node.destroy_publisher(mode)
    arm.live(lambda: arm.last_is_safe() and is_told("nobody publishes it any more"), "its end")


def test_a_value_that_is_too_old_is_none(graph):
    arm = Arm(graph, robot_state=parameter(max_age_s=0.3))
    mode = arm.node.create_publisher(Int8, "/arm/mode", 10)
    arm.controller.trigger_activate()
    publish = lambda: mode.publish(Int8(data=7))  # noqa: E731
    arm.live(lambda: publish() or arm.sent[-1:] == [[0.5, 0.5]], "motion")
    arm.live(arm.last_is_safe, "the safe command")
    assert "max_age_s is 0.3" in arm.controller._disobeys


def test_a_topic_of_another_type_is_named():
    other = SimpleNamespace(topic_type="std_msgs/msg/Header", qos_profile=SENSOR)
    node = SimpleNamespace(
        resolve_topic_name=str,
        get_publishers_info_by_topic=lambda topic: [other],
        create_subscription=lambda *args, **_: SimpleNamespace(qos_profile=args[-1]),
        count_publishers=lambda topic: 1,
    )
    watch = StateWatch(node, state_parameter(parameter()))
    assert watch.why_not() == (
        "/arm/mode: is of type std_msgs/msg/Header, expected std_msgs/msg/Int8"
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (serialize_message(Int8(data=7)), ""),
        (serialize_message(Int8(data=3)), "data is 3, the robot obeys with 7"),
        (b"", "a message cannot be read"),
        (b"\x00\x01", "a message cannot be read"),
        (bytes(2**20 + 1), "a message cannot be read: .*1048577"),
    ],
    ids=["good", "not good", "empty", "cut off", "too large"],  # bytes hold what lay in memory
)
def test_a_message_that_cannot_be_read_is_no_good_value(data, words):
    heard = []
    node = SimpleNamespace(
        resolve_topic_name=str,
        get_publishers_info_by_topic=lambda topic: [],
        create_subscription=lambda *args, **_: heard.append(args[2]),
        count_publishers=lambda topic: 1,
    )
    watch = StateWatch(node, state_parameter(parameter()))
    heard[0](serialize_message(Int8(data=7)))
    assert watch.why_not() == ""
    heard[0](data)
    assert re.search(words, watch.why_not()) and bool(words) == bool(watch.why_not())


def test_a_robot_that_others_move_holds_where_it_is_then():
    gate = SafetyGate(limits_of([-9], [9], [1]), np.zeros(1), 10**9, 10**8, hold=True)
    gate.begin(np.zeros(1))
    gate.enable()
    gate.obeys = False
    for place in (0.5, 1.5):  # by hand
        command = gate.check(np.ones(1), 0, 0, 0, Measured(np.array([place]), 0))
        assert (command.reason, command.action) == ("robot_state", place)
    gate.obeys = True
    assert gate.check(np.zeros(1), 0, 0, 0, Measured(np.array([1.5]), 0)).action == 1.4


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"type": "no_such_msgs/msg/Mode"}, "no_such_msgs.* install no_such_msgs"),
        ({"type": "std_msgs/msg/Int88"}, "std_msgs/msg/Int88 is not installed"),
        ({"field": "mode"}, "no field 'mode'; it has data"),
        ({"type": "std_msgs/msg/Header", "field": "stamp"}, "no single value; it has sec, nanosec"),
    ],
)
@pytest.mark.parametrize("kind", [ControllerNode, FinetuneNode])
def test_a_topic_that_cannot_be_read_is_named(graph, tmp_path, kind, changed, words):
    more: dict[str, Any] = {"output": str(tmp_path)}
    if kind is ControllerNode:
        more = {"action_names": ["slide_x", "slide_y"], **LIMITS}
    with pytest.raises(ConfigError, match=words):
        node = graph.add(kind, robot_state=parameter(**changed), **more)
        node.configure()


def test_a_bag_says_when_the_robot_did_not_obey(graph, tmp_path):
    states = [MODE, {"topic": "/arm/header", "type": "std_msgs/msg/Header"}]
    states[1] |= {"field": "stamp.sec", "good": [0]}
    recorder = graph.add(FinetuneNode, output=str(tmp_path), robot_state=json.dumps(states))
    node = graph.peer("robot")
    mode = node.create_publisher(Int8, "/arm/mode", LATCHED)
    header = node.create_publisher(Header, "/arm/header", LATCHED)
    joints = node.create_publisher(JointState, "joint_states", 10)
    header.publish(Header())
    mode.publish(Int8(data=7))
    graph.until(lambda: not recorder._robot._watch.why_not(), "the state")
    graph.until(joints.get_subscription_count, "the recorder")
    assert graph.call(node, Trigger, "finetune_node/start_episode").success
    for value, why in ((3, "data is 3"), (7, "")):
        mode.publish(Int8(data=value))
        graph.until(lambda why=why: why in recorder._robot._watch.why_not(), "the change")
        graph.until(lambda value=value: bool(recorder._robot._watch.why_not()) == (value == 3), "")
    graph.call(node, Trigger, "finetune_node/end_episode")
    path = tmp_path / "episode_0000"
    graph.until((path / "metadata.yaml").exists, "the closed bag")
    said = [m.decode() for m in Bag(path).messages() if m.topic == "/robot_state"]
    words = [(int(status.level), status.message) for status in said]
    stopped = (2, "/arm/mode: data is 3, the robot obeys with 7")
    assert stopped in words and words[-1] == (0, "obeys")
