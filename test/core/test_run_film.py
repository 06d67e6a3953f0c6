"""The film of a run: real speed, large enough, with its ring."""

from __future__ import annotations

import numpy as np
import pytest

imageio = pytest.importorskip("imageio.v2", reason="needs the 'viz' extra")
pytest.importorskip("cv2")

from wm_planner.cli.run_film import LAST_S, RATE_HZ, Ring, RunFilm  # noqa: E402

S = 10**9


def test_nothing_seen_makes_no_film(tmp_path):
    assert RunFilm().write(tmp_path / "film.mp4") is None
    assert not (tmp_path / "film.mp4").exists()


def test_it_runs_at_real_speed_and_shows_the_ring(tmp_path):
    film = RunFilm(Ring(0.5, 0.5, 0.1), "m")
    film.add_goal(np.full((48, 64, 3), 200, np.uint8))
    for k in range(8):  # two pictures a second
        film.add_picture(5 * S + k * S // 2, np.full((48, 64, 3), 30 * k, np.uint8))
        film.note(5 * S + k * S // 2, distance=1.0 / (k + 1), replan_s=0.04)
    film.add_picture(0, np.zeros((48, 64, 3), np.uint8))  # older than what is there
    path = film.write(tmp_path / "film.mp4", "arrived")
    frames = np.stack([frame for frame in imageio.get_reader(path)])
    assert abs(len(frames) / RATE_HZ - (3.5 + LAST_S)) <= 0.2
    height, width = frames.shape[1:3]
    assert height >= 320 and width >= 2 * 320
    side = width // 2
    goal = frames[0][height - side :, side:].astype(int)
    ring = goal[side // 2, round(side * 0.6)]
    assert ring[2] < ring[0] - 60  # yellow on grey
    assert abs(goal[side // 2, side // 2] - 200).max() < 12
