"""Encoded windows of a data set of any layout, and what is known of their frames.

Legend: W windows, L frames of each, n = W * L rows, S state entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wm_planner.data.dataset import Dataset
from wm_planner.data.prepare import prepare_views
from wm_planner.embodiment import Embodiment
from wm_planner.errors import DatasetError, TaskError
from wm_planner.tasks import get_task

Encode = Callable[[np.ndarray], Tensor]  # (n, S, C * S, 3) uint8 -> (n, ...) tokens
Things = Mapping[str, tuple[str, ...]]

STEPS = 5  # model steps of a window, fewer where the trajectories are shorter
FRAMES = 3000  # that are looked at, of all trajectories evenly
TESTED = 0.3  # of the trajectories, where nobody says which are held out
_TOGETHER = 24  # windows that are encoded together


@dataclass(frozen=True)
class World:
    """What is known of the frames beside their pictures.

    Attributes:
        values: (n, S) states, or proprioception where nobody knows the states.
        names: S of them.
        things: what moves, with those entries that a picture can show.
        angles: entries that are angles, radians.
        is_state: whether the values are states.
    """

    values: Tensor
    names: tuple[str, ...]
    things: Things
    angles: tuple[str, ...]
    is_state: bool

    def columns(self, names: Iterable[str]) -> Tensor:
        """(n, m) columns of entries, angles as cosine and sine."""
        parts: list[Tensor] = []
        for name in names:
            value = self.values[:, self.names.index(name)]
            parts += [value.cos(), value.sin()] if name in self.angles else [value]
        return torch.stack(parts, dim=1)

    def beside(self, thing: str) -> tuple[str, ...]:
        """Entries of the other things."""
        return tuple(e for other, es in self.things.items() if other != thing for e in es)


@dataclass(frozen=True)
class Frames:
    """Encoded windows of trajectories.

    Attributes:
        tokens: (W, L, ...) float32, as the encoder gives them.
        proprio, actions: (W, L, P) and (W, L - 1, A) float32, physical units.
        trajectory: (W,) its number.
        tested: (W,) bool: readouts are tested on these windows and fitted on the others.
        world: of the n rows.
    """

    tokens: Tensor
    proprio: np.ndarray
    actions: np.ndarray
    trajectory: Tensor
    tested: Tensor
    world: World

    @property
    def length(self) -> int:
        """L."""
        return self.tokens.shape[1]

    @property
    def latent(self) -> Tensor:
        """(n, d)."""
        return self.tokens.flatten(0, 1).flatten(1)

    @property
    def groups(self) -> Tensor:
        """(n,) number of the trajectory."""
        return self.trajectory.repeat_interleave(self.length)

    @property
    def fitted(self) -> Tensor:
        """(n,) bool."""
        return ~self.tested.repeat_interleave(self.length)


def read_frames(
    dataset: Dataset,
    encode: Encode,
    held_out: Sequence[int] | None = None,
    frame_skip: int | None = None,
    image_size: int | None = None,
    frames: int = FRAMES,
    seed: int = 0,
    progress: Callable[[list[int]], Iterable[int]] = iter,
) -> Frames:
    """Windows of all trajectories evenly, encoded; their pictures are not kept.

    Args:
        dataset: of any layout.
        encode: the encoder.
        held_out: trajectories that the encoder has not been trained on; they alone are tested.
            None: 30 % of the trajectories, drawn by the seed.
        frame_skip: raw actions per model step; None: the robot's.
        image_size: side of each camera's picture that the encoder takes; None: as they are.
        frames: about how many.
        seed: of the draw.
        progress: wraps the iteration over groups of windows.

    Raises:
        DatasetError: there is one trajectory only, or all are shorter than a model step.
    """
    body = dataset.embodiment
    frame_skip = frame_skip or body.frame_skip
    stride = dataset.windows(1, 1, frame_skip).stride
    steps = min(STEPS, max(1, (int(dataset.lengths.max()) - 1) // stride))
    windows = dataset.windows(1, steps, frame_skip)
    usable = [t for t in range(len(dataset)) if windows.of(t)[1] > 0]
    if len(usable) < 2:
        raise DatasetError(
            f"{dataset.path}: a readout is fitted on some trajectories and tested on others, and "
            f"{len(usable)} has {steps} model steps; record more, or build the store with shorter "
            "pieces (--steps)"
        )
    tested = _tested(usable, held_out, seed)
    share = frames / (steps + 1) / len(usable)  # windows of each trajectory
    chosen: list[tuple[int, int]] = []
    for number, trajectory in enumerate(usable):
        first, count = windows.of(trajectory)
        wanted = int((number + 1) * share) - int(number * share)
        wanted = min(max(wanted, trajectory in tested), count)
        chosen += [
            (trajectory, first + int(at)) for at in np.linspace(0, count - 1, wanted).round()
        ]
    if not any(trajectory not in tested for trajectory, _ in chosen):
        raise DatasetError(f"{dataset.path}: all trajectories are held out; none is left to fit")
    latents, known = [], []
    for start in progress(list(range(0, len(chosen), _TOGETHER))):
        images = []
        for _, number in chosen[start : start + _TOGETHER]:
            window = windows[number]
            seen = window.images
            if image_size is not None:
                seen = np.stack([prepare_views(x, len(body.cameras), image_size) for x in seen])
            images.append(seen)
            known.append((window.proprio, window.actions, window.states))
        tokens = encode(np.concatenate(images)).float().cpu()
        latents.append(tokens.unflatten(0, (-1, steps + 1)))
    proprio, actions, states = zip(*known, strict=True)
    numbers = torch.tensor([trajectory for trajectory, _ in chosen])
    return Frames(
        torch.cat(latents),
        np.stack(proprio),
        np.stack(actions),
        numbers,
        torch.isin(numbers, torch.tensor(sorted(tested))),
        world_of(body, np.vstack(proprio), None if states[0] is None else np.vstack(states)),
    )


def _tested(usable: list[int], held_out: Sequence[int] | None, seed: int) -> set[int]:
    if held_out is not None and (known := set(usable) & set(held_out)):
        return known
    order = np.random.default_rng(seed).permutation(usable)
    return set(order[: max(1, round(TESTED * len(usable)))].tolist())


def world_of(body: Embodiment, proprio: np.ndarray, states: np.ndarray | None) -> World:
    """What frames show, by the task's things where it is one, else by the robot's joints."""
    if states is not None and states.shape[1]:
        try:
            task = get_task(body.name)
        except TaskError:
            task = None
        known = torch.from_numpy(np.asarray(states, np.float64))
        if task is not None and len(task.state_names) == states.shape[1]:
            things = task.things or {"scene": task.state_names}
            return World(known, task.state_names, things, task.angles, True)
        names = tuple(f"state {i}" for i in range(states.shape[1]))
        return World(known, names, {"scene": names}, (), True)
    places = tuple(e for e in body.proprio if e.endswith("/position")) or body.proprio
    known = torch.from_numpy(np.asarray(proprio, np.float64))
    return World(known, body.proprio, {"robot": places}, body.angles, False)
