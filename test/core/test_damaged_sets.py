"""HDF5 and LeRobot data sets with altered bytes: read, or refused in one line."""

import random
import shutil

import pytest

pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

from wm_planner.cli.main import main
from wm_planner.data.hdf5_export import export_hdf5
from wm_planner.data.lerobot import export_lerobot
from wm_planner.data.store import write_store

from .test_full_disk import META, trajectories


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    store = write_store(directory / "store", 4, trajectories(4), META)
    (directory / "hdf5").mkdir()
    export_hdf5(store, directory / "hdf5" / "data.hdf5")
    export_lerobot(store, directory / "lerobot")
    return directory


@pytest.mark.parametrize("kind", ["hdf5", "lerobot"])
def test_damage_is_one_line(whole, tmp_path, capsys, kind):
    for seed in range(24):
        copy, rng = tmp_path / str(seed), random.Random(seed)
        shutil.copytree(whole / kind, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        file = files[seed % len(files)]
        data = bytearray(file.read_bytes())
        place = rng.randrange(max(1, len(data) - 8))
        data[place:] = b"" if seed % 4 == 0 else rng.randbytes(8) + data[place + 8 :]
        file.write_bytes(data)
        code, said = main(["dataset", "info", str(copy)]), capsys.readouterr().err
        assert code in (0, 2), seed
        assert said.count("wm-planner: error: ") == (code == 2) and "Traceback" not in said
