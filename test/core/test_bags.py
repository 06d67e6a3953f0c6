"""Files of bags: compressed, split, cut off, damaged. What is whole is read, the rest is named."""

import shutil
import sqlite3

import numpy as np
import pytest
from mcap.reader import SeekingReader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

from wm_planner.data.bags import Bag, bags_in, typestore
from wm_planner.errors import DatasetError

from .bag_messages import MS, START, encode, episode_messages, floats, write

TICKS = 50


def contents(path):
    """(topic, stamp) of all messages, and what was damaged."""
    bag = Bag(path)
    return [(m.topic, m.stamp_ns) for m in bag.messages()], bag.damage


WHOLE = sorted((topic, stamp) for topic, _, stamp in episode_messages(TICKS))


def rosbag(path, messages, plugin=StoragePlugin.MCAP, mode=None, version=9):
    writer = Writer(path, version=version, storage_plugin=plugin)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    writer.open()
    connections = {}
    for topic, (msgtype, data), stamp in messages:
        if topic not in connections:
            connections[topic] = writer.add_connection(topic, msgtype, typestore=typestore())
        writer.write(connections[topic], stamp, data)
    writer.close()
    return path


def chunked(path, messages, compression=CompressionType.ZSTD, name="a_0"):
    """An MCAP file in chunks of 4 kB, as recorders write it, without metadata.yaml."""
    path.mkdir(parents=True, exist_ok=True)
    file = path / f"{name}.mcap"
    with file.open("wb") as stream:
        writer = McapWriter(stream, chunk_size=4000, compression=compression)
        writer.start(profile="ros2", library="test")
        channels = {}
        for topic, (msgtype, data), stamp in messages:
            if topic not in channels:
                text, _ = typestore().generate_msgdef(msgtype, ros_version=2)
                schema = writer.register_schema(msgtype, "ros2msg", text.encode())
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], stamp, data, stamp)
        writer.finish()
    return file


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("mode", [None, CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("keep_metadata", [True, False])
def test_every_storage_and_compression(tmp_path, plugin, mode, keep_metadata):
    path = rosbag(tmp_path / "bag", episode_messages(TICKS), plugin, mode)
    if not keep_metadata:
        (path / "metadata.yaml").unlink()
    messages, damage = contents(path)
    assert sorted(messages) == WHOLE
    assert [text.split()[0] for text in damage] == ([] if keep_metadata else ["metadata.yaml"])
    first = next(iter(Bag(path).messages()))
    assert first.decode().values[0].value == "3"


def test_chunks_compressed_by_the_storage_and_an_older_version(tmp_path):
    stored = rosbag(tmp_path / "a", episode_messages(TICKS), mode=CompressionMode.STORAGE)
    older = rosbag(tmp_path / "b", episode_messages(TICKS), StoragePlugin.SQLITE3, version=8)
    for path in (stored, older):
        messages, damage = contents(path)
        assert sorted(messages) == WHOLE and not damage


@pytest.mark.parametrize("compression", list(CompressionType))
def test_a_split_bag_is_read_in_the_order_of_its_parts(tmp_path, compression):
    messages = sorted(episode_messages(TICKS), key=lambda message: message[2])
    for part in range(11):
        chunked(tmp_path, messages[part * 10 : part * 10 + 10], compression, f"run_{part}")
    chunked(tmp_path, messages[110:], compression, "run_11")
    read, _ = contents(tmp_path)
    assert [stamp for _, stamp in read] == sorted(stamp for _, stamp in read)
    assert sorted(read) == WHOLE
    assert bags_in(tmp_path) == [tmp_path]


def test_a_missing_part_is_named_and_the_others_are_read(tmp_path):
    path = rosbag(tmp_path / "bag", episode_messages(TICKS))
    text = (path / "metadata.yaml").read_text()
    more = text.replace("- bag.mcap", "- bag_9.mcap\n  - bag.mcap")
    assert more != text
    (path / "metadata.yaml").write_text(more)
    messages, damage = contents(path)
    assert sorted(messages) == WHOLE
    assert damage == ["bag_9.mcap: named in metadata.yaml, but missing"]


@pytest.mark.parametrize("metadata", ["rosbag2_bagfile_information: {version: 9}\n", "{", "[]"])
def test_damaged_metadata_is_named(tmp_path, metadata):
    path = write(tmp_path / "bag", episode_messages(TICKS))
    (path / "metadata.yaml").write_text(metadata)
    messages, damage = contents(path)
    assert sorted(messages) == WHOLE
    assert len(damage) == 1 and damage[0].startswith("metadata.yaml cannot be used")


@pytest.mark.parametrize("keep_metadata", [True, False])
@pytest.mark.parametrize("cut", [0.35, 0.6, 0.85, 0.99])
def test_a_file_cut_anywhere_gives_a_prefix(tmp_path, cut, keep_metadata):
    path = write(tmp_path / "bag", episode_messages(TICKS))
    (file,) = path.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: int(cut * file.stat().st_size)])
    if not keep_metadata:
        (path / "metadata.yaml").unlink()
    messages, damage = contents(path)
    assert (
        messages == [(topic, stamp) for topic, _, stamp in episode_messages(TICKS)][: len(messages)]
    )
    assert messages and any("cut off at" in text for text in damage)


def test_a_killed_recording_is_read_up_to_its_end(tmp_path):
    path = write(tmp_path / "bag", episode_messages(TICKS), close=False)
    messages, damage = contents(path)
    assert sorted(messages) == WHOLE and len(damage) == 2


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("seed", range(3))
def test_damage_inside_costs_its_chunks(tmp_path, compression, seed):
    rng = np.random.default_rng(seed)
    file = chunked(tmp_path, episode_messages(TICKS), compression)
    data = bytearray(file.read_bytes())
    with file.open("rb") as stream:
        chunk = SeekingReader(stream).get_summary().chunk_indexes[2]
    where = chunk.chunk_start_offset + int(rng.integers(chunk.chunk_length - 60))
    data[where : where + 60] = rng.bytes(60)
    file.write_bytes(data)
    messages, damage = contents(tmp_path)
    assert set(messages) < set(WHOLE)
    assert len(damage) == 2 and "damaged" in damage[1]
    stamps = {stamp for _, stamp in messages}
    assert min(stamps) == START and max(stamps) == START + TICKS * 100 * MS


def test_the_log_of_a_killed_sqlite_recorder_is_read_too(tmp_path):
    path = rosbag(tmp_path / "bag", episode_messages(TICKS), StoragePlugin.SQLITE3)
    (file,) = path.glob("*.db3")
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("UPDATE messages SET timestamp = timestamp + 1")
    connection.commit()
    killed = tmp_path / "killed"
    shutil.copytree(path, killed)  # while the connection is open: as a kill leaves it
    connection.close()
    before = {f: f.read_bytes() for f in killed.iterdir()}
    messages, damage = contents(killed)
    assert sorted(messages) == [(topic, stamp + 1) for topic, stamp in WHOLE]
    assert damage == ["bag.db3: the recorder was killed"]
    assert {f: f.read_bytes() for f in killed.iterdir()} == before, "others' files stay as they are"


def test_a_damaged_database_is_read_up_to_there(tmp_path):
    path = rosbag(tmp_path / "bag", episode_messages(TICKS), StoragePlugin.SQLITE3)
    (file,) = path.glob("*.db3")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    messages, damage = contents(path)
    assert set(messages) < set(WHOLE)
    assert damage[0] == f"bag.db3: cut off at {len(data) // 2} bytes"


def test_a_truncated_compressed_file_is_read_up_to_there(tmp_path):
    path = rosbag(tmp_path / "bag", episode_messages(TICKS), mode=CompressionMode.FILE)
    (file,) = path.glob("*.zstd")
    file.write_bytes(file.read_bytes()[:-40])
    messages, damage = contents(path)
    assert set(messages) <= set(WHOLE) and damage


def test_a_type_that_the_bag_defines_is_decoded(tmp_path):
    text = "std_msgs/Header header\nfloat64[] velocities\n"
    store_free = encode("std_msgs/msg/Float64", data=1.5)[1]
    file = tmp_path / "a_0.mcap"
    with file.open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="ros2", library="test")
        for kind, definition, data in (
            ("my_msgs/msg/Jog", "float64 data\n", store_free),
            ("my_msgs/msg/Empty", "", b""),
            ("my_msgs/msg/Bad", text, b"\x00\x01\x00\x00"),
        ):
            schema = writer.register_schema(kind, "ros2msg", definition.encode())
            channel = writer.register_channel(f"/{kind[-3:]}", "cdr", schema)
            writer.add_message(channel, 1, data, 1)
        writer.finish()
    jog, empty, bad = Bag(tmp_path).messages()
    assert jog.decode().data == 1.5
    for message in (empty, bad):
        with pytest.raises(DatasetError, match=f"topic {message.topic}: .* cannot be decoded"):
            message.decode()


def test_other_encodings_are_named(tmp_path):
    with (tmp_path / "a_0.mcap").open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="", library="test")
        schema = writer.register_schema("x", "jsonschema", b"{}")
        writer.add_message(writer.register_channel("/x", "json", schema), 1, b"{}", 1)
        writer.finish()
    messages, damage = contents(tmp_path)
    assert not messages
    assert "a_0.mcap: topic /x has the encoding 'json', not cdr" in damage


def test_no_bag_and_an_empty_file_are_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no bag here"):
        list(Bag(tmp_path / "nowhere").messages())
    (tmp_path / "a.mcap").write_bytes(b"")
    messages, damage = contents(tmp_path)
    assert not messages and "a.mcap: cut off at 0 bytes" in damage


def test_some_topics_alone(tmp_path):
    path = write(tmp_path / "bag", episode_messages(TICKS))
    topics = {message.topic for message in Bag(path).messages({"/command_sent"})}
    assert topics == {"/command_sent"}


def test_which_bags_lie_in_a_directory(tmp_path):
    for name in ("run_10", "run_9", "dropped/run_1"):
        write(tmp_path / name, episode_messages(2))
    (tmp_path / "empty").mkdir()
    assert [path.name for path in bags_in(tmp_path)] == ["run_9", "run_10"]
    assert bags_in(tmp_path / "run_9") == [tmp_path / "run_9"]
    loose = tmp_path / "loose"
    files = [chunked(loose, episode_messages(2), name=name) for name in ("kitchen", "office")]
    assert bags_in(loose) == files and bags_in(files[0]) == files[:1]
    assert contents(files[0]) == (contents(files[1])[0], [])


def test_a_message_larger_than_a_chunk(tmp_path):
    messages = [("/a", floats(np.zeros(10_000)), 1), ("/a", floats([1]), 2)]
    chunked(tmp_path, messages)
    assert [len(m.decode().data) for m in Bag(tmp_path).messages()] == [10_000, 1]
