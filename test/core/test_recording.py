"""One bag to model steps: what a bag says of itself, which topic is what, and clocks."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard

from wm_planner.data.held_commands import hold_commands, raw_actions
from wm_planner.data.messages import Command
from wm_planner.data.prepare import prepare
from wm_planner.data.recording import read_recording, recorded_embodiment
from wm_planner.data.recording_message import parse_description
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.errors import DatasetError
from wm_planner.robot import CameraSource, CommandSink, Record, RobotFile
from wm_planner.tasks import get_task

from .bag_messages import (
    MS,
    START,
    command,
    compressed,
    described,
    encode,
    episode_messages,
    event,
    floats,
    image,
    joints,
    text,
    twist,
    write,
)

DT = 100 * MS
WALL = get_task("wall").embodiment
MAZE = get_task("point_maze").embodiment
ARM = Embodiment(
    name="arm",
    control_dt_s=0.1,
    frame_skip=5,
    action=ActionSpace(names=("a", "b"), low=(-1, -1), high=(1, 1)),
    proprio=("a/position", "b/position"),
    cameras=(Camera("front", 16),),
)
SENT = Embodiment(
    name="sent",
    control_dt_s=0.1,
    frame_skip=5,
    action=ActionSpace(names=("slide_x", "slide_y"), low=(-1, -1), high=(1, 1)),
    proprio=("slide_x/position", "slide_y/position"),
    cameras=(Camera("front", 16),),
)


def robot(body=ARM, camera=None, **more):
    """The robot file of an arm: a driver's camera of 40x30 pixels, commands of its controller."""
    source = CameraSource(**{"topic": "/cam/image_raw", "size": 16, "crop": (4, 2, 24, 24)})
    return RobotFile(
        name=body.name,
        control_dt_s=body.control_dt_s,
        frame_skip=body.frame_skip,
        action=body.action,
        proprio=body.proprio,
        cameras={"front": replace(source, **(camera or {}))},
        stale_after_s=1.0,
        angles=body.angles,
        **{"command": CommandSink("/arm_controller/commands"), **more},
    )


def plain_messages(
    ticks=20,
    sent=lambda i, stamp: ("/arm_controller/commands", floats([i / 100, -i / 100]), stamp),
    seen=lambda i, stamp: ("/cam/image_raw", image(stamp, i, size=(30, 40)), stamp),
    felt=lambda i, stamp: [("/joint_states", joints(stamp, [i + 0.5, i], ("b", "a")), stamp)],
):
    """What `ros2 bag record` writes of an arm: 10 Hz of everything, row i holds the value i."""
    for i in range(ticks + 1):
        stamp = START + i * DT
        yield from felt(i, stamp)
        yield seen(i, stamp)
        if i < ticks:
            yield sent(i, stamp)


def frames(recording):
    return [int(value) for piece in recording.pieces for value in piece.images[:, 0, 0, 0]]


def rows(recording):
    """The first entry of every raw action."""
    size = recording.embodiment.action.size
    return np.concatenate([piece.actions.reshape(-1, size)[:, 0] for piece in recording.pieces])


# What a bag says of itself --------------------------------------------------------------------


def test_a_lock_step_episode(tmp_path):
    path = write(tmp_path / "bag", episode_messages())
    recording = read_recording(path, WALL)
    (piece,) = recording.pieces
    np.testing.assert_array_equal(piece.proprio, [[0, 0.5], [5, 5.5], [10, 10.5]])
    assert piece.proprio.dtype == piece.actions.dtype == np.float32
    np.testing.assert_allclose(rows(recording), np.arange(10) / 100, atol=1e-7)
    assert piece.images.shape == (3, 16, 16, 3) and piece.actions.shape == (2, 10)
    np.testing.assert_array_equal(piece.images[:, 0, 0], [[0, 0, 1], [5, 0, 1], [10, 0, 1]])
    np.testing.assert_array_equal(piece.stamps_ns, START + np.array([0, 5, 10]) * DT)
    assert recording.outcome == "success" and recording.events == {"seed": "3", "success": "true"}
    assert recording.embodiment.image_size == 16 and recording.embodiment.name == "wall"
    account = recording.account
    assert (account.kept, account.possible, account.lost, account.seconds) == (2, 2, {}, 1.0)
    assert account.rates_hz == {"front": 2.0, "joints": 10.0, "commands": 10.0}
    assert not (account.notes or account.damage or account.holes)


def test_a_bag_that_explains_itself(tmp_path):
    told = described(
        SENT,
        checkpoint={"name": "base", "sha256": "12"},
        planner={"solver": "gbp"},
        cameras={"front": "/eye"},
        topics={"joint_states": "/felt", "command_sent": "/sent"},
    )
    names = {"/observation/image": "/eye", "/joint_states": "/felt", "/command_sent": "/sent"}
    messages = [(names.get(t, t), m, s) for t, m, s in episode_messages()]
    path = write(tmp_path / "bag", [("/recording", told, START), *messages])
    recording = read_recording(path)
    assert recording.embodiment == SENT == recorded_embodiment(path)
    assert recording.description.checkpoint == {"name": "base", "sha256": "12"}
    assert recording.description.planner == {"solver": "gbp"}
    assert recording.description.version == "0.1.0"
    assert frames(recording) == [0, 5, 10] and not recording.account.notes


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (text("{"), "not valid JSON"),
        (text("[]"), r"schema \[\], expected 1"),
        (text('{"schema": 2}'), "schema 2, expected 1"),
        (
            text('{"schema": 1, "embodiment": {"name": "x"}}'),
            "recording: embodiment: key 'control_dt_s'",
        ),
        (text('{"schema": 1, "cameras": 3}'), "cameras: expected a mapping"),
    ],
)
def test_what_a_bag_says_and_cannot_be_used(tmp_path, told, words):
    path = write(tmp_path / "bag", [("/recording", told, START), *episode_messages()])
    with pytest.raises(DatasetError, match=f"{path}: .*{words}"):
        read_recording(path)


def test_a_bag_says_nothing(tmp_path):
    path = write(tmp_path / "bag", episode_messages())
    with pytest.raises(DatasetError, match=f"{path}: nothing in it says of which robot.*--robot"):
        read_recording(path)


def test_a_bag_recorded_before_bags_explained_themselves(tmp_path):
    """`wm-planner sim --task wall --seed 4`, recorded by the version before."""
    before = Path(__file__).parent.parent / "data" / "bag_of_before"
    path = tmp_path / "episode_0000"
    path.mkdir()
    shutil.copy(before / "metadata.yaml", path)
    packed = (before / "episode_0000.mcap.zstd").read_bytes()
    (path / "episode_0000.mcap").write_bytes(zstandard.decompress(packed))
    recording = read_recording(path)
    assert recording.embodiment == WALL and recording.outcome == "success"
    assert recording.events["seed"] == "4" and not recording.account.damage
    (piece,) = recording.pieces
    assert piece.images.shape == (5, 64, 64, 3) and piece.actions.shape == (4, 10)
    assert (recording.account.kept, recording.account.possible) == (4, 4)
    moved = np.diff(piece.proprio, axis=0)
    asked = 2 * piece.actions.reshape(4, 5, 2).sum(axis=1)  # two pixels per unit action
    np.testing.assert_allclose(moved[[0, 2]], asked[[0, 2]], atol=1e-3)  # no wall is touched


def test_a_description_without_an_embodiment_leaves_it_to_the_task():
    description = parse_description('{"schema": 1, "embodiment": null, "commands": null}')
    assert description.embodiment is None and description.commands == {}


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ({"outcome": "failure"}, "failure"),
        ({"outcome": "success", "success": "false"}, "success"),
        ({"outcome": "maybe"}, ""),
        ({"success": "false"}, "failure"),
        ({}, ""),
    ],
)
def test_outcomes(tmp_path, values, outcome):
    messages = [m for m in episode_messages() if m[1][0] != "diagnostic_msgs/msg/DiagnosticStatus"]
    messages.append(("/episode", event("end", **values), START + 10 * DT))
    assert read_recording(write(tmp_path / "bag", messages), WALL).outcome == outcome


# Which topic is what --------------------------------------------------------------------------


def test_a_namespace_and_any_order_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    messages = list(episode_messages(prefix="/robot_1/"))
    mixed = write(tmp_path / "mixed", [messages[i] for i in rng.permutation(len(messages))])
    clean = write(tmp_path / "clean", episode_messages())
    for one, other in zip(
        read_recording(mixed, WALL).pieces, read_recording(clean, WALL).pieces, strict=True
    ):
        for name in ("images", "proprio", "actions"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_goal_topics_are_not_mistaken_for_the_robot(tmp_path):
    extra = [
        ("/goal/joint_states", joints(START, [99, 99]), START),
        ("/goal/image", image(START, 99), START),
        ("/plan/imagined", image(START, 99, size=(16, 96)), START),
    ]
    recording = read_recording(write(tmp_path / "bag", extra + list(episode_messages())), WALL)
    assert frames(recording) == [0, 5, 10]


def test_a_plain_recording_with_the_robot_file(tmp_path):
    path = write(tmp_path / "bag", plain_messages())
    recording = read_recording(path, robot=robot())
    (piece,) = recording.pieces
    assert frames(recording) == [0, 5, 10, 15, 20]
    np.testing.assert_array_equal(piece.proprio[1], [5, 5.5])
    np.testing.assert_allclose(rows(recording), np.arange(20) / 100, atol=1e-7)
    whole = np.zeros((30, 40, 3), np.uint8) + np.array([5, 0, 1], np.uint8)
    np.testing.assert_array_equal(piece.images[1], prepare(whole, (4, 2, 24, 24), 16))
    assert recording.embodiment == robot().embodiment and recording.outcome == ""


def test_the_crop_is_that_of_the_robot_file(tmp_path):
    def seen(i, stamp):
        msgtype, data = image(stamp, 0, size=(30, 40))
        pixels = np.frombuffer(data, np.uint8).copy()
        at = len(pixels) - 30 * 40 * 3
        picture = pixels[at:].reshape(30, 40, 3)
        picture[2:26, 4:28] = 200
        return "/cam/image_raw", (msgtype, pixels.tobytes()), stamp

    recording = read_recording(write(tmp_path / "bag", plain_messages(seen=seen)), robot=robot())
    assert (recording.pieces[0].images == 200).all()


def test_compressed_pictures(tmp_path):
    def seen(i, stamp):
        return "/cam/image_raw/compressed", compressed(stamp, i, (30, 40)), stamp

    path = write(tmp_path / "bag", plain_messages(seen=seen))
    assert frames(read_recording(path, robot=robot())) == [0, 5, 10, 15, 20]


def test_a_gripper_on_the_topic_is_passed_over(tmp_path):
    def felt(i, stamp):
        yield "/joint_states", joints(stamp, [0.04], ("finger",)), stamp
        yield "/joint_states", joints(stamp, [i, i + 0.5], ("a", "b"), [np.nan] * 2), stamp
        yield "/gripper/joint_states", joints(stamp, [0.04], ("finger",)), stamp

    recording = read_recording(write(tmp_path / "bag", plain_messages(felt=felt)), robot=robot())
    assert frames(recording) == [0, 5, 10, 15, 20] and not recording.account.notes
    np.testing.assert_array_equal(recording.pieces[0].proprio[1], [5, 5.5])


@pytest.mark.parametrize("topic", ["/joint_states", "/elbow/joint_states"])
def test_joints_in_two_messages(tmp_path, topic):
    def felt(i, stamp):
        yield "/joint_states", joints(stamp, [i], ("a",)), stamp
        late = stamp + 40 * MS
        yield topic, joints(late, [i + 0.4], ("b",)), late

    messages = [*plain_messages(felt=felt), *felt(-1, START - DT)]
    recording = read_recording(write(tmp_path / "bag", messages), robot=robot())
    assert frames(recording) == [0, 5, 10, 15, 20]
    proprio = recording.pieces[0].proprio
    np.testing.assert_allclose(proprio, np.repeat([[0], [5], [10], [15], [20]], 2, 1), atol=1e-5)


def test_a_topic_of_another_name_is_found_by_what_it_carries(tmp_path):
    names = {"/joint_states": "/arm/states", "/cam/image_raw": "/eye"}
    messages = [(names.get(t, t), m, s) for t, m, s in plain_messages()]
    recording = read_recording(write(tmp_path / "bag", messages), robot=robot())
    assert recording.account.notes == (
        "pictures of camera front are taken from topic /eye",
        "joint states are taken from topic /arm/states",
    )


@pytest.mark.parametrize(
    ("joint_topics", "words"),
    [(("/left/joint_states", "/right/joint_states"), "an episode has one robot")],
)
def test_two_robots_are_named(tmp_path, joint_topics, words):
    def felt(i, stamp):
        for topic in joint_topics:
            yield topic, joints(stamp, [i, i], ("a", "b")), stamp

    path = write(tmp_path / "bag", plain_messages(felt=felt))
    with pytest.raises(DatasetError, match=f"{path}: topics .*left.* and .*right.*{words}"):
        read_recording(path, robot=robot())
    chosen = robot(joint_states="/right/joint_states")
    assert frames(read_recording(path, robot=chosen)) == [0, 5, 10, 15, 20]
    double = [m for side in ("/l/", "/r/") for m in episode_messages(prefix=side)]
    with pytest.raises(DatasetError, match="/l/observation/image and /r/observation/image"):
        read_recording(write(tmp_path / "double", double), WALL)


@pytest.mark.parametrize(
    ("sent", "more"),
    [
        (lambda i, s: ("/other", floats([0, -i / 100, i / 100]), s), {"names": ("g", "b", "a")}),
        (lambda i, s: ("/other", command(s, [-i / 100, i / 100], ("b", "a")), s), {}),
        (
            lambda i, s: ("/other", joints(s, [0, 0], ("b", "a"), [-i / 100, i / 100]), s),
            {},
        ),
    ],
)
def test_commands_of_others(tmp_path, sent, more):
    record = Record(commands="/other", **more)
    path = write(tmp_path / "bag", plain_messages(sent=sent))
    recording = read_recording(path, robot=robot(record=record))
    np.testing.assert_allclose(rows(recording), np.arange(20) / 100, atol=1e-7)


@pytest.mark.parametrize("stamped", [True, False])
def test_commands_by_twist(tmp_path, stamped):
    body = replace(ARM, action=ActionSpace(("linear.x", "angular.z"), (-1, -1), (1, 1)))
    sink = CommandSink("/cmd_vel", "twist", "base")
    moving = replace(robot(), action=body.action, command=sink)
    path = write(
        tmp_path / "bag",
        plain_messages(
            sent=lambda i, s: ("/cmd_vel", twist(s if stamped else None, i / 100, 1.0), s)
        ),
    )
    recording = read_recording(path, robot=moving)
    np.testing.assert_allclose(rows(recording), np.arange(20) / 100, atol=1e-7)
    assert not recording.account.notes


def test_a_jog_that_the_bag_defines(tmp_path):
    from mcap.writer import Writer

    from wm_planner.data.bags import typestore

    definition = "string[] joint_names\nfloat64[] displacements\nfloat64[] velocities\n"
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition, "control_msgs/msg/JointJog"))
    kind = store.types["control_msgs/msg/JointJog"]
    with (tmp_path / "a_0.mcap").open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2", library="test")
        channels = {}

        def put(topic, msgtype, schema_text, data, stamp):
            if topic not in channels:
                schema = writer.register_schema(msgtype, "ros2msg", schema_text.encode())
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], stamp, data, stamp)

        for topic, (msgtype, data), stamp in plain_messages():
            if topic == "/arm_controller/commands":
                i = round((stamp - START) / DT)
                values = {"displacements": np.zeros(0), "velocities": np.array([0, i / 100])}
                jog = kind(joint_names=["b", "a"], **values)
                data = bytes(store.serialize_cdr(jog, "control_msgs/msg/JointJog"))
                put(topic, "control_msgs/msg/JointJog", definition, data, stamp)
            else:
                known, _ = typestore().generate_msgdef(msgtype, ros_version=2)
                put(topic, msgtype, known, data, stamp)
        writer.finish()
    recording = read_recording(tmp_path, robot=robot())
    np.testing.assert_allclose(rows(recording), np.arange(20) / 100, atol=1e-7)


def test_positions_become_what_the_robot_is_told(tmp_path):
    """A robot that takes positions: the action is a delta, or the velocity that is integrated."""

    def sent(i, stamp):
        return "/arm_controller/commands", floats([0.03 * i, 0]), stamp

    path = write(tmp_path / "bag", plain_messages(sent=sent))
    velocities = robot(command=CommandSink("/arm_controller/commands", integrate=True))
    values = rows(read_recording(path, robot=velocities))
    np.testing.assert_allclose(values, 0.3, rtol=1e-5)
    delta = replace(ARM, action=replace(ARM.action, kind="position_delta"))
    np.testing.assert_allclose(rows(read_recording(path, robot=robot(delta))), 0.03, rtol=1e-5)
    position = replace(ARM, action=replace(ARM.action, kind="position", max_rate=(9.0, 9.0)))
    values = rows(read_recording(path, robot=robot(position)))
    np.testing.assert_allclose(values, 0.03 * np.arange(20), atol=1e-6)


def test_a_planned_trajectory_is_followed_in_its_own_time():
    """One message, waypoints half a second apart: 0.5 rad/s all the way, no leap and wait."""
    values = 0.25 * np.arange(5.0)[:, None] * np.ones(2)
    half = 500_000_000
    command = Command("position", values, (0, *(half * np.arange(4)).tolist()), half)
    held = hold_commands([(0, command)], ARM.dt_ns, None)
    rows = raw_actions(held, ARM, half, half + ARM.model_dt_ns)
    np.testing.assert_allclose(rows, 0.5, atol=1e-6)


def test_what_cannot_be_the_action_is_named(tmp_path):
    effort = replace(ARM, action=replace(ARM.action, kind="effort"))
    sent = lambda i, s: ("/arm_controller/commands", command(s, [1, 1], ("a", "b")), s)  # noqa: E731
    path = write(tmp_path / "bag", plain_messages(sent=sent))
    with pytest.raises(DatasetError, match="carry a velocity, which is no action of kind 'effort'"):
        read_recording(path, robot=robot(effort))


def test_what_the_controller_sent_comes_first(tmp_path):
    own = [
        ("/command_sent", command(START + i * DT, [7, 7], ("a", "b")), START + i * DT)
        for i in range(20)
    ]
    recording = read_recording(write(tmp_path / "bag", [*plain_messages(), *own]), robot=robot())
    assert set(rows(recording)) == {7}
    assert recording.account.notes == (
        "commands are taken from topic /command_sent, not from /arm_controller/commands",
    )


def test_messages_that_cannot_be_used_are_counted(tmp_path):
    def sent(i, stamp):
        value = [np.nan, 0] if i == 3 else [i / 100, 0]
        return "/arm_controller/commands", floats(value if i != 4 else [1]), stamp

    recording = read_recording(write(tmp_path / "bag", plain_messages(sent=sent)), robot=robot())
    (note,) = [n for n in recording.account.notes if "passed over" in n]
    assert note.startswith("2 messages on topic /arm_controller/commands were passed over")
    np.testing.assert_allclose(rows(recording)[:6], [0, 0.01, 0.02, 0.02, 0.02, 0.05], atol=1e-7)


def test_velocities_and_efforts_and_joints_by_name(tmp_path):
    """Point maze: velocity in proprio, effort as action, joints in the driver's own order."""
    messages = []
    for i in range(MAZE.frame_skip + 1):
        stamp = START + i * MAZE.dt_ns
        state = joints(
            stamp, [20 + i, 9, 10 + i], ("slide_y", "lift", "slide_x"), (40 + i, 9, 30 + i)
        )
        messages.append(("/joint_states", state, stamp))
        messages.append(("/observation/image", image(stamp, i), stamp))
        if i < MAZE.frame_skip:
            sent = command(stamp, [200 + i, 100 + i], ("slide_y", "slide_x"), "effort")
            messages.append(("/command_sent", sent, stamp))
    (piece,) = read_recording(write(tmp_path / "bag", messages), MAZE).pieces
    np.testing.assert_array_equal(piece.proprio[0], [10, 20, 30, 40])
    np.testing.assert_array_equal(piece.actions[0, 2:4], [101, 201])


@pytest.mark.parametrize("topic", ["observation/image", "joint_states", "command_sent"])
def test_a_missing_topic_is_named(tmp_path, topic):
    path = write(tmp_path / "bag", [m for m in episode_messages() if m[0] != "/" + topic])
    with pytest.raises(DatasetError, match=f"{path}: topic {topic} has no "):
        read_recording(path, WALL)


@pytest.mark.parametrize(
    ("topic", "messages", "words"),
    [
        (
            "/joint_states",
            [joints(START, [0, 0], ["slide_x", "z"])],
            "no position of joint 'slide_y'",
        ),
        ("/command_sent", [command(START, [0, 0], ["slide_x", "z"])], "nothing of slide_y"),
        ("/command_sent", [command(START, [0])], "1 values for the joints slide_x, slide_y"),
        ("/observation/image", [image(START, 0, "32FC1")], "encoding '32FC1' is not supported"),
        ("/observation/image", [image(START, 0, size=(16, 20))], "pictures of 20x16 pixels"),
    ],
)
def test_a_topic_that_cannot_be_used_is_named(tmp_path, topic, messages, words):
    kept = [m for m in episode_messages() if m[0] != topic]
    several = [(topic, message, START + i * DT) for message in messages for i in range(0, 11)]
    path = write(tmp_path / "bag", [*kept, *restamped(several)])
    with pytest.raises(DatasetError, match=f"{path}: .*{words}"):
        read_recording(path, WALL)


def restamped(messages):
    """The messages, their header stamps those of their recording."""
    for topic, (msgtype, data), stamp in messages:
        seconds = (stamp // 10**9).to_bytes(4, "little")
        data = data[:4] + seconds + (stamp % 10**9).to_bytes(4, "little") + data[12:]
        yield topic, (msgtype, data), stamp


def test_image_size_changes(tmp_path):
    def seen(i, stamp):
        return "/cam/image_raw", image(stamp, i, size=(30, 40) if i < 7 else (30, 50)), stamp

    path = write(tmp_path / "bag", plain_messages(seen=seen))
    with pytest.raises(DatasetError, match="size changes from 40x30 to 50x30"):
        read_recording(path, robot=robot())


def test_a_picture_that_cannot_be_decoded_costs_its_steps_only(tmp_path):
    def seen(i, stamp):
        msgtype, data = compressed(stamp, i, (30, 40), "jpeg")
        return "/cam/image_raw/compressed", (msgtype, data[:-20] if i == 10 else data), stamp

    def cut(i, stamp):  # whole as a message, cut off as a picture
        topic, (_msgtype, data), stamp = seen(0, stamp)
        kind = "sensor_msgs/msg/CompressedImage"
        from wm_planner.data.bags import BagMessage

        whole = BagMessage(topic, kind, stamp, data).decode()
        return topic, encode(kind, header=whole.header, format="jpeg", data=whole.data[:-40]), stamp

    messages = plain_messages(seen=lambda i, s: cut(i, s) if i == 10 else seen(i, s))
    recording = read_recording(write(tmp_path / "bag", messages), robot=robot())
    rows_used = [((piece.stamps_ns - START) // DT).tolist() for piece in recording.pieces]
    assert rows_used == [[1, 6, 11, 16]]
    assert (recording.account.kept, recording.account.possible) == (3, 4)
    assert "1 pictures were passed over" in recording.account.notes[0]


def test_another_robots_bag_is_named(tmp_path):
    path = write(tmp_path / "bag", [("/recording", described(SENT), START), *episode_messages()])
    words = "recorded with 'sent', which is not the robot of the file, 'arm': action.names is"
    with pytest.raises(DatasetError, match=words):
        read_recording(path, robot=robot())


# Clocks ---------------------------------------------------------------------------------------


def test_a_clock_that_is_behind_is_moved(tmp_path):
    def seen(i, stamp):
        return "/cam/image_raw", image(stamp - 10 * 10**9, i, size=(30, 40)), stamp

    recording = read_recording(write(tmp_path / "bag", plain_messages(seen=seen)), robot=robot())
    assert "camera front: stamps are of another clock; moved by 10.00 s" in recording.account.notes
    assert recording.account.kept >= 3


def test_zero_stamps_take_the_time_of_receipt(tmp_path):
    def seen(i, stamp):
        return "/cam/image_raw", image(0, i, size=(30, 40)), stamp

    recording = read_recording(write(tmp_path / "bag", plain_messages(seen=seen)), robot=robot())
    assert "camera front: without stamps; the time of receipt is taken" in recording.account.notes
    assert frames(recording) == [0, 5, 10, 15, 20]


def test_simulated_time_beside_commands_without_a_stamp(tmp_path):
    """Stamps of a simulator, and what has none by the clock of the recorder."""
    later = 1_700_000_000 * 10**9
    messages = [(topic, message, stamp + later) for topic, message, stamp in plain_messages()]
    recording = read_recording(write(tmp_path / "bag", messages), robot=robot())
    assert frames(recording) == [0, 5, 10, 15, 20]
    np.testing.assert_allclose(rows(recording), np.arange(20) / 100, atol=1e-7)


def test_a_clock_of_another_speed_and_one_that_jumps_are_named(tmp_path):
    slow = [(topic, m, START + 3 * (stamp - START)) for topic, m, stamp in plain_messages(60)]
    later = [(topic, message, stamp + 10**12) for topic, message, stamp in slow]
    path = write(tmp_path / "slow", later)
    with pytest.raises(DatasetError, match="its clock runs at another speed"):
        read_recording(path, robot=robot())
    once = list(episode_messages(15))
    twice = [*once, *((t, m, s + 9 * 10**9) for t, m, s in once)]
    with pytest.raises(DatasetError, match="stamps jump back by 1.5 s"):
        read_recording(write(tmp_path / "twice", twice), WALL)


# Several cameras ------------------------------------------------------------------------------

TWO = replace(ARM, cameras=(Camera("front", 16), Camera("wrist", 16, optional=True)))


def two_cameras(wrist):
    for i in range(21):
        stamp = START + i * DT
        yield "/joint_states", joints(stamp, [i, i], ("a", "b")), stamp
        yield "/observation/front", image(stamp, i), stamp
        if wrist(i):
            yield "/observation/wrist", image(stamp + 30 * MS, 100 + i), stamp + 30 * MS
        yield "/command_sent", command(stamp, [0, 0], ("a", "b")), stamp


@pytest.mark.parametrize("optional", [True, False])
def test_two_cameras_side_by_side(tmp_path, optional):
    body = replace(TWO, cameras=(TWO.cameras[0], replace(TWO.cameras[1], optional=optional)))
    told = ("/recording", described(body), START)
    messages = [told, *two_cameras(lambda i: not 9 <= i <= 16)]
    recording = read_recording(write(tmp_path / "bag", messages))
    pieces = recording.pieces
    assert all(piece.images.shape[1:] == (16, 32, 3) for piece in pieces)
    wrist = {int(p[0, 0, 0]): int(p[0, -1, 0]) for piece in pieces for p in piece.images}
    if optional:
        assert wrist == {0: 100, 5: 105, 10: 0, 15: 0, 20: 120}
    else:
        assert all(abs(value - 100 - key) <= 1 for key, value in wrist.items())
        assert recording.account.lost["camera wrist"] >= 1
        assert recording.account.holes["wrist"][0] == 1


def test_an_optional_camera_that_was_not_recorded_is_black(tmp_path):
    told = ("/recording", described(TWO), START)
    recording = read_recording(write(tmp_path / "bag", [told, *two_cameras(lambda i: False)]))
    assert (recording.pieces[0].images[:, :, 16:] == 0).all()
    assert recording.account.notes == ("camera wrist was not recorded: black",)


def test_what_an_operator_drove_in_between_is_read_and_marked(tmp_path):
    """Ours until 0.5 s, the operator's from 0.9 s to 1.9 s, ours again."""
    teleop = {"topic": "/teleop", "names": ["slide_x", "slide_y"], "carries": "velocity"}
    body = SENT

    def messages():
        yield "/recording", described(body, commands=teleop), START
        for topic, message, stamp in episode_messages(ticks=30):
            tick = (stamp - START) // (100 * MS)
            if topic != "/command_sent" or not 5 < tick < 20:
                yield topic, message, stamp
            if topic == "/command_sent" and (9 <= tick < 19 or tick == 2):
                yield "/teleop", floats([0.5, 0.5]), stamp

    recording = read_recording(write(tmp_path / "bag", messages()))
    shares = np.concatenate([piece.operator for piece in recording.pieces])
    rows = np.concatenate([piece.actions for piece in recording.pieces]).reshape(-1, 5, 2)
    # The fourth step ends behind the operator's last command: nobody drove there.
    assert np.allclose(shares, [0, 0.2, 1, 0, 0])
    assert (rows[2] == 0.5).all() and (rows[1, :4, 0] == np.float32(0.05)).all()
    assert (rows[[0, 3, 4]] != 0.5).all()  # ours count where both command
