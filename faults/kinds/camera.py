"""Faults of the camera and of its pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from faults.fault import FRESH, PLANNER, STAND_IN, Fault
from faults.kinds.altered import edit, held, once, shifted, silence, unstamped, uptime
from wm_planner.ros.conversions import image_message, to_ns
from wm_planner.ros.qos import RELIABLE

BOTH = (STAND_IN, PLANNER)
BLIND_S = 2.1  # `stop_after_s` of the pictures' check, 1 s, and the plan of before grows stale


def _fault(name: str, does: str, inject: Any, *args: Any, **options: Any) -> Fault:
    return Fault(f"camera: {name}", "camera", does, inject, *args, **{"stages": BOTH, **options})


def _blind(name: str, does: str, inject: Any) -> Fault:
    return _fault(name, does, inject, stages=(PLANNER,), within_s=BLIND_S)


def _pixels(make: Any) -> Any:
    """The picture is what `make` makes of (H, W, 3) and a random generator."""

    def change(message: Any, rng: np.random.Generator) -> None:
        image = np.frombuffer(bytes(message.data), np.uint8)
        image = image.reshape(message.height, message.width, 3)
        made = image_message(np.ascontiguousarray(make(image, rng)), to_ns(message.header.stamp))
        message.height, message.width, message.step = made.height, made.width, made.step
        message.data = made.data

    return change


def _full(value: int) -> Any:
    return _pixels(lambda image, rng: np.full_like(image, value))


def _noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, image.shape, dtype=np.uint8)


def _flipped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image[::-1, ::-1]


def _one_pixel(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(image[:1, :1], image.shape)


def _encoding(name: str) -> Any:
    def change(message: Any, rng: np.random.Generator) -> None:
        message.encoding = name

    return change


def _step(step: int) -> Any:
    def change(message: Any, rng: np.random.Generator) -> None:
        message.step = step

    return change


def _cut(message: Any, rng: np.random.Generator) -> None:
    message.data = bytes(message.data)[: len(message.data) // 2]


def _nothing(message: Any, rng: np.random.Generator) -> None:
    message.height = message.width = message.step = 0
    message.data = b""


def _immense(message: Any, rng: np.random.Generator) -> None:
    message.height = message.width = 2**31
    message.step = 3 * 2**30


def _raw(change: Any) -> Any:
    """Pictures on ``observation/image`` that no camera node has looked at."""

    def inject(stage: Any, rng: np.random.Generator) -> None:
        publisher = stage.peer.publisher(Image, "observation/image", RELIABLE)
        for _ in range(3):
            size = stage.robot.embodiment.image_size
            message = image_message(np.zeros((size, size, 3), np.uint8), stage.stamp_ns())
            change(message, rng)
            publisher.publish(message)

    return inject


FAULTS = (
    _fault("silence", "no pictures any more", silence("pictures"), share=2),
    _fault("frozen, old stamps", "the same message again and again", held("pictures", False)),
    _fault("unknown encoding", "encoding 'jpeg8'", edit("pictures", _encoding("jpeg8"))),
    _fault("no encoding", "an empty encoding", edit("pictures", _encoding(""))),
    _fault("step too small", "rows of 10 bytes", edit("pictures", _step(10))),
    _fault("step zero", "rows of 0 bytes", edit("pictures", _step(0)), FRESH),
    _fault("cut off", "half of the bytes are missing", edit("pictures", _cut)),
    _fault("zero size", "no rows and no columns", edit("pictures", _nothing)),
    _fault("immense", "2 billion rows are announced", edit("pictures", _immense)),
    _fault("stamps 10 s behind", "stamps of a clock 10 s behind", edit("pictures", shifted(-10))),
    _fault("stamps 1 h ahead", "stamps of an hour ahead", edit("pictures", shifted(3600))),
    _fault("stamps of uptime", "stamps since the driver's start", edit("pictures", uptime)),
    _fault("stamps zero", "no stamps", edit("pictures", unstamped), FRESH),
    _fault("one cut off", "one bad picture between good ones", once("pictures", _cut), FRESH),
    _fault(
        "other resolution",
        "twice as many pixels each way",
        edit("pictures", _pixels(lambda image, rng: image.repeat(2, 0).repeat(2, 1))),
        FRESH,
    ),
    _fault("observation of 7 bytes", "cut off on observation/image", _raw(_cut), FRESH),
    _fault("observation of no size", "empty on observation/image", _raw(_nothing), FRESH),
    _fault(
        "observation, wrong encoding", "'abc' on observation/image", _raw(_encoding("abc")), FRESH
    ),
    _fault(
        "observation, wrong size",
        "8 x 8 pixels on observation/image",
        _raw(_pixels(lambda image, rng: image[:8, :8])),
        FRESH,
    ),
)
# Pictures that are well-formed, and show nothing, or something else: the planner node finds out.
FAULTS += (
    _blind("frozen, new stamps", "the same pixels, with new stamps", held("pictures", True)),
    _blind("black", "every pixel is 0", edit("pictures", _full(0))),
    _blind("white", "every pixel is 255", edit("pictures", _full(255))),
    _blind("noise", "random pixels", edit("pictures", _pixels(_noise))),
    _blind("upside down", "the camera hangs upside down", edit("pictures", _pixels(_flipped))),
    _blind(
        "one colour", "every pixel is that of one corner", edit("pictures", _pixels(_one_pixel))
    ),
)
