"""Messages of rosbags and of rclpy become the same arrays."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from wm_planner.data.bags import typestore
from wm_planner.data.image_message import ENCODINGS, MAX_PIXELS, image_array
from wm_planner.data.messages import command_of, joint_values, proprio_array, stamp_ns
from wm_planner.embodiment import ActionSpace
from wm_planner.errors import ConfigError, ImageSourceError

cv2 = pytest.importorskip("cv2")

TYPES = typestore().types
ARM = ActionSpace(names=("a", "b"), low=(-1, -1), high=(1, 1))
BASE = ActionSpace(names=("linear.x", "angular.z"), low=(-1, -1), high=(1, 1))
HEIGHT, WIDTH = 8, 12
RED = (200, 0, 0)
RED_YUV = (67, 98, 216)  # of RED by BT.601 with limited range


def of_rosbags(name, /, **fields):
    return TYPES[name](**fields)


def of_rclpy(name, /, **fields):
    pytest.importorskip("rclpy")
    package, _, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)(**fields)


BOTH = pytest.mark.parametrize("make", [of_rosbags, of_rclpy])


def header(make, stamp=0):
    time = make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
    return make("std_msgs/msg/Header", stamp=time, frame_id="")


def picture(make, encoding, data, step, big=0, height=HEIGHT, width=WIDTH):
    data = np.frombuffer(data, np.uint8)
    return make(
        "sensor_msgs/msg/Image",
        header=header(make),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=big,
        step=step,
        data=data if make is of_rosbags else data.tobytes(),
    )


def compressed(make, data, kind="jpeg"):
    data = np.frombuffer(data, np.uint8)
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=header(make),
        format=kind,
        data=data if make is of_rosbags else data.tobytes(),
    )


def left_red(encoding, big=0, padding=0):
    """(bytes, step) of a picture whose left half is RED and whose right half is black."""
    y, u, v = (np.full((HEIGHT, WIDTH), value, np.uint8) for value in RED_YUV)
    y[:, WIDTH // 2 :], u[:, WIDTH // 2 :], v[:, WIDTH // 2 :] = 16, 128, 128
    red = np.zeros((HEIGHT, WIDTH), np.uint8)
    red[:, : WIDTH // 2] = RED[0]
    none = np.zeros_like(red)
    deep = encoding.endswith("16") or encoding.startswith("16")
    if encoding.startswith("bayer"):
        rows = np.zeros_like(red)
        place = encoding[6:10].index("r")
        rows[place // 2 :: 2, place % 2 :: 2] = red[place // 2 :: 2, place % 2 :: 2]
        planes = [rows]
    elif encoding.startswith(("nv12", "nv21")):
        pair = (u, v) if encoding == "nv12" else (v, u)
        colour = np.stack([plane[::2, ::2] for plane in pair], 2).reshape(HEIGHT // 2, WIDTH)
        planes = [np.concatenate([y, colour])]
    elif encoding == "nv24":
        colour = np.stack([u, v], 2).reshape(2 * HEIGHT, WIDTH)
        assert not padding
        planes = [np.concatenate([y, colour])]
    elif encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "yuy2"):
        shared = np.where(np.arange(WIDTH) % 2 == 0, u, v)
        planes = [shared, y] if encoding in ("yuv422", "uyvy") else [y, shared]
    elif encoding in ("mono8", "8UC1", "mono16", "16UC1"):
        planes = [red]
    else:
        order = "bgr" if encoding.startswith(("bgr", "8UC", "16UC")) else "rgb"
        planes = [red if channel == "r" else none for channel in order]
        planes += [none + 9] if encoding.endswith("C4") or "a" in encoding else []
    rows = np.stack(planes, 2).reshape(len(planes[0]), -1)
    if deep:
        rows = (rows.astype(np.uint16) << 8 | 7).astype(">u2" if big else "<u2").view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return rows.tobytes(), rows.shape[1]


@BOTH
@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_shows_the_same_picture(make, encoding, padding):
    if encoding == "nv24" and padding:
        pytest.skip("its padding has a test of its own")
    message = picture(make, encoding, *left_red(encoding, padding=padding))
    image = image_array(message)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    grey = encoding in ("mono8", "8UC1", "mono16", "16UC1")
    expected = np.zeros((HEIGHT, WIDTH, 3), int)
    expected[:, : WIDTH // 2] = (RED[0],) * 3 if grey else RED
    # Pixels at the edges and beside the border of the halves mix with their neighbours.
    inside = np.r_[2:4, 8:10]
    np.testing.assert_allclose(image[2:-2, inside], expected[2:-2, inside], atol=3)


def test_padding_of_nv24_lies_behind_each_row():
    rows, _ = left_red("nv24")
    data = np.frombuffer(rows, np.uint8)
    brightness = np.pad(data[: HEIGHT * WIDTH].reshape(HEIGHT, WIDTH), ((0, 0), (0, 4)))
    colour = np.pad(data[HEIGHT * WIDTH :].reshape(HEIGHT, 2 * WIDTH), ((0, 0), (0, 8)))
    padded = picture(of_rosbags, "nv24", brightness.tobytes() + colour.tobytes(), WIDTH + 4)
    plain = picture(of_rosbags, "nv24", rows, WIDTH)
    np.testing.assert_array_equal(image_array(padded), image_array(plain))


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_gbrg16"])
def test_big_endian(encoding):
    little = picture(of_rosbags, encoding, *left_red(encoding))
    big = picture(of_rosbags, encoding, *left_red(encoding, big=1), big=1)
    np.testing.assert_array_equal(image_array(little), image_array(big))


def test_forgotten_step_and_upper_case():
    data, _ = left_red("rgb8")
    image = image_array(picture(of_rosbags, "RGB8", data, 0))
    assert (image[0, 0] == RED).all() and np.shares_memory(image, np.frombuffer(data, np.uint8))


@BOTH
@pytest.mark.parametrize("encoding", ["rgb8", "rgba8"])
def test_no_copy_is_made_where_none_is_needed(make, encoding):
    data, step = left_red(encoding, padding=4)
    message = picture(make, encoding, data, step)
    if make is of_rosbags:
        message.data = message.data.copy()  # writable
    image = image_array(message)
    message.data[0] = 7
    assert image[0, 0, 0] == 7


@BOTH
@pytest.mark.parametrize(("kind", "exact"), [("jpeg", False), ("png", True)])
def test_compressed_images(make, kind, exact):
    truth = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    truth[:, : WIDTH // 2] = RED
    data = cv2.imencode(f".{kind}", truth[..., ::-1])[1].tobytes()
    message = compressed(make, data + bytes(200), f"rgb8; {kind} compressed bgr8")
    np.testing.assert_allclose(image_array(message), truth, atol=0 if exact else 90)
    cut = compressed(make, data[: len(data) // 2], kind)
    with pytest.raises(ImageSourceError, match=f"'{kind}' is cut off"):
        image_array(cut)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (picture(of_rosbags, "32FC1", bytes(4 * 96), 48), "encoding '32FC1' is not supported"),
        (picture(of_rosbags, "rgb88", bytes(3 * 96), 36), "Did you mean 'rgb8'"),
        (picture(of_rosbags, "", b"", 0), "encoding '' is not supported"),
        (picture(of_rosbags, "rgb8", b"", 0, height=0, width=0), "0 x 0 'rgb8' has no pixels"),
        (picture(of_rosbags, "rgb8", bytes(100), 36), "needs 8 rows of 36 bytes, got step 36"),
        (picture(of_rosbags, "mono16", bytes(96), 12), "needs 8 rows of 24 bytes"),
        (picture(of_rosbags, "nv12", bytes(96), 12), "needs 12 rows of 12 bytes"),
        (compressed(of_rosbags, b"\x00\x00\x00\x01\x67", "h264"), "format 'h264' is not supported"),
        (compressed(of_rosbags, b"", "jpeg"), "format 'jpeg' is not supported"),
        (
            compressed(of_rosbags, bytes(12) + b"\x89PNG", "16UC1; compressedDepth png"),
            "compressedDepth png' is not supported",
        ),
        (compressed(of_rosbags, b"\xff\xd8\xff\xe0" + bytes(9) + b"\xff\xd9"), "cannot be decoded"),
    ],
)
def test_what_cannot_be_read_is_named(message, words):
    with pytest.raises(ImageSourceError, match=words):
        image_array(message)


@BOTH
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_short_message_cannot_be_a_picture_that_fills_the_memory(make, kind):
    """It is refused by what it says of its size, before anything is decoded."""
    small = cv2.imencode(f".{kind}", np.zeros((7, 5, 3), np.uint8))[1].tobytes()
    assert image_array(compressed(make, small, kind)).shape == (7, 5, 3)
    sizes = (7, 5) if kind == "jpeg" else (5, 7)
    width = {"jpeg": 2, "png": 4}[kind]
    told = b"".join(size.to_bytes(width, "big") for size in sizes)
    assert small.count(told) == 1
    bomb = small.replace(told, b"".join((60_000).to_bytes(width, "big") for _ in sizes))
    with pytest.raises(ImageSourceError, match=f"60000 x 60000 .*at most {MAX_PIXELS} are read"):
        image_array(compressed(make, bomb, kind))
    plain = picture(make, "mono8", b"", 0, height=2**31, width=2**31)
    with pytest.raises(ImageSourceError, match="pixels, at most"):
        image_array(plain)


def test_an_odd_width_of_shared_colours_is_named():
    with pytest.raises(ImageSourceError, match="3 x 2 'nv12' cannot be converted"):
        image_array(picture(of_rosbags, "nv12", bytes(9), 3, height=2, width=3))


@BOTH
def test_stamps(make):
    stamped = make("sensor_msgs/msg/JointState", **joint_fields(make, 12_000_000_034))
    assert stamp_ns(stamped) == 12_000_000_034
    assert stamp_ns(make("sensor_msgs/msg/JointState", **joint_fields(make, 0))) is None
    assert stamp_ns(floats(make, [1.0])) is None


def array(make, values):
    return np.array(values, float) if make is of_rosbags else [float(value) for value in values]


def joint_fields(make, stamp=1, names=("a",), position=(), velocity=(), effort=()):
    return {
        "header": header(make, stamp),
        "name": list(names),
        "position": array(make, position),
        "velocity": array(make, velocity),
        "effort": array(make, effort),
    }


def joints(make, **fields):
    return make("sensor_msgs/msg/JointState", **joint_fields(make, **fields))


def floats(make, values):
    layout = make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
    return make("std_msgs/msg/Float64MultiArray", layout=layout, data=array(make, values))


def twist(make, linear_x, angular_z):
    def vector(x, z):
        return make("geometry_msgs/msg/Vector3", x=x, y=0.0, z=z)

    return make(
        "geometry_msgs/msg/Twist", linear=vector(linear_x, 9.0), angular=vector(9.0, angular_z)
    )


def trajectory(make, names, rows, field="velocities", due=()):
    points = []
    for row, at_ns in zip(rows, due or [0] * len(rows), strict=True):
        arrays = {k: [] for k in ("positions", "velocities", "accelerations", "effort")}
        arrays = {k: array(make, v) for k, v in (arrays | {field: row}).items()}
        time = make("builtin_interfaces/msg/Duration", sec=at_ns // 10**9, nanosec=at_ns % 10**9)
        points.append(
            make("trajectory_msgs/msg/JointTrajectoryPoint", **arrays, time_from_start=time)
        )
    return make(
        "trajectory_msgs/msg/JointTrajectory",
        header=header(make),
        joint_names=list(names),
        points=points,
    )


@BOTH
def test_joint_values_by_name_and_nothing_where_nothing_is_said(make):
    message = joints(
        make, names=("c", "b", "a"), position=(3, 2, 1), velocity=(30, 20, np.nan), effort=()
    )
    entries = ("a/position", "b/velocity", "a/velocity", "b/effort", "d/position")
    np.testing.assert_array_equal(joint_values(message, entries), [1, 20, np.nan, np.nan, np.nan])
    values = proprio_array(message, ("b/velocity", "a/position"))
    np.testing.assert_array_equal(values, [20, 1])
    assert values.dtype == np.float32
    for entry, words in (
        ("d/position", "no joint 'd'"),
        ("b/effort", "no effort for joint 'b'"),
        ("a/velocity", "velocity of joint 'a' is nan"),
        ("a/torque", "no torque for joint 'a'"),
        ("a", "no joint ''"),
    ):
        with pytest.raises(ConfigError, match=words):
            proprio_array(message, (entry,))


@BOTH
def test_commands_of_every_type_in_the_order_of_the_action(make):
    stamped = make("geometry_msgs/msg/TwistStamped", header=header(make), twist=twist(make, 1, 2))
    for message, action, names in (
        (floats(make, [1, 2]), ARM, ()),
        (floats(make, [2, 7, 1]), ARM, ("b", "gripper", "a")),
        (trajectory(make, ["b", "a"], [[2, 1]]), ARM, ()),
        (trajectory(make, ["c", "b", "a"], [[7, 2, 1]]), ARM, ()),
        (trajectory(make, [], [[1, 2]]), ARM, ()),
        (joints(make, names=("b", "a"), velocity=(2, 1)), ARM, ()),
        (twist(make, 1.0, 2.0), BASE, ()),
        (stamped, BASE, ()),
    ):
        command = command_of(message, action, names)
        assert command.quantity == "velocity" and command.offsets_ns == (0,)
        np.testing.assert_array_equal(command.values, [[1, 2]])


@BOTH
def test_the_quantity_is_what_the_message_carries(make):
    by_position = ActionSpace(names=("a",), low=(-1,), high=(1,), kind="position_delta")
    both = joints(make, position=(1,), velocity=(5,))
    assert command_of(both, by_position).quantity == "position"
    assert command_of(joints(make, velocity=(5,)), by_position).quantity == "velocity"
    assert command_of(floats(make, [1]), by_position).quantity == "position"
    assert command_of(floats(make, [1]), by_position, carries="velocity").quantity == "velocity"
    assert command_of(trajectory(make, ["a"], [[1]], "effort"), by_position).quantity == "effort"


def test_points_of_a_trajectory_are_in_force_one_after_the_other():
    rows, due = [[0, 0], [1, 2], [3, 4]], [0, 100, 250]
    moving = command_of(trajectory(of_rosbags, ["a", "b"], rows, "velocities", due), ARM)
    assert moving.offsets_ns == (0, 100, 250)
    going = command_of(trajectory(of_rosbags, ["a", "b"], rows, "positions", due), ARM)
    assert going.quantity == "position" and going.offsets_ns == (0, 0, 100)
    np.testing.assert_array_equal(going.values, rows)
    with pytest.raises(ConfigError, match="not in order of time"):
        command_of(trajectory(of_rosbags, ["a", "b"], rows, "velocities", [0, 200, 100]), ARM)


def test_a_jog_by_the_definition_in_a_bag():
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)  # its own: others' stay as they are
    text = "std_msgs/Header header\nstring[] joint_names\nfloat64[] displacements\n"
    text += "float64[] velocities\nfloat64 duration\n"
    kinds = get_types_from_msg(text, "control_msgs/msg/JointJog")
    store.register(kinds)

    def jog(**fields):
        values = {"displacements": np.zeros(0), "velocities": np.zeros(0), **fields}
        return store.types["control_msgs/msg/JointJog"](
            header=header(of_rosbags), joint_names=["b", "a"], duration=0.1, **values
        )

    moved = command_of(jog(velocities=np.array([2.0, 1.0])), ARM)
    assert moved.quantity == "velocity" and moved.values.tolist() == [[1, 2]]
    assert command_of(jog(displacements=np.array([2.0, 1.0])), ARM).quantity == "displacement"


@pytest.mark.parametrize(
    ("message", "action", "words"),
    [
        (floats(of_rosbags, [1, 2, 3]), ARM, "3 values for the joints a, b, which are 2"),
        (trajectory(of_rosbags, ["a", "c"], [[1, 2]]), ARM, "nothing of b; it commands a, c"),
        (trajectory(of_rosbags, ["a", "b"], [[1]]), ARM, "1 values for the joints a, b"),
        (trajectory(of_rosbags, ["a", "b"], []), ARM, "without points"),
        (trajectory(of_rosbags, ["a", "b"], [[]]), ARM, "without a value"),
        (joints(of_rosbags), ARM, "without a value"),
        (twist(of_rosbags, 1.0, 2.0), ARM, "nothing of the joints a, b"),
        (header(of_rosbags), ARM, "type std_msgs/msg/Header cannot be read"),
    ],
)
def test_commands_that_cannot_be_used_are_named(message, action, words):
    with pytest.raises(ConfigError, match=words):
        command_of(message, action)
