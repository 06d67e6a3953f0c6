"""Recordings, and what they say of a checkpoint: no simulator, no task, no robot.

Distances are the planner's: the mean squared difference of the visual tokens of two frames.

Legend: N recordings, T model steps of each, H horizon in model steps, M goals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.evaluation.arena import frame_distance
from wm_planner.models.bundle import Bundle
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.world_model import Latent
from wm_planner.planning import Planner
from wm_planner.planning.objective import goal_cost
from wm_planner.types import Observation

MAX_RECORDINGS = 200  # more say hardly more, and have to fit into memory
MAX_WINDOWS = 512
CHOICES = 16  # actions, of which the recorded one is to be found
STILL = 0.2  # standard deviations of the proprioception that the same place may differ by
LEAST_STILL = 50  # pairs of frames; of fewer a percentile says little
_FRAMES = 128  # encoded together
_BATCH = 25  # goals planned for together


@dataclass(frozen=True)
class Recordings:
    """Recordings as the model sees them.

    Attributes:
        latent: (N, T + 1, ...).
        actions: (N, T, A) standardised.
        proprio: (N, T + 1, P) standardised.
    """

    latent: Latent
    actions: Tensor
    proprio: Tensor

    @property
    def steps(self) -> int:
        """T."""
        return self.actions.shape[1]

    def windows(self, length: int, most: int) -> tuple[Latent, Tensor, Tensor]:
        """At most `most` windows of `length` model steps, evenly from all there are.

        Returns:
            Latents (M, length + 1, ...), standardised actions (M, length, A), and standardised
            proprioception (M, P) at the beginnings.
        """
        starts = self.steps - length + 1
        count = len(self.actions) * starts
        numbers = torch.linspace(0, count - 1, min(most, count)).round().long()
        rows = (numbers // starts)[:, None]
        frames = (numbers % starts)[:, None] + torch.arange(length + 1)
        latent = Latent(self.latent.visual[rows, frames], self.latent.proprio[rows, frames])
        return latent, self.actions[rows, frames[:, :-1]], self.proprio[rows, frames][:, 0]


def held_out(bundle: Bundle, store: TrajectoryStore) -> tuple[np.ndarray, bool]:
    """The recordings to judge by, at most `MAX_RECORDINGS`, and whether it may know them.

    Those that training held out, where it was trained on this store; else all.
    """
    rows = bundle.info.get("held_out_trajectories")
    of_training = rows is not None and bundle.info.get("data") == store.meta
    chosen = np.array(rows) if of_training else np.arange(len(store.actions))
    if len(chosen) > MAX_RECORDINGS:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MAX_RECORDINGS).round().astype(int)]
    return chosen, bundle.info.get("data") == store.meta and not of_training


def encode_recordings(
    bundle: EmbodiedModel,
    store: TrajectoryStore,
    rows: np.ndarray,
    progress: Callable[[Iterable[slice]], Iterable[slice]] = iter,
) -> Recordings:
    """Encode the store's trajectories `rows`; `progress` wraps the iteration over parts.

    Raises:
        DatasetError: the store is of another robot, or its arrays do not fit the model.
    """
    difference = bundle.embodiment.difference(store.embodiment)
    if difference is not None:
        raise DatasetError(f"{store.directory}: not the checkpoint's robot: {difference}")
    store.check_sizes(bundle.preprocess.action_dim, len(bundle.preprocess.proprio_mean))
    count, frames = len(rows), store.images.shape[1]
    images = store.images[rows].reshape(count * frames, *store.images.shape[2:])
    proprio = np.array(store.proprio[rows], np.float32).reshape(count * frames, -1)
    visual, embedded = [], []
    for part in progress([slice(i, i + _FRAMES) for i in range(0, len(images), _FRAMES)]):
        latent = bundle.encode_observation(Observation(images[part], proprio[part], 0))
        visual.append(latent.visual[0].cpu())
        embedded.append(latent.proprio[0].cpu())
    shape = (count, frames)
    return Recordings(
        Latent(torch.cat(visual).unflatten(0, shape), torch.cat(embedded).unflatten(0, shape)),
        bundle.preprocess.normalise_actions(np.array(store.actions[rows])),
        bundle.preprocess.normalise_proprio(np.array(store.proprio[rows])),
    )


@torch.no_grad()
def step_errors(bundle: EmbodiedModel, recordings: Recordings, horizon: int, rollout: str) -> dict:
    """Latent error of each step 1 .. H of imagined rollouts, beside copying the first frame.

    Returns:
        'model' and 'copy': H numbers each, and 'windows', of how many they are the mean.

    Raises:
        DatasetError: the recordings are shorter.
    """
    check_length(recordings, horizon)
    latent, actions, _ = recordings.windows(horizon, MAX_WINDOWS)
    model, copy = [], []
    for rows in torch.arange(len(actions)).split(_BATCH):
        real = _to(bundle, latent[rows])
        now = real.frames(slice(0, 1))
        imagined = bundle.model.rollout(now, actions[rows].to(bundle.device), None, rollout)
        model.append(frame_distance(imagined, real)[:, 1:].cpu())
        copy.append(frame_distance(now, real)[:, 1:].cpu())
    return {
        "model": torch.cat(model).mean(dim=0).tolist(),
        "copy": torch.cat(copy).mean(dim=0).tolist(),
        "windows": len(actions),
    }


def check_length(recordings: Recordings, horizon: int) -> None:
    """Raises:
    DatasetError: the recordings have fewer than `horizon` model steps.
    """
    if recordings.steps < horizon:
        raise DatasetError(
            f"trajectories have {recordings.steps} model steps, a horizon of {horizon} needs as "
            "many; give a shorter --horizon, or build the store with more --steps"
        )


def goal_measures(
    planner: Planner,
    recordings: Recordings,
    goals: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Goals from recordings, H model steps after the start: can this latent be planned in?

    Args:
        planner: its horizon is H.
        recordings: held out from training, or the answer flatters.
        goals: how many (M).
        progress: wraps the iteration over parts.

    Returns:
        'goals': M. 'distance': mean distance to the goal H, H - 1, .. 0 steps before it. 'falls':
        share of recorded steps that come nearer to the goal. 'first_step_nearer': share of goals
        that the plan's first model step comes nearer to, as imagined; 'recorded_first_step_nearer':
        the same of what was recorded. 'found': how often, of `CHOICES` recorded actions, the model
        expects the next frame of the one that led to it ('found_by_chance' is 1 / CHOICES).
        'plan_cost', 'recorded_cost': mean planning cost of the plans and of the recorded actions,
        both by the model; 'still_cost': of a picture that stays as it is. 'cosine': mean cosine
        between the plan and the recorded actions, both less the mean action; 'action_error': their
        root mean squared difference, in standard deviations of the recorded actions.

    Raises:
        DatasetError: the recordings are shorter than H.
    """
    horizon = planner.config.horizon
    check_length(recordings, horizon)
    latent, actions, places = recordings.windows(horizon, goals)
    rest = planner.rest.at(planner.bundle.preprocess.denormalise_proprio(places).numpy())
    columns: dict[str, list[Tensor]] = {}
    for rows in progress(torch.arange(len(actions)).split(_BATCH)):
        values = _of_goals(
            planner, _to(planner.bundle, latent[rows]), actions[rows], rest[rows.numpy()]
        )
        for name, value in values.items():
            columns.setdefault(name, []).append(value.cpu())
    mean = {name: torch.cat(values).double().mean(dim=0) for name, values in columns.items()}
    return {
        "goals": len(actions),
        **{name: value.tolist() for name, value in mean.items()},
        **_found(planner, recordings),
    }


@torch.no_grad()
def _of_goals(planner: Planner, real: Latent, taken: Tensor, rest: np.ndarray) -> dict[str, Tensor]:
    config, bundle = planner.config, planner.bundle
    now, goal = real.frames(slice(0, 1)), real.frames(slice(-1, None))
    taken = taken.to(bundle.device)
    plan = planner.plan_latents(now, goal, None, 0, planner.generator(), rest=rest).actions

    def imagined(actions: Tensor) -> Latent:
        return bundle.model.rollout(now, actions, None, config.rollout)

    def cost(path: Latent) -> Tensor:
        return goal_cost(path, goal, config.objective, config.objective_base, planner.alpha)

    left = frame_distance(real, goal)
    planned = imagined(plan)
    still = Latent(now.visual.expand_as(planned.visual), now.proprio.expand_as(planned.proprio))
    return {
        "distance": left,
        "falls": (left[:, 1:] < left[:, :-1]).float().mean(dim=1),
        "first_step_nearer": (frame_distance(planned, goal)[:, 1] < left[:, 0]).float(),
        "recorded_first_step_nearer": (left[:, 1] < left[:, 0]).float(),
        "plan_cost": cost(planned),
        "recorded_cost": cost(imagined(taken)),
        "still_cost": cost(still),
        "cosine": torch.nn.functional.cosine_similarity(plan.flatten(1), taken.flatten(1)),
        "action_error": (plan - taken).square().mean(dim=(1, 2)).sqrt(),
    }


@torch.no_grad()
def _found(planner: Planner, recordings: Recordings) -> dict[str, float]:
    """See `goal_measures`: the recorded action against those of other places."""
    bundle = planner.bundle
    latent, actions, _ = recordings.windows(1, MAX_WINDOWS)
    count = len(actions)
    choices = min(CHOICES, count)
    # The recorded action first, then those of windows far apart in the recordings.
    step = max(1, count // choices)
    others = (torch.arange(count)[:, None] + torch.arange(choices) * step) % count
    hits = []
    for rows in torch.arange(count).split(max(1, 512 // choices)):
        real = _to(bundle, latent[rows])
        tried = actions[others[rows]].flatten(0, 1).to(bundle.device)
        real = real[torch.arange(len(rows)).repeat_interleave(choices)]
        start, aim = real.frames(slice(0, 1)), real.frames(slice(1, 2))
        ends = bundle.model.rollout(start, tried, None, planner.config.rollout)
        error = frame_distance(ends, aim)[:, 1].unflatten(0, (-1, choices))
        hits.append((error.argmin(dim=1) == 0).float().cpu())
    return {"found": float(torch.cat(hits).mean()), "found_by_chance": 1 / choices}


def same_place(recordings: Recordings) -> dict[str, Any] | None:
    """How far apart the same place may look: the latent distance that counts as arrived.

    The same place is one whose proprioception differs by no more than `STILL` in any entry. Pairs
    of frames that lie about so far apart tell how far the latent moves on this way: their distance,
    which grows with the square of the motion, is scaled back to `STILL` where the motion was more.
    Frames between which nothing moves tell its noise. The tolerance is the 95th percentile of
    either, whichever is greater: it does not depend on how fast the recorded robot moved.

    Returns:
        'picture': that distance, in units of the planner's cost; 'from': the number of pairs;
        'within': the limit that the frames kept, in standard deviations of the proprioception. None
        without any pair.
    """
    change, distance = _pairs(recordings, 1)
    if not len(change):
        return None
    least = 0.7 * STILL  # of a motion that counts
    still = distance[change <= least]
    for lag in (2**power for power in range(1, recordings.steps.bit_length())):
        if int((change > least).sum()) >= LEAST_STILL:
            break
        # A slow robot moves so far only in several steps.
        further = _pairs(recordings, lag)
        change = torch.cat([change, further[0]])
        distance = torch.cat([distance, further[1]])
    moved = change > least
    change, distance = change[moved], distance[moved]
    near = change.argsort()[: max(LEAST_STILL, int((change <= STILL).sum()))]
    found = [distance[near] * (STILL / change[near]).clamp(max=1.0) ** 2, still]
    within = float(change[near].max()) if len(near) else least
    return {
        "picture": max(float(each.double().quantile(0.95)) for each in found if len(each)),
        "from": sum(map(len, found)),
        "within": max(STILL, within),
    }


def _pairs(recordings: Recordings, lag: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Greatest change of the proprioception, and latent distance, of frames `lag` apart: (M,)."""
    proprio = recordings.proprio
    change = (proprio[:, lag:] - proprio[:, :-lag]).abs().amax(dim=-1).flatten()
    first = recordings.latent.frames(slice(None, -lag))
    return change, frame_distance(first, recordings.latent.frames(slice(lag, None))).flatten()


def _to(bundle: EmbodiedModel, latent: Latent) -> Latent:
    return Latent(latent.visual.to(bundle.device), latent.proprio.to(bundle.device))
