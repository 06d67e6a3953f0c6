"""The film of `wm-planner eval --film`: the first episode, run once more and looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from wm_planner.cli.film import write_film
from wm_planner.cli.filmed import EpisodeFilm, Ring
from wm_planner.cli.pictures import SIDE
from wm_planner.evaluation.arena import Arena
from wm_planner.evaluation.episode import Env
from wm_planner.evaluation.job import Job
from wm_planner.evaluation.target import Targets
from wm_planner.models.bundle import Bundle
from wm_planner.planning.session import Planned


def film_first(path: Path, job: Job, targets: Targets, bundle: Bundle) -> Path | None:
    """Film the first target's episode: alone, so that replans take what they take for one robot.

    What is planned does not depend on what is planned beside it, so it is the episode that was
    evaluated, unless its latency is measured.

    Raises:
        WriteError: the film cannot be written.
    """
    first = targets.part(slice(1))
    # The planner sees the size that it knows; the film is drawn larger.
    camera = replace(job.make_env(), image_size=SIDE)(True)
    try:
        with replace(job, batch_size=1).arena(1, bundle) as arena:
            camera.set_state(first.goals[0])
            seen = _Seen(job, bundle, arena, camera)
            evaluation = arena.run(first, spectator=seen)
        seen.film.reached = evaluation.episodes[0].success
        return write_film(path, [seen.film])
    finally:
        camera.close()


class _Seen:
    """Draws what the first episode shows."""

    def __init__(self, job: Job, bundle: Bundle, arena: Arena, camera: Env) -> None:
        """The camera's environment is in the state of the goal."""
        self._bundle, self._session, self._camera = bundle, arena.session, camera
        self._goal, task = camera.get_state(), camera.task
        goal, self._dt_ns = self._goal, arena.planner.dt_ns
        ring = None
        if not job.shifts.disturbances() and hasattr(camera, "seen_ring"):
            ring = camera.seen_ring(goal)
        self.film = EpisodeFilm(
            title=f"{job.task}, {job.planner.solver}, {job.loop.mode}",
            unit=task.distance_unit,
            step_s=task.embodiment.model_dt_s,
            waits=job.loop.latency is None,
            ring=None if ring is None else Ring(*ring),
            goal=camera.render_state(goal),
        )

    def planned(self, period: int, planned: Planned) -> None:
        """Note how long it took, and decode what the model expects."""
        self.film.add_replan(period * self._dt_ns, planned.seconds)
        if self._bundle.model.decoder is not None:
            frames = self._bundle.decode(self._session.imagine())[0, -1]
            self.film.add_imagined(period * self._dt_ns, frames)

    def moved(self, period: int, state: np.ndarray) -> None:
        """Draw it."""
        stamp_ns = period * self._dt_ns
        self.film.add_picture(stamp_ns, self._camera.render_state(state))
        self.film.add_distance(stamp_ns, self._camera.task.distance(state, self._goal))
