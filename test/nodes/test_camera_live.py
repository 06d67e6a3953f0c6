"""The camera node on a topic and on a real video file."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from wm_planner.errors import ConfigError, ImageSourceError
from wm_planner.nodes.camera_node import CameraNode
from wm_planner.ros.conversions import image_array, image_message, to_ns, to_time


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


def compressed(picture: np.ndarray, stamp_ns: int) -> CompressedImage:
    cv2 = pytest.importorskip("cv2")
    message = CompressedImage(format="rgb8; png compressed bgr8")
    message.header.stamp = to_time(stamp_ns)
    message.data = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    return message


@pytest.mark.parametrize(
    ("transport", "topic"),
    [
        ("auto", "camera/image_raw"),
        ("auto", "camera/image_raw/compressed"),
        ("compressed", "camera/image_raw/compressed"),
    ],
)
def test_compressed_pictures_are_found_by_their_type(graph, seen, transport, topic):
    driver = graph.peer("driver")
    publisher = driver.create_publisher(CompressedImage, topic, QoSProfile(depth=5))
    if transport == "compressed":  # beside it the raw ones, which must not be taken
        raw = driver.create_publisher(Image, "camera/image_raw", QoSProfile(depth=5))
    graph.add(CameraNode, size=32, transport=transport)
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[..., 0] = 200

    def step():
        publisher.publish(compressed(picture, 12_345_678_901))
        if transport == "compressed" and not publisher.get_subscription_count():
            raw.publish(image_message(picture, 1))
        graph.spin(0.05)
        return [frame for frame in seen if to_ns(frame.header.stamp) == 12_345_678_901]

    (frame, *_) = graph.until(step, "a frame")
    np.testing.assert_array_equal(image_array(frame), picture)


def test_what_cannot_be_decoded_ends_nothing_and_is_no_good_sign(graph, seen):
    """Frames come, and none goes out: the node stays, its diagnostics name the encoding."""
    camera = graph.add(CameraNode, size=32, fail_after_s=0.5)
    driver = graph.peer("driver")
    told: list[DiagnosticStatus] = []
    driver.create_subscription(
        DiagnosticArray, "/diagnostics", lambda message: told.extend(message.status), 10
    )
    publisher = driver.create_publisher(Image, "camera/image_raw", QoSProfile(depth=5))
    message = image_message(np.zeros((32, 32, 3), np.uint8), 0)
    message.encoding = "32FC1"

    driver.create_timer(0.05, lambda: publisher.publish(message))

    def levels():
        return [status.level for status in told]

    graph.until(lambda: DiagnosticStatus.ERROR in levels(), "the error")
    assert "encoding '32FC1' is not supported" in told[-1].message
    assert DiagnosticStatus.OK not in levels() and not seen
    graph.until(lambda: len(told) > 6, "the node goes on when 'fail_after_s' is over")
    message.encoding = "rgb8"
    graph.until(lambda: seen and told[-1].level == DiagnosticStatus.OK, "a frame")
    stamp_s = to_ns(seen[-1].header.stamp) * 1e-9
    assert stamp_s > 1e9, "without a stamp of the driver it is that of the receipt"
    assert camera.exit_code is None


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
    with pytest.raises(ConfigError, match="unknown transport 'jpeg'"):
        graph.add(CameraNode, transport="jpeg")
    with pytest.raises(ConfigError, match="Did you mean 'size'"):
        graph.add(CameraNode, sizes=32)
