"""Full disks: one line that names the file and what is missing; what was there before stays."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wm_planner.data.store import TrajectoryStore, write_store
from wm_planner.errors import DatasetError, WriteError
from wm_planner.files import (
    allocate,
    append_line,
    cannot_write,
    write_bytes,
    write_json,
    written_aside,
)
from wm_planner.tasks import get_task

from .small_disk import file_system, files_of_at_most

ROOT = Path(__file__).parents[2]
KIB = 1024


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB of its own."""
    with file_system(tmp_path / "disk", "1m") as place:
        yield place


def trajectories(count: int, size: int = 32):
    for value in range(count):
        yield {
            "images": np.full((3, size, size, 3), value, np.uint8),
            "proprio": np.zeros((3, 2), np.float32),
            "actions": np.zeros((2, 10), np.float32),
            "states": np.zeros((3, 4)),
        }


META = {"embodiment": get_task("wall").embodiment.to_json()}


def left_in(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


# The helpers ----------------------------------------------------------------------------------


def test_what_is_missing_is_said_in_bytes(small_disk):
    write_bytes(small_disk / "a", b"before")
    with pytest.raises(WriteError) as error:
        write_bytes(small_disk / "a", bytes(2_000_000))
    text = str(error.value)
    assert text.startswith(f"{small_disk / 'a'}: cannot be written: No space left on device: it ")
    assert "it needs 2,000,000 bytes, " in text and "more than are free; make room there" in text
    missing = int(text.split("bytes, ")[1].split(" more")[0].replace(",", ""))
    free = os.statvfs(small_disk)
    assert missing == 2_000_000 - free.f_bavail * free.f_frsize
    assert (small_disk / "a").read_bytes() == b"before" and left_in(small_disk) == ["a"]


@pytest.mark.parametrize("size", [200 * KIB, 2_000_000])
def test_a_file_beyond_a_limit_leaves_the_one_before(tmp_path, size):
    file = tmp_path / "a"
    write_bytes(file, b"before")
    with (
        files_of_at_most(100 * KIB),
        pytest.raises(WriteError, match=f"a: cannot be written: File too large: it needs {size:,}"),
    ):
        write_bytes(file, bytes(size))
    assert file.read_bytes() == b"before" and left_in(tmp_path) == ["a"]


def test_a_line_is_appended_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.jsonl"
    append_line(file, "x" * 60 * KIB)
    with files_of_at_most(100 * KIB), pytest.raises(WriteError, match="a.jsonl: cannot be"):
        append_line(file, "y" * 60 * KIB)
    append_line(file, "z")
    assert [line[0] for line in file.read_text().splitlines()] == ["x", "z"]


def test_room_that_cannot_be_taken_is_given_back(small_disk):
    file = small_disk / "a"
    file.write_bytes(b"before")
    with pytest.raises(WriteError, match=r"a: .*it needs 5,000,000 bytes, [\d,]+ more than"):
        allocate(file, 5_000_000)
    assert file.read_bytes() == b"before"
    allocate(file, 500_000)
    assert file.stat().st_size == 500_000 and file.read_bytes()[:6] == b"before"


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, r"No space left on device: [\d,]+ bytes are free; make room there"),
        (errno.EDQUOT, r"Disk quota exceeded: [\d,]+ bytes are free; make room there"),
        (errno.EFBIG, r"File too large: [\d,]+ bytes are free; make room there"),
        (errno.EROFS, "Read-only file system; choose another place"),
        (errno.EACCES, "Permission denied; choose another place"),
    ],
)
def test_each_reason_has_its_way_out(tmp_path, number, way_out):
    with (
        pytest.raises(WriteError, match=rf"/a: cannot be written: {way_out}"),
        written_aside(tmp_path / "a") as part,
    ):
        part.mkdir()
        raise OSError(number, os.strerror(number), str(part / "inside"))
    assert not left_in(tmp_path)


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="input"), written_aside(tmp_path / "a"):
        (tmp_path / "input").read_bytes()


def test_what_a_library_says_is_one_line(tmp_path):
    text = cannot_write(tmp_path / "film.mp4", OSError("[Errno 32] Broken pipe\n\nFFMPEG: ..."))
    assert "Broken pipe: " in text and "bytes are free" in text and "\n" not in text


def test_devices_and_links_stay_what_they_are(tmp_path):
    write_json(Path(os.devnull), {})
    assert not Path(os.devnull).is_file()
    (tmp_path / "link").symlink_to("file")
    write_json(tmp_path / "link", [1])
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "[\n  1\n]\n"


# Stores and exports ---------------------------------------------------------------------------


def test_a_store_takes_its_room_first(small_disk):
    """A map that is written beyond the disk's end would end the process."""
    with pytest.raises(WriteError, match=r"store/images.npy: .*it needs 3,686,528 bytes, .* more"):
        write_store(small_disk / "store", 400, trajectories(400), META)
    assert not left_in(small_disk)
    assert len(write_store(small_disk / "store", 40, trajectories(40), META).images) == 40


def test_a_store_beyond_a_limit_leaves_nothing(tmp_path):
    with files_of_at_most(100 * KIB), pytest.raises(WriteError, match="store/images.npy: .*large"):
        write_store(tmp_path / "store", 40, trajectories(40), META)
    assert not left_in(tmp_path)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TrajectoryStore:
    return write_store(tmp_path_factory.mktemp("data") / "s", 40, trajectories(40), META)


@pytest.mark.parametrize("kind", ["hdf5", "lerobot"])
def test_an_export_to_a_full_disk_leaves_nothing(store, tmp_path, kind):
    pytest.importorskip({"hdf5": "h5py", "lerobot": "pyarrow"}[kind])
    from wm_planner.data.hdf5_export import export_hdf5
    from wm_planner.data.lerobot import export_lerobot

    export = {"hdf5": export_hdf5, "lerobot": export_lerobot}[kind]
    with files_of_at_most(2 * KIB), pytest.raises(WriteError, match="/out: cannot be written: "):
        export(store, tmp_path / "out")
    assert not left_in(tmp_path)


def test_hdf5_does_not_end_the_process_on_a_full_disk(store, small_disk):
    pytest.importorskip("h5py")
    from wm_planner.data.hdf5_export import export_hdf5

    (small_disk / "other").write_bytes(bytes(900 * KIB))
    with pytest.raises(WriteError, match=r"a.hdf5: .*No space left .* more than are free"):
        export_hdf5(store, small_disk / "a.hdf5")
    assert left_in(small_disk) == ["other"]


# Training -------------------------------------------------------------------------------------


def test_encoded_frames_take_their_room_first(small_disk):
    pytest.importorskip("torch")
    from wm_planner.models.preprocess import Preprocess
    from wm_planner.training.feature_cache import cached_latents
    from wm_planner.training.machine import Machine

    from .training_world import dot_store, tiny_bundle

    data = dot_store(small_disk.parent / "data", count=300)
    bundle = tiny_bundle()
    assert isinstance(bundle.preprocess, Preprocess)
    machine = Machine(cache=small_disk / "cache", cache_dtype="fp32")
    with pytest.raises(WriteError, match=r"visual.npy: .*it needs 1,3\d\d,\d\d\d bytes, .* more"):
        cached_latents(data, bundle.model, bundle.preprocess, machine)
    assert left_in(small_disk / "cache") == ["checksums.json"]


def train(run: Path, world: Path, *more: str) -> int:
    from wm_planner.cli.main import main

    words = ["finetune", "--method", "base", "--checkpoint", world / "base", "--data"]
    words += [world / "data", "--output", run, "--num-updates", 6, "--threads", 1, *more]
    words += ["--device", "cpu", "--set", "batch_size=8", "--save-minutes", 0]
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    pytest.importorskip("torch")
    from .training_world import dot_store, tiny_checkpoint

    directory = tmp_path_factory.mktemp("world")
    dot_store(directory / "data", count=24)
    tiny_checkpoint(directory / "base")
    return directory


def test_a_full_disk_at_the_end_of_training_costs_nothing(world, tmp_path, capsys, monkeypatch):
    """The checkpoint does not fit; when there is room again, --resume writes it."""
    from wm_planner.models import checkpoint

    def full(file: Path, content: bytes) -> None:
        with written_aside(file) as part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))

    run = tmp_path / "run"
    monkeypatch.setattr(checkpoint, "write_bytes", full)
    assert train(run, world) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {run}/checkpoint/model.safetensors: cannot be written: No space left" in said
    assert said.endswith(f"{run} holds all that was trained: --resume goes on from there")
    assert set(left_in(run)) - {"tensorboard"} == {"config.json", "metrics.jsonl", "state.pt"}
    monkeypatch.undo()
    monkeypatch.setattr("wm_planner.training.model.ModelLearner.batch", None)  # nothing is trained
    assert train(run, world, "--resume") == 0
    assert (run / "checkpoint" / "model.safetensors").is_file()


def test_states_that_cannot_be_saved_do_not_end_the_training(world, tmp_path, caplog, monkeypatch):
    """The room of the last one was taken at the beginning."""
    from wm_planner.training import loop
    from wm_planner.training.run_directory import RESERVE

    save, saved = loop.save_state, []

    def save_or_fail(directory: Path, state: dict) -> Path:
        if (directory / RESERVE).exists():
            with files_of_at_most(10 * KIB):
                return save(directory, state)
        saved.append(state["step"])
        return save(directory, state)

    monkeypatch.setattr(loop, "save_state", save_or_fail)
    assert train(tmp_path / "run", world) == 0
    assert saved == [6], "the last one has the room of the reserve"
    assert "training goes on, without a state of update 3" in caplog.text
    assert "state.pt: cannot be written: File too large" in caplog.text


def test_training_begins_only_with_room_for_its_state(world, tmp_path, capsys):
    with files_of_at_most(50 * KIB):
        assert train(tmp_path / "run", world) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "run/.reserve: cannot be written: File too large: it needs " in said
    assert "metrics.jsonl" not in left_in(tmp_path / "run")


def test_metrics_that_cannot_be_written_do_not_end_the_training(tmp_path, caplog, monkeypatch):
    pytest.importorskip("torch")
    from wm_planner.training.run_directory import RunLog

    log = RunLog(tmp_path, {})
    log.write(0, loss=1.0)
    with files_of_at_most(50):
        for step in (1, 2):
            log.write(step, loss=1.0)
    log.write(3, loss=1.0)
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 and '"step": 3' in lines[1]
    assert caplog.text.count("metrics from update 1 on are lost") == 1


# Commands -------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from wm_planner.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["collect", "--task", "wall", "--output", "OUT", "--num-trajectories", "4"],
        ["dataset", "build", "DATA", "--output", "OUT", "--steps", "2"],
        ["dataset", "info", "DATA", "--contact-sheet", "OUT"],
    ],
)
def test_commands_say_it_in_one_line(world, tmp_path, words):
    names = {"OUT": tmp_path / "out", "BASE": world / "base", "DATA": world / "data"}
    words = [str(names.get(word, word)) for word in words]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "2000", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "No module named" in done.stderr or "needs the Python module" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    (said,) = re.findall("wm-planner: error: .*", done.stderr)  # perhaps behind a progress bar
    assert done.returncode == 2
    assert f" {tmp_path / 'out'}" in said and "File too large" in said
    assert "Traceback" not in done.stderr and not left_in(tmp_path)


def test_pictures_and_films_name_the_file(tmp_path):
    pytest.importorskip("imageio")
    pytest.importorskip("matplotlib")
    from wm_planner.cli.figures import draw_step_errors
    from wm_planner.cli.film import write_animation, write_mp4
    from wm_planner.cli.pictures import write_picture

    noise = np.random.default_rng(0).integers(0, 255, (20, 128, 128, 3), dtype=np.uint8)
    errors = {"model": [1, 2], "copy": [2, 3], "windows": 3}
    writers = {
        "film.mp4": lambda path: write_mp4(path, noise, 5),
        "film.webp": lambda path: write_animation(path, noise, 5),
        "frame.png": lambda path: write_picture(path, noise[0]),
        "figure.png": lambda path: draw_step_errors(path, errors, "x"),
    }
    for name, write in writers.items():
        with files_of_at_most(4 * KIB), pytest.raises(WriteError, match=f"/{name}: cannot be"):
            write(tmp_path / name)
        assert not left_in(tmp_path)
        write(tmp_path / name)
        (tmp_path / name).unlink()


def test_a_temporary_folder_that_is_full_is_named(tmp_path, monkeypatch):
    from wm_planner.data.recorded import _Pictures

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pictures = _Pictures()
    with files_of_at_most(4 * KIB), pytest.raises(DatasetError, match="set TMPDIR to a folder"):
        pictures.append(np.zeros((2, 64, 64, 3), np.uint8))
