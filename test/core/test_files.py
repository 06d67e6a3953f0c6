"""Files that are whole or not there; JSON and settings whose errors name the place."""

from __future__ import annotations

import pytest

from wm_planner.config import parse_setting
from wm_planner.errors import ConfigError, DatasetError, WriteError
from wm_planner.files import parse_json, read_json, write_json, written_aside


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("before")
    with written_aside(file) as part:
        write_json(part, {"a": [1, None]})
        assert file.read_text() == "before" and part.parent == tmp_path
    assert file.read_text() == '{\n  "a": [\n    1,\n    null\n  ]\n}\n'
    assert read_json(file) == {"a": [1, None]}
    assert list(tmp_path.iterdir()) == [file]


def test_a_directory_and_a_link_take_their_place(tmp_path):
    with written_aside(tmp_path / "new") as part:
        part.mkdir()
        (part / "x").touch()
    assert (tmp_path / "new/x").is_file()
    for _ in range(2):
        with written_aside(tmp_path / "latest") as part:
            part.symlink_to("new")
    assert (tmp_path / "latest/x").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"new", "latest"}


@pytest.mark.parametrize("is_directory", [False, True])
def test_what_fails_leaves_nothing(tmp_path, is_directory):
    with pytest.raises(KeyError), written_aside(tmp_path / "a") as part:
        part.mkdir() if is_directory else part.touch()
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    with written_aside(tmp_path / "a") as part:
        part.mkdir()
        left = part
        (part / "old").touch()
    left.mkdir()
    (left / "half").touch()
    with written_aside(tmp_path / "b") as part:
        part.mkdir()
    left.rename(tmp_path / part.name)
    refused = pytest.raises(WriteError, match="/a: cannot be written: Directory not empty; choose")
    with refused, written_aside(tmp_path / "a") as part:
        part.mkdir()  # a directory that holds something is not replaced
    with written_aside(tmp_path / "b") as part:
        part.mkdir()
    assert not list((tmp_path / "b").iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.json: no such file; copy it again"),
        (b"\xff", "a.json: cannot be read: 'utf-8' codec.*; copy it again"),
        (b'{"a": 1,\n "b" 2}', "a.json: not valid JSON: .*line 2 column 6.*; copy it again"),
        (b"[" * 10**5, "a.json: not valid JSON: .*recursion.*; copy it again"),
    ],
)
def test_errors_name_the_file_the_place_and_the_way_out(tmp_path, content, message):
    file = tmp_path / "a.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_json(file, DatasetError, "copy it again")


def test_text_names_its_source():
    assert parse_json("[1]", "topic x") == [1]
    with pytest.raises(ConfigError, match=r"topic x: not valid JSON: .*column 1 \(char 0\)$"):
        parse_json("?", "topic x")


def test_settings_are_yaml_after_the_first_equals_sign():
    assert parse_setting(" cem.iterations = 3", "--set") == ("cem.iterations", 3)
    assert parse_setting("a=b=c", "--set") == ("a", "b=c")
    assert parse_setting("a=", "--set") == ("a", None)
    with pytest.raises(ConfigError, match="--set: 'a' is not of the form key=value"):
        parse_setting("a", "--set")
    with pytest.raises(ConfigError, match="--set: 'a=.*the value is not valid YAML"):
        parse_setting("a=[", "--set")
