"""Pictures that cannot be planned from: each is told from a good one, and what follows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wm_planner.data.pictures import CameraLook, Familiar, look
from wm_planner.errors import ConfigError
from wm_planner.evaluation.familiar import camera_look
from wm_planner.robot import CameraCheck
from wm_planner.runtime.picture_check import GOOD, STOPPED, WARNING, Eyes, Patience, PictureCheck

SIZE = 48


def scene(number: int) -> np.ndarray:
    """A still background, not symmetrical, in which a bright square moves."""
    y, x = np.mgrid[:SIZE, :SIZE]
    picture = np.stack([3 * y, 2 * x, 60 + 0 * x], axis=-1).astype(np.uint8)
    picture[6:14, 28:44] = 220
    picture[34:44, 4:10] = 10
    at = 14 + number % 16, 8 + number * 7 % 26
    picture[at[0] : at[0] + 6, at[1] : at[1] + 6] = (240, 240, 20)
    return picture


def scenes(first: int, count: int) -> np.ndarray:
    return np.stack([scene(number) for number in range(first, first + count)])


@pytest.fixture(scope="module")
def usual() -> CameraLook:
    return camera_look(scenes(0, 60), scenes(200, 30))


def eyes(usual: CameraLook | None = None, stops: bool = True, **rules) -> Eyes:
    given = CameraCheck(**rules)
    return Eyes(given, [PictureCheck("front", given, usual, (0.5, 0.5), 0.25)], stops)


def show(seen: Eyes, picture, seconds: float, begin_s: float = 0.0, moved: float = 0.0) -> float:
    """Show pictures at 10 Hz; `picture` is one, or a function of the number. The time after."""
    for number in range(round(10 * seconds)):
        now_s = begin_s + number / 10
        shown = picture(number) if callable(picture) else picture
        seen.look_at(0, shown, np.array([moved * number / 10, 0.0]), now_s)
    return begin_s + seconds


BAD = {
    "black": (lambda n: 0 * scene(n), "single colour"),
    "white": (lambda n: 0 * scene(n) + 255, "single colour"),
    "one pixel": (lambda n: np.broadcast_to(scene(n)[:1, :1], (SIZE, SIZE, 3)), "single colour"),
    "black with a hot pixel": (lambda n: np.eye(SIZE, dtype=np.uint8)[..., None] * [9, 0, 0], ""),
    "noise": (
        lambda n: np.random.default_rng(n).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
        "noise",
    ),
    "frozen": (lambda n: scene(0), "frozen"),
}
CHANGED = {
    "upside down": (lambda n: scene(n)[::-1, ::-1], "moved, turned or mirrored"),
    "mirrored": (lambda n: scene(n)[:, ::-1], "moved, turned or mirrored"),
    "moved": (lambda n: np.roll(scene(n), SIZE // 5, axis=1), "moved, turned or mirrored"),
    "grey": (lambda n: scene(n) // 20 + 100, "contrast"),
    "blurred": (lambda n: np.repeat(scene(n)[::16], 16, 0)[:, ::16].repeat(16, 1) // 9, ""),
}


@pytest.mark.parametrize("name", [*BAD, *CHANGED])
def test_a_bad_picture_warns_at_once_and_stops_within_its_time(usual, name):
    picture, text = {**BAD, **CHANGED}[name]
    seen = eyes(usual)
    end_s = show(seen, scene, 2.0, moved=1.0)
    assert (seen.state, seen.reason) == (GOOD, "")
    soon_s = 1.4 if name == "frozen" else 0.9  # first the robot must have moved
    show(seen, picture, soon_s, end_s, moved=1.0)
    assert seen.state == WARNING and text in seen.reason and "camera front" in seen.reason
    end_s = show(seen, picture, 1.0, end_s + soon_s, moved=1.0)
    assert seen.state == STOPPED and text in seen.reason
    show(seen, scene, 0.7, end_s)
    assert seen.state == STOPPED, "not at the first good picture"
    show(seen, scene, 0.6, end_s + 0.7)
    assert seen.state == GOOD


@pytest.mark.parametrize("name", BAD)
def test_a_checkpoint_without_calibration_knows_what_is_wrong_with_any_picture(name):
    seen = eyes(None)
    show(seen, BAD[name][0], 2.5, moved=1.0)
    assert seen.state == STOPPED


def test_good_pictures_never_stop(usual):
    seen = eyes(usual)
    show(seen, lambda n: scene(300 + n), 10.0, moved=1.0)
    darker = eyes(usual)
    show(darker, lambda n: (scene(n) * 0.8).astype(np.uint8), 5.0, moved=1.0)
    assert seen.state == darker.state == GOOD


def test_a_still_scene_may_repeat_while_the_robot_stands(usual):
    seen = eyes(usual)
    # Joint states that come later than the picture that shows them are no motion.
    seen.look_at(0, scene(0), np.array([-5.0, 0.0]), 0.0)
    for number in range(1, 300):
        seen.look_at(0, scene(0), np.zeros(2), number / 10)
    assert seen.state == GOOD


def test_a_glitch_warns_and_is_not_planned_from():
    seen = eyes()
    show(seen, scene, 1.0)
    assert not seen.look_at(0, 0 * scene(0), None, 1.0)
    assert seen.state == WARNING
    assert seen.look_at(0, scene(1), None, 1.1)
    show(seen, scene, 2.0, 1.2)
    assert seen.state == GOOD


@pytest.mark.parametrize("action", ["warn", "ignore"])
def test_a_check_can_be_a_warning_or_off(usual, action):
    seen = eyes(usual, view=action)
    show(seen, CHANGED["mirrored"][0], 5.0)
    assert seen.state == (WARNING if action == "warn" else GOOD)
    assert seen.look_at(0, CHANGED["mirrored"][0](0), None, 6.0), "it is planned from"
    assert seen.values()["view front"] < 0.5


def test_the_least_view_of_the_robot_file_counts(usual):
    seen = eyes(usual, least_view=-10.0)
    show(seen, CHANGED["mirrored"][0], 3.0)
    assert seen.state == GOOD


def test_a_simulator_that_waits_is_told_and_kept_going(usual):
    seen = eyes(usual, stops=False)
    show(seen, BAD["black"][0], 3.0)
    assert seen.look_at(0, 0 * scene(0), None, 4.0) and seen.state == WARNING


def test_surprise_stops_when_it_lasts_and_once_it_is_over_goes_on():
    seen = eyes(stop_after_s=1.0, resume_after_s=1.0, most_surprise=1.5)
    for now_s, value in ((0.0, 0.2), (0.5, math.nan), (1.0, 9.0)):
        seen.note_surprise(value, now_s)
    assert seen.state == WARNING and "surprise 9.0" in seen.reason
    seen.note_surprise(9.0, 2.0)
    assert seen.state == STOPPED
    seen.note_surprise(math.nan, 9.0)
    assert seen.state == STOPPED, "what is not known is not good"
    seen.note_surprise(0.1, 9.5)
    assert seen.state == GOOD and seen.values()["surprise"] == 0.1


def test_stops_in_a_row_last_longer_each_time():
    patience, now_s, lasted = Patience(1.0, 1.0), 0.0, []
    for _ in range(3):
        while patience.state != STOPPED:
            patience.update(True, now_s)
            now_s += 0.1
        begin_s = now_s
        while patience.state != GOOD:
            patience.update(False, now_s)
            now_s += 0.1
        lasted.append(round(now_s - begin_s))
    assert lasted == [1, 2, 4]


def test_what_was_calibrated_is_read_back_and_damage_is_named(usual):
    known = Familiar({"front": usual}, 0.25, (0.1, 0.2))
    again = Familiar.from_json(known.to_json(), "card")
    assert again.surprise == (0.1, 0.2)
    for number in (0, 5):
        seen = look(scene(number))
        assert abs(again.cameras["front"].view_of(seen) - usual.view_of(seen)) < 1e-3
    damaged = {"cameras": {"front": {"template": "AA"}}, "still": 1, "surprise": []}
    for values in ([], {}, damaged, {**known.to_json(), "still": math.nan}):
        with pytest.raises(ConfigError, match="card"):
            Familiar.from_json(values, "card")


def test_what_the_view_check_recognises_is_said(usual):
    assert usual.recognised["upside down"] == usual.recognised["mirrored"] == 1.0
    flat = np.broadcast_to(np.uint8(128), (40, SIZE, SIZE, 3)).copy()
    flat[:, 20:28, 20:28] = np.arange(40, dtype=np.uint8)[:, None, None, None] * 6
    alike = camera_look(flat[::2], flat[1::2])  # the same when it is turned or mirrored
    assert max(alike.recognised[name] for name in ("upside down", "mirrored")) < 0.1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"frozen": "halt"}, "frozen: unknown action 'halt'"),
        ({"stop_after_s": -1.0}, "stop_after_s must be from 0 to 60 s"),
        ({"most_surprise": 0.0}, "most_surprise must be above 0"),
        ({"least_view": 7.0}, "least_view must be"),
    ],
)
def test_settings_that_cannot_be_are_named(values, text):
    with pytest.raises(ValueError, match=text):
        CameraCheck(**values)
