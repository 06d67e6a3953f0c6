"""The record of a run, and its film and picture read back from the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

imageio = pytest.importorskip("imageio.v2")

from wm_planner.cli.film import CAPTION, PANEL, panel, write_film, write_key_frames  # noqa: E402
from wm_planner.cli.run_record import EpisodeRecord, Frame, RunRecord  # noqa: E402

RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)
SECOND = 10**9


def flat(colour: tuple[int, int, int], size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def episode(number: int, frames: int, imagined: bool = True) -> EpisodeRecord:
    made = [Frame(i, flat(RED), flat(BLUE) if imagined else None) for i in range(frames)]
    return EpisodeRecord(number, 0, flat(GREEN), made, success=True, num_steps=frames - 1)


def centre(picture: np.ndarray, column: int) -> np.ndarray:
    """Colour in the middle of a panel of the first row."""
    x = column * PANEL + PANEL // 2
    return picture[CAPTION + PANEL // 2, x].astype(int)


def test_film_shows_camera_goal_and_imagination(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", [episode(0, 4), episode(1, 3)])
    assert path is not None
    pictures = [frame for frame in imageio.get_reader(path)]
    assert len(pictures) == 4 + 2 + 3 + 2  # the last one of each episode is held
    assert pictures[0].shape[1] == 3 * PANEL
    for column, colour in enumerate((RED, GREEN, BLUE)):
        assert np.abs(centre(pictures[0], column) - colour).max() < 30  # the codec loses a little


def test_film_without_decoder_has_two_panels(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", [episode(0, 2, imagined=False)])
    assert imageio.get_reader(path).get_data(0).shape[1] == 2 * PANEL


def test_film_stops_after_five_episodes(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", [episode(i, 1) for i in range(7)])
    assert len([frame for frame in imageio.get_reader(path)]) == 5 * 3


def test_no_frames_no_files(tmp_path: Path) -> None:
    assert write_film(tmp_path / "film.mp4", [episode(0, 0)]) is None
    assert write_key_frames(tmp_path / "last.png", episode(0, 0)) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("frames", "rows"), [(1, 1), (6, 4), (7, 4), (8, 5)])
def test_key_frames_are_start_every_second_and_final(
    tmp_path: Path, frames: int, rows: int
) -> None:
    path = write_key_frames(tmp_path / "last.png", episode(0, frames))
    image = imageio.imread(path)
    assert image.shape == (rows * (CAPTION + PANEL), 3 * PANEL, 3)
    cells = image.reshape(rows, CAPTION + PANEL, 3, PANEL, 3)
    middle = cells[:, CAPTION + PANEL // 2, :, PANEL // 2]
    for column, colour in enumerate((RED, GREEN, BLUE)):
        assert (middle[:, column] == colour).all()


def test_panels_are_enlarged_without_blur() -> None:
    image = np.array([[RED, GREEN], [BLUE, RED]], np.uint8)
    large = panel(image, "x")[CAPTION:]
    assert {tuple(map(int, c)) for c in large.reshape(-1, 3)} == {RED, GREEN, BLUE}
    assert panel(None, "x")[CAPTION:].max() == 0


def test_latency_is_from_image_to_first_command_after_its_plan() -> None:
    record = RunRecord()
    record.start_episode(0, SECOND)
    record.add_image(SECOND, flat(RED), 10.0)
    record.add_command(SECOND + 1, 10.1)  # still follows an older plan
    record.add_plan(SECOND, 10.2)
    record.add_command(SECOND - 1, 10.25)  # a tick before the image
    record.add_command(SECOND + 5, 10.5)
    record.add_command(SECOND + 6, 10.6)
    assert record.latency_seconds == [pytest.approx(0.5)]


def test_a_repeated_image_does_not_shorten_the_latency() -> None:
    record = RunRecord()
    record.start_episode(0, SECOND)
    record.add_image(SECOND, flat(RED), 10.0)
    record.add_image(SECOND, flat(RED), 11.0)
    record.add_plan(SECOND, 11.5)
    record.add_command(SECOND, 12.0)
    assert record.latency_seconds == [pytest.approx(2.0)] and len(record.episodes[0].frames) == 1


def test_imagination_belongs_to_the_frame_it_came_from_and_later_ones() -> None:
    record = RunRecord()
    record.start_episode(0, 0)
    record.add_image(1, flat(RED), 0.0)
    record.add_image(2, flat(RED), 0.0)
    record.add_imagined(2, np.hstack([flat(GREEN), flat(BLUE)]))
    record.add_image(3, flat(RED), 0.0)
    seen = [frame.imagined for frame in record.episodes[0].frames]
    assert seen[0] is None
    assert (seen[1] == flat(BLUE)).all() and (seen[2] == flat(BLUE)).all()


def test_an_image_after_the_end_belongs_to_the_episode_that_ended() -> None:
    record = RunRecord()
    record.add_image(5, flat(RED), 0.0)  # before any episode: nobody's
    record.start_episode(0, 10)
    assert record.end_episode(0, True, 3, 0.1) and not record.end_episode(0, True, 3, 0.1)
    record.add_image(20, flat(RED), 0.0)
    record.start_episode(1, 30)
    record.start_episode(1, 30)
    record.add_image(30, flat(RED), 0.0)
    assert [[f.stamp_ns for f in e.frames] for e in record.episodes] == [[20], [30]]


def test_only_the_first_and_the_newest_episodes_keep_frames() -> None:
    record = RunRecord()
    for number in range(8):
        record.start_episode(number, number * 10)
        record.add_image(number * 10, flat(RED), 0.0)
    assert [len(e.frames) for e in record.episodes] == [1, 1, 1, 1, 1, 0, 0, 1]


def test_replan_rate_does_not_count_the_time_between_episodes() -> None:
    record = RunRecord()
    assert record.replan_rate_hz() is None
    for number, begin_s in enumerate((0.0, 100.0)):
        record.start_episode(number, number * 10)
        for i in range(3):
            record.add_plan(number * 10 + i, begin_s + 0.5 * i)
    assert record.replan_rate_hz() == pytest.approx(2.0)


def test_summary_of_known_values() -> None:
    record = RunRecord()
    for number in range(10):
        record.start_episode(number, number)
        record.end_episode(number, number < 8, 5, 0.0)
    record.start_episode(10, 10)  # unfinished: not counted
    record.plan_seconds = [float(i) for i in range(101)]
    summary = record.summary()
    assert (summary["episodes"], summary["successes"], summary["success_rate"]) == (10, 8, 0.8)
    assert summary["interval_low"] == pytest.approx(0.4902, abs=1e-4)
    assert summary["interval_high"] == pytest.approx(0.9433, abs=1e-4)
    assert (summary["plan_seconds_p50"], summary["plan_seconds_p99"]) == (50.0, 99.0)
    assert summary["latency_seconds_p50"] is None
