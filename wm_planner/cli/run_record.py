"""What a run in simulation has shown so far. No ROS, no clock: times are arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wm_planner.cli.filmed import EpisodeFilm, Ring
from wm_planner.evaluation.stats import wilson_interval

FILMED = 5  # episodes in the film


@dataclass
class EpisodeRecord:
    """One episode; `success` is None while it runs, and `film` is what it has shown."""

    episode: int
    start_ns: int
    film: EpisodeFilm = field(default_factory=EpisodeFilm)
    success: bool | None = None
    num_steps: int = 0
    distance: float = float("nan")
    plan_times_s: list[float] = field(default_factory=list)


class RunRecord:
    """Collects the messages of a run. Stamps are message stamps; `now_s` is a steady clock.

    Args:
        make_film: makes an episode's film, whose title says what is seen.
    """

    def __init__(self, make_film: Callable[[], EpisodeFilm] = EpisodeFilm) -> None:
        self._make_film = make_film
        self.episodes: list[EpisodeRecord] = []
        self.plan_seconds: list[float] = []
        self._images_s: dict[int, float] = {}
        self._plans_s: dict[int, float] = {}
        self._commands_s: list[tuple[int, float]] = []

    @property
    def finished(self) -> list[EpisodeRecord]:
        """Episodes that have ended."""
        return [episode for episode in self.episodes if episode.success is not None]

    def start_episode(self, episode: int, stamp_ns: int, ring: Ring | None = None) -> None:
        """An episode has begun; a repeated event changes nothing."""
        if any(known.episode == episode for known in self.episodes):
            return
        for done in self.episodes[FILMED:]:
            done.film.clear()  # the film needs the first ones, the picture the last one
        film = self._make_film()
        film.title, film.ring = ", ".join(filter(None, (film.title, f"episode {episode}"))), ring
        self.episodes.append(EpisodeRecord(episode, stamp_ns, film))

    def end_episode(self, episode: int, success: bool, num_steps: int, distance: float) -> bool:
        """An episode has ended. Returns False when that was known."""
        for record in self.episodes:
            if record.episode == episode and record.success is None:
                record.success, record.num_steps, record.distance = success, num_steps, distance
                record.film.reached = success
                return True
        return False

    def add_goal(self, stamp_ns: int, image: np.ndarray) -> None:
        """Goal image (S, S, 3)."""
        record = self._at(stamp_ns)
        if record is not None:
            record.film.add_goal(image)

    def add_image(self, stamp_ns: int, image: np.ndarray, now_s: float) -> None:
        """Camera image (S, S, 3); one that was sent again is ignored."""
        record = self._at(stamp_ns)
        if record is not None and record.film.add_picture(stamp_ns, image):
            self._images_s[stamp_ns] = now_s

    def add_imagined(self, stamp_ns: int, tiles: np.ndarray) -> None:
        """Imagined frames of the plan from `stamp_ns`, square, left to right."""
        record = self._at(stamp_ns)
        if record is not None:
            record.film.add_imagined(stamp_ns, tiles[:, -tiles.shape[0] :])

    def add_distance(self, stamp_ns: int, distance: float) -> None:
        """The distance to the goal, as the simulator measures it."""
        record = self._at(stamp_ns)
        if record is not None:
            record.film.add_distance(stamp_ns, distance)

    def add_replan(self, stamp_ns: int, seconds: float) -> None:
        """A plan from the observation of `stamp_ns` took so long."""
        self.plan_seconds.append(seconds)
        record = self._at(stamp_ns)
        if record is not None:
            record.film.add_replan(stamp_ns, seconds)

    def add_plan(self, stamp_ns: int, now_s: float) -> None:
        """A plan from the observation of `stamp_ns` was published."""
        record = self._at(stamp_ns)
        if record is not None:
            record.plan_times_s.append(now_s)
        self._plans_s.setdefault(stamp_ns, now_s)

    def add_command(self, stamp_ns: int, now_s: float) -> None:
        """A command was sent."""
        self._commands_s.append((stamp_ns, now_s))

    @property
    def latency_seconds(self) -> list[float]:
        """Camera to command: from an image to the first command of the plan made from it.

        In lock-step that is the command of the image's own stamp; in real time the first one that
        came after the plan. Topics overtake each other, so this looks at stamps, not at order.
        """
        answers = dict(reversed(self._commands_s))  # the first of each stamp
        latencies = []
        for stamp_ns, planned_s in self._plans_s.items():
            command_s = answers.get(stamp_ns) or next(
                (t for s, t in self._commands_s if s >= stamp_ns and t >= planned_s), None
            )
            if command_s is not None and stamp_ns in self._images_s:
                latencies.append(command_s - self._images_s[stamp_ns])
        return latencies

    def replan_rate_hz(self) -> float | None:
        """Plans per second within episodes; None before two plans of one episode."""
        times = [e.plan_times_s for e in self.episodes if len(e.plan_times_s) > 1]
        passed_s = sum(t[-1] - t[0] for t in times)
        return sum(len(t) - 1 for t in times) / passed_s if passed_s > 0 else None

    def summary(self) -> dict[str, Any]:
        """Successes, interval and times; None where nothing was measured."""
        trials = len(self.finished)
        successes = sum(bool(episode.success) for episode in self.finished)
        low, high = wilson_interval(successes, trials)
        return {
            "episodes": trials,
            "successes": successes,
            "success_rate": successes / trials if trials else None,
            "interval_low": low,
            "interval_high": high,
            "plan_seconds_p50": _percentile(self.plan_seconds, 50),
            "plan_seconds_p99": _percentile(self.plan_seconds, 99),
            "latency_seconds_p50": _percentile(self.latency_seconds, 50),
            "latency_seconds_p99": _percentile(self.latency_seconds, 99),
        }

    def _at(self, stamp_ns: int) -> EpisodeRecord | None:
        """The newest episode that had begun: a camera image may come after the end event."""
        begun = [episode for episode in self.episodes if episode.start_ns <= stamp_ns]
        return begun[-1] if begun else None


def _percentile(values: list[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None
