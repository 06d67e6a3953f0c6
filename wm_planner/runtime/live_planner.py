"""A planner whose checkpoint is exchanged while it plans, between two plans, and taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wm_planner.errors import PlanningError
from wm_planner.models.versions import reject
from wm_planner.runtime.goal_planner import GoalPlanner, PlanResult
from wm_planner.runtime.surprise import Happened
from wm_planner.runtime.trial import RUNNING, WORSE_THAN_BEFORE, Trial
from wm_planner.types import Goal, Observation

if TYPE_CHECKING:
    from wm_planner.planning.encoding import EncodedObservation
    from wm_planner.planning.solver import StopFn

_KEPT = 8  # observations: a step may be planned in several times
Say = Callable[[bool, str], object]


@dataclass(frozen=True)
class Seen:
    """An observation as one planner sees it.

    Attributes:
        planner: which encoded it, and plans from it.
        encoded: by that planner.
        observation: as it came.
    """

    planner: GoalPlanner
    encoded: EncodedObservation
    observation: Observation

    @property
    def stamp_ns(self) -> int:
        """Capture time of the newest frame."""
        return self.encoded.stamp_ns


class LivePlanner:
    """Plans with the newest good checkpoint.

    A checkpoint that is offered is taken between two plans, and is on trial for some model steps:
    where its errors are larger than those that the one before it would have made on the same
    steps, or where it finds no plan, that one returns. It stays loaded until then.

    `encode` and the call may be on two threads, `offer` on a third.

    Args:
        planner: to begin with.
        trial_steps: model steps of a trial.
        say: told (whether something is wrong, one line) of what was taken and what returned.
    """

    def __init__(self, planner: GoalPlanner, trial_steps: int, say: Say) -> None:
        self._say, self._trial_steps = say, trial_steps
        self.planning = threading.Lock()  # held during a plan: another may be warmed up between two
        self._lock = threading.Lock()
        self._current = self._planned_last = planner
        self._before: GoalPlanner | None = None  # while the current one is on trial
        self._offered: GoalPlanner | None = None
        self._trial = Trial(trial_steps)
        self._same_view = True
        self._its_view: dict[int, EncodedObservation] = {}  # the one before's, by their stamps
        self._last_words, self._is_bad = "", False

    @property
    def current(self) -> GoalPlanner:
        """What plans now."""
        return self._current

    @property
    def on_trial(self) -> bool:
        """Whether it has not shown yet that it is as good as the one before it."""
        return self._before is not None or self._offered is not None

    def offer(self, planner: GoalPlanner) -> None:
        """Plan with this one from the next plan on."""
        with self._lock:
            self._offered = planner

    def tell(self, bad: bool, text: str) -> None:
        """Say what has happened with a checkpoint, once, and keep it for the diagnostics."""
        self._last_words, self._is_bad = text, bad
        self._say(bad, text)

    def told(self) -> tuple[bool, str, dict[str, Any]]:
        """For a diagnostic: whether something is wrong, the newest line, and values."""
        values: dict[str, Any] = {**self._current.identity, "on_trial": self._before is not None}
        if self._trial.done:
            new, old = self._trial.errors
            values |= {"trial_steps": self._trial.done, "error": new, "error_before": old}
        return self._is_bad, self._last_words or "in use", values

    def encode(self, observation: Observation) -> Seen:
        """What the model sees of an observation, where another thread plans."""
        planner = self._exchanged()
        return Seen(planner, planner.encode(observation), observation)

    def __call__(
        self,
        goal: Goal,
        seen: Observation | Seen,
        should_stop: StopFn | None = None,
        age_s: float | None = None,
    ) -> PlanResult:
        """As `GoalPlanner`.

        Raises:
            PlanningError: no finite plan was found.
        """
        given = seen.encoded if isinstance(seen, Seen) else seen
        observation = seen.observation if isinstance(seen, Seen) else seen
        with self.planning:
            planner = seen.planner if isinstance(seen, Seen) else self._exchanged()
            if planner is not self._planned_last:
                planner.take_over(self._planned_last)
                self._planned_last = planner
            try:
                result = planner(goal, given, should_stop, age_s)
            except PlanningError as error:
                if planner is not self._current or self._before is None:
                    raise
                before = self._take_back(f"it finds no plan: {error}")
                before.take_over(planner)
                self._planned_last = before
                return before(goal, observation, should_stop, age_s)
            if self._before is not None and planner is self._current:
                self._compare(planner.surprise.happened, observation)
            return result

    def _exchanged(self) -> GoalPlanner:
        """The current planner: one that was offered, from here on."""
        with self._lock:
            offered, self._offered = self._offered, None
            if offered is None:
                return self._current
            self._before, self._current = self._current, offered
        self._trial = Trial(self._trial_steps)
        self._same_view = offered.knows_as(self._before)
        self._its_view = {}
        self.tell(False, f"{offered.checkpoint}: taken, and on trial for {self._trial_steps} steps")
        return offered

    def _compare(self, happened: Happened | None, observation: Observation) -> None:
        """Go on with the trial by what came of the newest step."""
        new, old = self._current, self._before
        assert old is not None
        if self._same_view:
            its = happened
        else:
            now, its = old.encode(observation), None
            self._its_view = dict([*self._its_view.items(), (now.stamp_ns, now)][-_KEPT:])
            if happened is not None:
                before = self._its_view.get(happened.before.stamp_ns)
                self._its_view = {now.stamp_ns: now}
                if before is not None:
                    its = Happened(before, happened.actions, now, happened.passed)
        if happened is None or its is None:
            return
        errors = new.surprise.error(happened), old.surprise.error(its)
        verdict = self._trial.add(errors, (happened.moved(), its.moved()))
        told = "{:.3g} of what moved, {:.3g} by the one before".format(*self._trial.errors)
        if verdict == WORSE_THAN_BEFORE:
            self._take_back(f"its error over {self._trial.done} steps is {told}")
        elif verdict != RUNNING:
            self._before = None
            self.tell(False, f"{new.checkpoint}: kept, its error is {told}")

    def _take_back(self, reason: str) -> GoalPlanner:
        """The one before plans again; the current one is marked, so that nobody takes it again."""
        bad, before = self._current, self._before
        assert before is not None
        with self._lock:
            self._current, self._before = before, None
        marked = reject(bad.checkpoint, reason)
        note = "" if marked else " (it could not be marked as rejected: its directory is read-only)"
        self.tell(True, f"{bad.checkpoint}: rolled back to {before.checkpoint}: {reason}{note}")
        return before
