"""Finding what puts recorded pictures back to the training view (see `models.registration`).

The mean of many pictures shows what does not move, and a change of colours, or of the place from
which a scene is seen, changes the mean as it changes each picture. So the mean of what was recorded
is fitted to the mean of the training pictures, each pixel in units of how much it changes there.
What stands still and differs after that is new in the scene.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from wm_planner.models.bundle import Bundle
from wm_planner.models.core_set import Shown
from wm_planner.models.registration import KIND, RegisteredEncoder, register, unregistered

# Pictures are changed where that leaves less than this share of their squared distance from the
# training pictures. Colours and place are, only where the mean picture was as far as this before,
# as a share of a training picture's usual distance: so far no few pictures of the same scene are.
NEARER, UNLIKE = 0.9, 0.5
# Something new stands where the median picture has colours that are so many deviations beyond all
# that was seen there in training, and where so large a share of the pictures shows the median: not
# the object that a task moves, though it lie at one place, nor a robot that often waits there.
_BEYOND, _SHARE = 1.0, 0.8
_GONE = 0.002  # share of the picture in which two registrations may differ so
# Where the search begins: shifts in sides of the picture, and turns in degrees.
_SHIFTS, _TURNS = (-0.06, -0.03, 0.0, 0.03, 0.06), (-4.0, 0.0, 4.0)
# A change of a colour's or the pose's number by one costs so much, in the unit of the distance. So
# colours that a scene does not have, and a turn of what has no edge, stay as they are.
_COLOUR_RIDGE, _POSE_RIDGE = 2e-2, 0.3


def without_registration(bundle: Bundle) -> Bundle:
    """The bundle, which sees pictures as they come."""
    encoder = bundle.model.encoder
    if isinstance(encoder, RegisteredEncoder):
        bundle = copy.deepcopy(bundle)
        bundle.model.encoder = encoder.base
        settings = unregistered(bundle.model.config.encoder)
        bundle.model.config = replace(bundle.model.config, encoder=settings)
    return bundle


@torch.no_grad()
def with_registration(
    bundle: Bundle, pictures: Tensor, others: Tensor, shown: Shown
) -> Bundle | None:
    """A copy of the bundle that puts pictures back as these need it; None: they need nothing.

    Args:
        bundle: without a registration.
        pictures: (N, 3, S, C * S) recorded ones in [-1, 1].
        others: more of them, by which it is judged.
        shown: what the training pictures showed.
    """
    reference = shown.standard()
    cameras = reference.cameras
    encoder = RegisteredEncoder(copy.deepcopy(bundle.model.encoder), cameras)
    encoder.reference.load_state_dict(reference.state_dict())
    is_unlike = _distance(encoder, others, of_mean=True) > UNLIKE * usual_distance(shown)
    parts = (pictures.mean(dim=0), reference.mean, reference.deviation)
    is_aligned = torch.zeros(cameras, dtype=torch.bool)
    for number, (seen, mean, deviation) in enumerate(
        zip(*(part.chunk(cameras, dim=2) for part in parts), strict=True)
    ):
        if not is_unlike[number]:
            continue
        with torch.enable_grad():
            found = fit_registration(seen, mean, deviation)
        before = _distance(encoder, encoder.aligned(others), of_mean=True)[number]
        usual = encoder.colour[number].clone(), encoder.warp[number].clone()
        encoder.colour[number], encoder.warp[number] = found
        after = _distance(encoder, encoder.aligned(others), of_mean=True)[number]
        is_aligned[number] = after < NEARER * before
        if not is_aligned[number]:
            encoder.colour[number], encoder.warp[number] = usual
    aligned = encoder.aligned(pictures)
    encoder.background.copy_(aligned.median(dim=0).values)
    beyond = torch.maximum(shown.lowest - encoder.background, encoder.background - shown.highest)
    share = encoder.shows_background(aligned).float().mean(dim=0)[0]
    is_new = ((beyond / reference.deviation).amax(dim=0) > _BEYOND) & (share >= _SHARE)
    encoder.is_new.copy_(is_new)
    without = _distance(encoder, encoder.aligned(others))
    is_nearer = _distance(encoder, encoder.registered(others)) < NEARER * without
    encoder.is_new &= is_nearer.repeat_interleave(reference.mean.shape[1])
    if not bool(is_aligned.any()) and not bool(encoder.is_new.any()):
        return None
    return _with(bundle, encoder)


@torch.no_grad()
def puts_back_as_well(current: Bundle, new: Bundle, pictures: Tensor) -> bool:
    """Whether the registration of one bundle, if it has any, is hardly worse than that of another.

    Args:
        current, new: the other one has a registration.
        pictures: (N, 3, S, C * S) recorded ones in [-1, 1].
    """
    mine, its = current.model.encoder, new.model.encoder
    if not isinstance(mine, RegisteredEncoder) or not isinstance(its, RegisteredEncoder):
        return False
    ours, theirs = (_distance(its, each.registered(pictures)) for each in (mine, its))
    gone = (mine.is_new & ~its.is_new).float().mean()  # stood there once, and does not any more
    return bool((NEARER * ours <= theirs).all()) and float(gone) < _GONE


def registered_as(bundle: Bundle, other: Bundle) -> Bundle:
    """A copy of a bundle without a registration, with that of another bundle."""
    encoder = copy.deepcopy(other.model.encoder)
    assert isinstance(encoder, RegisteredEncoder)
    encoder.base = copy.deepcopy(bundle.model.encoder)
    return _with(bundle, encoder)


def _with(bundle: Bundle, encoder: RegisteredEncoder) -> Bundle:
    bundle = copy.deepcopy(bundle)
    config = bundle.model.config
    settings = {"kind": KIND, "base": config.encoder, "cameras": encoder.cameras}
    bundle.model.config = replace(config, encoder=settings)
    bundle.model.encoder = encoder.eval().requires_grad_(False)
    return bundle


def usual_distance(shown: Shown) -> Tensor:
    """(C,) how far a training picture is from their mean, where some pixel of a camera never moved.

    The deviation of such a pixel is the floor, which `PixelStandard` adds to all.
    """
    side = shown.mean.shape[1]
    parts = shown.deviation.float().split(side, dim=2)
    return torch.stack([(1 - (part.min() / part).square()).mean() for part in parts])


def _distance(encoder: RegisteredEncoder, pictures: Tensor, of_mean: bool = False) -> Tensor:
    """(C,) median distance of each camera's pictures from the training's, or that of their mean."""
    if of_mean:  # noise is in none of it
        return encoder.distances(pictures.mean(dim=0, keepdim=True))[0]
    return encoder.distances(pictures).median(dim=0).values


def fit_registration(seen: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (3, 4) and warp (2, 3) that put one picture on the other.

    Args:
        seen, mean: (3, S, S) means of recorded and of training pictures of one camera.
        deviation: (3, S, S) of the training pictures, by which a difference counts.
    """
    best, colour, pose = math.inf, torch.zeros(3, 4), torch.zeros(4)
    for right, down, turn in itertools.product(_SHIFTS, _SHIFTS, _TURNS):
        tried = torch.tensor([2 * right, 2 * down, math.radians(turn), 0.0])
        mixed = _colour(_moved(seen, tried), mean, deviation)
        value = float(_loss(seen, mean, deviation, mixed, tried))
        if value < best:
            best, colour, pose = value, mixed, tried
    colour.requires_grad_(), pose.requires_grad_()
    for radius in (1, 0):  # blurred by a pixel, edges are found from further away
        given, wanted = (_blurred(each, radius) for each in (seen, mean))
        solver = torch.optim.LBFGS([colour, pose], max_iter=100, line_search_fn="strong_wolfe")

        def loss(
            solver: torch.optim.LBFGS = solver, given: Tensor = given, wanted: Tensor = wanted
        ) -> Tensor:
            solver.zero_grad()
            value = _loss(given, wanted, deviation, colour, pose)
            value.backward()
            return value.detach()

        solver.step(loss)
    with torch.no_grad():
        return torch.eye(3, 4) + colour, _warp(pose)


def _loss(seen: Tensor, mean: Tensor, deviation: Tensor, colour: Tensor, pose: Tensor) -> Tensor:
    """How far one picture, put back, is from the other, and how much it took.

    Args:
        seen, mean, deviation: see `fit_registration`.
        colour: (3, 4) what is added to colours that stay.
        pose: (4,) shift right and down, turn, logarithm of the zoom.
    """
    put_back = register(seen[None], torch.eye(3, 4) + colour, _warp(pose))[0]
    # A pseudo-Huber loss: what lies elsewhere than in training does not decide.
    apart = (1 + ((put_back - mean) / deviation).square()).sqrt().mean() - 1
    taken = _COLOUR_RIDGE * colour.square().sum() + _POSE_RIDGE * pose.square().sum()
    return apart + taken


def _moved(seen: Tensor, pose: Tensor) -> Tensor:
    return register(seen[None], torch.eye(3, 4), _warp(pose))[0]


def _colour(seen: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """(3, 4) what is added to the colours of one picture for those of the other: least squares."""
    known = torch.cat([seen.flatten(1), torch.ones(1, seen[0].numel())])
    rows = []
    for left, weight in zip((mean - seen).flatten(1), deviation.flatten(1), strict=True):
        weighed = known / weight
        ridge = _COLOUR_RIDGE * left.numel() * torch.eye(4)
        rows.append(torch.linalg.solve(weighed @ weighed.T + ridge, weighed @ (left / weight)))
    return torch.stack(rows)


def _warp(pose: Tensor) -> Tensor:
    """(2, 3) of a shift, a turn and a zoom."""
    cosine, sine = (f(pose[2]) * pose[3].exp() for f in (torch.cos, torch.sin))
    rows = [torch.stack([cosine, -sine, pose[0]]), torch.stack([sine, cosine, pose[1]])]
    return torch.stack(rows)


def _blurred(image: Tensor, radius: int) -> Tensor:
    """(3, S, S) means over squares of 2 * radius + 1 pixels."""
    padded = F.pad(image[None], (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, 1)[0]
