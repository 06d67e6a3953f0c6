"""Camera node: a driver's topic, a device, a file or a stream in; square RGB frames out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from wm_planner.config import suggest
from wm_planner.data.image_message import image_array
from wm_planner.data.messages import stamp_ns
from wm_planner.data.prepare import prepare
from wm_planner.errors import ImageSourceError
from wm_planner.ros import diagnostics
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import image_message
from wm_planner.ros.parameters import param
from wm_planner.ros.qos import RELIABLE, sensor
from wm_planner.ros.run import run_node
from wm_planner.runtime.image_source import open_source

TOPIC = "camera/image_raw"
TRANSPORTS = ("auto", "raw", "compressed")
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
LATE_S = 1.0  # without a picture going out, the node says that something is wrong
LEAST_SHARE = 0.5  # of the model's pixels along a side; less is enlarged too much
LOOK_S = 0.25  # between two looks at the graph, until the first message comes


@dataclass(frozen=True)
class CameraConfig:
    """Parameters of the camera node."""

    source: str = param("topic", "'topic' (camera/image_raw), 'device:0', a file, or an rtsp URL")
    transport: str = param("auto", "of a topic: raw, compressed, or auto: as its driver publishes")
    size: int = param(224, "side of the square output image, pixels", low=16)
    crop: tuple[int, ...] = param(
        (0, 0, 0, 0), "x, y, width, height, pixels; all 0: no crop", low=0
    )
    rate_hz: float = param(
        10.0, "capture rate of a device, file or URL, hertz", low=0.01, high=1000
    )
    loop: bool = param(False, "begin a video file again at its end")
    frame_id: str = param("camera_optical_frame", "frame of the published images")
    fail_after_s: float = param(
        10.0, "end with an error when no frame came for so long; 0: never", low=0
    )
    lockstep: bool = param(False, "the simulator waits for every frame: lose none")

    def __post_init__(self) -> None:
        if len(self.crop) != 4:
            raise ValueError(f"crop needs x, y, width, height, got {list(self.crop)}")
        if self.transport not in TRANSPORTS:
            choices = suggest(self.transport, TRANSPORTS)
            raise ValueError(f"unknown transport '{self.transport}'.{choices}")


class CameraNode(NodeBase):
    """Publishes ``observation/image``, stamped with the capture time.

    A picture that cannot be decoded is passed over: the node goes on, and its diagnostics are not
    OK while nothing goes out.
    """

    ends_with = (ImageSourceError,)  # the camera has gone

    def __init__(self, **options: Any) -> None:
        super().__init__("camera_node", CameraConfig, **options)
        self.exit_code: int | None = None
        x, y, width, height = self.config.crop
        self._crop = (x, y, width, height) if any(self.config.crop) else None
        self._publisher = self.create_publisher(Image, "observation/image", RELIABLE)
        self._started_s = time.monotonic()
        self._heard_s: float | None = None  # when the last message came
        self._sent_s: float | None = None  # when the last picture went out
        self._problem, self._passed_over = "", 0
        self._told_over = 0  # of them, in the last diagnostic
        self._source = None
        self._subscription: Subscription | None = None
        self._subscribed: tuple[str, type] | None = None
        if self.config.source == "topic":
            self._look()
            if self.config.transport != "raw":
                self._looking = self.create_timer(LOOK_S, self._look)
        else:
            self._source = open_source(self.config.source, loop=self.config.loop)
            self.create_timer(1.0 / self.config.rate_hz, self._capture)
        self.create_timer(min(1.0, self.config.fail_after_s / 2 or 1.0), self._check_alive)

    def close(self) -> None:
        """Release the device."""
        if self._source is not None:
            self._source.close()

    def _look(self) -> None:
        """Subscribe to what the driver publishes, until the first message comes."""
        if self._heard_s is not None:
            self.destroy_timer(self._looking)
            return
        found = self._found()
        if found is None or found == self._subscribed:
            return
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
        topic, kind = self._subscribed = found
        if kind is CompressedImage:
            self.get_logger().info(f"compressed pictures: {self.resolve_topic_name(topic)}")
        profile = sensor(self.config.lockstep)
        self._subscription = self.create_subscription(kind, topic, self._on_image, profile)

    def _found(self) -> tuple[str, type] | None:
        """Topic and type of the driver's pictures; None: compressed ones are not there yet.

        Compressed ones are on the topic itself or beside it. Raw ones come first, and are expected
        where there is no publisher yet: a simulator that waits is not kept waiting.
        """
        transport = self.config.transport
        if transport == "raw" or (transport == "auto" and RAW in self._types(TOPIC)):
            return TOPIC, Image
        for topic in (TOPIC, f"{self.resolve_topic_name(TOPIC)}/compressed"):
            if COMPRESSED in self._types(topic):
                return topic, CompressedImage
        return (TOPIC, Image) if transport == "auto" else None

    def _types(self, topic: str) -> set[str]:
        return {info.topic_type for info in self.get_publishers_info_by_topic(topic)}

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._heard_s = time.monotonic()
        try:
            image = self._prepared(image_array(message))
        except ImageSourceError as error:
            self._problem = str(error)
            self._passed_over += 1
            self.get_logger().error(self._problem, throttle_duration_sec=5.0)
            return
        captured_ns = stamp_ns(message)
        if captured_ns is None:  # the driver fills in none: the time of receipt
            captured_ns = self.get_clock().now().nanoseconds
        self._send(image, captured_ns, message.header.frame_id)

    def _capture(self) -> None:
        assert self._source is not None
        captured_ns = self.get_clock().now().nanoseconds
        image = self._source.read()
        if image is None:
            self.get_logger().info(f"{self.config.source} has ended")
            self.exit_code = 0
            return
        self._heard_s = time.monotonic()
        self._send(self._prepared(image), captured_ns, self.config.frame_id)

    def _prepared(self, image: np.ndarray) -> np.ndarray:
        """What the model sees of a picture.

        Raises:
            ImageSourceError: the crop does not fit, or so few pixels show next to nothing.
        """
        used, size = (
            min(image.shape[:2] if self._crop is None else self._crop[2:]),
            self.config.size,
        )
        if LEAST_SHARE * size > used:
            raise ImageSourceError(
                f"picture of {image.shape[1]} x {image.shape[0]} pixels, of which {used} x {used} "
                f"are used: the model sees {size} x {size}; set the camera to a larger picture"
            )
        return prepare(image, self._crop, size)

    def _send(self, image: np.ndarray, captured_ns: int, frame_id: str) -> None:
        self._publisher.publish(image_message(image, captured_ns, frame_id))
        self._sent_s = time.monotonic()

    def _check_alive(self) -> None:
        now_s = time.monotonic()
        silent_s = now_s - (self._started_s if self._sent_s is None else self._sent_s)
        level, text = diagnostics.OK, "newest image"
        if self._sent_s is None or silent_s >= LATE_S:
            level, text = diagnostics.WARN, "no image"
            if self._problem:  # they come, and cannot be used
                level, text = diagnostics.ERROR, self._problem
        elif self._passed_over > self._told_over:
            level = diagnostics.WARN
            text = f"{self._passed_over - self._told_over} images passed over: {self._problem}"
        else:
            self._problem = ""
        self._told_over = self._passed_over
        told = {"silent_seconds": round(silent_s, 3), "passed_over": self._passed_over}
        status = diagnostics.status(f"{self.get_name()}: images", level, text, told)
        self._status.publish(diagnostics.array(self.get_clock().now().nanoseconds, status))
        unheard_s = now_s - (self._started_s if self._heard_s is None else self._heard_s)
        if 0 < self.config.fail_after_s < unheard_s:
            where = self.config.source
            if where == "topic":
                where = self.resolve_topic_name(TOPIC)
            raise ImageSourceError(
                f"no image from '{where}' for {unheard_s:.1f} s; is the camera running? "
                "Set 'source' to a topic, device, file or URL that sends"
            )


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(CameraNode, args)


if __name__ == "__main__":
    main()
