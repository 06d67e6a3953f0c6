"""The finetune node: one bag per episode, read back with independent readers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from mcap.reader import make_reader  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from rosbags.rosbag2 import Reader  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from wm_planner.nodes.finetune_node import FinetuneNode  # noqa: E402
from wm_planner.ros import diagnostics  # noqa: E402
from wm_planner.ros.conversions import (  # noqa: E402
    command_message,
    image_message,
    joint_state_message,
    plan_message,
)
from wm_planner.ros.qos import EVENTS, LATCHED, RECORD, RELIABLE  # noqa: E402
from wm_planner.types import Plan  # noqa: E402

DT_NS = 10**8
NAMES = ("slide_x/position", "slide_y/position")
JOINTS = ("slide_x", "slide_y")


class Robot:
    """Publishes everything that is recorded."""

    def __init__(self, graph, images: QoSProfile = RELIABLE) -> None:
        node = graph.peer("robot")
        kinds = {
            "observation/image": (Image, images),
            "plan/imagined": (Image, images),
            "joint_states": (JointState, RECORD),
            "command_sent": (JointTrajectory, RECORD),
            "plan": (JointTrajectory, RECORD),
            "goal/image": (Image, LATCHED),
            "goal/joint_states": (JointState, LATCHED),
            "/diagnostics": (DiagnosticArray, RECORD),
            "episode": (DiagnosticStatus, EVENTS),
        }
        self.out = {topic: node.create_publisher(k, topic, q) for topic, (k, q) in kinds.items()}
        self.node = node
        graph.until(lambda: all(p.get_subscription_count() for p in self.out.values()), "discovery")

    def event(self, kind: str, stamp_ns: int, episode: int = 0) -> None:
        values = {"episode": episode, "stamp_ns": stamp_ns}
        self.out["episode"].publish(diagnostics.status("episode", diagnostics.OK, kind, values))

    def goal(self, stamp_ns: int) -> None:
        black = np.zeros((8, 8, 3), np.uint8)
        self.out["goal/image"].publish(image_message(black, stamp_ns))
        state = joint_state_message(np.zeros(2), NAMES, stamp_ns)
        self.out["goal/joint_states"].publish(state)

    def tick(self, stamp_ns: int) -> None:
        picture = np.full((8, 8, 3), stamp_ns // DT_NS % 256, np.uint8)
        action = np.array([0.1, 0.2])
        self.out["plan"].publish(
            plan_message(Plan(stamp_ns, DT_NS, np.zeros((5, 2), np.float32)), JOINTS, "velocity")
        )
        self.out["plan/imagined"].publish(image_message(picture, stamp_ns))
        status = diagnostics.status("planner_node: plan", diagnostics.OK, "", {"cost": 0.5})
        self.out["/diagnostics"].publish(diagnostics.array(stamp_ns, status))
        self.out["joint_states"].publish(joint_state_message(np.ones(2), NAMES, stamp_ns))
        self.out["command_sent"].publish(
            command_message(action, JOINTS, "velocity", stamp_ns, DT_NS)
        )
        self.out["observation/image"].publish(image_message(picture, stamp_ns))


def topics_of(path) -> dict[str, int]:
    with Reader(path) as reader:
        return {c.topic: c.msgcount for c in reader.connections}


def test_episode_bag_holds_every_topic_and_opens_with_other_readers(graph, tmp_path):
    recorder = graph.add(FinetuneNode, output=str(tmp_path), lockstep=True)
    robot = Robot(graph)
    begin = 10**9
    robot.goal(begin)
    for i in range(4):
        robot.tick(begin + i * DT_NS)
        if i == 1:
            robot.event("start", begin)  # late: what came before belongs to the episode too
    robot.event("end", begin + 3 * DT_NS)
    path = tmp_path / "episode_0000"
    graph.until(lambda: (path / "metadata.yaml").exists(), "the closed bag")
    assert not recorder._recorder.recording
    expected = dict.fromkeys(
        ["/observation/image", "/plan/imagined", "/joint_states", "/command_sent", "/plan"], 4
    )
    expected |= {"/diagnostics": 4, "/goal/image": 1, "/goal/joint_states": 1, "/episode": 2}
    assert topics_of(path) == expected
    with (path / "episode_0000.mcap").open("rb") as stream:
        names = {channel.topic for _, channel, _ in make_reader(stream).iter_messages()}
    assert names == set(expected)


def test_end_waits_for_the_last_image(graph, tmp_path):
    recorder = graph.add(FinetuneNode, output=str(tmp_path), lockstep=True)
    robot = Robot(graph)
    robot.event("start", 10**9)
    robot.tick(10**9)
    robot.event("end", 10**9 + DT_NS)
    graph.until(lambda: len(recorder._events) == 1, "the pending end")
    assert recorder._recorder.recording
    robot.tick(10**9 + DT_NS)
    graph.until(lambda: not recorder._recorder.recording, "the end")
    assert topics_of(tmp_path / "episode_0000")["/observation/image"] == 2


def test_recorder_that_falls_behind_loses_nothing(graph, tmp_path):
    """Longer than any queue of a live node: a recorder may be held up for seconds."""
    recorder = graph.add(FinetuneNode, output=str(tmp_path), lockstep=True)
    robot = Robot(graph, RECORD)
    begin, count = 10**9, 200
    robot.event("start", begin)
    for i in range(count):  # nobody is served meanwhile
        robot.tick(begin + i * DT_NS)
    robot.event("end", begin + (count - 1) * DT_NS)
    graph.until(lambda: recorder._recorder.recording, "the start")
    graph.until(lambda: not recorder._recorder.recording, "the end", timeout_s=30)
    counts = topics_of(tmp_path / "episode_0000")
    for topic in ("joint_states", "command_sent", "plan", "observation/image"):
        assert counts[f"/{topic}"] == count


def test_closed_bag_is_reported(graph, tmp_path):
    graph.add(FinetuneNode, output=str(tmp_path), lockstep=True)
    robot = Robot(graph)
    reports: list[dict[str, str]] = []
    robot.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda m: reports.extend(
            diagnostics.values_of(s) for s in m.status if s.name == "finetune_node: bag"
        ),
        RECORD,
    )
    robot.event("start", 10**9)
    robot.tick(10**9)
    robot.event("end", 10**9)
    graph.until(lambda: reports, "the report")
    assert reports[0] == {
        "end_stamp_ns": str(10**9),
        "path": str(tmp_path / "episode_0000"),
    }
    assert (tmp_path / "episode_0000" / "metadata.yaml").exists()


def test_services_delimit_an_episode_and_keep_the_goal_set_before(graph, tmp_path):
    recorder = graph.add(FinetuneNode, output=str(tmp_path), lockstep=True)
    robot = Robot(graph)
    robot.goal(5)
    graph.until(lambda: len(recorder._goals) == 2, "the goal")
    answer = graph.call(robot.node, Trigger, "finetune_node/start_episode")
    assert answer.success and answer.message.endswith("episode_0000")
    now_ns = robot.node.get_clock().now().nanoseconds
    robot.tick(now_ns)
    graph.until(lambda: recorder._end.newest_ns == now_ns, "the image")
    assert graph.call(robot.node, Trigger, "finetune_node/end_episode").success
    graph.until(lambda: not recorder._recorder.recording, "the end")
    counts = topics_of(tmp_path / "episode_0000")
    assert counts["/goal/image"] == 1 and counts["/observation/image"] == 1


def test_unwritable_directory_is_named(graph, tmp_path):
    from wm_planner.errors import DatasetError

    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(DatasetError, match="file"):
        graph.add(FinetuneNode, output=str(blocker / "bags"))
