"""Closed- and open-loop episodes, many planned together.

One environment per episode does the physics; one more draws all pictures, which are functions of
the state. A plan does not depend on what is planned beside it, so neither do results on the batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wm_planner.errors import ConfigError
from wm_planner.evaluation.episode import MEASURED, Env, Episode, Evaluation, Loop
from wm_planner.evaluation.target import Targets
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.world_model import Latent
from wm_planner.planning import Planner, Session
from wm_planner.planning.session import Planned
from wm_planner.types import Goal, Observation


class Spectator(Protocol):
    """Sees the first episode of a batch; periods are control periods since its start."""

    def planned(self, period: int, planned: Planned) -> None:
        """A plan was made from the state of then."""

    def moved(self, period: int, state: np.ndarray) -> None:
        """The state (S,) of a period, that of the start first."""


class Arena:
    """A planner and the environments that it is tried in; a context manager that closes them.

    Args:
        planner: its settings say how far ahead and how often to plan.
        make_env: called with True for an environment that draws, False for physics alone.
        size: most episodes planned together; more are faster, not different.
        loop: how plans are executed.
        clock: seconds, for the time that planning takes.

    Raises:
        ValueError: a measured latency with more than one episode at a time.
        ConfigError: so with a planner that adapts, where it is to plan more than once.
    """

    def __init__(
        self,
        planner: Planner,
        make_env: Callable[[bool], Env],
        size: int,
        loop: Loop,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if loop.latency == MEASURED and size > 1:
            raise ValueError(f"latency '{MEASURED}' needs a batch of 1, got {size}")
        if planner.config.adapts and loop.mode == "mpc" and size > 1:
            raise ConfigError(
                f"adapt_learning_rate {planner.config.adapt_learning_rate}: the model adapts to "
                f"one episode at a time, got a batch of {size}; use a batch size of 1"
            )
        self.planner, self.loop = planner, loop
        timed = loop.mode == "mpc" or planner.config.max_seconds is not None
        self.session = Session(planner, clock, None if timed else math.inf)
        self._warm = False
        # The first one must draw: MuJoCo chooses its GL library only once.
        self.camera, self.robots = make_env(True), [make_env(False) for _ in range(size)]

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *error: object) -> None:
        for env in (self.camera, *self.robots):
            env.close()

    def run(
        self,
        targets: Targets,
        progress: Callable[[int], object] = lambda periods: None,
        spectator: Spectator | None = None,
    ) -> Evaluation:
        """Run at most `size` episodes together.

        Args:
            targets: where to start and where to go.
            progress: told the number of control periods that are done, or saved by a success.
            spectator: see `Spectator`.

        Raises:
            PlanningError: the model gives no finite plan.
        """
        batch = _Batch(self, targets, spectator)
        if not self._warm:
            batch.warm_up()
            self._warm = True
        return batch.run(progress)


def draw(camera: Env, states: Sequence[np.ndarray]) -> Observation:
    """Pictures and proprioception of states, as frames one after the other."""
    images = np.stack([camera.render_state(state) for state in states])
    return Observation(images, np.stack([camera.proprio_of(state) for state in states]), 0)


def encode(bundle: EmbodiedModel, frames: Observation, length: int) -> Latent:
    """(n, length, ...) latent of n * length frames, encoded in one go."""
    latent = bundle.encode_observation(frames)
    shape = (-1, length)
    return Latent(latent.visual[0].unflatten(0, shape), latent.proprio[0].unflatten(0, shape))


def frame_distance(path: Latent, other: Latent) -> Tensor:
    """(B, T) mean squared difference of the visual tokens, broadcast over time."""
    return (path.visual - other.visual).square().mean(dim=(-2, -1))


@dataclass(frozen=True)
class _Rows:
    """Raw actions (n, R, a) of plans, the first row due at control period `start`."""

    start: int
    actions: np.ndarray

    def due(self, period: int, rest: np.ndarray) -> np.ndarray:
        """(n, a) for a control period, `rest` (n, a) past the last row."""
        row = period - self.start
        return self.actions[:, row] if row < self.actions.shape[1] else rest

    def __getitem__(self, keep: list[int]) -> _Rows:
        return _Rows(self.start, self.actions[keep])


class _Batch:
    """Episodes side by side. Time is counted in control periods."""

    def __init__(self, arena: Arena, targets: Targets, spectator: Spectator | None) -> None:
        self._spectator = spectator
        self._arena, self._planner, self._loop = arena, arena.planner, arena.loop
        self._session = arena.session
        self._task, self._body = arena.camera.task, arena.planner.embodiment
        self._robots = arena.robots[: len(targets)]
        self._goals = []
        for robot, start, goal in zip(self._robots, targets.starts, targets.goals, strict=True):
            robot.set_state(goal)
            self._goals.append(robot.get_state())
            robot.set_state(start)
        self._goal, self._alpha = self._encode_goals(targets.goal_images)
        self._states = [[robot.get_state()] for robot in self._robots]
        self._actions: list[list[np.ndarray]] = [[] for _ in self._robots]
        self._results: dict[int, Episode] = {}
        self._before = [self._distance(row) for row in range(len(self._robots))]

    def warm_up(self) -> None:
        """Plan once for nothing; where it matters, also find out how long plans take."""
        seen = self._observe([0], 0)
        self._session.warm_up(self._goal[[0]], seen, self._loop.latency == MEASURED)

    def run(self, progress: Callable[[int], object]) -> Evaluation:
        config, skip = self._planner.config, self._body.frame_skip
        closed = self._loop.mode == "mpc"
        last = skip * self._loop.last_step(self._task, config.horizon)
        chunk = skip * (config.replan_steps if closed else config.horizon)
        evaluation, session = Evaluation(), self._session
        session.begin(self._goal, self._alpha)
        running, now = list(range(len(self._robots))), 0
        rows = _Rows(0, np.zeros((len(running), 0, self._body.action.size)))
        measured = self._loop.latency == MEASURED
        if self._spectator is not None:
            self._spectator.moved(0, self._states[0][0])
        while running:
            plan = session.plan_batch(
                self._observe(running, now),
                age_s=0.0 if measured else None,
                num_committed=self._loop.wait(0.0, self._body.control_dt_s),
                executed=self._executed(running),
            )
            if self._spectator is not None and running[0] == 0:
                self._spectator.planned(now, plan)
            seconds = plan.seconds
            evaluation.plan_seconds += [seconds / len(running)] * len(running)
            evaluation.plan_evaluations += [plan.num_evaluations] * len(running)
            wait = self._loop.wait(seconds, self._body.control_dt_s)
            old, rows = rows, _Rows(now, plan.rows)
            then = min(last, now + max(chunk, wait))
            for period in range(now, then):
                followed = rows if period - now >= wait else old
                self._act(running, followed.due(period, self._rest(running)))
                used_up = period + 1 == then
                if used_up or (self._loop.latency is not None and (period + 1) % skip == 0):
                    self._look(running, period + 1, last)
            keep = [k for k, row in enumerate(running) if row not in self._results]
            progress(len(running) * (then - now) + (len(running) - len(keep)) * (last - then))
            running, rows = [running[k] for k in keep], rows[keep]
            session.keep(keep)
            now = then
        evaluation.episodes = [self._results[row] for row in range(len(self._robots))]
        return evaluation

    def _observe(self, running: list[int], now: int) -> Observation:
        """The T newest frames of each episode, one episode after the other, one per model step."""
        skip = self._body.frame_skip
        newest = max(0, now - self._loop.delayed_frames * skip)
        length = min(self._planner.num_frames, 1 + newest // skip)
        first = newest - (length - 1) * skip
        frames = range(first, newest + 1, skip)
        states = [self._states[row][frame] for row in running for frame in frames]
        past = None
        if length > 1:
            past = np.array([self._actions[row][first:newest] for row in running], np.float32)
            past = past.reshape(len(running) * (length - 1), -1)
        seen = draw(self._arena.camera, states)
        return replace(seen, stamp_ns=now * self._planner.dt_ns, actions=past)

    def _rest(self, running: list[int]) -> np.ndarray:
        """(n, a) what leaves the robots where they are now."""
        camera, rest = self._arena.camera, self._planner.rest
        if rest.fixed is not None:
            return np.broadcast_to(rest.fixed, (len(running), len(rest.fixed)))
        return rest.at(np.stack([camera.proprio_of(self._states[row][-1]) for row in running]))

    def _executed(self, running: list[int]) -> np.ndarray | None:
        """(n, a) the last raw actions; None when there was none yet."""
        if not self._actions[running[0]]:
            return None
        return np.array([self._actions[row][-1] for row in running])

    def _act(self, running: list[int], actions: np.ndarray) -> None:
        for row, action in zip(running, actions, strict=True):
            if row not in self._results:
                robot = self._robots[row]
                robot.advance(action)
                self._states[row].append(robot.get_state())
                self._actions[row].append(action)
                if self._spectator is not None and row == 0:
                    self._spectator.moved(len(self._actions[row]), self._states[row][-1])

    def _look(self, running: list[int], now: int, last: int) -> None:
        """Note who has reached the goal, or may not go on."""
        for row in running:
            if row in self._results:
                continue
            success = self._task.is_success(self._states[row][-1], self._goals[row])
            if success or now == last:
                self._results[row] = Episode(
                    bool(success),
                    now // self._body.frame_skip,
                    self._distance(row),
                    self._before[row],
                )

    def _encode_goals(self, images: np.ndarray | None) -> tuple[Latent, float | None]:
        """(n, 1, ...) goals, and the weight of proprioception: None for the usual one."""
        if images is None:
            frames = draw(self._arena.camera, self._goals)
            return encode(self._planner.bundle, frames, 1), None
        goals = [self._planner.bundle.encode_goal(Goal(image)) for image in images]
        visual = torch.cat([goal.visual for goal in goals])
        return Latent(visual, torch.cat([goal.proprio for goal in goals])), 0.0

    def _distance(self, row: int) -> float:
        return self._task.distance(self._states[row][-1], self._goals[row])
