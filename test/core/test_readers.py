"""Readers of other packages beside ours: which one opens, and what is said when none can."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest

from wm_planner.data.dataset import Dataset
from wm_planner.data.layouts import READERS, Reader, open_dataset
from wm_planner.errors import DatasetError
from wm_planner.tasks import get_task

from .training_world import dot_store


class Text(Dataset):
    """A trajectory of three frames, whatever lies there."""

    def __init__(self, path, image_size=None):
        super().__init__(path, get_task("wall").embodiment, np.array([3]))
        self.image_size = image_size

    def proprio(self, index):
        return np.arange(6, dtype=np.float32).reshape(3, 2)

    def actions(self, index):
        return np.ones((2, 2), np.float32)

    def read_frames(self, index, rows):
        return np.zeros((len(rows), self.image_size, self.image_size, 3), np.uint8)


@pytest.fixture
def install(monkeypatch):
    """Makes a reader one that is installed; without one, an entry point that leads nowhere."""

    def put(name, reader=None):
        point = EntryPoint(name, f"nobodys_package:{name}", READERS.group)
        monkeypatch.setitem(READERS._points, name, [point])
        if reader is not None:
            monkeypatch.setitem(READERS._loaded, name, reader)

    return put


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").touch()
    return tmp_path / "text"


def test_a_reader_is_found_by_its_files_and_gets_what_it_takes(install, text):
    install("txt", Reader(Text, marks=("*.txt",), endings=(".txt",), takes=("image_size",)))
    for path in (text, text / "a.txt"):
        dataset = open_dataset(path, image_size=5, strict=True)
        assert isinstance(dataset, Text) and dataset.layout == "txt"
        assert dataset.frames(0, range(2)).shape == (2, 5, 5, 3) and dataset.states(0) is None
    with pytest.raises(DatasetError, match="the reader 'txt' takes all trajectories"):
        open_dataset(text, num_trajectories=1)
    with pytest.raises(DatasetError, match=f"{text.parent}: holds data sets in text; open one"):
        open_dataset(text.parent)


def test_the_lowest_rank_opens(install, text, tmp_path):
    install("any", Reader(Text, marks=("*",)))
    install("txt", Reader(Text, marks=("*.txt",), rank=99))
    assert open_dataset(text).layout == "txt"
    store = dot_store(tmp_path / "store", count=2, steps=2)
    assert open_dataset(store.directory).layout == "store"
    assert open_dataset(store.directory, reader="any").layout == "any"
    install("other", Reader(Text, marks=("*.txt",), rank=99))
    with pytest.raises(DatasetError, match="fits the readers other, txt; name one by --reader"):
        open_dataset(text)


def test_one_that_cannot_be_imported_hinders_no_other(install, text, tmp_path):
    install("lost")
    store = dot_store(tmp_path / "store", count=2, steps=2)
    assert open_dataset(store.directory).layout == "store"
    with pytest.raises(DatasetError, match=r"Looked for store: meta.json;.*'lost' \(nobodys_pack"):
        open_dataset(text)
    with pytest.raises(DatasetError, match="reader 'lost' .* cannot be imported"):
        open_dataset(text, reader="lost")
    with pytest.raises(DatasetError, match="unknown reader 'stare'. Did you mean 'store'"):
        open_dataset(text, reader="stare")


def test_what_a_reader_cannot_take():
    with pytest.raises(ValueError, match="takes: colour is not one of num_trajectories, robot"):
        Reader(Text, takes=("robot", "colour"))
