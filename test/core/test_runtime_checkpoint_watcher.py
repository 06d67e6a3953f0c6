"""A published bundle is loaded aside; a bad one leaves the old in place and says why."""

import os
import threading

import pytest

from wm_planner.errors import CheckpointError
from wm_planner.runtime.checkpoint_watcher import CheckpointWatcher

DEADLINE_S = 10.0


def publish(root, name):
    """Write aside, then point, as a trainer does."""
    (root / name).mkdir(exist_ok=True)
    aside = root / "latest.new"
    aside.symlink_to(name)
    os.replace(aside, root / "latest")


@pytest.fixture
def start():
    watchers = []

    def start(pointer, load, check=lambda bundle: None, **options):
        watchers.append(CheckpointWatcher(pointer, load, check, **options))
        return watchers[-1]

    yield start
    for watcher in watchers:
        assert watcher.stop(DEADLINE_S)


def poll(watcher):
    watcher.poll()
    assert watcher.wait_idle(DEADLINE_S)
    return watcher.take()


def test_a_new_bundle_is_handed_over_once(tmp_path, start):
    loads = []
    watcher = start(tmp_path / "latest", lambda path: loads.append(path.name) or path.name)
    assert poll(watcher) is None and watcher.failure is None  # nothing published yet
    publish(tmp_path, "one")
    assert poll(watcher) == ((tmp_path / "one").resolve(), "one")
    assert poll(watcher) is None
    publish(tmp_path, "two")
    assert poll(watcher)[1] == "two"
    assert loads == ["one", "two"]


def test_the_bundle_in_use_is_not_loaded_again(tmp_path, start):
    publish(tmp_path, "one")
    loads = []
    watcher = start(tmp_path / "latest", loads.append, current=tmp_path / "one")
    assert poll(watcher) is None
    assert loads == []


def test_a_text_file_names_the_bundle(tmp_path, start):
    (tmp_path / "one").mkdir()
    (tmp_path / "latest").write_text("one\n")
    assert poll(start(tmp_path / "latest", lambda path: path.name))[1] == "one"


@pytest.mark.parametrize("stage", ["load", "check"])
def test_a_bad_bundle_is_kept_out_and_not_tried_again(tmp_path, start, stage):
    tries = []

    def fail(value):
        name = getattr(value, "name", value)
        if name == "bad":
            tries.append(name)
            raise CheckpointError("trained for another task")
        return name

    keep = {"load": fail, "check": lambda bundle: None}
    if stage == "check":
        keep = {"load": lambda path: path.name, "check": fail}
    watcher = start(tmp_path / "latest", **keep)
    publish(tmp_path, "bad")
    assert poll(watcher) is None
    assert "bad: not taken over: trained for another task" in watcher.failure
    assert poll(watcher) is None
    assert tries == ["bad"]
    publish(tmp_path, "good")
    assert poll(watcher)[1] == "good"
    assert watcher.failure is None


def test_a_failure_does_not_discard_a_loaded_bundle(tmp_path, start):
    def load(path):
        if path.name == "bad":
            raise OSError("truncated")
        return path.name

    watcher = start(tmp_path / "latest", load)
    publish(tmp_path, "good")
    watcher.poll()
    assert watcher.wait_idle(DEADLINE_S)
    publish(tmp_path, "bad")
    assert poll(watcher)[1] == "good"
    assert "truncated" in watcher.failure


@pytest.mark.parametrize("content", ["", "nowhere"])
def test_a_pointer_to_nothing_is_a_failure_that_names_it(tmp_path, start, content):
    (tmp_path / "latest").write_text(content)
    watcher = start(tmp_path / "latest", lambda path: path)
    assert poll(watcher) is None
    assert str(tmp_path / "latest") in watcher.failure
    (tmp_path / "one").mkdir()
    (tmp_path / "latest").write_text("one")
    assert poll(watcher)[0].name == "one"
    assert watcher.failure is None


def test_a_dangling_link_is_a_failure(tmp_path, start):
    (tmp_path / "latest").symlink_to("gone")
    watcher = start(tmp_path / "latest", lambda path: path)
    assert poll(watcher) is None
    assert "gone" in watcher.failure
    (tmp_path / "latest").unlink()
    assert poll(watcher) is None
    assert watcher.failure is None


def test_a_bundle_published_while_another_loads_replaces_it(tmp_path, start):
    began, may_end = threading.Event(), threading.Event()

    def load(path):
        if path.name == "slow":
            began.set()
            assert may_end.wait(DEADLINE_S)
        return path.name

    checked = []
    watcher = start(tmp_path / "latest", load, checked.append)
    publish(tmp_path, "slow")
    watcher.poll()
    assert began.wait(DEADLINE_S)
    assert watcher.busy
    publish(tmp_path, "newer")
    watcher.poll()
    may_end.set()
    assert watcher.wait_idle(DEADLINE_S)
    assert watcher.take()[1] == "newer"
    assert checked == ["newer"]
