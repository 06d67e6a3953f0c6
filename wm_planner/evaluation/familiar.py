"""What a checkpoint is familiar with, found from recordings: looks, views, and its own errors.

Legend: F pictures, S their side, D fields of a small picture, N recordings, T model steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from wm_planner.data.pictures import (
    MEASURES,
    SIDE,
    STILL,
    CameraLook,
    Familiar,
    look,
    small_pictures,
)
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.evaluation.arena import frame_distance
from wm_planner.evaluation.recordings import (
    MAX_WINDOWS,
    Recordings,
    check_length,
    encode_recordings,
    held_out,
)
from wm_planner.models.bundle import Bundle
from wm_planner.planning import planner_config

STEPS = 3  # model steps that a surprise looks back
QUANTILE = 0.999  # of the model's error
MOST_PICTURES = 400  # that a template is made of, and as many that it is tried on
# Light changes between two days: the accepted range is that of the training pictures and so much.
DARKER, FACTOR = 40.0, 2.5
# A view is lost when a picture is so much further from the median than this share of held-out ones.
USUAL, MARGIN = 0.995, 0.5
RIDGE = 0.05

Change = Callable[[np.ndarray], np.ndarray]  # of pictures (F, S, S, 3)


def familiar(bundle: Bundle, store: TrajectoryStore) -> Familiar:
    """What the bundle is familiar with, by the recordings of the store.

    Raises:
        DatasetError: the store is of another robot, or has fewer than two recordings.
    """
    rows, _ = held_out(bundle, store)
    others = np.setdiff1d(np.arange(len(store.actions)), rows)
    if not len(others):
        others, rows = rows[::2], rows[1::2]
    if not len(rows):
        raise DatasetError(f"{store.directory}: one recording is too few to compare with others")
    recordings = encode_recordings(bundle, store, rows)
    known, tried = _pictures(store, others), _pictures(store, rows)
    cameras = {
        camera.name: camera_look(
            np.split(known, len(bundle.embodiment.cameras), axis=2)[number],
            np.split(tried, len(bundle.embodiment.cameras), axis=2)[number],
        )
        for number, camera in enumerate(bundle.embodiment.cameras)
    }
    return Familiar(cameras, _still(store, rows, recordings), surprise(bundle, recordings))


def _pictures(store: TrajectoryStore, rows: np.ndarray) -> np.ndarray:
    """(F, S, C * S, 3) at most `MOST_PICTURES`, evenly from these recordings."""
    frames = store.images.shape[1]
    count = len(rows) * frames
    chosen = np.linspace(0, count - 1, min(MOST_PICTURES, count)).round().astype(int)
    return np.stack([store.images[rows[i // frames], i % frames] for i in chosen])


@torch.no_grad()
def surprise(bundle: Bundle, recordings: Recordings) -> tuple[float, ...]:
    """Latent error that a share of 1 - `QUANTILE` of held-out rollouts exceeds, by model step.

    Raises:
        DatasetError: the recordings have no model step.
    """
    steps = max(1, min(STEPS, recordings.steps))
    check_length(recordings, steps)
    mode = planner_config(bundle.planner).rollout
    latent, actions, _ = recordings.windows(steps, 4 * MAX_WINDOWS)
    errors = []
    for rows in torch.arange(len(actions)).split(64):
        real = latent[rows]
        real = type(real)(real.visual.to(bundle.device), real.proprio.to(bundle.device))
        imagined = bundle.model.rollout(
            real.frames(slice(0, 1)), actions[rows].to(bundle.device), None, mode
        )
        errors.append(frame_distance(imagined, real)[:, 1:].cpu())
    limits = torch.cat(errors).double().quantile(QUANTILE, dim=0)
    return tuple(max(float(limit), 1e-9) for limit in limits)


def _still(store: TrajectoryStore, rows: np.ndarray, recordings: Recordings) -> float:
    """See `Familiar.still`; half as much again as was found, and at least `STILL`."""
    moved = recordings.proprio.diff(dim=1).norm(dim=-1).numpy()
    greatest = 0.0
    for number, row in enumerate(rows):
        images = store.images[row]
        same = (images[1:] == images[:-1]).reshape(len(images) - 1, -1).all(axis=1)
        greatest = max(greatest, float(moved[number][same].max(initial=0.0)))
    return max(STILL, 1.5 * greatest)


def camera_look(known: np.ndarray, tried: np.ndarray) -> CameraLook:
    """What pictures of one camera look like.

    The template is the linear discriminant of the training view against the views that a camera
    has when it is turned, mirrored or moved. Small shifts and other light belong to the training
    view.

    Args:
        known: (F, S, S, 3) uint8, of which the template is made.
        tried: the same, of other recordings, by which the threshold is found.
    """
    generator = np.random.default_rng(0)
    harmless, harmful = _harmless(known.shape[1], generator), _harmful(known.shape[1])
    view = np.concatenate([small_pictures(change(known)) for change in harmless.values()])
    lost = [small_pictures(change(known[::2])) for change in harmful.values()]
    covariance = np.cov(view.T) + 0.5 * np.mean([np.cov(each.T) for each in lost], axis=0)
    covariance += (RIDGE * np.trace(covariance) / len(covariance) + 1e-3) * np.eye(SIDE * SIDE)
    centre = np.mean([each.mean(axis=0) for each in lost], axis=0)
    template = np.linalg.solve(covariance, view.mean(axis=0) - centre)
    scores = view @ template
    unit = max(float(np.median(scores) - centre @ template), 1e-9)
    template, offset = (template / unit).astype(np.float16), -float(centre @ template) / unit
    weights = template.astype(np.float32)
    usual = np.concatenate([small_pictures(change(tried)) for change in harmless.values()])
    least = float(np.quantile(usual @ weights, 1 - USUAL)) + offset
    limit = least - MARGIN * max(1 - least, 0.05)
    recognised = {
        name: round(float(np.mean(small_pictures(change(tried)) @ weights + offset < limit)), 3)
        for name, change in harmful.items()
    }
    looks = [look(picture) for picture in (*known, *tried)]
    values = {name: np.array([getattr(each, name) for each in looks]) for name in MEASURES}
    low, high = values["brightness"].min() - DARKER, values["brightness"].max() + DARKER
    ranges = {
        name: (float(values[name].min() / FACTOR), float(values[name].max() * FACTOR))
        for name in ("contrast", "sharpness")
    }
    return CameraLook(
        (float(low), float(high)),
        **ranges,
        template=weights,
        offset=offset,
        view=limit,
        recognised=recognised,
    )


def _harmful(side: int) -> dict[str, Change]:
    """What may happen to a camera, by name."""
    changes: dict[str, Change] = {
        "upside down": lambda x: x[:, ::-1, ::-1],
        "flipped": lambda x: x[:, ::-1],
        "mirrored": lambda x: x[:, :, ::-1],
        "turned left": lambda x: np.rot90(x, 1, (1, 2)),
        "turned right": lambda x: np.rot90(x, 3, (1, 2)),
    }
    for percent in (10, 20):
        by = max(1, round(side * percent / 100))
        for name, (down, right) in {
            "right": (0, by),
            "left": (0, -by),
            "down": (by, 0),
            "up": (-by, 0),
        }.items():
            changes[f"{percent} % {name}"] = _shift(down, right)
    for degrees in (-15, 15):
        changes[f"tilted by {degrees} degrees"] = _tilt(degrees)
    return changes


def _harmless(side: int, generator: np.random.Generator) -> dict[str, Change]:
    """What happens to pictures though nobody has touched the camera."""
    by = max(1, round(side * 0.01))
    grey = np.arange(256) / 255
    darker, brighter = (np.round(255 * grey**power).astype(np.uint8) for power in (1.4, 0.7))
    return {
        "nothing": lambda x: x,
        "darker": lambda x: darker[x],
        "brighter": lambda x: brighter[x],
        "noisy": lambda x: np.clip(x + generator.normal(0, 8, x.shape), 0, 255).astype(np.uint8),
        "moved": _shift(by, by),
        "moved back": _shift(-by, -by),
    }


def _shift(down: int, right: int) -> Change:
    def change(pictures: np.ndarray) -> np.ndarray:
        side = np.arange(pictures.shape[1])
        rows, columns = (np.clip(side - by, 0, side[-1]) for by in (down, right))
        return pictures[:, rows][:, :, columns]

    return change


def _tilt(degrees: float) -> Change:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))

    def change(pictures: np.ndarray) -> np.ndarray:
        last = pictures.shape[1] - 1
        y, x = np.meshgrid(*2 * [np.arange(last + 1) - last / 2], indexing="ij")
        rows = np.clip(np.rint(cosine * y - sine * x + last / 2), 0, last).astype(int)
        columns = np.clip(np.rint(sine * y + cosine * x + last / 2), 0, last).astype(int)
        return pictures[:, rows, columns]

    return change
