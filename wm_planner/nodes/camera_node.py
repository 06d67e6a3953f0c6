"""Camera node: a driver's topic, a device, a file or a stream in; square RGB frames out."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import Image

from wm_planner.data.prepare import prepare
from wm_planner.errors import ConfigError, ImageSourceError
from wm_planner.ros import diagnostics
from wm_planner.ros.conversions import image_array, image_message, to_ns
from wm_planner.ros.parameters import param, read_parameters
from wm_planner.ros.qos import RELIABLE, sensor
from wm_planner.ros.run import run_node
from wm_planner.runtime.image_source import open_source


@dataclass(frozen=True)
class CameraConfig:
    """Parameters of the camera node."""

    source: str = param("topic", "'topic' (camera/image_raw), 'device:0', a file, or an rtsp URL")
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


class CameraNode(Node):
    """Publishes ``observation/image``, stamped with the capture time."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            "camera_node", automatically_declare_parameters_from_overrides=True, **options
        )
        self.config = read_parameters(self, CameraConfig)
        self.exit_code: int | None = None
        x, y, width, height = self.config.crop
        self._crop = (x, y, width, height) if any(self.config.crop) else None
        self._publisher = self.create_publisher(Image, "observation/image", RELIABLE)
        self._newest_s = time.monotonic()
        self._source = None
        if self.config.source == "topic":
            profile = sensor(self.config.lockstep)
            self.create_subscription(Image, "camera/image_raw", self._on_image, profile)
        else:
            self._source = open_source(self.config.source, loop=self.config.loop)
            self.create_timer(1.0 / self.config.rate_hz, self._capture)
        self._status = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(min(1.0, self.config.fail_after_s / 2 or 1.0), self._check_alive)

    def close(self) -> None:
        """Release the device."""
        if self._source is not None:
            self._source.close()

    def _on_image(self, message: Image) -> None:
        self._newest_s = time.monotonic()
        try:
            image = prepare(image_array(message), self._crop, self.config.size)
        except (ImageSourceError, ConfigError) as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)
            return
        out = image_message(image, to_ns(message.header.stamp), message.header.frame_id)
        self._publisher.publish(out)

    def _capture(self) -> None:
        assert self._source is not None
        stamp_ns = self.get_clock().now().nanoseconds
        image = self._source.read()
        if image is None:
            self.get_logger().info(f"{self.config.source} has ended")
            self.exit_code = 0
            return
        self._newest_s = time.monotonic()
        image = prepare(image, self._crop, self.config.size)
        self._publisher.publish(image_message(image, stamp_ns, self.config.frame_id))

    def _check_alive(self) -> None:
        silent_s = time.monotonic() - self._newest_s
        level = diagnostics.OK if silent_s < 1.0 else diagnostics.WARN
        status = diagnostics.status(
            "camera_node: images", level, "newest image", {"silent_seconds": round(silent_s, 3)}
        )
        self._status.publish(diagnostics.array(self.get_clock().now().nanoseconds, status))
        if 0 < self.config.fail_after_s < silent_s:
            where = self.config.source
            if where == "topic":
                where = self.resolve_topic_name("camera/image_raw")
            raise ImageSourceError(
                f"no image from '{where}' for {silent_s:.1f} s; is the camera running? "
                "Set 'source' to a topic, device, file or URL that sends"
            )


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(CameraNode, args)


if __name__ == "__main__":
    sys.exit(main())
