"""What the recorder writes while a person drives, the reader of recordings reads."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from wm_planner.data.recording import read_recording
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.nodes.finetune_node import FinetuneNode
from wm_planner.ros.conversions import image_message

BODY = Embodiment(
    "toy_arm",
    0.05,
    5,
    ActionSpace(("elbow", "wrist"), (-1.0, -1.0), (1.0, 1.0)),
    ("elbow/position", "wrist/position"),
    (Camera("wrist", 16, optional=True), Camera("front", 16)),
)


def test_a_person_drives_and_the_bag_is_read(graph, tmp_path):
    """Positions of a servo robot in another order, a gripper on the topic, no stamps, no wrist."""
    recorder = graph.add(
        FinetuneNode,
        output=str(tmp_path),
        embodiment=json.dumps(BODY.to_json()),
        commands="/servo/goals",
        commands_names=["gripper", "wrist", "elbow"],
        commands_carry="position",
    )
    node = graph.peer("robot")
    publishers = {
        "joints": node.create_publisher(JointState, "joint_states", 10),
        "front": node.create_publisher(Image, "observation/front", 10),
        "goals": node.create_publisher(Float64MultiArray, "/servo/goals", 10),
    }
    graph.until(lambda: all(p.get_subscription_count() for p in publishers.values()), "discovery")
    ticks: list[int] = []

    def tick() -> None:
        stamp = node.get_clock().now()
        ticks.append(stamp.nanoseconds)
        value = 0.01 * len(ticks)
        for names, position in ((["gripper"], [9.0]), (["wrist", "elbow"], [-value, value])):
            state = JointState(name=names, position=position)
            state.header.stamp = stamp.to_msg()
            publishers["joints"].publish(state)
        picture = np.full((16, 16, 3), len(ticks), np.uint8)
        publishers["front"].publish(image_message(picture, stamp.nanoseconds))
        publishers["goals"].publish(Float64MultiArray(data=[9.0, -value, value]))

    graph.call(node, Trigger, "finetune_node/start_episode")
    node.create_timer(0.05, tick)
    graph.until(lambda: len(ticks) >= 30, "a second and a half")
    graph.call(node, Trigger, "finetune_node/success")
    graph.until(lambda: recorder._last_bag, "the closed bag")
    recording = read_recording(recorder._last_bag)
    assert recording.embodiment == BODY and recording.outcome == "success"
    assert recording.account.kept >= 2, recording.account
    assert recording.account.notes == ("camera wrist was not recorded: black",)
    for piece in recording.pieces:
        seen = piece.images[:, 0, -1, 0].astype(float)
        assert not piece.images[:, :, :16].any()
        np.testing.assert_allclose(piece.proprio[:, 0], 0.01 * seen, atol=1e-5)
        velocity = piece.actions.reshape(-1, 2)  # 0.01 in 0.05 s, on a busy machine sometimes late
        np.testing.assert_allclose(np.median(velocity, axis=0), [0.2, -0.2], atol=0.05)
