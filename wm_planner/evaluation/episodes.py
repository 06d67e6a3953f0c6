"""Closed- and open-loop episodes, many planned together.

One environment per episode does the physics; one more draws all pictures, which are functions of
the state. A plan does not depend on what is planned beside it, so neither do results on the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_planner.evaluation.problems import Problems
from wm_planner.models.world_model import Latent
from wm_planner.planning import Planner
from wm_planner.types import Observation

MODES = ("open-loop", "mpc")


@dataclass(frozen=True)
class EpisodeResult:
    """One episode.

    Attributes:
        success: the goal was reached.
        num_steps: model steps executed.
        distance: left at the end, in the unit of the task's test of success.
        start_distance: at the beginning.
    """

    success: bool
    num_steps: int
    distance: float
    start_distance: float


@dataclass
class Evaluation:
    """All episodes, in the order of the problems, and what planning took.

    Attributes:
        plan_seconds: of each planning call, divided by the number of episodes planned in it.
        plan_evaluations: rollouts per episode of each planning call.
    """

    episodes: list[EpisodeResult] = field(default_factory=list)
    plan_seconds: list[float] = field(default_factory=list)
    plan_evaluations: list[int] = field(default_factory=list)


def evaluate(
    planner: Planner,
    make_env: Callable[[bool], Any],
    problems: Problems,
    mode: str,
    batch_size: int,
    progress: Callable[[int], object] = lambda steps: None,
) -> Evaluation:
    """Run every problem.

    Args:
        planner: its settings say how far ahead and how often to plan.
        make_env: called with True for an environment that draws, False for physics alone.
        problems: where to start and where to go.
        mode: 'mpc' replans until success or the task's last model step; 'open-loop' executes one
            plan to its end. Success is looked for where a plan has been used up (every
            `replan_steps`, or at the very end), and is final.
        batch_size: episodes planned together; more are faster, not different.
        progress: told the number of model steps that are done, or saved by a success.

    Raises:
        PlanningError: the model gives no finite plan.
    """
    if mode not in MODES:
        raise ValueError(f"mode '{mode}' is unknown; choices: {', '.join(MODES)}")
    count = min(batch_size, len(problems))
    camera, robots = make_env(True), [make_env(False) for _ in range(count)]
    evaluation = Evaluation()
    try:
        for first in range(0, len(problems), count):
            part = slice(first, first + count)
            batch = _Batch(planner, camera, robots, problems.starts[part], problems.goals[part])
            evaluation.episodes += batch.run(mode == "mpc", evaluation, progress)
    finally:
        for env in (camera, *robots):
            env.close()
    return evaluation


class _Batch:
    """Episodes side by side."""

    def __init__(
        self, planner: Planner, camera: Any, robots: list[Any], starts: Any, goals: Any
    ) -> None:
        self._planner, self._camera, self._robots = planner, camera, robots[: len(starts)]
        self._task, self._goals = planner.task, []
        for robot, start, goal in zip(self._robots, starts, goals, strict=True):
            robot.set_state(goal)
            self._goals.append(robot.get_state())
            robot.set_state(start)
        self._goal = self._encode(self._goals)
        self._history = planner.bundle.model.config.num_hist
        if planner.config.rollout == "markov":
            self._history = 1

    def run(
        self, closed: bool, evaluation: Evaluation, progress: Callable[[int], object]
    ) -> list[EpisodeResult]:
        planner, config = self._planner, self._planner.config
        last_step = self._task.max_model_steps if closed else config.horizon
        chunk = config.replan_steps if closed else config.horizon
        results: dict[int, EpisodeResult] = {}
        before = [self._distance(i) for i in range(len(self._robots))]
        running = list(range(len(self._robots)))
        now, past, warm = self._observe(running), None, None
        generator, step, replan = planner.generator(), 0, 0
        while running:
            begin_s = time.perf_counter()
            plan = planner.plan_latents(
                now, self._goal[running], warm, replan, generator, past_actions=past
            )
            seconds = (time.perf_counter() - begin_s) / len(running)
            evaluation.plan_seconds += [seconds] * len(running)
            evaluation.plan_evaluations += [plan.num_evaluations] * len(running)
            taken = min(chunk, last_step - step)
            for i in range(taken):
                now, past = self._advance(running, plan.actions[:, i : i + 1], now, past)
            step, replan = step + taken, replan + 1
            for row in running:
                success = self._task.is_success(self._robots[row].get_state(), self._goals[row])
                if success or step >= last_step:
                    results[row] = EpisodeResult(success, step, self._distance(row), before[row])
            keep = [k for k, row in enumerate(running) if row not in results]
            saved = (len(running) - len(keep)) * (last_step - step)
            progress(len(running) * taken + saved)
            running = [running[k] for k in keep]
            now, past = now[keep], None if past is None else past[keep]
            if config.warm_start:
                warm = planner.shift(plan.actions, taken * self._task.frame_skip)[keep]
        return [results[row] for row in range(len(self._robots))]

    def _advance(
        self, running: list[int], actions: Tensor, now: Latent, past: Tensor | None
    ) -> tuple[Latent, Tensor | None]:
        """Execute one model step (n, 1, A); return the history of frames and of actions."""
        for row, raw in zip(running, self._planner.raw_actions(actions).cpu().numpy(), strict=True):
            for action in raw:
                self._robots[row].advance(action)
        seen = self._observe(running)
        if self._history == 1:
            return seen, None
        frames = Latent(
            torch.cat([now.visual, seen.visual], dim=1)[:, -self._history :],
            torch.cat([now.proprio, seen.proprio], dim=1)[:, -self._history :],
        )
        taken = actions if past is None else torch.cat([past, actions], dim=1)
        return frames, taken[:, 1 - self._history :]

    def _observe(self, running: list[int]) -> Latent:
        return self._encode([self._robots[row].get_state() for row in running])

    def _encode(self, states: list[np.ndarray]) -> Latent:
        """(n, 1, ...) latent of n states, encoded in one go."""
        images = np.stack([self._camera.render_state(state) for state in states])
        proprio = np.stack([self._camera.proprio_of(state) for state in states])
        frames = self._planner.bundle.encode_observation(Observation(images, proprio, 0))
        return Latent(frames.visual.transpose(0, 1), frames.proprio.transpose(0, 1))

    def _distance(self, row: int) -> float:
        return self._task.distance(self._robots[row].get_state(), self._goals[row])
