"""A checkpoint that is exchanged while it plans: what is taken, what is not, and what returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wm_planner.errors import PlanningError
from wm_planner.models.bundle import Bundle
from wm_planner.models.catalog import resolve_checkpoint
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.versions import next_version, reject, versions
from wm_planner.runtime.goal_planner import GoalPlanner, PlanResult
from wm_planner.runtime.live_planner import LivePlanner
from wm_planner.runtime.version_watch import VersionWatch
from wm_planner.types import Goal, Observation

from .training_world import SIZE, tiny_bundle

STEP_NS = 500_000_000
PICTURES = np.random.default_rng(0).integers(0, 255, (64, SIZE, SIZE, 3), np.uint8)
GOAL = Goal(PICTURES[0], np.full(2, 16, np.float32))


class World:
    """A planner with tiny random models; nothing but `look` and `step` happens."""

    def __init__(self, directory: Path, steps: int = 2) -> None:
        self.bundle = tiny_bundle()
        save_bundle(self.bundle, directory / "first")
        self.versions = directory / "versions"
        self.versions.mkdir()
        planner = GoalPlanner(str(directory / "first"), None, "gbp", ["num_iterations=2"])
        self.said: list[tuple[bool, str]] = []
        self.live = LivePlanner(planner, steps, lambda bad, text: self.said.append((bad, text)))
        self.watch = VersionWatch(self.live, period_s=0)
        self.watch.watch(self.versions)
        self.count = 0

    def publish(self, change: Callable[[Bundle], object] = lambda bundle: None) -> Path:
        bundle = load_bundle(self.live.current.checkpoint)
        change(bundle)
        return save_bundle(bundle, next_version(self.versions))

    def step(self) -> PlanResult:
        """One plan, and its first model step sent."""
        stamp_ns = self.count * STEP_NS
        proprio = np.full((1, 2), 16 + self.count, np.float32)
        seen = Observation(PICTURES[self.count][None], proprio, stamp_ns)
        result = self.live(GOAL, seen)
        for row in range(5):
            stamp = stamp_ns + row * STEP_NS // 5
            self.live.current.sent.add(stamp, result.plan.actions[row])
        self.count += 1
        return result

    def name(self) -> str:
        return self.live.current.checkpoint.name


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


def noise(bundle: Bundle, share: float = 1.0) -> None:
    torch.manual_seed(1)
    for weight in bundle.model.predictor.parameters():
        weight.add_(share * weight.std().nan_to_num(1.0) * torch.randn_like(weight))


def test_a_version_that_is_as_good_is_taken_between_two_plans_and_kept(world):
    first = world.step()
    world.publish()
    world.watch.look()
    assert world.name() == "first"  # until the next plan
    second = world.step()
    assert world.name() == "v0001"
    assert second.checkpoint["checkpoint"].endswith("v0001") and first.checkpoint != second
    # The same weights: the last plan goes on, as if nothing had been exchanged.
    alone = World(world.versions.parent / "alone")
    for _ in range(2):
        expected = alone.step()
    assert np.array_equal(second.plan.actions, expected.plan.actions)
    world.step(), world.step()
    assert [text.split(": ", 1)[1].split(",")[0] for _, text in world.said] == ["taken", "kept"]
    assert not world.live.on_trial and world.live.told()[2]["error"] == pytest.approx(
        world.live.told()[2]["error_before"]
    )


def test_a_worse_one_is_rolled_back_after_its_trial_and_never_taken_again(world):
    world.step()
    bad = world.publish(lambda bundle: noise(bundle, 20.0))
    world.watch.look()
    taken = [world.step() and world.name() for _ in range(3)]
    assert taken == ["v0001", "v0001", "first"]
    wrong, text, values = world.live.told()
    assert wrong and "v0001: rolled back to" in text and values["error"] > values["error_before"]
    assert versions(world.versions) == [] and bad.is_dir()
    assert (
        "error over 2 steps"
        in json.loads((bad.parent / "v0001.rejected.json").read_text())["reason"]
    )
    world.watch.look()
    world.step()
    assert world.name() == "first"
    assert world.publish().name == "v0002"  # behind the one that was rejected
    world.watch.look()
    world.step()
    assert world.name() == "v0002"


def test_a_model_of_another_encoder_is_judged_by_its_own_latent(world):
    def other(bundle: Bundle) -> None:
        torch.manual_seed(5)
        for weight in bundle.model.encoder.parameters():
            weight.add_(torch.randn_like(weight))

    world.step()
    world.publish(other)
    world.watch.look()
    for _ in range(4):
        world.step()
    assert world.live.told()[2]["trial_steps"] == 2
    assert len(world.said) == 2  # taken, and judged


def test_one_that_finds_no_plan_is_rolled_back_within_the_same_plan(world, monkeypatch):
    world.step()
    world.publish()
    world.watch.look()
    call = GoalPlanner.__call__

    def fails(self, *args):
        if self.checkpoint.name == "v0001":
            raise PlanningError("no finite plan was found")
        return call(self, *args)

    monkeypatch.setattr(GoalPlanner, "__call__", fails)
    assert np.isfinite(world.step().plan.actions).all()
    assert world.name() == "first" and world.said[-1][0]
    assert "it finds no plan" in world.said[-1][1]


def nan(bundle: Bundle) -> None:
    bundle.model.predictor.proj_out.weight[0, 0] = torch.nan


def zero(bundle: Bundle) -> None:
    for weight in bundle.model.parameters():
        weight.zero_()


def another_robot(bundle: Bundle) -> None:
    action = replace(bundle.embodiment.action, high=(3.0, 3.0))
    bundle.embodiment = replace(bundle.embodiment, action=action, name="other", control_dt_s=0.3)


def other_sizes(bundle: Bundle) -> None:
    bundle.model = tiny_bundle(num_hist=2).model


def truncated(version: Path) -> None:
    file = version / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def not_json(version: Path) -> None:
    (version / "bundle.json").write_text('{"schema": 2, ')


def without_weights(version: Path) -> None:
    (version / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("change", "damage", "text"),
    [
        (nan, None, "proj_out.weight' has values that are not finite"),
        (zero, None, "all weights of the encoder are zero"),
        (another_robot, None, "was trained on 'other', which is not this robot"),
        (other_sizes, None, "its model has num_hist 2, the running one 1"),
        (None, truncated, "its checksum is not the one in bundle.json"),
        (None, not_json, "not valid JSON"),
        (None, without_weights, "no such file"),
    ],
)
def test_a_bad_checkpoint_leaves_the_old_one_planning_with_one_line(world, change, damage, text):
    world.step()
    version = world.publish(change or (lambda bundle: None))
    if damage is not None:
        damage(version)
    for _ in range(3):
        world.watch.look()
        world.step()
    assert world.name() == "first" and len(world.said) == 1
    wrong, line = world.said[0]
    assert wrong and text in line and "\n" not in line and line.startswith("not taken: ")


def test_behind_a_bad_one_the_next_newest_is_taken(world):
    world.step()
    good, bad = world.publish(), world.publish(nan)
    world.watch.look()
    world.step()
    assert world.live.current.checkpoint == good and versions(world.versions)[0] == bad


def test_the_newest_version_is_what_a_run_directory_stands_for(world):
    run = world.versions.parent
    for _ in range(11):
        newest = world.publish()
    assert newest.name == "v0011" and resolve_checkpoint(run) == newest
    assert reject(newest, "worse")
    assert resolve_checkpoint(run).name == "v0010"


def test_a_directory_that_is_gone_or_changed_is_no_error(world, tmp_path):
    world.step()
    world.watch.watch(tmp_path / "nothing")
    world.watch.look()
    world.publish()
    world.watch.watch(None)
    world.watch.look()
    world.step()
    assert world.name() == "first" and not world.said
