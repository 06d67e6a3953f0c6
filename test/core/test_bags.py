"""Bags to episodes: alignment, namespaces, crashes, and what is missing."""

import shutil

import numpy as np
import pytest

from wm_planner.data.bags import is_complete, read_episode, read_messages, typestore
from wm_planner.errors import DatasetError
from wm_planner.runtime.recorder import BagWriter
from wm_planner.tasks import get_task

MS = 1_000_000
WALL = get_task("wall").embodiment
MAZE = get_task("point_maze").embodiment
TYPES = typestore().types
START = 7_000_000_000


def encode(msgtype, **fields):
    return msgtype, bytes(typestore().serialize_cdr(TYPES[msgtype](**fields), msgtype))


def header(stamp):
    time = TYPES["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return TYPES["std_msgs/msg/Header"](stamp=time, frame_id="")


def image(stamp, value, encoding="rgb8", size=(4, 4), padding=0):
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


def test_a_lock_step_episode(tmp_path):
    path = write(tmp_path / "bag", episode_messages())
    episode = read_episode(path, WALL)
    rows = np.arange(11)
    np.testing.assert_array_equal(episode.proprio, np.stack([rows, rows + 0.5], 1))
    assert episode.proprio.dtype == np.float32 and episode.actions.dtype == np.float32
    np.testing.assert_allclose(episode.actions[:, 0], np.arange(10) / 100, atol=1e-7)
    assert episode.actions.shape == (10, 2)
    assert episode.images.shape == (3, 4, 4, 3)
    np.testing.assert_array_equal(episode.info["image_rows"], [0, 5, 10])
    np.testing.assert_array_equal(episode.images[:, 0, 0], [[0, 0, 1], [5, 0, 1], [10, 0, 1]])
    assert episode.states is None
    assert episode.info["source"] == str(path)
    assert episode.info["task"] == "wall"
    assert episode.info["stamp_ns"] == START
    assert not episode.info["truncated"]
    assert episode.info["episode"] == {"seed": "3", "success": "true"}


def test_an_image_in_every_row(tmp_path):
    episode = read_episode(write(tmp_path / "bag", episode_messages(image_every=1)), WALL)
    np.testing.assert_array_equal(episode.info["image_rows"], np.arange(11))
    np.testing.assert_array_equal(episode.images[:, 0, 0, 0], np.arange(11))


def test_jitter_and_a_namespace_and_any_order_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    messages = list(
        episode_messages(
            image_every=1, prefix="/robot_1/", jitter=lambda: int(rng.integers(-30, 30)) * MS
        )
    )
    noisy = read_episode(
        write(tmp_path / "noisy", [messages[i] for i in rng.permutation(len(messages))]), WALL
    )
    clean = read_episode(write(tmp_path / "clean", episode_messages(image_every=1)), WALL)
    for name in ("images", "proprio", "actions"):
        np.testing.assert_array_equal(getattr(noisy, name), getattr(clean, name))


def test_goal_topics_are_not_mistaken_for_the_robot(tmp_path):
    extra = [
        ("/goal/joint_states", joints(START, [99, 99]), START),
        ("/goal/image", image(START, 99), START),
    ]
    episode = read_episode(write(tmp_path / "bag", extra + list(episode_messages())), WALL)
    assert episode.proprio.max() < 99 and episode.images.max() < 99


def test_velocities_and_efforts_and_joints_by_name(tmp_path):
    """Point maze: velocity in proprio, effort as action, joints in the driver's own order."""
    messages = []
    for i in range(4):
        stamp = START + i * 50 * MS
        state = joints(
            stamp, [20 + i, 9, 10 + i], ("slide_y", "lift", "slide_x"), (40 + i, 9, 30 + i)
        )
        messages.append(("/joint_states", state, stamp))
        messages.append(("/observation/image", image(stamp, i), stamp))
        if i < 3:
            sent = command(stamp, [200 + i, 100 + i], ("slide_y", "slide_x"), "effort")
            messages.append(("/command_sent", sent, stamp))
    episode = read_episode(write(tmp_path / "bag", messages), MAZE)
    np.testing.assert_array_equal(episode.proprio[1], [11, 21, 31, 41])
    np.testing.assert_array_equal(episode.actions[1], [101, 201])


def test_one_lost_command_takes_its_neighbour(tmp_path):
    messages = [
        m for m in episode_messages() if not (m[0] == "/command_sent" and m[2] == START + 300 * MS)
    ]
    episode = read_episode(write(tmp_path / "bag", messages), WALL)
    np.testing.assert_allclose(episode.actions[:5, 0], [0, 0.01, 0.02, 0.02, 0.04], atol=1e-7)


@pytest.mark.parametrize("topic", ["/command_sent", "/joint_states"])
def test_a_gap_is_named(tmp_path, topic):
    hole = range(START + 300 * MS, START + 700 * MS)
    messages = [m for m in episode_messages() if not (m[0] == topic and m[2] in hole)]
    path = write(tmp_path / "bag", messages)
    with pytest.raises(DatasetError, match=f"{path}: topic {topic[1:]} has a gap .*0.[34]0 s"):
        read_episode(path, WALL)


@pytest.mark.parametrize("topic", ["observation/image", "joint_states", "command_sent"])
def test_a_missing_topic_is_named(tmp_path, topic):
    path = write(tmp_path / "bag", [m for m in episode_messages() if m[0] != "/" + topic])
    with pytest.raises(DatasetError, match=f"{path}: topic {topic} has no messages"):
        read_episode(path, WALL)


def test_a_killed_recording_is_read_up_to_its_end(tmp_path):
    path = write(tmp_path / "bag", episode_messages(), close=False)
    assert not is_complete(path)
    episode = read_episode(path, WALL)
    assert episode.info["truncated"]
    whole = read_episode(write(tmp_path / "whole", episode_messages()), WALL)
    np.testing.assert_array_equal(episode.actions, whole.actions)
    np.testing.assert_array_equal(episode.images, whole.images)


@pytest.mark.parametrize("keep_metadata", [True, False])
@pytest.mark.parametrize("cut", [0.35, 0.6, 0.85, 0.99])
def test_a_file_cut_anywhere_gives_a_prefix(tmp_path, cut, keep_metadata):
    whole_path = write(tmp_path / "whole", episode_messages(ticks=50))
    whole = read_episode(whole_path, WALL)
    path = tmp_path / "cut"
    shutil.copytree(whole_path, path)
    (file,) = path.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: int(cut * file.stat().st_size)])
    if not keep_metadata:
        (path / "metadata.yaml").unlink()
    episode = read_episode(path, WALL)
    steps = len(episode.actions)
    assert episode.info["truncated"]
    assert 0 < steps <= len(whole.actions)
    np.testing.assert_array_equal(episode.actions, whole.actions[:steps])
    np.testing.assert_array_equal(episode.proprio, whole.proprio[: steps + 1])
    rows = episode.info["image_rows"]
    np.testing.assert_array_equal(episode.images[:, 0, 0, 0], rows)


def test_the_last_action_needs_the_state_after_it(tmp_path):
    messages = [m for m in episode_messages() if m[2] < START + 1000 * MS]
    episode = read_episode(write(tmp_path / "bag", messages), WALL)
    assert len(episode.actions) == 9 and len(episode.proprio) == 10


def test_no_bag_and_an_empty_file_are_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no bag here"):
        list(read_messages(tmp_path / "nowhere"))
    (tmp_path / "a.mcap").write_bytes(b"")
    with pytest.raises(DatasetError, match="no messages"):
        read_episode(tmp_path, WALL)


def test_damaged_metadata_is_named(tmp_path):
    path = write(tmp_path / "bag", episode_messages())
    (path / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9}\n")
    with pytest.raises(DatasetError, match=f"{path}: the bag cannot be read"):
        list(read_messages(path))


def test_images_bgr_and_padded_rows(tmp_path):
    messages = [m for m in episode_messages() if m[0] != "/observation/image"]
    messages.append(("/observation/image", image(START, 7, "bgr8", padding=5), START))
    episode = read_episode(write(tmp_path / "bag", messages), WALL)
    assert episode.images.shape == (1, 4, 4, 3)
    np.testing.assert_array_equal(episode.images[0, 0], [[1, 0, 7]] * 4)


@pytest.mark.parametrize(
    ("topic", "message", "words"),
    [
        ("/observation/image", image(START, 0, "mono16"), "encoding 'mono16'"),
        ("/observation/image", image(START + 100 * MS, 0, size=(2, 2)), "size changes"),
        ("/observation/image", joints(START, [0, 0]), "holds sensor_msgs/msg/JointState"),
        (
            "/joint_states",
            joints(START, [0], ["slide_x"]),
            "no position of joint 'slide_y'; joints: slide_x",
        ),
        ("/command_sent", command(START, [0, 0], ["slide_x", "z"]), "takes slide_x, slide_y"),
        ("/command_sent", command(START, [0]), "1 values for joints slide_x, slide_y"),
        ("/command_sent", command(START, []), "0 values"),
        ("/command_sent", command(START, [0, 0], points=2), "one point"),
        ("/other/joint_states", joints(START, [0, 0]), "one robot"),
    ],
)
def test_a_message_that_cannot_be_used_is_named(tmp_path, topic, message, words):
    messages = [*episode_messages(), (topic, message, START)]
    path = write(tmp_path / "bag", messages)
    with pytest.raises(DatasetError, match=f"{path}: topic .*{words}"):
        read_episode(path, WALL)


def test_joint_states_between_the_rows_are_taken(tmp_path):
    """Published at the control rate, but half a period off: the nearest one, not a gap."""
    moved = (
        (topic, joints(stamp + 55 * MS, [0.0, 1.0]) if topic == "/joint_states" else content, stamp)
        for topic, content, stamp in episode_messages()
    )
    episode = read_episode(write(tmp_path / "bag", moved), WALL)
    assert episode.proprio.shape[0] == len(episode.actions) + 1 >= 10
