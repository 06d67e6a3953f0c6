"""Episodes of several jobs by turns in one process: what disturbs the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass

import torch

from wm_planner.evaluation.arena import Arena
from wm_planner.evaluation.episode import Env, Evaluation
from wm_planner.evaluation.job import Job
from wm_planner.evaluation.record import Record
from wm_planner.evaluation.target import Targets
from wm_planner.models.bundle import Bundle
from wm_planner.planning import Planner


@dataclass(frozen=True)
class Turn:
    """One of those that take turns.

    Attributes:
        name: of your own.
        job: of one episode at a time.
        record: of its episodes.
    """

    name: str
    job: Job
    record: Record


class Course(AbstractContextManager["Course"]):
    """The world that jobs of one checkpoint share; its environments are closed at the end.

    Args:
        job: says task, pictures and device.
        bundle: the checkpoint.

    Attributes:
        env: draws; targets are sampled in it.
        unit: of the times.
    """

    def __init__(self, job: Job, bundle: Bundle) -> None:
        self._bundle = bundle
        on_cpu = bundle.device.type == "cpu"
        # Processor time does not count what others take of a busy machine.
        self._clock = time.process_time if on_cpu else time.perf_counter
        self.unit = "CPU seconds" if on_cpu else "seconds"
        torch.set_num_threads(job.threads)
        self._stack = ExitStack()
        make_env = job.make_env()
        self.env = self._stack.enter_context(closing(make_env(True)))
        self._robot = self._stack.enter_context(closing(make_env(False)))

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(
        self,
        turns: Sequence[Turn],
        targets: Targets,
        progress: Callable[[int], object] = lambda episodes: None,
    ) -> list[list[Evaluation]]:
        """Run what the records do not hold yet, target by target, everybody once on each.

        Args:
            turns: who takes turns; with every target another one begins.
            targets: the same for all.
            progress: told the number of episodes that are done.

        Returns:
            Of each of the turns, an evaluation of one episode for each target.

        Raises:
            PlanningError: the model gives no finite plan.
        """
        finished = [turn.record.finished() for turn in turns]
        arenas: dict[int, Arena] = {}
        keys = []
        for number in range(len(targets)):
            target = targets.part(slice(number, number + 1))
            keys.append(target.sha256())
            for place in range(len(turns)):
                who = (number + place) % len(turns)
                if keys[-1] not in finished[who]:
                    if who not in arenas:
                        arenas[who] = self._arena(turns[who].job)
                    evaluation = arenas[who].run(target)
                    turns[who].record.add(keys[-1], evaluation)
                    finished[who][keys[-1]] = evaluation
                progress(1)
        return [[found[key] for key in keys] for found in finished]

    def _arena(self, job: Job) -> Arena:
        planner = Planner(self._bundle, job.planner)
        return Arena(planner, self._shared, 1, job.loop, self._clock)

    def _shared(self, render: bool) -> Env:
        return self.env if render else self._robot
