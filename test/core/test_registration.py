"""A camera that was moved, or another light: the pictures are put back to the training view."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wm_planner.errors import CheckpointError
from wm_planner.learning.registration import (
    with_registration,
    without_registration,
)
from wm_planner.models.catalog import CARD, read_card
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.core_set import CoreSet, Shown, load_core_set
from wm_planner.models.pixels import PixelStandard
from wm_planner.models.registration import RegisteredEncoder, register, unregistered
from wm_planner.runtime.goal_planner import GoalPlanner
from wm_planner.tasks import resized

from .training_world import SIZE, dot_store, tiny_bundle


def scene(count: int, seed: int, cameras: int = 1) -> torch.Tensor:
    """(N, 3, S, C * S) in [-1, 1]: a table with a few things on it, and a robot that moves."""
    fixed, moving = np.random.default_rng(7), np.random.default_rng(seed)
    table = np.full((3, SIZE, cameras * SIZE), 0.4, np.float32)
    for _ in range(9 * cameras):
        y, x = fixed.integers(2, SIZE - 8), fixed.integers(2, cameras * SIZE - 8)
        table[:, y : y + 6, x : x + 6] = fixed.uniform(-0.8, 0.6, (3, 1, 1))
    pictures = np.repeat(table[None], count, axis=0)
    for picture in pictures:
        y, x = moving.integers(4, SIZE - 8, 2)
        for camera in range(cameras):
            picture[:, y : y + 4, camera * SIZE + x : camera * SIZE + x + 4] = -0.9
    return F.avg_pool2d(F.pad(torch.from_numpy(pictures), (1,) * 4, mode="replicate"), 3, 1)


def known(cameras: int = 1, seen=scene) -> Shown:
    pictures = seen(400, 0) if cameras == 1 else seen(400, 0, cameras)
    standard = PixelStandard(SIZE, cameras)
    standard.measure(pictures)
    ends = pictures.amin(dim=0).half(), pictures.amax(dim=0).half()
    return Shown(standard.mean.half(), standard.deviation.half(), *ends)


DARKER = torch.tensor([[0.7, 0, 0, -0.2], [0, 0.7, 0, -0.2], [0, 0, 0.7, -0.2]])
REDDER = torch.tensor([[0.8, 0.2, 0, 0.1], [0, 0.7, 0.1, 0], [0.1, 0, 0.8, -0.1]])
STAYS = torch.eye(2, 3)


def turned(degrees: float, right: float = 0.0) -> torch.Tensor:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[cosine, -sine, right], [sine, cosine, 0.0]])


@pytest.mark.parametrize(
    ("colour", "warp"),
    [
        (DARKER, STAYS),
        (REDDER, STAYS),
        (torch.eye(3, 4), turned(0, 2 * 3 / SIZE)),
        (torch.eye(3, 4), turned(4)),
        (DARKER, turned(-3, 2 * 2 / SIZE)),
    ],
)
def test_what_was_done_to_pictures_is_found_and_undone(colour, warp):
    changed, others = (register(scene(60, seed), colour, warp) for seed in (1, 2))
    encoder = with_registration(tiny_bundle(), changed, others, known()).model.encoder
    before, after = (encoder.distances(x).mean() for x in (others, encoder.registered(others)))
    usual = encoder.distances(scene(60, 2)).mean()
    assert before > 3 * usual and after < 0.6 * before
    # The warp leads back: both together move corners by less than half a pixel.
    whole = torch.eye(3)
    whole[:2], back = encoder.warp[0], torch.eye(3)
    back[:2] = warp
    corners = torch.tensor([[0.7, 0.7, 1], [-0.7, 0.7, 1], [0.7, -0.7, 1]]).T
    assert ((back @ whole @ corners - corners).abs().max() * SIZE / 2) < 0.5
    # The same pictures as before the change, but for what is blurred or lost at the edge.
    inside = (..., slice(4, -4), slice(4, -4))
    wrong, now = (
        (each - scene(60, 2))[inside].abs().mean() for each in (others, encoder.registered(others))
    )
    assert now < 0.4 * wrong


def darker(bundle):
    pictures = (register(scene(60, seed), DARKER, STAYS) for seed in (1, 2))
    return with_registration(bundle, *pictures, known())


def test_a_picture_of_before_is_seen_as_ever():
    bundle = tiny_bundle()
    registered = darker(bundle)
    before = scene(60, 2)
    with torch.no_grad():
        assert torch.equal(registered.model.encoder.registered(before), before)
        mixed = torch.cat([before[:1], register(before[:1], DARKER, STAYS)])
        tokens = registered.model.encoder(mixed)
        assert torch.allclose(tokens[0], bundle.model.encoder(before[:1])[0], atol=1e-5)
    assert (tokens[1] - tokens[0]).abs().max() < 0.05  # and the dark one as if it were light


def test_each_camera_is_put_back_by_itself():
    def seen(seed):
        pictures = scene(60, seed, cameras=2)
        one = pictures[..., :SIZE].clone()
        one[:50, :, 20:26, 4:10] = 1.0  # something that lies there in most pictures
        return torch.cat([one, register(pictures[..., SIZE:], DARKER, STAYS)], dim=3)

    bundle = tiny_bundle()
    shown = known(cameras=2)
    shown.highest[..., :SIZE] = 1.0  # and lay there in training, now and then
    encoder = with_registration(bundle, seen(1), seen(2), shown).model.encoder
    put_back, others = encoder.registered(seen(2)), seen(2)
    assert torch.equal(put_back[..., :SIZE], others[..., :SIZE])
    assert not encoder.is_new.any()
    assert (put_back - scene(60, 2, cameras=2))[..., SIZE:].abs().mean() < 0.02
    moved = encoder.registered(torch.cat([others[..., :SIZE], scene(60, 2)], dim=3))
    assert torch.equal(moved[..., SIZE:], scene(60, 2))


def test_a_scene_that_has_not_changed_is_left_alone():
    assert with_registration(tiny_bundle(), scene(60, 1), scene(60, 2), known()) is None


def with_a_wall(pictures: torch.Tensor) -> torch.Tensor:
    """The robot goes in front of it."""
    walled, robot = pictures.clone(), (pictures < -0.85).all(dim=1, keepdim=True)
    walled[:, :, 5:25, 14:18] = torch.tensor([-0.5, 0.95, -0.5])[:, None, None]  # green
    return torch.where(robot, pictures, walled)


@pytest.mark.parametrize("light", [torch.eye(3, 4), DARKER])
def test_what_stands_in_the_scene_and_did_not_is_replaced_by_what_was_there(light):
    changed, others = (register(with_a_wall(scene(60, seed)), light, STAYS) for seed in (1, 2))
    encoder = with_registration(tiny_bundle(), changed, others, known()).model.encoder
    put_back, wanted = encoder.registered(others), scene(60, 2)
    assert 0.06 < encoder.is_new.float().mean() < 0.11  # 4 x 20 of 32 x 32 are 0.08
    assert (put_back - wanted).abs().mean() < 0.15 * (others - wanted).abs().mean()
    robot = (wanted < -0.85).all(dim=1)
    assert robot.any() and (put_back - wanted).abs().amax(dim=1)[robot].max() < 0.1
    assert (encoder.registered(wanted) - wanted).abs().mean() < 0.005  # the scene of before


def test_a_robot_that_waits_at_one_place_is_not_taken_for_a_part_of_the_scene():
    changed, others = (register(scene(60, seed), DARKER, STAYS) for seed in (1, 2))
    changed[:40, :, 20:24, 20:24] = -1.0  # in two of three pictures
    encoder = with_registration(tiny_bundle(), changed, others, known()).model.encoder
    assert not encoder.is_new.any()


def with_an_object(count: int, seed: int, place: tuple[int, int] | None = None) -> torch.Tensor:
    """A green block, in a corner in each picture unless a place is given."""
    pictures, rng = scene(count, seed), np.random.default_rng(seed)
    for picture in pictures:
        y, x = place or rng.integers(0, SIZE - 8, 2)
        picture[:, y : y + 8, x : x + 8] = torch.tensor([-0.6, 0.5, -0.6])[:, None, None]
    return pictures


def test_the_object_that_a_task_moves_is_not_erased_though_it_lies_at_one_place():
    pictures, others = (with_an_object(60, seed, (20, 4)) for seed in (1, 2))
    shown = known(seen=with_an_object)
    bundle = with_registration(tiny_bundle(), pictures, others, shown)
    assert bundle is None or not bundle.model.encoder.is_new.any()


def test_noise_changes_no_colours():
    noisy = [scene(60, seed) + 0.1 * torch.randn(60, 3, SIZE, SIZE) for seed in (1, 2)]
    assert with_registration(tiny_bundle(), *noisy, known()) is None


def test_a_checkpoint_keeps_its_registration_and_can_take_another_ones_place(tmp_path):
    bundle = tiny_bundle()
    bundle.planner = {"gbp": {"num_iterations": 2}}
    registered = darker(bundle)
    saved = [save_bundle(b, tmp_path / n) for b, n in ((bundle, "a"), (registered, "b"))]
    loaded = load_bundle(saved[1])
    assert loaded.model.config.encoder["kind"] == "registered"
    assert unregistered(loaded.model.config.encoder) == bundle.model.config.encoder
    pictures = register(scene(4, 3), DARKER, STAYS)
    with torch.no_grad():
        assert torch.equal(loaded.model.encoder(pictures), registered.model.encoder(pictures))
        plain = without_registration(loaded)
        assert torch.equal(plain.model.encoder(pictures), bundle.model.encoder(pictures))
    assert without_registration(plain) is plain
    assert isinstance(loaded.model.encoder, RegisteredEncoder)  # the copy was changed, not this
    running = GoalPlanner(str(saved[0]), None, "gbp")
    other = running.another(saved[1], running.load_another(saved[1]))
    assert not other.knows_as(running) and not running.knows_as(other)
    assert other.knows_as(copy.copy(other))


def test_a_core_set_shows_the_training_pictures_or_says_what_is_wrong(tmp_path):
    from wm_planner.training.core_set import core_set

    bundle = tiny_bundle()
    bundle.embodiment = resized(bundle.embodiment, SIZE)
    store = dot_store(tmp_path / "store", count=8, steps=6)
    core = core_set(bundle, store)
    saved = save_bundle(bundle, tmp_path / "base", core)
    card = read_card(saved / CARD)
    shown = load_core_set(saved, card).shown
    assert shown.mean.shape == (3, SIZE, SIZE)
    assert all(torch.equal(value, getattr(core.shown, name)) for name, value in vars(shown).items())
    assert (shown.lowest <= shown.mean + 1e-3).all() and (shown.mean <= shown.highest + 1e-3).all()
    plain = PixelStandard(SIZE)
    plain.measure(bundle.preprocess.images(store.images.reshape(-1, SIZE, SIZE, 3)))
    assert torch.allclose(shown.standard().mean, plain.mean, atol=2e-3)
    assert torch.allclose(shown.standard().deviation, plain.deviation, atol=2e-3)
    for wrong, said in (
        ({"mean": core.shown.mean * torch.nan}, "finite"),
        ({"deviation": 0 * core.shown.deviation}, "positive"),
        ({"lowest": core.shown.lowest[:, 1:]}, "the same pictures"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(core.shown, **wrong)
    card["model"]["image_size"] = 48
    with pytest.raises(CheckpointError, match="the model's 1 cameras have 48 pixels"):
        load_core_set(saved, card)
    assert isinstance(core, CoreSet)
