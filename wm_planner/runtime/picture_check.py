"""Can the pictures of a camera be planned from? A check of each, and what becomes of the robot.

It knows neither torch nor ROS, and takes the time as an argument. A picture of 224 pixels takes
less than two milliseconds.

Legend: S = side of a picture, P = proprioception entries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wm_planner.data.pictures import (
    BRIGHTNESS,
    LEAST_CONTRAST,
    MOST_SHARPNESS,
    CameraLook,
    look,
)
from wm_planner.robot import CameraCheck

SETTLED_S = 0.3  # joint states may come so much later than the picture that shows them
FROZEN_S = 0.5  # a picture may be so much older than the motion that it does not show
AGAIN, MOST_DOUBLED = 5, 6  # see `Patience`
GOOD, WARNING, STOPPED = "good", "warning", "stopped"


@dataclass
class Patience:
    """How long something may be bad before the robot is stopped, and good before it goes on.

    What is bad now and then counts as bad throughout, unless it was good for `resume_after_s`. A
    stop soon after the one before lasts twice as long: a robot that rests shows nothing wrong, and
    should not go on for a second again and again.

    Attributes:
        stop_after_s, resume_after_s: see `CameraCheck`.
        state: `GOOD`, `WARNING` or `STOPPED`.
    """

    stop_after_s: float
    resume_after_s: float
    state: str = GOOD
    _bad_since_s: float = 0.0
    _last_bad_s: float = 0.0
    _stops: int = 0  # in a row
    _resumed_s: float = -math.inf

    def update(self, bad: bool, now_s: float, stops: bool = True) -> str:
        """The state at a time of a steady clock; what does not stop the robot only warns."""
        if bad:
            if self.state == GOOD:
                self.state, self._bad_since_s = WARNING, now_s
            self._last_bad_s = now_s
            late = now_s - self._bad_since_s >= self.stop_after_s
            if stops and late and self.state != STOPPED:
                self.state = STOPPED
                soon = now_s - self._resumed_s < AGAIN * (self.stop_after_s + self.resume_after_s)
                self._stops = min(self._stops + 1, MOST_DOUBLED) if soon else 0
        elif self.state != GOOD:
            stopped = self.state == STOPPED
            wait_s = self.resume_after_s * (2**self._stops if stopped else 1)
            if now_s - self._last_bad_s >= wait_s:
                self.state = GOOD
                self._resumed_s = now_s if stopped else self._resumed_s
        return self.state


@dataclass
class _Same:
    """A picture that comes again and again, and how far the robot has moved meanwhile."""

    picture: np.ndarray
    since_s: float
    proprio: np.ndarray | None = None
    moved: float = 0.0
    moved_s: float = math.inf  # when it had moved so far that a picture must show it


class PictureCheck:
    """The checks of one camera's pictures; use it from one thread.

    Args:
        camera: its name, for messages.
        rules: what is checked, and what follows.
        usual: what training pictures looked like; None: only what is wrong with any picture.
        scale: (P,) standard deviations of the proprioception.
        still: see `Familiar.still`.

    Attributes:
        values: of the newest picture, by name.
    """

    def __init__(
        self,
        camera: str,
        rules: CameraCheck,
        usual: CameraLook | None,
        scale: Sequence[float],
        still: float,
    ) -> None:
        self.camera, self._rules, self._usual = camera, rules, usual
        self._scale, self._still = np.maximum(np.asarray(scale, np.float64), 1e-9), still
        self._checks = {
            name: Patience(rules.stop_after_s, rules.resume_after_s)
            for name in ("exposure", "frozen", "view")
        }
        self._reasons: dict[str, str] = {}
        self._same: _Same | None = None
        self.values: dict[str, float] = {}

    @property
    def state(self) -> str:
        """The worst of the checks."""
        states = [check.state for check in self._checks.values()]
        return next((state for state in (STOPPED, WARNING) if state in states), GOOD)

    @property
    def reason(self) -> str:
        """What is wrong; of several the one that stops the robot. Empty: nothing."""
        for state in (STOPPED, WARNING):
            for name, check in self._checks.items():
                if check.state == state:
                    return f"camera {self.camera}: {self._reasons[name]}"
        return ""

    def look_at(self, picture: np.ndarray, proprio: np.ndarray | None, now_s: float) -> bool:
        """Check a picture; say whether it may be planned from.

        Args:
            picture: (S, S, 3) uint8.
            proprio: (P,) newest proprioception; None: not known yet.
            now_s: of a steady clock.
        """
        rules, usable = self._rules, True
        found = {"frozen": self._frozen(picture, proprio, now_s), **self._looks(picture)}
        for name, reason in found.items():
            action = getattr(rules, name)
            bad = bool(reason) and action != "ignore"
            self._checks[name].update(bad, now_s, stops=action == "stop")
            if bad:
                self._reasons[name] = reason
                usable = usable and action != "stop"
        return usable

    def _frozen(self, picture: np.ndarray, proprio: np.ndarray | None, now_s: float) -> str:
        """The same pixels again and again though the robot has moved."""
        same = self._same
        if same is None or not np.array_equal(same.picture, picture):
            self._same = same = _Same(picture.copy(), now_s)
        for_s = now_s - same.since_s
        if proprio is not None and for_s >= SETTLED_S:
            if same.proprio is None:
                same.proprio = proprio
            moved = float(np.linalg.norm((proprio - same.proprio) / self._scale))
            same.moved = max(same.moved, moved)
            if moved > self._still:
                same.moved_s = min(same.moved_s, now_s)
        self.values["equal_pictures_s"], self.values["moved_meanwhile"] = for_s, same.moved
        if now_s - same.moved_s < FROZEN_S:
            return ""
        return (
            f"the picture has been frozen for {for_s:.1f} s: no pixel changes though the robot "
            f"moved by {same.moved:.2f} standard deviations; restart the camera's driver"
        )

    def _looks(self, picture: np.ndarray) -> dict[str, str]:
        seen, usual = look(picture), self._usual
        told = {"brightness": seen.brightness, "contrast": seen.contrast}
        told["sharpness"] = seen.sharpness
        self.values.update(told)
        exposure = self._exposure(told)
        view = ""
        if usual is not None:
            value, least = usual.view_of(seen), self._least_view(usual)
            self.values["view"] = value
            if value < least and not exposure:  # else it shows nothing that could be compared
                view = (
                    f"it does not show what it showed in training (view {value:.2f}, least "
                    f"{least:.2f}, usual 1): has the camera been moved, turned or mirrored?"
                )
        return {"exposure": exposure, "view": view}

    def _least_view(self, usual: CameraLook) -> float:
        return usual.view if self._rules.least_view is None else self._rules.least_view

    def _exposure(self, told: dict[str, float]) -> str:
        brightness, contrast, sharpness = told.values()
        if contrast < LEAST_CONTRAST:
            return (
                f"the picture is of a single colour (brightness {brightness:.0f}, contrast "
                f"{contrast:.1f}): is the lens covered, or the light off?"
            )
        if not BRIGHTNESS[0] <= brightness <= BRIGHTNESS[1]:
            which = "black" if brightness < BRIGHTNESS[0] else "white"
            return f"the picture is {which} (brightness {brightness:.0f}): look at its exposure"
        if sharpness > MOST_SHARPNESS:
            return (
                f"the picture is noise (sharpness {sharpness:.2f}, noise is above "
                f"{MOST_SHARPNESS:g}): look at the camera's cable and driver"
            )
        if self._usual is None:
            return ""
        for name, value in told.items():
            least, most = getattr(self._usual, name)
            if not least <= value <= most:
                return (
                    f"{name} {value:.3g} is not that of the training pictures ({least:.3g} to "
                    f"{most:.3g}): look at light, focus and exposure"
                )
        return ""


class Eyes:
    """All checks of what the planner sees, and whether the robot may be driven by it.

    Args:
        rules: what is checked, and what follows.
        checks: one for each camera.
        stops: False: of a simulator that waits for every plan; everything is told, and nothing
            is withheld.

    Attributes:
        surprise: newest value, NaN before the first.
    """

    def __init__(
        self, rules: CameraCheck, checks: Sequence[PictureCheck], stops: bool = True
    ) -> None:
        self._rules, self._checks, self._stops = rules, tuple(checks), stops
        self._surprised = Patience(rules.stop_after_s, rules.resume_after_s)
        self._worst = self.surprise = math.nan

    def look_at(
        self, number: int, picture: np.ndarray, proprio: np.ndarray | None, now_s: float
    ) -> bool:
        """See `PictureCheck.look_at`, of a camera by its number."""
        return self._checks[number].look_at(picture, proprio, now_s) or not self._stops

    def note_surprise(self, value: float, now_s: float) -> None:
        """Take the surprise of a new observation; NaN: it is not known."""
        if math.isnan(value):
            return
        self.surprise = value
        action = self._rules.surprise
        bad = action != "ignore" and not value <= self._rules.most_surprise
        if bad:
            self._worst = value
        self._surprised.update(bad, now_s, stops=action == "stop")

    @property
    def state(self) -> str:
        """The worst of the checks; `STOPPED`: nothing may be followed."""
        states = [self._surprised.state, *(check.state for check in self._checks)]
        if STOPPED in states:
            return STOPPED if self._stops else WARNING
        return WARNING if WARNING in states else GOOD

    @property
    def reason(self) -> str:
        """What is wrong; of several the one that stops the robot. Empty: nothing."""
        told = [(check.state, check.reason) for check in self._checks]
        if self._surprised.state != GOOD:
            text = (
                f"what is seen is not what the model expected (surprise {self._worst:.1f}, most "
                f"{self._rules.most_surprise:g}): has something been moved or changed, does the "
                "robot do what it is told, is the camera the right way round?"
            )
            told.append((self._surprised.state, text))
        for state in (STOPPED, WARNING):
            for found, text in told:
                if found == state:
                    return text
        return ""

    def values(self) -> dict[str, float]:
        """The newest numbers, by the check's name and the camera's."""
        told = {
            f"{name} {check.camera}": round(value, 4)
            for check in self._checks
            for name, value in check.values.items()
        }
        return {**told, "surprise": round(self.surprise, 4)}
