"""Bytes that a disk or a copy has altered: nothing raw is raised, no altered value is read."""

import random
import shutil
from collections import Counter

import pytest
from mcap.reader import SeekingReader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2.enums import CompressionMode

from wm_planner.cli.main import main
from wm_planner.data.bags import Bag, typestore
from wm_planner.data.recording import read_recording
from wm_planner.errors import WmPlannerError
from wm_planner.tasks import get_task, resized

from .bag_messages import MS, START, described, episode_messages, write
from .test_bags import chunked, rosbag

TICKS, PER_KIND = 12, 30  # model steps of an episode are five ticks
BODY = resized(get_task("wall").embodiment, 16)


def episode(ticks=TICKS):
    yield "/recording", described(BODY), START
    yield from episode_messages(ticks)


def without_metadata(path):
    write(path, episode())
    (path / "metadata.yaml").unlink()


# Name -> (writer of a bag, whether altered values can be seen).
KINDS = {
    "recorder": (lambda path: write(path, episode()), True),
    "recorder, no metadata": (without_metadata, True),
    "chunks, none": (lambda path: chunked(path, episode(), CompressionType.NONE), True),
    "chunks, zstd": (lambda path: chunked(path, episode(), CompressionType.ZSTD), True),
    "chunks, lz4": (lambda path: chunked(path, episode(), CompressionType.LZ4), True),
    "file, zstd": (
        lambda path: rosbag(path, episode(), StoragePlugin.SQLITE3, CompressionMode.FILE),
        False,
    ),
    "sqlite": (lambda path: rosbag(path, episode(), StoragePlugin.SQLITE3), False),
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """A bag, its messages, and whether altered values can be seen."""
    write_bag, checked = KINDS[request.param]
    path = tmp_path_factory.mktemp("whole") / "bag"
    write_bag(path)
    return path, messages_of(Bag(path)), checked


def messages_of(bag):
    return Counter((m.topic, m.msgtype, m.stamp_ns, m.data) for m in bag.messages())


def eight_in_a_row(data, rng):
    place = rng.randrange(len(data) - 8)
    data[place : place + 8] = rng.randbytes(8)


def eight_bits_anywhere(data, rng):
    for _ in range(8):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data, rng):
    del data[rng.randrange(len(data)) :]


@pytest.mark.parametrize("damage", [eight_in_a_row, eight_bits_anywhere, cut])
def test_damage_anywhere(whole, tmp_path, damage):
    path, true, checked = whole
    for seed in range(PER_KIND):
        copy = tmp_path / f"{seed}"
        shutil.copytree(path, copy)
        files = sorted(copy.iterdir())
        file, rng = files[seed % len(files)], random.Random(seed)
        data = bytearray(file.read_bytes())
        damage(data, rng)
        file.write_bytes(data)
        bag = Bag(copy)
        read = messages_of(bag)
        if checked:
            assert not read - true, f"{damage.__name__}, seed {seed}: altered"
            assert bag.damage or not true - read, f"{damage.__name__}, seed {seed}: in silence"
        assert all("\n" not in text for text in bag.damage)
        said = ""
        try:
            read_recording(copy)
        except WmPlannerError as error:
            said = str(error)
        assert not said or (said.startswith(f"{copy}") and "\n" not in said)


def test_the_commands_say_it_in_one_line(whole, tmp_path, capsys):
    path, *_ = whole
    copy = tmp_path / "bag"
    shutil.copytree(path, copy)
    (file,) = (f for f in copy.iterdir() if f.name != "metadata.yaml")
    data = bytearray(file.read_bytes())
    del data[len(data) // 5 :]
    file.write_bytes(data)
    assert main(["dataset", "info", str(copy)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"wm-planner: error: {copy}: ")


# What exactly is said, and what is saved ----------------------------------------------------


def chunk_indexes(file):
    with file.open("rb") as stream:
        return SeekingReader(stream).get_summary().chunk_indexes


def test_a_damaged_chunk_is_named_with_the_time_that_is_lost(tmp_path):
    write(tmp_path / "bag", episode())
    (file,) = (tmp_path / "bag").glob("*.mcap")
    index = chunk_indexes(file)[1]
    data = bytearray(file.read_bytes())
    data[index.chunk_start_offset + index.chunk_length - 3] ^= 1
    file.write_bytes(data)
    bag = Bag(tmp_path / "bag")
    stamps = [message.stamp_ns for message in bag.messages()]
    (text,) = bag.damage
    assert text.startswith(
        f"bag.mcap: the chunk at byte {index.chunk_start_offset} is damaged (crc"
    )
    start, end = index.message_start_time, index.message_end_time
    assert text.endswith(
        f"; what was recorded is lost: {(end - start) / 1e9:.2f} s from stamp {start / 1e9:.3f} on"
    )
    assert stamps and not any(start < stamp < end for stamp in stamps)


@pytest.mark.parametrize("compression", list(CompressionType))
def test_behind_damage_the_next_whole_chunk_is_found_without_an_index(tmp_path, compression):
    file = chunked(tmp_path, episode(40), compression)
    true = messages_of(Bag(file))
    indexes = chunk_indexes(file)
    assert len(indexes) > 3
    broken = indexes[1]
    data = bytearray(file.read_bytes()[:-100])  # the index is gone
    data[broken.chunk_start_offset + 1 : broken.chunk_start_offset + 9] = b"\xff" * 8  # its length
    file.write_bytes(data)
    bag = Bag(file)
    read = messages_of(bag)
    lost = true - read
    assert not read - true and max(stamp for _, _, stamp, _ in read) == START + 40 * 100 * MS
    start, end = broken.message_start_time, broken.message_end_time
    assert lost and all(start <= stamp <= end for _, _, stamp, _ in lost)
    place = broken.chunk_start_offset
    assert f"a_0.mcap: damaged from byte {place} to byte " in bag.damage[1]


def unchunked(path, **options):
    with path.open("wb") as stream:
        writer = McapWriter(stream, use_chunking=False, **options)
        writer.start(profile="ros2", library="test")
        channels = {}
        for topic, (msgtype, data), stamp in episode():
            if topic not in channels:
                text, _ = typestore().generate_msgdef(msgtype, ros_version=2)
                schema = writer.register_schema(msgtype, "ros2msg", text.encode())
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], stamp, data, stamp)
        writer.finish()
    return path


def test_a_file_without_chunks_is_read_only_where_its_checksum_fits(tmp_path):
    file = unchunked(tmp_path / "a.mcap", enable_data_crcs=True)
    true = messages_of(Bag(file))
    assert len(list(true)) > 30 and not Bag(file).damage
    for seed in range(20):
        data = bytearray(file.read_bytes())
        eight_in_a_row(data, random.Random(seed))
        damaged = tmp_path / "b.mcap"
        damaged.write_bytes(data)
        bag = Bag(damaged)
        read = messages_of(bag)
        assert not read - true and (bag.damage or read == true)


def test_a_size_that_was_altered_is_not_allocated(tmp_path):
    file = chunked(tmp_path, episode(), CompressionType.ZSTD)
    data = bytearray(file.read_bytes())
    place = chunk_indexes(file)[0].chunk_start_offset + 9 + 16
    data[place : place + 8] = (2**40).to_bytes(8, "little")
    file.write_bytes(data)
    bag = Bag(file)
    assert messages_of(bag) and "1099511627776 bytes" in bag.damage[0]


def test_a_compressed_copy_without_room_for_it_is_no_damage(tmp_path, monkeypatch):
    path = rosbag(tmp_path / "bag", episode(), mode=CompressionMode.FILE)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(WmPlannerError, match="zstd: cannot be unpacked into .*set TMPDIR"):
        messages_of(Bag(path))
