"""The finetune node: one bag per episode, read back with independent readers."""

from __future__ import annotations

import errno
import itertools
import json
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Twist, TwistStamped
from mcap.reader import make_reader
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

import wm_planner
from wm_planner.data.bags import Bag, typestore
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.errors import ConfigError, WriteError
from wm_planner.nodes.finetune_node import FinetuneNode
from wm_planner.ros import diagnostics
from wm_planner.ros.conversions import (
    command_message,
    image_message,
    joint_state_message,
    plan_message,
)
from wm_planner.ros.qos import EVENTS, LATCHED, RECORD, RELIABLE
from wm_planner.types import Plan

from ..core.small_disk import file_system

DT_NS = 10**8
NAMES = ("slide_x/position", "slide_y/position")
JOINTS = ("slide_x", "slide_y")


class Robot:
    """Publishes everything that is recorded."""

    def __init__(
        self,
        graph,
        images: QoSProfile = RELIABLE,
        camera: str = "observation/image",
        imagined: bool = True,
    ) -> None:
        node = graph.peer("robot")
        kinds = {
            camera: (Image, images),
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
        self.node, self.camera = node, camera
        heard = [out for topic, out in self.out.items() if imagined or topic != "plan/imagined"]
        graph.until(lambda: all(out.get_subscription_count() for out in heard), "discovery")

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
        self.out[self.camera].publish(image_message(picture, stamp_ns))


def topics_of(path) -> dict[str, int]:
    with Reader(path) as reader:
        return {c.topic: c.msgcount for c in reader.connections}


def test_episode_bag_holds_every_topic_and_opens_with_other_readers(graph, tmp_path):
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path), lockstep=True)
    robot = Robot(graph)
    begin = 10**9
    robot.goal(begin)
    for i in range(4):
        robot.tick(begin + i * DT_NS)
        if i == 1:
            robot.event("start", begin)  # late: what came before belongs to the episode too
    robot.event("end", begin + 3 * DT_NS)
    path = tmp_path / "episode_0000"
    graph.until((path / "metadata.yaml").exists, "the closed bag")
    assert not recorder._recorder.recording
    expected = dict.fromkeys(
        ["/observation/image", "/plan/imagined", "/joint_states", "/command_sent", "/plan"], 4
    )
    expected |= {"/diagnostics": 4, "/goal/image": 1, "/goal/joint_states": 1, "/episode": 2}
    expected |= {"/recording": 1}
    assert topics_of(path) == expected
    with (path / "episode_0000.mcap").open("rb") as stream:
        names = {channel.topic for _, channel, _ in make_reader(stream).iter_messages()}
    assert names == set(expected)


def test_what_was_imagined_is_left_out_unless_asked_and_a_full_budget_removes_bags(graph, tmp_path):
    recorder = graph.add(FinetuneNode, output=str(tmp_path), lockstep=True, budget_gb=1e-8)
    assert "plan/imagined" not in [topic.strip("/") for topic in recorder._names]
    robot = Robot(graph, imagined=False)
    for number in range(2):
        begin = (1 + 10 * number) * 10**9
        robot.event("start", begin, number)
        robot.tick(begin)
        robot.event("end", begin, number)
        graph.until((tmp_path / f"episode_000{number}/episode.json").exists, "the closed bag")
    graph.until(lambda: not (tmp_path / "episode_0000").exists(), "the removal of the first")
    assert "no more can be removed" in recorder._budget.warning()


def test_end_waits_for_the_last_image(graph, tmp_path):
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path), lockstep=True)
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
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path), lockstep=True)
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
    graph.add(FinetuneNode, imagined=True, output=str(tmp_path), lockstep=True)
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
    (report,) = reports
    assert report["end_stamp_ns"] == str(10**9)
    assert report["path"] == str(tmp_path / "episode_0000")
    counts = {key.removeprefix("count "): int(n) for key, n in report.items() if "count " in key}
    assert counts["observation/image"] == counts["joint_states"] == counts["command_sent"] == 1
    assert counts["goal/image"] == 0
    assert (tmp_path / "episode_0000" / "metadata.yaml").exists()


def test_services_delimit_an_episode_and_keep_the_goal_set_before(graph, tmp_path):
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path), lockstep=True)
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
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(WriteError, match="file/bags: cannot be written: Not a directory"):
        graph.add(FinetuneNode, imagined=True, output=str(blocker / "bags"))


# What a bag says of itself, and whose clock it is logged by ------------------------------------

BODY = Embodiment(
    "toy_arm",
    0.1,
    5,
    ActionSpace(("elbow", "wrist"), (-1.0, -1.0), (1.0, 1.0)),
    ("elbow/position", "wrist/position"),
    (Camera("wrist", 32, optional=True), Camera("front", 32)),
)


def first_message(path) -> dict:
    with Reader(path) as reader:
        connection, _, data = next(iter(reader.messages()))
    assert connection.topic == "/recording" and connection.msgtype == "std_msgs/msg/String"
    return json.loads(typestore().deserialize_cdr(data, connection.msgtype).data)


def test_a_bag_begins_with_what_it_is_of(graph, tmp_path):
    recorder = graph.add(
        FinetuneNode,
        output=str(tmp_path),
        lockstep=True,
        embodiment=json.dumps(BODY.to_json()),
        checkpoint="runs/toy",
        checkpoint_sha256="ab12",
        planner_settings=json.dumps({"solver": "gbp"}),
    )
    robot = Robot(graph, camera="observation/front", imagined=False)
    robot.tick(10**9)
    robot.event("start", 10**9)
    robot.event("end", 10**9)
    graph.until(lambda: recorder._last_bag, "the closed bag")
    about = first_message(tmp_path / "episode_0000")
    assert Embodiment.from_json(about["embodiment"], "bag") == BODY
    assert about["schema"] == 1 and about["version"] == wm_planner.__version__
    assert about["checkpoint"] == {"name": "runs/toy", "sha256": "ab12"}
    assert about["planner"] == {"solver": "gbp"}
    assert about["cameras"] == {"front": "observation/front", "wrist": "observation/wrist"}
    assert about["topics"]["joint_states"] == "/joint_states"


def test_every_camera_is_recorded_without_a_checkpoint(graph, tmp_path):
    recorder = graph.add(
        FinetuneNode, imagined=True, output=str(tmp_path), embodiment=json.dumps(BODY.to_json())
    )
    node = graph.peer("cameras")
    cameras = {n: node.create_publisher(Image, f"observation/{n}", 10) for n in ("front", "wrist")}
    graph.until(lambda: all(p.get_subscription_count() for p in cameras.values()), "discovery")
    assert graph.call(node, Trigger, "finetune_node/start_episode").success
    black = np.zeros((8, 8, 3), np.uint8)
    for publisher in cameras.values():
        publisher.publish(image_message(black, node.get_clock().now().nanoseconds))
    graph.until(lambda: recorder._recorder.counts.get("/observation/wrist"), "the wrist's picture")
    graph.until(lambda: recorder._recorder.counts.get("/observation/front"), "the front's picture")
    graph.call(node, Trigger, "finetune_node/end_episode")
    graph.until(lambda: recorder._last_bag, "the closed bag")
    assert first_message(recorder._last_bag)["checkpoint"] is None


@pytest.mark.parametrize("lockstep", [True, False])
def test_a_bag_is_logged_by_one_clock(graph, tmp_path, lockstep):
    """Simulated time and the time of day are decades apart, and so was the length of a bag."""
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path), lockstep=lockstep)
    robot = Robot(graph)
    wall_ns = robot.node.get_clock().now().nanoseconds
    begin_ns, other_ns = (10**9, wall_ns) if lockstep else (wall_ns, 10**9)
    robot.tick(begin_ns)
    robot.event("start", begin_ns)
    graph.until(lambda: recorder._recorder.recording, "the start")
    status = diagnostics.status("somebody", diagnostics.OK, "", {})
    robot.out["/diagnostics"].publish(diagnostics.array(other_ns, status))
    graph.until(lambda: recorder._recorder.counts.get("/diagnostics") == 2, "both diagnostics")
    robot.event("end", begin_ns + DT_NS)
    robot.tick(begin_ns + DT_NS)
    graph.until(lambda: recorder._last_bag, "the closed bag")
    with Reader(tmp_path / "episode_0000") as reader:
        assert 0 < reader.duration * 1e-9 < 10


# Events and services ---------------------------------------------------------------------------


def test_an_event_that_cannot_be_read_is_ignored(graph, tmp_path):
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path), lockstep=True)
    robot = Robot(graph)
    for kind, values in (
        ("start", {}),
        ("start", {"episode": "0", "stamp_ns": "now"}),
        ("pause", {"episode": "0", "stamp_ns": "5"}),
        ("end", {"stamp_ns": "5"}),
        ("start", {"episode": "first", "stamp_ns": "5"}),
        ("start", {"episode": "0", "stamp_ns": "5", "name": "../up"}),
    ):
        robot.out["episode"].publish(diagnostics.status("episode", diagnostics.OK, kind, values))
    robot.tick(10**9)
    robot.event("start", 10**9, episode=7)
    robot.event("end", 10**9, episode=7)
    graph.until(lambda: recorder._last_bag, "the closed bag")
    assert recorder._last_bag == tmp_path / "episode_0007"


def test_success_of_a_simulator_is_the_outcome(graph, tmp_path):
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path), lockstep=True)
    robot = Robot(graph)
    robot.tick(10**9)
    robot.event("start", 10**9)
    values = {"episode": 0, "stamp_ns": 10**9, "success": True}
    end = diagnostics.status("episode", diagnostics.OK, "end", values)
    robot.out["episode"].publish(end)
    graph.until(lambda: recorder._last_bag, "the closed bag")
    assert outcome_in(recorder._last_bag) == "success"


def outcome_in(path) -> str:
    """The outcome that the bag's last event names."""
    with Reader(path) as reader:
        for connection, _, data in reader.messages():
            if connection.topic == "/episode":
                event = typestore().deserialize_cdr(data, connection.msgtype)
    return {pair.key: pair.value for pair in event.values}["outcome"]


@pytest.mark.parametrize(
    ("service", "outcome"), [("end_episode", ""), ("success", "success"), ("failure", "failure")]
)
def test_a_service_ends_the_episode_with_its_outcome(graph, tmp_path, service, outcome):
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path))
    robot = Robot(graph)
    refused = graph.call(robot.node, Trigger, f"finetune_node/{service}")
    assert not refused.success and "start_episode first" in refused.message
    names = robot.node.create_publisher(String, "finetune_node/episode_name", LATCHED)
    names.publish(String(data="push_left"))
    graph.until(lambda: recorder._next_name, "the name")
    assert graph.call(robot.node, Trigger, "finetune_node/start_episode").success
    again = graph.call(robot.node, Trigger, "finetune_node/start_episode")
    assert not again.success and "end it first" in again.message
    robot.tick(robot.node.get_clock().now().nanoseconds)
    graph.until(lambda: recorder._end.newest_ns > 0, "the image")
    assert graph.call(robot.node, Trigger, f"finetune_node/{service}").success
    graph.until(lambda: recorder._last_bag, "the closed bag")
    assert recorder._last_bag == tmp_path / "push_left"
    assert outcome_in(recorder._last_bag) == outcome


@pytest.mark.parametrize("running", [True, False])
def test_a_dropped_bag_is_moved_and_its_number_is_not_used_again(graph, tmp_path, running):
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path))
    robot = Robot(graph)
    assert not graph.call(robot.node, Trigger, "finetune_node/drop").success
    graph.call(robot.node, Trigger, "finetune_node/start_episode")
    robot.tick(robot.node.get_clock().now().nanoseconds)
    graph.until(lambda: recorder._end.newest_ns > 0, "the image")
    if not running:
        graph.call(robot.node, Trigger, "finetune_node/end_episode")
        graph.until(lambda: recorder._last_bag, "the closed bag")
    assert graph.call(robot.node, Trigger, "finetune_node/drop").success
    dropped = tmp_path / "dropped" / "episode_0000"
    graph.until((dropped / "metadata.yaml").exists, "the dropped bag")
    assert topics_of(dropped)["/observation/image"] == 1
    assert not (tmp_path / "episode_0000").exists()
    answer = graph.call(robot.node, Trigger, "finetune_node/start_episode")
    assert answer.success and answer.message.endswith("episode_0001")


# Full disks -----------------------------------------------------------------------------------


@contextmanager
def full(place: Path, monkeypatch, really: bool):
    """No bag can be written below `place`."""
    if really:
        filler = place / "filler"
        with filler.open("wb", buffering=0) as stream, suppress(OSError):
            while True:
                stream.write(bytes(4096))
        yield
        filler.unlink()
        return

    def refuse(*_) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("wm_planner.runtime.bag_writer._CheckedMcap.close_chunk", refuse)
        patch.setattr("wm_planner.runtime.recorder.EpisodeRecorder._has_room", lambda _: False)
        yield


@pytest.mark.parametrize("really", [True, False])
def test_a_disk_that_fills_up_is_said_and_the_recording_goes_on(
    graph, tmp_path, monkeypatch, really
):
    with ExitStack() as stack:
        place = tmp_path / "disk"
        stack.enter_context(file_system(place, "3m")) if really else place.mkdir()
        recorder = graph.add(FinetuneNode, imagined=True, output=str(place))
        stack.callback(recorder.close)
        recorder._recorder.max_pending_bytes = 2**20
        robot, heard = Robot(graph), {}

        def listen(message: DiagnosticArray) -> None:
            heard.update({status.name: status for status in message.status})

        robot.node.create_subscription(DiagnosticArray, "/diagnostics", listen, RECORD)
        clock = robot.node.get_clock()

        calls = itertools.count()

        def said(level: bytes) -> bool:
            if next(calls) % 40 == 0:  # a call serves one callback: a tick is more than ten
                robot.tick(clock.now().nanoseconds)
            return any(disk.level == level for disk in told())

        def told() -> list[DiagnosticStatus]:
            return [disk for name, disk in heard.items() if name.endswith("finetune_node: disk")]

        assert graph.call(robot.node, Trigger, "finetune_node/start_episode").success
        robot.tick(clock.now().nanoseconds)
        path = place / "episode_0000"
        graph.until(lambda: recorder._recorder.counts.get("/plan"), "the first messages")
        recorder._recorder.flush()
        with full(place, monkeypatch, really):
            graph.until(lambda: said(diagnostics.ERROR), "the error", 60.0)
            (disk,) = told()
            assert f"{path}: cannot be written: No space left on device" in disk.message
            assert not graph.call(robot.node, Trigger, "finetune_node/start_episode").success
            assert [message.topic for message in Bag(path).messages()].count("/plan") >= 1
        graph.until(lambda: said(diagnostics.OK), "the recovery", 60.0)
        robot.tick(clock.now().nanoseconds)
        graph.until(lambda: recorder._recorder.counts.get("/plan"), "messages after it", 60.0)
        assert graph.call(robot.node, Trigger, "finetune_node/success").success
        graph.until(lambda: recorder._last_bag, "the closed bag")
        assert recorder._last_bag == place / "episode_0000_2"
        assert outcome_in(recorder._last_bag) == "success"
        assert first_message(recorder._last_bag)["topics"]


# What others command the robot with -----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "profile"),
    [(Float64MultiArray, 10), (Twist, qos_profile_sensor_data), (TwistStamped, 10),
     (JointTrajectory, 10), (JointState, qos_profile_sensor_data)],
)  # fmt: skip
def test_commands_of_others_are_recorded_by_receipt(graph, tmp_path, kind, profile):
    """The type is found on the graph; a stamp that nobody filled in is the time of receipt."""
    recorder = graph.add(FinetuneNode, imagined=True, output=str(tmp_path), commands="/others")
    node = graph.peer("person")
    publisher = node.create_publisher(kind, "/others", profile)
    graph.until(publisher.get_subscription_count, "discovery")
    graph.call(node, Trigger, "finetune_node/start_episode")
    before_ns = node.get_clock().now().nanoseconds
    publisher.publish(kind())
    graph.until(lambda: recorder._recorder.counts.get("/others"), "the command")
    path = recorder._recorder.path
    recorder.close()
    assert first_message(path)["topics"]["commands"] == "/others"
    with Reader(path) as reader:
        (stamp_ns,) = [stamp for c, stamp, _ in reader.messages() if c.topic == "/others"]
    assert 0 <= stamp_ns - before_ns < 5 * 10**9


def test_commands_of_another_type_are_named(graph, tmp_path, capfd):
    graph.add(FinetuneNode, imagined=True, output=str(tmp_path), commands="/others")
    node = graph.peer("person")
    node.create_publisher(String, "/others", 10)
    heard = []

    def complained() -> bool:
        heard.append(capfd.readouterr().err)
        return "std_msgs/msg/String" in "".join(heard)

    graph.until(complained, "the complaint")
    assert "Float64MultiArray" in "".join(heard)
    with pytest.raises(ConfigError, match="std_msgs/msg/Bool"):
        graph.add(
            FinetuneNode, imagined=True, output=str(tmp_path), commands_type="std_msgs/msg/Bool"
        )
