"""The camera node on a topic and on a real video file."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from wm_planner.errors import ConfigError, ImageSourceError  # noqa: E402
from wm_planner.nodes.camera_node import CameraNode  # noqa: E402
from wm_planner.ros.conversions import image_array, image_message, to_ns  # noqa: E402


@pytest.fixture
def seen(graph):
    """Frames that the camera node published."""
    frames: list[Image] = []
    viewer = graph.peer("viewer")
    viewer.create_subscription(Image, "observation/image", frames.append, QoSProfile(depth=50))
    return frames


def test_topic_is_cropped_resized_and_keeps_its_stamp(graph, seen):
    graph.add(CameraNode, size=32, crop=[0, 0, 64, 64])
    driver = graph.peer("driver")
    publisher = driver.create_publisher(Image, "camera/image_raw", QoSProfile(depth=5))
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, :64, 0] = 200  # red on the left, which the crop keeps
    stamp_ns = 12_345_678_901
    graph.until(publisher.get_subscription_count, "discovery")

    def step():
        publisher.publish(image_message(picture, stamp_ns))
        graph.spin(0.05)
        return seen

    graph.until(step, "a frame")
    assert to_ns(seen[0].header.stamp) == stamp_ns
    image = image_array(seen[0])
    assert image.shape == (32, 32, 3)
    assert (image == (200, 0, 0)).all()


@pytest.mark.parametrize(
    ("encoding", "shows", "shares"),
    [
        ("rgb8", (1, 2, 3), True),
        ("rgba8", (1, 2, 3), True),
        ("bgr8", (3, 2, 1), False),
        ("bgra8", (3, 2, 1), False),
        ("mono8", (1, 1, 1), False),
    ],
)
def test_every_encoding_becomes_rgb_without_a_copy_where_it_can(encoding, shows, shares):
    size = 1 if encoding == "mono8" else 4 if "a" in encoding else 3
    row = [1, 2, 3, 9][:size] * 5 + [77] * 2  # five pixels and two bytes of padding
    message = Image(height=2, width=5, encoding=encoding, step=len(row), data=row * 2)
    image = image_array(message)
    assert image.shape == (2, 5, 3) and (image == shows).all()
    message.data[0] = 200
    assert (image[0, 0] == 200).any() == shares


def test_video_file_is_played_and_ends_the_node(graph, seen, tmp_path):
    cv2 = pytest.importorskip("cv2")
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 48))
    for _ in range(3):
        writer.write(np.full((48, 48, 3), (0, 0, 255), np.uint8))  # red in OpenCV's order
    writer.release()
    camera = graph.add(CameraNode, source=str(clip), size=24, rate_hz=20.0)
    graph.until(lambda: camera.exit_code == 0, "the end of the clip")
    graph.until(lambda: seen, "a frame")
    image = image_array(seen[-1])
    assert image.shape == (24, 24, 3)
    assert image[..., 0].min() > 200 and image[..., 2].max() < 60


def test_missing_source_is_named(graph):
    with pytest.raises(ImageSourceError, match="nowhere.mp4"):
        graph.add(CameraNode, source="nowhere.mp4")


def test_camera_that_never_sends_is_an_error_that_names_the_topic(graph):
    graph.add(CameraNode, fail_after_s=0.2)
    with pytest.raises(ImageSourceError, match="/camera/image_raw"):
        graph.until(lambda: False, "the error", timeout_s=5)


def test_wrong_parameters_are_refused(graph):
    with pytest.raises(ConfigError, match="crop needs"):
        graph.add(CameraNode, crop=[1, 2])
    with pytest.raises(ConfigError, match="Did you mean 'size'"):
        graph.add(CameraNode, sizes=32)
