"""Online World Modeling on an exact world: what is executed is what is learnt from."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")
pytest.importorskip("gymnasium", reason="needs the 'sim' extra")

from wm_planner.cli import finetune as command  # noqa: E402
from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data.store import TrajectoryStore  # noqa: E402
from wm_planner.errors import ConfigError, DatasetError  # noqa: E402
from wm_planner.models.checkpoint import load_bundle  # noqa: E402
from wm_planner.tasks import get_task  # noqa: E402
from wm_planner.training.finetune import Corrections, Finetuning, finetune  # noqa: E402
from wm_planner.training.latents import LatentTrajectories  # noqa: E402
from wm_planner.training.machine import Group, Machine  # noqa: E402
from wm_planner.training.online import (  # noqa: E402
    Online,
    OnlineLearner,
    PlanRounds,
    corrected,
    planner_settings,
)
from wm_planner.training.plan_execution import EnvSimulatorMaker, Simulators  # noqa: E402

from .dot_world import DotEnv, dot_bundle  # noqa: E402
from .training_world import dot_store, metrics, tiny_bundle, tiny_checkpoint, weights  # noqa: E402

QUICK = {"num_iterations": 20, "init": "zero", "objective": "last", "action_noise_std": 0.0}


class EncodingEnv(DotEnv):
    """The exact world, in pictures that the tiny encoder takes."""

    def render_state(self, state):
        return np.broadcast_to(super().render_state(state)[:1, :1], (32, 32, 3)).copy()


def dot_rounds(make_env=lambda render: DotEnv(), **kwargs) -> tuple[PlanRounds, object]:
    bundle = dot_bundle(planner=None)
    bundle.planner = {}
    model = bundle.model
    model.encode_images = lambda images: images[..., :2, 0, 0].unsqueeze(2)
    settings = {"num_targets": 6, "horizon": 4, "planner": QUICK, **kwargs}
    rounds = PlanRounds(bundle, Online(**settings), make_env, SimpleNamespace(), Machine())
    return rounds, bundle


def test_observations_are_followed_by_the_action_taken_from_them():
    """In a world where a raw action moves two pixels, every pair must show just that."""
    rounds, bundle = dot_rounds()
    happened, measures = rounds.run(0)
    assert happened.visual.shape == (6, 5, 1, 2) and happened.actions.shape == (6, 4, 10)
    raw = bundle.preprocess.denormalise_actions(happened.actions).unflatten(2, (5, 2))
    position = happened.proprio * 65 / 2 + 65 / 2
    torch.testing.assert_close(position.diff(dim=1), 2 * raw.sum(dim=2), rtol=1e-4, atol=1e-3)
    seen = (happened.visual[:, :, 0].float() + 1) * 65 / 2
    assert float((seen - position).abs().max()) < 0.3, "pictures of the same places, 8 bits each"
    assert measures["online_gap"] < 1e-4, "the model is exact"
    starts = np.array(
        [DotEnv().sample_target(np.random.default_rng([0, 0, i]))[0] for i in range(6)]
    )
    assert np.allclose(position[:, 0], starts, atol=1e-3)


def test_a_stuck_robot_teaches_that_it_is_stuck():
    rounds, _ = dot_rounds(lambda render: DotEnv(stuck=True))
    happened, measures = rounds.run(0)
    assert float(happened.proprio.diff(dim=1).abs().max()) == 0.0
    assert float(happened.actions.abs().max()) > 0.1, "though the planner tried"
    assert measures["online_success"] == 0.0 and measures["online_gap"] > 0.05


def test_rounds_repeat_and_differ():
    rounds, _ = dot_rounds()
    first, again, other = (rounds.run(number)[0] for number in (3, 3, 4))
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.proprio[:, 0], other.proprio[:, 0])


@pytest.mark.parametrize("workers", [1, 2])
def test_simulators_side_by_side_give_what_one_gives(workers):
    """Five plans: the last batch of two is not full."""
    rng = np.random.default_rng(0)
    starts, actions = rng.uniform(20, 40, (5, 2)), np.float32(rng.uniform(-1, 1, (5, 10, 2)))
    simulators = Simulators(EnvSimulatorMaker(DotEnv), 5, workers)
    try:
        happened = simulators.run(starts, actions)
    finally:
        simulators.close()
    expected = starts[:, None] + 2 * np.cumsum(actions, axis=1)[:, [4, 9]]
    assert happened["images"].shape == (5, 3, 4, 4, 3)
    assert np.allclose(happened["states"][:, 0], starts)
    assert np.allclose(happened["states"][:, 1:], expected, atol=1e-4)


def constant(value: float, count: int, steps: int = 4) -> LatentTrajectories:
    """Trajectories whose actions say where they are from."""
    return LatentTrajectories(
        torch.zeros(count, steps + 1, 16, 8),
        torch.zeros(count, steps + 1, 2),
        torch.full((count, steps, 10), value),
    )


def online_learner(rounds, num_updates=6, corrections=None, **online) -> OnlineLearner:
    config = Finetuning(num_updates=num_updates, batch_size=8, rollout_steps=3, held_out=0.5)
    settings = Online(**{"num_rounds": 3, "horizon": 4, "buffer_fraction": 0.25, **online})
    bundle = tiny_bundle()
    data = constant(-1.0, 4)
    return OnlineLearner(bundle, data, config, Machine(), settings, rounds, corrections)


def test_batches_mix_data_and_the_newest_rounds_and_the_state_keeps_them():
    called = []

    def rounds(number):
        called.append(number)
        return constant(float(number), 5), {"online_success": 0.5}

    learner = online_learner(rounds, buffer_size=7)
    seen = [learner.batch(step)[2][:, 0, 0] for step in range(6)]
    assert called == [0, 1, 2], "every second update"
    for step, values in enumerate(seen):
        assert (values == -1.0).sum() == 6, "three quarters are the data"
        assert set(values[:2].tolist()) <= {float(n) for n in range(step // 2 + 1)}
    other = online_learner(rounds, buffer_size=7)
    other.set_state(learner.state())
    assert learner.state()["buffer"][2][:, 0, 0].tolist() == [1.0] * 2 + [2.0] * 5
    first, second = learner.batch(7), other.batch(7)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert learner.evaluate()["online_success"] == 0.5


def test_recorded_corrections_are_the_buffer():
    learner = online_learner(None, corrections=constant(9.0, 3, steps=6))
    values = learner.batch(0)[2][:, 0, 0]
    assert values.tolist() == [9.0] * 2 + [-1.0] * 6
    assert "buffer" not in learner.state()


@pytest.mark.parametrize(
    ("size", "fraction", "processes", "count"), [(8, 0.5, 1, 4), (8, 0.01, 2, 2), (6, 1.0, 2, 6)]
)
def test_every_process_gets_as_many_corrections(size, fraction, processes, count):
    assert corrected(size, fraction, Group(0, processes)) == count


def test_the_rounds_plan_as_the_checkpoint_recommends_unless_told_otherwise():
    recommended = {"horizon": 7, "objective_base": 1.0, "gbp": {"num_iterations": 60}}
    settings = planner_settings(recommended, Online(planner={"num_iterations": 3}))
    assert settings["gbp"] == {"num_iterations": 3, "horizon": 5} and settings["solver"] == "gbp"
    assert settings["objective_base"] == 1.0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_rounds": 0}, "num_rounds must be at least 1, got 0"),
        ({"buffer_fraction": 0.0}, "buffer_fraction"),
        ({"targets": "tasks"}, "unknown targets 'tasks'"),
    ],
)
def test_bad_settings_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Online(**bad)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world")
    dot_store(directory / "data", count=24)
    dot_store(directory / "recorded", count=5, steps=6, seed=7)
    tiny_checkpoint(directory / "base")
    return directory


def words(world, output, method, *more):
    """A short run."""
    line = ["finetune", "--method", method, "--checkpoint", world / "base", "--data"]
    line += [world / "data", "--output", output, "--threads", "1", "--num-updates", "6"]
    line += [*([] if "rollout_steps=20" in more else ["--set", "rollout_steps=3"])]
    line += ["--set", "batch_size=8", *more]
    return [str(word) for word in line]


ROUNDS = ["--set", "online.num_rounds=2", "--set", "online.num_targets=4", "--set"]
ROUNDS += ["online.planner={num_iterations: 2}"]


@pytest.mark.parametrize("targets", ["task", "data"])
def test_the_command_plans_executes_and_resumes(world, tmp_path, monkeypatch, targets):
    """The environment is an exact one, made by its id as the simulator's is."""
    monkeypatch.setattr("gymnasium.make", lambda name, image_size, render: EncodingEnv(render))
    more = [*ROUNDS, "--set", f"online.targets={targets}", "--set", "online.adversarial=true"]
    assert main(words(world, tmp_path / "run", "online", *more)) == 0
    card = json.loads((tmp_path / "run/checkpoint/bundle.json").read_text())["info"]
    assert card["method"] == "online" and card["parent"]["checkpoint"] == str(world / "base")
    assert "online_success" in metrics(tmp_path / "run")[-1]
    draw = OnlineLearner.batch

    def stop(self, step):
        if step == 4:  # in the middle of the second round's updates
            raise KeyboardInterrupt
        return draw(self, step)

    monkeypatch.setattr(OnlineLearner, "batch", stop)
    more += ["--save-minutes", "0"]
    assert main(words(world, tmp_path / "again", "online", *more)) == 130
    monkeypatch.setattr(OnlineLearner, "batch", draw)
    assert main(words(world, tmp_path / "again", "online", *more, "--resume")) == 0
    first, second = (weights(tmp_path / name / "checkpoint") for name in ("run", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_command_takes_recorded_corrections(world, tmp_path):
    more = ["--corrections", str(world / "recorded")]
    assert main(words(world, tmp_path / "run", "online", *more)) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["corrections"]["task"] == "wall"


def test_the_card_says_where_a_finetuned_model_is_from(world, tmp_path):
    assert main(words(world, tmp_path / "run", "adversarial")) == 0
    bundle = load_bundle(tmp_path / "run/checkpoint")
    info = bundle.info
    assert set(info["held_out"]) == set(info["held_out_before"]) == {"val_last", "val_copy"}
    assert info["held_out"]["val_last"] != info["held_out_before"]["val_last"]
    parent = json.loads((world / "base/bundle.json").read_text())
    assert info["parent"]["sha256"] == parent["sha256"]
    assert info["finetune"]["adversarial"]["visual_factor"] == 0.05
    assert {"command", "commit", "minutes", "data", "method"} <= set(info)
    before, after = weights(world / "base"), weights(tmp_path / "run/checkpoint")
    changed = {
        name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert changed == {"predictor", "action_encoder"}


def test_what_was_calibrated_stays_but_for_the_models_own_error(world, tmp_path):
    shutil.copytree(world / "base", tmp_path / "base")
    file = tmp_path / "base" / "bundle.json"
    card = json.loads(file.read_text())
    card["embodiment"] = TrajectoryStore.open(world / "data").embodiment.to_json()
    file.write_text(json.dumps(card))
    assert main(["calibrate", str(tmp_path / "base"), "--data", str(world / "data")]) == 0
    before = load_bundle(tmp_path / "base").info["familiar"]
    line = words(world, tmp_path / "run", "adversarial")
    line[line.index(str(world / "base"))] = str(tmp_path / "base")
    assert main(line) == 0
    after = load_bundle(tmp_path / "run/checkpoint").info["familiar"]
    assert after["cameras"] == before["cameras"] and after["surprise"] != before["surprise"]


def test_methods_differ_and_base_is_plain_training(world, tmp_path):
    for method in ("base", "adversarial"):
        assert main(words(world, tmp_path / method, method)) == 0
    losses = [metrics(tmp_path / name)[0]["loss"] for name in ("base", "adversarial")]
    assert losses[1] > losses[0], "the same batch, made harder"


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("adversarial", ["--corrections", "x"], "--corrections is for --method online"),
        ("online", ["--set", "online.horizon=2"], "online.horizon 2: plans must be at least"),
        ("base", ["--set", "batch_sizes=2"], "unknown key 'batch_sizes'. Did you mean"),
        ("base", ["--set", "online.x.y=2"], "'x' has no settings"),
        ("base", ["--set", "seed"], "not of the form key=value"),
        ("base", ["--set", "rollout_steps=20"], "rollout_steps 20 needs at least as many"),
        ("base", ["--set", "schedule=cosine"], "unknown schedule 'cosine'"),
        (
            "online",
            ["--set", "online.targets=data", "--set", "online.horizon=9"],
            "no simulator states of 9 model steps",
        ),
        ("adversarial", ["--set", "adversarial.rollouts=false"], "no update would be adversarial"),
        ("online", ["--workers", "0"], "--workers must be at least 1"),
    ],
)
def test_what_cannot_be_used_is_named(world, tmp_path, capsys, monkeypatch, method, more, message):
    monkeypatch.setattr("gymnasium.make", lambda name, image_size, render: EncodingEnv(render))
    assert main(words(world, tmp_path / "run", method, *more)) == 2
    assert message in capsys.readouterr().err


def test_data_of_another_task_and_a_missing_environment_are_refused(world, tmp_path):
    store, bundle = dot_store(tmp_path / "data", count=3), tiny_bundle()
    config = Finetuning(num_updates=1, rollout_steps=3)
    with pytest.raises(ConfigError, match="either an environment or recorded"):
        finetune(store, bundle, "online", config, tmp_path / "a", {}, corrections=Corrections())
    bundle.embodiment = get_task("pusht").embodiment
    with pytest.raises(DatasetError, match="holds 'wall', the checkpoint is for 'pusht'"):
        finetune(store, bundle, "base", config, tmp_path / "b", {})


def test_settings_come_from_the_recipe_and_the_command_line_wins(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "task: wall\ncollect: {num_trajectories: 3, steps: 4, image_size: 32}\n"
        "finetune: {num_updates: 7, batch_size: 9, adversarial: {num_steps: 3, step: 0.5}}\n"
    )
    args = SimpleNamespace(recipe=recipe, settings=["adversarial.step=0.4"], num_updates=8)
    config = command.finetuning_of(args)
    assert (config.num_updates, config.batch_size) == (8, 9)
    assert (config.adversarial.num_steps, config.adversarial.step) == (3, 0.4)
