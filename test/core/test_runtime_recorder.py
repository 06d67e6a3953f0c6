"""Bags survive a kill, a full disk is one clear error, an episode is one bag."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from mcap.reader import NonSeekingReader, make_reader
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from wm_planner.data.bags import Bag, typestore
from wm_planner.errors import DatasetError, WriteError
from wm_planner.runtime.bag_writer import BagWriter
from wm_planner.runtime.recorder import EpisodeRecorder, Note

from .bag_messages import damage_of
from .small_disk import files_of_at_most

TEXT = "std_msgs/msg/String"
SECOND = 1_000_000_000


def text(value):
    message = typestore().types[TEXT](data=value)
    return bytes(typestore().serialize_cdr(message, TEXT))


def read_texts(path, topic="/a"):
    return [m.decode().data for m in Bag(path).messages() if m.topic == topic]


def test_a_closed_bag_is_read_by_rosbags_and_mcap(tmp_path):
    path = tmp_path / "bag"
    writer = BagWriter(path)
    for i in range(250):
        writer.write("/a", TEXT, text(f"a{i}"), i * SECOND // 100)
        writer.write("/b", "sensor_msgs/msg/JointState", joint_state(i), i * SECOND // 100)
    writer.close()
    writer.close()
    assert not damage_of(path)
    with Reader(path) as reader:
        assert reader.message_count == 500
        assert (reader.start_time, reader.end_time) == (0, 249 * SECOND // 100 + 1)
        assert {t: info.msgtype for t, info in reader.topics.items()} == {
            "/a": TEXT,
            "/b": "sensor_msgs/msg/JointState",
        }
    with AnyReader([path]) as reader:  # decodes with the definitions inside the bag
        connections = [c for c in reader.connections if c.topic == "/b"]
        positions = [
            reader.deserialize(data, c.msgtype).position[0]
            for c, _, data in reader.messages(connections)
        ]
    assert positions == list(range(250))
    with next(path.glob("*.mcap")).open("rb") as stream:
        reader = make_reader(stream)  # by the index
        assert reader.get_header().profile == "ros2"
        assert sum(1 for _ in reader.iter_messages(topics=["/a"])) == 250


def joint_state(value):
    store = typestore()
    header = store.types["std_msgs/msg/Header"](
        stamp=store.types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id=""
    )
    message = store.types["sensor_msgs/msg/JointState"](
        header=header,
        name=["x"],
        position=np.array([float(value)]),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )
    return bytes(store.serialize_cdr(message, "sensor_msgs/msg/JointState"))


VICTIM = """
import sys
from wm_planner.runtime.bag_writer import BagWriter
from wm_planner.data.bags import typestore
path, size = sys.argv[1], int(sys.argv[2])
writer = BagWriter(path)
for i in range(1000):
    message = typestore().types["std_msgs/msg/String"](data=f"{i:06d}" + "x" * size)
    data = bytes(typestore().serialize_cdr(message, "std_msgs/msg/String"))
    writer.write("/a", "std_msgs/msg/String", data, i * 10_000_000)
    if sys.argv[3] == "flush" and i == 999:
        writer.flush()
print("written", flush=True)
sys.stdin.read()
"""


def write_and_kill(path, size, flush):
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(path), str(size), flush],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert victim.stdout.readline() == "written\n"
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    assert victim.returncode == -signal.SIGKILL


@pytest.mark.parametrize("size", [0, 30_000])
def test_kill_9_loses_less_than_a_second(tmp_path, size):
    """1000 messages 10 ms apart: at least 900 must be there, in order, from the first on."""
    path = tmp_path / "bag"
    write_and_kill(path, size, flush="")
    assert damage_of(path)
    numbers = [int(value[:6]) for value in read_texts(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 900
    with next(path.glob("*.mcap")).open("rb") as stream:  # the library's own reader agrees
        seen = 0
        with pytest.raises(Exception):  # noqa: B017 - it ends in the middle, by design
            for _ in NonSeekingReader(stream).iter_messages(log_time_order=False):
                seen += 1
    assert seen == len(numbers)


def test_kill_9_after_a_flush_loses_nothing(tmp_path):
    path = tmp_path / "bag"
    write_and_kill(path, 0, flush="flush")
    assert len(read_texts(path)) == 1000


def test_a_clock_that_moves_backwards_still_flushes(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    writer.write("/a", TEXT, text("late"), 100 * SECOND)
    writer.write("/a", TEXT, text("early"), SECOND)
    assert read_texts(tmp_path / "bag") == ["late", "early"]  # not closed, but flushed
    writer.close()
    assert read_texts(tmp_path / "bag") == ["early", "late"]


def test_an_existing_directory_is_never_overwritten(tmp_path):
    BagWriter(tmp_path / "bag").close()
    with pytest.raises(DatasetError, match="bag.*exists"):
        BagWriter(tmp_path / "bag")


def test_an_unwritable_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file/bag: cannot be written: Not a directory"):
        BagWriter(tmp_path / "file" / "bag")
    with pytest.raises(WriteError, match="file/runs: cannot be written: Not a directory"):
        EpisodeRecorder(tmp_path / "file" / "runs")


def test_an_unknown_message_type_is_named(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    with pytest.raises(DatasetError, match="topic /a: message type my/msg/Own"):
        writer.write("/a", "my/msg/Own", b"", 0)
    writer.write("/b", TEXT, text("still open"), 0)
    writer.close()
    assert read_texts(tmp_path / "bag", "/b") == ["still open"]


def test_writing_after_close_is_an_error(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    writer.close()
    with pytest.raises(DatasetError, match="closed"):
        writer.write("/a", TEXT, text(""), 0)


FULL_DISK = """
import resource, sys
from wm_planner.data.bags import Bag, typestore
from wm_planner.errors import WriteError
from wm_planner.runtime.recorder import EpisodeRecorder
recorder = EpisodeRecorder(sys.argv[1])
recorder.start("full", 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # a disk that fills up
message = typestore().types["std_msgs/msg/String"](data="x" * 1000)
data = bytes(typestore().serialize_cdr(message, "std_msgs/msg/String"))
for i in range(1000):
    try:
        recorder.add("/a", "std_msgs/msg/String", data, i * 10_000_000)
    except WriteError as error:
        print("refused:", error)
        break
print("recording:", recorder.recording)
print("readable:", sum(1 for _ in Bag(sys.argv[1] + "/full").messages()) >= 100)
recorder.start("next", 10**12)
recorder.add("/a", "std_msgs/msg/String", data, 10**12)
print("next:", recorder.end(2 * 10**12).name)
"""


def test_a_full_disk_is_one_clear_error_and_the_recorder_lives_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"refused: {tmp_path}/full: cannot be written: File too large")
    assert lines[0].endswith(". The bag ends here, what was recorded before is kept")
    assert lines[1:] == ["recording: False", "readable: True", "next: next"]


def fill(recorder: EpisodeRecorder, first_ns: int) -> int:
    """Add messages of 10 kB until one is refused; returns its stamp."""
    for stamp_ns in range(first_ns, first_ns + 100 * SECOND, SECOND // 10):
        try:
            recorder.add("/a", TEXT, text("x" * 10_000), stamp_ns)
        except WriteError:
            return stamp_ns
    raise AssertionError("nothing was refused")


def test_an_episode_goes_on_in_a_bag_of_its_own_when_there_is_room(tmp_path):
    recorder = EpisodeRecorder(tmp_path, max_pending_bytes=500_000)
    recorder.start("long", 0)
    with files_of_at_most(200_000):
        last_ns = fill(recorder, 0)
        assert (
            not recorder.recording and "long: cannot be written: File too large" in recorder.fault
        )
        assert recorder.go_on(last_ns) is None, "no room yet"
    note = Note("/recording", TEXT, text("of which robot"))
    assert recorder.go_on(last_ns, [note]) == tmp_path / "long_2"
    assert recorder.fault == ""
    recorder.add("/a", TEXT, text("later"), last_ns + 1)
    assert recorder.end(last_ns + 2) == tmp_path / "long_2"
    assert len(read_texts(tmp_path / "long")) > 10
    assert read_texts(tmp_path / "long_2", "/recording") == ["of which robot"]
    assert read_texts(tmp_path / "long_2")[-1] == "later"
    assert {path.name for path in tmp_path.iterdir()} == {"long", "long_2"}


def test_a_disk_that_is_full_from_the_beginning_leaves_no_empty_bags(tmp_path):
    recorder = EpisodeRecorder(tmp_path)
    with files_of_at_most(4_000):
        for number in range(3):
            recorder.start(f"episode_{number}", number * 1000 * SECOND)
            fill(recorder, number * 1000 * SECOND)
            assert recorder.fault.endswith(". Nothing was recorded")
            recorder.end(number * 1000 * SECOND + 1)
    assert not list(tmp_path.iterdir())
    assert recorder.go_on(0) is None and recorder.fault == "", "there is room again"


@pytest.mark.parametrize("name", ["x" * 5000, "ä" * 150, "a\0b"])
def test_names_that_no_file_system_takes_are_refused(tmp_path, name):
    recorder = EpisodeRecorder(tmp_path)
    with pytest.raises(DatasetError, match="episode name"):
        recorder.start(name, 0)
    assert not recorder.fault and not recorder.recording


def test_one_bag_per_episode_with_the_messages_from_its_start_on(tmp_path):
    recorder = EpisodeRecorder(tmp_path)
    recorder.add("/a", TEXT, text("before"), 9)
    recorder.add("/a", TEXT, text("early"), 11)  # arrived before the start event
    recorder.add("/b", TEXT, text("first"), 10)
    path = recorder.start("episode_1", 10)
    assert recorder.recording and recorder.path == path
    recorder.add("/a", TEXT, text("during"), 12)
    assert recorder.end(12) == path
    assert not recorder.recording
    assert sorted(read_texts(path)) == ["during", "early"]
    assert read_texts(path, "/b") == ["first"]
    assert recorder.end(13) is None


def test_a_message_for_the_next_episode_that_comes_before_the_end_is_in_the_next_bag(tmp_path):
    recorder = EpisodeRecorder(tmp_path)
    recorder.start("one", 0)
    recorder.add("/a", TEXT, text("one"), 5)
    recorder.add("/a", TEXT, text("two"), 10)
    recorder.end(5)
    path = recorder.start("two", 10)
    recorder.end(20)
    assert read_texts(path) == ["two"]


def test_a_message_published_again_is_written_once(tmp_path):
    recorder = EpisodeRecorder(tmp_path)
    recorder.add("/a", TEXT, text("tick"), 1)
    path = recorder.start("episode", 0)
    recorder.add("/a", TEXT, text("tick"), 1)
    recorder.add("/a", TEXT, text("another node, same stamp"), 1)
    recorder.add("/b", TEXT, text("tick"), 1)
    recorder.add("/a", TEXT, text("tick"), 2)
    recorder.end(2)
    assert read_texts(path) == ["tick", "another node, same stamp", "tick"]
    assert read_texts(path, "/b") == ["tick"]


def test_bags_are_numbered_not_overwritten(tmp_path):
    recorder = EpisodeRecorder(tmp_path)
    names = []
    for stamp in range(3):
        names.append(recorder.start("episode", stamp).name)
        recorder.end(stamp)
    assert names == ["episode", "episode_2", "episode_3"]


def test_a_repeated_start_does_nothing_and_another_start_ends_the_first(tmp_path, caplog):
    recorder = EpisodeRecorder(tmp_path)
    first = recorder.start("a", 0)
    assert recorder.start("a", 0) == first
    recorder.add("/a", TEXT, text("in a"), 1)
    recorder.add("/a", TEXT, text("at b"), 5)
    second = recorder.start("b", 5)
    assert "no end of the episode" in caplog.text
    assert not damage_of(first)
    recorder.end(6)
    assert read_texts(second) == ["at b"]


def test_what_is_kept_aside_is_bounded_and_the_oldest_go(tmp_path):
    size = len(text("000"))
    recorder = EpisodeRecorder(tmp_path, max_pending_bytes=10 * size)
    for i in range(100):
        recorder.add("/a", TEXT, text(f"{i:03d}"), i)
    path = recorder.start("episode", 0)
    recorder.end(100)
    assert read_texts(path) == [f"{i:03d}" for i in range(90, 100)]


@pytest.mark.parametrize("name", ["", "a/b", "..", "/abs"])
def test_an_episode_name_must_be_a_plain_name(tmp_path, name):
    with pytest.raises(DatasetError, match="plain name"):
        EpisodeRecorder(tmp_path / "root").start(name, 0)


def test_what_an_ended_episode_holds_is_not_written_to_the_next(tmp_path):
    """Also when the next one starts at the very stamp at which the first one ended."""
    recorder = EpisodeRecorder(tmp_path)
    recorder.start("one", 0)
    recorder.add("/a", TEXT, text("last of one"), 5)
    recorder.end(5)
    path = recorder.start("two", 5)
    recorder.add("/a", TEXT, text("first of two"), 5)
    recorder.end(6)
    assert read_texts(path) == ["first of two"]


def test_a_message_of_the_time_before_the_start_is_not_written(tmp_path):
    recorder = EpisodeRecorder(tmp_path)
    path = recorder.start("episode", 5 * SECOND)
    recorder.add("/a", TEXT, text("of the episode before"), 4 * SECOND)
    recorder.add("/a", TEXT, text("of this one"), 5 * SECOND)
    recorder.end(6 * SECOND)
    assert read_texts(path) == ["of this one"]


def test_a_bag_begins_with_its_notes_and_counts_its_messages(tmp_path):
    recorder = EpisodeRecorder(tmp_path)
    for i in range(4):
        recorder.add("/a", TEXT, text(f"a{i}"), i * SECOND)
    path = recorder.start("one", SECOND, [Note("/recording", TEXT, text("about"))])
    assert recorder.counts == {"/recording": 1, "/a": 3} and recorder.seconds == 2.0
    recorder.end(3 * SECOND)
    assert next(iter(Bag(path).messages())).topic == "/recording"
    assert recorder.counts["/a"] == 3  # also once it is closed
    recorder.start("two", 4 * SECOND)
    assert recorder.counts == {} and recorder.seconds == 0.0


def test_a_dropped_bag_is_kept_elsewhere(tmp_path):
    recorder = EpisodeRecorder(tmp_path)
    for _ in range(2):
        path = recorder.start("episode_0004", SECOND)
        recorder.add("/a", TEXT, text("a"), SECOND)
        recorder.end(SECOND)
        target = recorder.drop(path)
    assert target == tmp_path / "dropped" / "episode_0004_2"
    assert read_texts(target) == ["a"] and not path.exists()
    assert recorder.free_number() == 5
    with pytest.raises(DatasetError, match="cannot be moved"):
        recorder.drop(path)


def test_a_compressed_bag_is_smaller_and_reads_the_same(tmp_path):
    sizes = []
    for compress in (False, True):
        path = tmp_path / str(compress)
        writer = BagWriter(path, compress)
        for i in range(20):
            writer.write("/a", TEXT, text(f"a{i}" + 1000 * "x"), i * SECOND // 10)
        writer.close()
        assert read_texts(path) == [f"a{i}" + 1000 * "x" for i in range(20)]
        sizes.append(sum(file.stat().st_size for file in path.iterdir()))
    assert sizes[1] < 0.4 * sizes[0]
