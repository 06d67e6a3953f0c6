"""The course of a simulated run: goals, ticks and ends, in lock-step or in real time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from wm_planner.errors import TaskError
from wm_planner.tasks import Task

RESEND_S = 1.0  # an unanswered message is published again: discovery may not be complete
STALE_PERIODS = 3  # in real time an older command is not followed
NO_IMAGE = np.zeros((0, 0, 3), np.uint8)  # clears the goal


class Link(Protocol):
    """What joins the simulator to the other processes; the bridge node says what each call does.

    Attributes:
        ready: names of the nodes that have said that they hear everybody.
        accepted_ns: stamp of the newest goal, or clearing, that the planner knows.
        closed_ns: end of the newest episode whose bag is closed.
        command: stamp and (A,) action of the newest command.
        idle: the robot stands still and waits; its joint states go on all the same.
    """

    ready: set[str]
    accepted_ns: int
    closed_ns: int
    command: tuple[int, np.ndarray] | None
    idle: bool

    def spin(self, timeout_s: float) -> None: ...
    def missing(self, names: tuple[str, ...]) -> list[str]: ...
    def publish_state(self, stamp_ns: int, with_image: bool) -> None: ...
    def publish_goal(self, stamp_ns: int, image: np.ndarray, proprio: np.ndarray) -> None: ...
    def publish_event(self, kind: str, episode: int, stamp_ns: int, **values: Any) -> None: ...
    def publish_progress(self, episode: int, step: int, stamp_ns: int) -> float: ...


class Pacer:
    """Keeps a period on a monotonic clock; a late tick is not made up for by a burst.

    Args:
        period_s: seconds between ticks.
        now_s: monotonic clock.
    """

    def __init__(self, period_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self.period_s, self._now_s = period_s, now_s
        self._due_s = now_s()

    def remaining_s(self) -> float:
        """Seconds until the next tick is due; zero or less when it is."""
        return self._due_s - self._now_s()

    def tick(self) -> None:
        """Note that a tick was made."""
        self._due_s = max(self._due_s + self.period_s, self._now_s())


class EpisodeRunner:
    """Runs episodes of one environment over a link.

    Args:
        env: simulated robot.
        task: its task.
        link: to planner, controller and recorder.
        lockstep: simulated time waits for the command; otherwise stamps are wall time.
        timeout_s: wall seconds without an answer before giving up.
    """

    def __init__(self, env: Any, task: Task, link: Link, lockstep: bool, timeout_s: float) -> None:
        self._env, self._task, self._link = env, task, link
        self._lockstep, self._timeout_s = lockstep, timeout_s
        self._dt_ns = round(task.embodiment.control_dt_s * 1e9)
        self._sim_ns = 10**9

    def wait_for(self, names: tuple[str, ...], listeners: tuple[str, ...] = ()) -> None:
        """Until the nodes `names` are there, and `listeners` hear everybody.

        Raises:
            TaskError: they did not come in time.
        """

        def missing() -> list[str]:
            deaf = [f"{name} (listening)" for name in listeners if name not in self._link.ready]
            return [*self._link.missing(names), *deaf]

        self._wait(lambda: not missing(), lambda: None, lambda: f"nodes {missing()}")

    def wait_closed(self, recorder: str, end_ns: int) -> bool:
        """Until the bag of the episode that ended is closed, so that nothing of the next one, or
        of the end of all, comes in between; False when that took too long.

        A recorder that has died is not waited for.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while self._link.closed_ns < end_ns and not self._link.missing((recorder,)):
            self._link.spin(0.1)
            if time.monotonic() > deadline_s:
                return False
        return True

    def run(self, episode: int, seed: int) -> int:
        """One episode, drawn from (seed, episode); returns the stamp of its end.

        Raises:
            TaskError: planner or controller did not answer in time.
        """
        rng = np.random.default_rng([seed, episode])
        start, goal = self._env.sample_target(rng)
        while self._env.task.is_success(start, goal):
            start, goal = self._env.sample_target(rng)
        _, info = self._env.reset(options={"state": start, "goal_state": goal})
        self._link.idle = True
        start_ns = self._now_ns()
        # Somebody else's environment need not know where its goal is seen.
        ring = getattr(self._env, "seen_ring", lambda goal: None)(self._env.goal_state)
        seen = {} if ring is None else {"ring": " ".join(f"{value:.5f}" for value in ring)}
        self._link.publish_event("start", episode, start_ns, **seen)
        self._settle_goal(start_ns, info["goal_image"], info["goal_proprio"])
        self._link.idle = False
        success, steps = self._drive(episode)
        self._link.idle = True
        end_ns = self._now_ns()
        self._settle_goal(end_ns, NO_IMAGE, info["goal_proprio"])
        self._link.publish_state(end_ns, with_image=True)
        distance = self._link.publish_progress(episode, steps, end_ns)
        self._link.publish_event(
            "end", episode, end_ns, success=success, num_steps=steps, distance=distance
        )
        self._sim_ns = end_ns + 10**9  # stamps of two episodes never meet
        return end_ns

    def _now_ns(self) -> int:
        return self._sim_ns if self._lockstep else time.time_ns()

    def _settle_goal(self, stamp_ns: int, image: np.ndarray, proprio: np.ndarray) -> None:
        """Set or clear the goal and wait until the planner says that it knows."""

        def offer() -> None:
            self._link.publish_goal(stamp_ns, image, proprio)

        offer()
        self._wait(lambda: self._link.accepted_ns == stamp_ns, offer, lambda: "goal/accepted")

    def _drive(self, episode: int) -> tuple[bool, int]:
        """Success, and the model steps that it took."""
        pacer = Pacer(self._task.embodiment.control_dt_s)
        for step in range(self._task.max_model_steps):
            self._link.publish_progress(episode, step, self._now_ns())
            for tick in range(self._task.embodiment.frame_skip):
                if self._lockstep:
                    action = self._ask(self._sim_ns, with_image=tick == 0)
                else:
                    action = self._newest(pacer, with_image=tick == 0)
                self._env.advance(action)
                self._sim_ns += self._dt_ns
            if self._task.is_success(self._env.get_state(), self._env.goal_state):
                return True, step + 1
        return False, self._task.max_model_steps

    def _ask(self, stamp_ns: int, with_image: bool) -> np.ndarray:
        """The action that answers the state of `stamp_ns`."""
        link = self._link

        def ask() -> None:
            link.publish_state(stamp_ns, with_image)

        def answered() -> bool:
            return link.command is not None and link.command[0] == stamp_ns

        ask()
        self._wait(answered, ask, lambda: f"a command for stamp {stamp_ns}")
        assert link.command is not None
        return link.command[1]

    def _newest(self, pacer: Pacer, with_image: bool) -> np.ndarray:
        """The action that is there a control period after the state; zero when it is too old."""
        link = self._link
        link.publish_state(self._now_ns(), with_image)
        pacer.tick()
        while (remaining_s := pacer.remaining_s()) > 0:
            link.spin(remaining_s)
        command = link.command
        if command is None or self._now_ns() - command[0] > STALE_PERIODS * self._dt_ns:
            return np.zeros(self._task.embodiment.action.size)
        return command[1]

    def _wait(
        self, done: Callable[[], bool], resend: Callable[[], None], what: Callable[[], str]
    ) -> None:
        begin_s = sent_s = time.monotonic()
        while not done():
            self._link.spin(0.1)
            now_s = time.monotonic()
            if now_s - begin_s > self._timeout_s:
                raise TaskError(
                    f"waited {self._timeout_s:g} s for {what()}; "
                    "look at the planner's and the controller's log"
                )
            if now_s - sent_s > RESEND_S:
                sent_s = now_s
                resend()
