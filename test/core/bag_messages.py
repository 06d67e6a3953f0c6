"""Messages as a recorder gets them, and bags made of them."""

import json

import cv2
import numpy as np

from wm_planner.data.bags import Bag, typestore
from wm_planner.runtime.bag_writer import BagWriter

MS = 1_000_000
TYPES = typestore().types
START = 7_000_000_000


def encode(msgtype, **fields):
    return msgtype, bytes(typestore().serialize_cdr(TYPES[msgtype](**fields), msgtype))


def header(stamp):
    time = TYPES["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return TYPES["std_msgs/msg/Header"](stamp=time, frame_id="")


def image(stamp, value, encoding="rgb8", size=(16, 16), padding=0):
    """Every pixel is (value, 0, 1)."""
    height, width = size
    pixels = np.zeros((height, 3 * width + padding), np.uint8)
    pixels[:, : 3 * width] = np.tile([value, 0, 1], width)
    return encode(
        "sensor_msgs/msg/Image",
        header=header(stamp),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=3 * width + padding,
        data=pixels.reshape(-1),
    )


def joints(stamp, values, names=("slide_x", "slide_y"), velocity=()):
    return encode(
        "sensor_msgs/msg/JointState",
        header=header(stamp),
        name=list(names),
        position=np.array(values, float),
        velocity=np.array(velocity, float),
        effort=np.zeros(0),
    )


def command(stamp, values, names=("slide_x", "slide_y"), field="velocities", points=1):
    arrays = {k: np.zeros(0) for k in ("positions", "velocities", "accelerations", "effort")}
    arrays[field] = np.array(values, float)
    duration = TYPES["builtin_interfaces/msg/Duration"](sec=0, nanosec=0)
    point = TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](**arrays, time_from_start=duration)
    return encode(
        "trajectory_msgs/msg/JointTrajectory",
        header=header(stamp),
        joint_names=list(names),
        points=[point] * points,
    )


def text(message):
    return encode("std_msgs/msg/String", data=message)


def compressed(stamp, value, size=(16, 16), kind="png"):
    picture = np.full((*size, 3), (1, 0, value), np.uint8)  # in the order of OpenCV
    data = cv2.imencode(f".{kind}", picture)[1]
    return encode(
        "sensor_msgs/msg/CompressedImage",
        header=header(stamp),
        format=f"rgb8; {kind} compressed bgr8",
        data=data.reshape(-1),
    )


def floats(values):
    layout = TYPES["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    return encode("std_msgs/msg/Float64MultiArray", layout=layout, data=np.array(values, float))


def twist(stamp, linear_x, angular_z):
    vector = TYPES["geometry_msgs/msg/Vector3"]
    value = TYPES["geometry_msgs/msg/Twist"](
        linear=vector(x=linear_x, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=angular_z)
    )
    if stamp is None:
        return "geometry_msgs/msg/Twist", bytes(
            typestore().serialize_cdr(value, "geometry_msgs/msg/Twist")
        )
    return encode("geometry_msgs/msg/TwistStamped", header=header(stamp), twist=value)


def described(embodiment, **more):
    """The message that a bag begins with."""
    values = {"schema": 1, "embodiment": embodiment.to_json(), "checkpoint": None, "planner": None}
    return text(json.dumps({**values, "version": "0.1.0", **more}))


def event(message, **values):
    pair = TYPES["diagnostic_msgs/msg/KeyValue"]
    return encode(
        "diagnostic_msgs/msg/DiagnosticStatus",
        level=0,
        name="episode",
        message=message,
        hardware_id="",
        values=[pair(key=k, value=str(v)) for k, v in values.items()],
    )


def episode_messages(ticks=10, image_every=5, prefix="/", jitter=lambda: 0):
    """(topic, (msgtype, data), stamp) of a lock-step wall episode: row i holds the value i."""
    yield prefix + "episode", event("start", seed=3), START
    dt = 100 * MS
    for i in range(ticks + 1):
        stamp = START + i * dt
        felt = stamp + jitter()
        yield prefix + "joint_states", joints(felt, [i, i + 0.5]), felt
        if i % image_every == 0:
            seen = stamp + jitter()
            yield prefix + "observation/image", image(seen, i), seen
        if i < ticks:
            sent = stamp + jitter() if i else stamp
            yield prefix + "command_sent", command(sent, [i / 100, -i / 100]), sent
    yield prefix + "episode", event("end", success="true"), START + ticks * dt


def write(path, messages, close=True):
    writer = BagWriter(path)
    for topic, (msgtype, data), stamp in messages:
        writer.write(topic, msgtype, data, stamp)
    if close:
        writer.close()
    else:
        writer.flush()
    return path


def damage_of(path):
    """What a bag names when it is read to its end; a whole one names nothing."""
    bag = Bag(path)
    list(bag.messages())
    return bag.damage
