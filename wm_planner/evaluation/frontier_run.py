"""Runs a frontier: tunes every planner, then measures the points around each of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from wm_planner.evaluation.episode import Loop
from wm_planner.evaluation.frontier import FIXED, Frontier, swept
from wm_planner.evaluation.frontier_points import Point
from wm_planner.evaluation.job import Job, job_of
from wm_planner.evaluation.record import Record
from wm_planner.evaluation.target import Targets, sample_targets
from wm_planner.evaluation.tuning import Score, Trial, better_half, draw_trials, ranked, score
from wm_planner.evaluation.turns import Course, Turn
from wm_planner.models import checkpoint
from wm_planner.planning import PlannerConfig

# Made with total=, desc= and unit=, as tqdm's; told the number of episodes that are done.
Bar = Callable[..., AbstractContextManager[Any]]


@dataclass(frozen=True)
class Found:
    """What was found on one task.

    Attributes:
        unit: of the seconds.
        scores: of each round of the search, every planner's best trial first.
        points: of the frontier, each planner's tuned one before its others.
    """

    unit: str
    scores: list[list[Score]]
    points: list[Point]


class FrontierRun:
    """One task's frontier; what its directory holds already is not run again.

    Args:
        frontier: what to measure.
        task: one of its tasks.
        output: directory of the records.
        device, threads: see `Job`.
        origin: see `Record`.
        bar: shows progress.

    Raises:
        WmPlannerError: the checkpoint, or a first setting of a planner, cannot be used.
    """

    def __init__(
        self,
        frontier: Frontier,
        task: str,
        output: Path,
        bar: Bar,
        device: str = "cpu",
        threads: int = 1,
        origin: dict[str, str] | None = None,
    ) -> None:
        self._frontier, self._task, self._output = frontier, task, output
        self._bar, self._device, self._threads, self._origin = bar, device, threads, origin
        self._checkpoint = str(frontier.checkpoints[task])
        search = frontier.search
        self._trials = {
            name: draw_trials(
                name,
                settings or {},
                search.trials,
                search.seed,
                partial(self._configured, "planners", name),
            )
            for name, settings in frontier.planners.items()
        }
        self._fixed = {
            name: self._configured("fixed", name, settings or {})
            for name, settings in frontier.fixed.items()
        }

    def run(self) -> Found:
        """Tune and measure.

        Raises:
            PlanningError: the model gives no finite plan.
            ConfigError: `output` holds episodes of other settings.
        """
        any_job = self._job(self._trials[self._frontier.reference][0].config)
        bundle = checkpoint.load_bundle(self._checkpoint, self._device, self._task)
        with Course(any_job, bundle) as course:
            scores = self._tune(course)
            return Found(course.unit, scores, self._measure(course, scores[-1]))

    def _tune(self, course: Course) -> list[list[Score]]:
        search = self._frontier.search
        targets = self._targets(course, search.seed, search.episodes[-1])
        trials, rounds = dict(self._trials), []
        for number, episodes in enumerate(search.episodes, start=1):
            turns = [
                (trial, self._turn("tuning", trial.name, replace(trial.config, seed=search.seed)))
                for those in trials.values()
                for trial in those
            ]
            few = targets.part(slice(episodes))
            what = f"{self._task}: tuning, round {number} of {len(search.episodes)}"
            runs = self._by_turns(course, [turn for _, turn in turns], few, what)
            scores: dict[str, list[Score]] = {name: [] for name in trials}
            for (trial, _), run in zip(turns, runs, strict=True):
                scores[trial.planner].append(score(trial, run))
            ordered = {name: ranked(those, search.slack) for name, those in scores.items()}
            rounds.append([one for those in ordered.values() for one in those])
            trials = {name: better_half(those, search.slack) for name, those in ordered.items()}
        return rounds

    def _measure(self, course: Course, scores: list[Score]) -> list[Point]:
        frontier = self._frontier
        targets = self._targets(course, frontier.seed, frontier.episodes)
        tuned: dict[str, Trial] = {}
        for one in scores:
            tuned.setdefault(one.trial.planner, one.trial)
        todo = [
            (name, sweep.partition(" ")[0], f"{name}, {sweep}", config)
            for name, trial in tuned.items()
            for sweep, config in swept(trial.config, frontier.factors)
        ]
        todo += [(name, FIXED, name, config) for name, config in self._fixed.items()]
        turns = [
            self._turn("points", name.replace(", ", "-").replace(" ", "-"), config)
            for _, _, name, config in todo
        ]
        runs = self._by_turns(course, turns, targets, f"{self._task}: frontier")
        return [Point.of(*what, run) for what, run in zip(todo, runs, strict=True)]

    def _by_turns(self, course: Course, turns: list[Turn], targets: Targets, what: str) -> Any:
        total = len(turns) * len(targets)
        with self._bar(total=total, desc=what, unit="episode") as bar:
            return course.run(turns, targets, bar.update)

    def _targets(self, course: Course, seed: int, count: int) -> Targets:
        return sample_targets(course.env, seed, count)

    def _configured(self, key: str, name: str, settings: dict[str, Any]) -> PlannerConfig:
        changes = {"solver": name, **settings, "seed": self._frontier.seed}
        source = f"{key}: {name}"
        return job_of(self._task, self._checkpoint, changes, source, Loop()).planner

    def _job(self, config: PlannerConfig) -> Job:
        job = job_of(self._task, self._checkpoint, {}, self._task, Loop(), device=self._device)
        return replace(job, planner=config, batch_size=1, threads=self._threads)

    def _turn(self, kind: str, name: str, config: PlannerConfig) -> Turn:
        job = self._job(config)
        return Turn(name, job, Record(self._output / kind / name, job, self._origin))
