"""The record of a run, and its film and picture read back from the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

imageio = pytest.importorskip("imageio.v2", reason="needs the 'viz' extra")
pytest.importorskip("cv2", reason="needs the 'viz' extra")
pytest.importorskip("PIL", reason="needs the 'viz' extra")

from PIL import Image  # noqa: E402

from sim_bridge.rendering import check_rendering  # noqa: E402
from wm_planner.cli import eval_film  # noqa: E402
from wm_planner.cli import main as cli  # noqa: E402
from wm_planner.cli.film import MARGIN, RATE_HZ, write_film, write_key_frames  # noqa: E402
from wm_planner.cli.filmed import (  # noqa: E402
    HOLD_S,
    LEAST_S,
    EpisodeFilm,
    Ring,
    check_film,
)
from wm_planner.cli.pictures import GAP, LINE, SIDE, fitted, panel  # noqa: E402
from wm_planner.cli.run_record import RunRecord  # noqa: E402
from wm_planner.errors import ConfigError, RenderError  # noqa: E402

RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)
SECOND = 10**9
TOP = MARGIN // 2 + 2 * LINE  # pixels above the panels' pictures


def flat(colour: tuple[int, int, int], size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def episode(frames: int, imagined: bool = True, **values) -> EpisodeFilm:
    """Two pictures a second; each one but the last is planned from, for a tenth of a second."""
    film = EpisodeFilm("wall, gbp", goal=flat(GREEN), reached=True, step_s=0.5, **values)
    for i in range(frames):
        stamp = 5 * SECOND + i * SECOND // 2
        film.add_picture(stamp, flat(RED))
        film.add_distance(stamp, 1.0 / (i + 1))
        if i + 1 < frames:
            film.add_replan(stamp, 0.1)
            if imagined:
                film.add_imagined(stamp, flat(BLUE))
    return film


def centre(picture: np.ndarray, column: int) -> np.ndarray:
    """Colour in the middle of a panel."""
    x = MARGIN + column * (SIDE + GAP) + SIDE // 2
    return picture[TOP + SIDE // 2, x].astype(int)


def frames_of(path: Path) -> list[np.ndarray]:
    return [frame for frame in imageio.get_reader(path)]


def test_film_shows_camera_goal_and_imagination_large_enough(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", [episode(3)])
    pictures = frames_of(path)
    assert SIDE >= 320 and pictures[0].shape[1] == 3 * SIDE + 2 * GAP + 2 * MARGIN
    for column, colour in enumerate((RED, GREEN, BLUE)):
        assert np.abs(centre(pictures[-1], column) - colour).max() < 30  # the codec loses a little
    assert write_film(tmp_path / "two.mp4", [episode(2, imagined=False)]) is not None
    assert frames_of(tmp_path / "two.mp4")[0].shape[1] == 2 * SIDE + GAP + 2 * MARGIN


def test_film_runs_at_real_speed_and_long_enough(tmp_path: Path) -> None:
    """Eight pictures take 3.5 s; where the world waits, the seven plans' time comes on top."""
    for waits, seconds in ((False, 3.5), (True, 3.5 + 7 * 0.1)):
        film = episode(8, waits=waits)
        assert film.duration_s == pytest.approx(seconds)
        path = write_film(tmp_path / f"{waits}.mp4", [film])
        assert len(frames_of(path)) / RATE_HZ == pytest.approx(seconds + HOLD_S, abs=0.3)
    path = write_film(tmp_path / "short.mp4", [episode(2), episode(1)])
    assert len(frames_of(path)) / RATE_HZ == pytest.approx(LEAST_S, abs=0.3)


def test_a_slow_plan_is_seen_when_it_is_there_and_not_before() -> None:
    """A plan of two seconds: the world stands still meanwhile, or goes on without it."""
    for waits in (True, False):
        film = EpisodeFilm(waits=waits)
        for stamp in range(0, 5 * SECOND, SECOND):
            film.add_picture(stamp, flat(RED))
        film.add_imagined(SECOND, flat(BLUE))
        film.add_replan(SECOND, 2.0)
        moments = list(film.moments(2))
        assert moments[-1].seconds == pytest.approx(6.0 if waits else 4.0)
        seen = [m.seconds for m in moments if film.imagined_end(m) is not None]
        assert seen[0] == pytest.approx(3.0) and film.replan_s(moments[-1]) == 2.0
        assert [m.seconds for m in moments if film.replan_s(m) is not None] == seen
        still = {m.seconds for m in moments if m.planning}
        assert still == ({1.0, 1.5, 2.0, 2.5} if waits else set())
        assert {m.stamp_ns for m in moments if m.planning} <= {SECOND}


def test_numbers_are_those_of_the_moment() -> None:
    film = episode(4)
    moments = list(film.moments(RATE_HZ))
    assert [film.step(m) for m in (moments[0], moments[6], moments[-1])] == [0, 1, 3]
    assert film.distance(moments[0]) == 1.0 and film.distance(moments[-1]) == 0.25
    assert not film.add_picture(0, flat(RED)) and len(film.pictures) == 4  # older than those there


def test_the_ring_is_drawn_where_the_goal_is(tmp_path: Path) -> None:
    write_key_frames(tmp_path / "last.png", episode(1, ring=Ring(0.5, 0.25, 0.1)))
    image = imageio.imread(tmp_path / "last.png").astype(int)
    for column in (0, 1):
        left = MARGIN + column * (SIDE + GAP)
        on = image[TOP + SIDE // 4, left + round(0.6 * SIDE)]
        assert on[0] > 200 and on[1] > 200 and on[2] < 120  # yellow
        assert tuple(image[TOP + SIDE // 4, left + SIDE // 2]) == (RED, GREEN)[column]


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_moving_pictures_for_pages(tmp_path: Path, ending: str) -> None:
    path = write_film(tmp_path / f"arm.{ending}", [episode(3)])
    with Image.open(path) as image:
        assert image.n_frames > 1 and image.width > 3 * SIDE


def test_a_film_of_no_known_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"film.avi: expected a file that ends in .mp4, .webp"):
        check_film(tmp_path / "film.avi")
    check_film(None)


def test_no_frames_no_files(tmp_path: Path) -> None:
    assert write_film(tmp_path / "film.mp4", [episode(0)]) is None
    assert write_key_frames(tmp_path / "last.png", episode(0)) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("frames", "rows"), [(1, 1), (6, 4), (7, 4), (8, 5)])
def test_key_frames_are_start_every_second_and_final(
    tmp_path: Path, frames: int, rows: int
) -> None:
    path = write_key_frames(tmp_path / "last.png", episode(frames, waits=True))
    image = imageio.imread(path)
    assert image.shape[0] == rows * (SIDE + 3 * LINE + MARGIN)
    for row in np.split(image, rows):
        for column, colour in enumerate((RED, GREEN, BLUE)[: 2 + (frames > 1)]):
            assert (centre(row, column) == colour).all()


def test_panels_are_enlarged_without_blur() -> None:
    image = np.array([[RED, GREEN], [BLUE, RED]], np.uint8)
    large = panel(image, "x")[LINE:]
    assert {tuple(map(int, c)) for c in large.reshape(-1, 3)} == {RED, GREEN, BLUE}
    assert panel(None, "x", missing="none")[LINE:].min() < 200  # the word


def test_a_long_caption_keeps_its_end() -> None:
    assert fitted("short", 300) == "short"
    long = fitted("a_very_long_name_of_a_bag_0001", 100)
    assert long.startswith("…") and long.endswith("0001")


def test_eval_films_its_first_episode(tmp_path: Path, monkeypatch) -> None:
    """As it was evaluated: the same steps, and the distance that is left."""
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    shown: list[EpisodeFilm] = []
    write = eval_film.write_film
    monkeypatch.setattr(
        eval_film, "write_film", lambda path, films: (shown.extend(films), write(path, films))
    )
    film, result = tmp_path / "film.mp4", tmp_path / "result.json"
    few = [f"--set={x}" for x in ("num_iterations=2", "warm_iterations=1", "num_candidates=1")]
    command = ["eval", "--task", "wall", "--episodes", "1", *few, "--film", str(film)]
    assert cli.main([*command, "--json", str(result)]) == 0
    (seen,) = shown
    found = json.loads(result.read_text())
    assert seen.reached == bool(found["successes"])
    now = seen.moment_of(seen.pictures[-1][0])
    assert seen.distance(now) == pytest.approx(found["distance_median"])
    assert seen.pictures[0][1].shape == (SIDE, SIDE, 3) and len(seen.pictures) % 5 == 1
    assert seen.imagined_end(now) is not None and seen.waits
    x, y = round(seen.ring.x * SIDE), round(seen.ring.y * SIDE)
    assert seen.goal[y, x, 0] > 200 > 100 > seen.goal[y, x, 1]  # the red dot
    assert len(frames_of(film)) / RATE_HZ >= LEAST_S


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
    assert (
        record.latency_seconds == [pytest.approx(2.0)]
        and len(record.episodes[0].film.pictures) == 1
    )


def test_imagination_belongs_to_the_frame_it_came_from_and_later_ones() -> None:
    record = RunRecord()
    record.start_episode(0, 0)
    record.add_image(1, flat(RED), 0.0)
    record.add_image(2, flat(RED), 0.0)
    record.add_imagined(2, np.hstack([flat(GREEN), flat(BLUE)]))
    record.add_image(3, flat(RED), 0.0)
    film = record.episodes[0].film
    seen = [film.imagined_end(film.moment_of(stamp)) for stamp, _ in film.pictures]
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
    assert [[stamp for stamp, _ in e.film.pictures] for e in record.episodes] == [[20], [30]]


def test_only_the_first_and_the_newest_episodes_keep_frames() -> None:
    record = RunRecord()
    for number in range(8):
        record.start_episode(number, number * 10)
        record.add_image(number * 10, flat(RED), 0.0)
    assert [len(e.film.pictures) for e in record.episodes] == [1, 1, 1, 1, 1, 0, 0, 1]


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
