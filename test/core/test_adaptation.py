"""Adaptation to what happens: of a model whose one weight has a known right value, and others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from wm_planner.data.frames import FrameAssembler
from wm_planner.errors import ConfigError
from wm_planner.evaluation.arena import Arena
from wm_planner.evaluation.episode import Evaluation, Loop
from wm_planner.evaluation.job import default_batch
from wm_planner.evaluation.target import Targets
from wm_planner.models.bundle import Bundle
from wm_planner.models.world_model import Latent, WorldModel
from wm_planner.planning import Planner, PlannerConfig, Session, planner_config
from wm_planner.planning.adaptation import Adaptation
from wm_planner.runtime.goal_planner import GoalPlanner
from wm_planner.tasks import get_task
from wm_planner.types import Observation

from .dot_world import DotEnv, DotModel, dot_bundle, goal, observation, picture
from .test_planning_engine import SIZES, world_model

DT_NS = 100_000_000
STEP_NS = 5 * DT_NS
START, TARGET = (10.0, 20.0), (50.0, 30.0)


class GainModel(DotModel):
    """A dot that moves `gain` times as far as an exact model would expect; `gain` is a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.predictor = nn.Module()
        self.predictor.gain = nn.Parameter(torch.ones(1))

    def rollout(self, latent, actions, past_actions=None, mode="markov") -> Latent:
        exact = super().rollout(latent, actions, past_actions, mode)
        scaled = [
            first[:, -1:] + self.predictor.gain * (moved - first[:, -1:])
            for first, moved in (
                (latent.visual, exact.visual),
                (latent.proprio, exact.proprio),
            )
        ]
        return Latent(*scaled)


class GainEnv(DotEnv):
    """The real thing, of another gain than the model's 1."""

    gain = 1.0

    def advance(self, action: np.ndarray) -> None:
        super().advance(action)
        self._state = self._state + 2.0 * (self.gain - 1.0) * action


def gain_bundle() -> Bundle:
    exact = dot_bundle()
    return Bundle(GainModel(), exact.preprocess, get_task("wall").embodiment)


def adapting(rate: float = 0.05, **settings) -> Session:
    """One weight and no layers: all of the predictor adapts."""
    base = {"objective": "last", "num_iterations": 5, "adapt_layers": 0, "adapt_max_change": 10.0}
    config = PlannerConfig(adapt_learning_rate=rate, **{**base, **settings})
    session = Session(Planner(gain_bundle(), config))
    session.set_goal(goal(TARGET))
    return session


def gain_of(session: Session) -> float:
    return float(session.planner.adaptation.model.predictor.gain)


def driving(session: Session, gain: float, replans: int) -> Iterator[np.ndarray]:
    """Plans along their own motion, which has that gain; one each model step."""
    position, seen = np.array(START), observation(START)
    for index in range(replans):
        plan = session.plan(seen).actions
        yield plan
        done = plan[:5]
        last, position = position, position + 2.0 * gain * done.sum(axis=0)
        seen = Observation(
            np.stack([picture(last), picture(position)]),
            np.float32([last, position]),
            (index + 1) * STEP_NS,
            np.float32(done).reshape(1, -1),
        )


def drive(session: Session, gain: float, replans: int) -> list[np.ndarray]:
    return list(driving(session, gain, replans))


def test_the_model_goes_to_the_gain_that_explains_what_happened() -> None:
    """From 1 to 0.7 by 0.05 a step; there the next step would be worse, and is not taken."""
    session = adapting()
    for index, _ in enumerate(driving(session, 0.7, 10)):
        assert gain_of(session) == pytest.approx(max(0.7, 1 - 0.05 * index), abs=1e-5)
    assert session.planner.adaptation.error() < 1e-4


def test_every_step_lowers_the_error_on_what_is_remembered(monkeypatch) -> None:
    seen = []
    step = Adaptation._step

    def measured(self: Adaptation) -> bool:
        before = float(self.error())
        taken = step(self)
        seen.append((before, float(self.error()), taken))
        return taken

    monkeypatch.setattr(Adaptation, "_step", measured)
    drive(adapting(rate=0.02), 0.7, 11)
    assert len(seen) == 10
    for before, after, taken in seen:
        assert taken and after < before


def test_the_change_stays_in_the_ball() -> None:
    session = adapting(adapt_max_change=0.12)
    drive(session, 0.7, 9)
    assert gain_of(session) == pytest.approx(0.88, abs=1e-6)
    assert float(session.planner.adaptation.change()) == pytest.approx(0.12, rel=1e-5)


def test_only_so_many_transitions_are_remembered() -> None:
    """The gain that the last two of them had counts, not the one before."""
    session = adapting(rate=0.05, adapt_transitions=2)
    drive(session, 0.7, 8)
    assert gain_of(session) == pytest.approx(0.7, abs=1e-5)
    assert len(session.planner.adaptation._buffer) == 2


def test_off_the_plans_are_those_without_it() -> None:
    """Also when observations tell what was executed."""
    plain = Session(Planner(gain_bundle(), PlannerConfig(objective="last", num_iterations=5)))
    assert plain.planner.adaptation.model is plain.planner.bundle.model
    one = adapting(rate=0.0)
    plain.set_goal(goal(TARGET))
    for a, b in zip(drive(plain, 0.7, 4), drive(one, 0.7, 4), strict=True):
        np.testing.assert_array_equal(a, b)
    assert gain_of(one) == 1.0


def test_a_new_goal_brings_the_checkpoint_back_and_the_same_plans_again() -> None:
    session = adapting()
    first = drive(session, 0.7, 4)
    assert gain_of(session) < 0.9 and float(session.planner.bundle.model.predictor.gain) == 1.0
    session.set_goal(goal(TARGET))
    assert gain_of(session) == 1.0
    for a, b in zip(first, drive(session, 0.7, 4), strict=True):
        np.testing.assert_array_equal(a, b)
    adapted, plain = first[-1], drive(adapting(rate=0.0), 0.7, 4)[-1]
    assert np.abs(adapted - plain).max() > 0.05, "adaptation changes plans"


def test_two_planners_of_one_bundle_adapt_by_themselves() -> None:
    bundle = gain_bundle()
    config = adapting().planner.config
    one, two = (Session(Planner(bundle, config)) for _ in range(2))
    one.set_goal(goal(TARGET))
    drive(one, 0.7, 3)
    assert gain_of(one) < 1.0 and gain_of(two) == 1.0


def test_without_executed_actions_nothing_is_learnt() -> None:
    session = adapting()
    for index in range(4):
        session.plan(observation(START, index * STEP_NS))
    assert gain_of(session) == 1.0


@pytest.mark.parametrize("what", ["action", "proprio"])
def test_what_is_not_a_number_is_not_learnt_from(what: str) -> None:
    session = adapting()
    drive(session, 0.7, 3)
    before = gain_of(session)
    done, felt = np.ones((1, 10), np.float32), np.float32([START, START])
    (done if what == "action" else felt)[0, 0] = np.nan
    images = np.stack([picture(START)] * 2)
    with torch.no_grad():
        frames = session.planner.bundle.encode_observation(Observation(images, felt, 0))
    assert not session.planner.adaptation.learn(frames, torch.tensor(done)[None], 99 * STEP_NS)
    assert gain_of(session) == before
    drive(session, 0.7, 2)
    assert np.isfinite(gain_of(session))


def test_a_step_to_where_nothing_is_finite_is_undone() -> None:
    """An infinite rate makes every weight infinite or not a number; no setting gives one."""
    session = adapting()
    for name in ("adapt_learning_rate", "adapt_max_change"):
        object.__setattr__(session.planner.config, name, float("inf"))
    drive(session, 0.7, 3)
    assert gain_of(session) == 1.0


def test_a_model_step_counts_once_however_often_is_planned() -> None:
    session = adapting()
    frames = session.planner.bundle.encode_observation(
        Observation(np.stack([picture(START), picture(TARGET)]), np.float32([START, TARGET]), 0)
    )
    actions = torch.ones(1, 1, 10)
    taken = [session.planner.adaptation.learn(frames, actions, i * DT_NS) for i in range(11)]
    assert [i for i, yes in enumerate(taken) if yes] == [0, 5, 10]
    assert session.planner.adaptation.learn(frames, actions, 2 * DT_NS), "the clock was set back"


def test_what_was_sent_is_learnt_from_not_what_was_planned() -> None:
    """Through the assembler that serves the robot; the commands are another's than the plan's."""
    session, sent = adapting(), np.float32([0.5, -0.25])
    assembler = FrameAssembler(session.planner.config.num_frames(1), STEP_NS, DT_NS, 5)
    position, learnt = np.array(START), 0
    for tick in range(21):
        stamp = tick * DT_NS
        assembler.push_proprio(stamp, position)
        assembler.push_image(stamp, picture(position))
        seen = assembler.take()
        if seen is not None:
            session.plan(seen)
            learnt = len(session.planner.adaptation._buffer)
        assembler.push_action(stamp, sent)
        position = position + 2.0 * 0.7 * sent
    assert learnt == 4
    expected = session.planner.bundle.preprocess.normalise_actions(np.tile(sent, 5)[None])
    for transition in session.planner.adaptation._buffer:
        torch.testing.assert_close(transition.actions[0], expected)
    assert gain_of(session) == pytest.approx(0.8, abs=1e-5)


# In closed loop.


def run(planner: Planner, env_gain: float, which: Targets, mode: str = "mpc") -> Evaluation:
    class Env(GainEnv):
        gain = env_gain

    result = Evaluation()
    with Arena(planner, Env, 1, Loop(mode)) as arena:
        for index in range(len(which)):
            result.extend(arena.run(which.part(slice(index, index + 1))))
    return result


def wall(*pairs) -> Targets:
    starts, goals = zip(*pairs, strict=True)
    return Targets("wall", np.array(starts, np.float64), np.array(goals, np.float64))


def test_closed_loop_settles_where_the_model_that_stays_overshoots() -> None:
    """Error after a step that the model believes exact: |1 - gain| = 1.6 times that before."""
    which = wall(([30, 30], [38, 30]))
    settings = {"objective": "all", "num_iterations": 60}
    for rate, success in ((0.0, False), (0.4, True)):
        episode = run(adapting(rate, **settings).planner, 2.6, which).episodes[0]
        assert episode.success is success, rate


def test_episodes_do_not_depend_on_those_before() -> None:
    targets = wall(([10, 10], [60, 60]), ([30, 30], [50, 30]))
    session = adapting(0.1, num_iterations=20)
    both = run(session.planner, 0.7, targets).episodes
    assert gain_of(session) != 1.0
    assert run(session.planner, 0.7, targets.part(slice(1, 2))).episodes == both[1:]


def test_a_single_plan_to_its_end_does_not_adapt() -> None:
    which, settings = wall(([10, 10], [40, 40])), {"num_iterations": 5}
    one, two = (
        run(adapting(rate, **settings).planner, 0.7, which, "open-loop") for rate in (0.0, 0.1)
    )
    assert one.episodes == two.episodes


def test_one_episode_at_a_time() -> None:
    session = adapting()
    with pytest.raises(ConfigError, match="adapts to one episode at a time, got a batch of 3"):
        Arena(session.planner, GainEnv, 3, Loop("mpc"))
    Arena(session.planner, GainEnv, 3, Loop("open-loop"))
    assert default_batch(session.planner.config, Loop("mpc")) == 1
    assert default_batch(session.planner.config, Loop("open-loop")) > 1
    latent = Latent(torch.zeros(3, 2, 1, 2), torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="one robot, got a batch of 3"):
        session.planner.adaptation.learn(latent, torch.zeros(3, 1, 10), 0)


# A real predictor.


def random_frames(name: str, frames: int, seed: int) -> tuple[Latent, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(1, *shape, generator=generator)  # noqa: E731
    return Latent(draw(frames, SIZES[name][0], 2), draw(frames, 10)), draw(frames - 1, 10)


def real(name: str, **settings) -> tuple[WorldModel, Adaptation]:
    model = world_model(name)
    config = PlannerConfig(**{"adapt_learning_rate": 1e-3, **settings})
    return model, Adaptation(model, config, STEP_NS)


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("name", ["published", "own width"])
def test_only_the_last_layers_move_and_come_back(name: str, layers: int) -> None:
    model, adaptation = real(name, adapt_layers=layers)
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    for seed in range(3):
        assert adaptation.learn(*random_frames(name, 2, seed), seed * STEP_NS)
    own = dict(adaptation.model.named_parameters())
    assert not any(weight.requires_grad for weight in own.values())
    for key, weight in model.named_parameters():
        assert torch.equal(weight, before[key]), key
        late = layers == 0 or "layers.1." in key or "transformer.norm" in key or "proj_out" in key
        adapts = key.startswith("predictor.") and (late or (layers == 2 and "layers.0." in key))
        assert (own[key].data_ptr() != weight.data_ptr()) is adapts, key
        if adapts and "pos_embedding" not in key:
            assert not torch.equal(own[key], weight), key
    adaptation.restore()
    for key, weight in adaptation.model.state_dict().items():
        assert torch.equal(weight, before[key]), key


def test_history_rollouts_learn_from_whole_windows() -> None:
    _, adaptation = real("published", rollout="history")
    for index, count in enumerate((2, 3, 3)):  # as observations grow to the model's history
        adaptation.learn(*random_frames("published", count, index), index * STEP_NS)
    transitions = adaptation._buffer
    assert [transition.actions.shape[1] for transition in transitions] == [1, 2, 2]
    frames, actions = random_frames("published", 3, 2)
    with torch.no_grad():
        imagined = adaptation.model.rollout(
            frames.frames(slice(0, 2)), actions[:, 1:], actions[:, :1], "history"
        )
    error = (imagined.visual[:, -1] - frames.visual[:, -1]).square().mean()
    error = error + 5 * (imagined.proprio[:, -1] - frames.proprio[:, -1]).square().mean()
    torch.testing.assert_close(adaptation._errors([transitions[-1]])[0], error)
    alone = [adaptation._errors([transition]) for transition in transitions]
    torch.testing.assert_close(adaptation.error(), torch.cat(alone).mean())


def test_the_fast_form_takes_the_new_weights() -> None:
    plans = {}
    for execution in ("auto", "plain"):
        model = world_model("own width")
        bundle = Bundle(model, dot_bundle().preprocess, get_task("wall").embodiment)
        config = PlannerConfig(
            adapt_learning_rate=0.01, execution=execution, num_iterations=5, adapt_layers=0
        )
        session = Session(Planner(bundle, config))
        frames, actions = random_frames("own width", 2, 0)
        target, _ = random_frames("own width", 1, 1)

        def plan(planner=session.planner, frames=frames, target=target) -> torch.Tensor:
            return planner.plan_latents(frames, target, None, 0, planner.generator()).actions

        before = plan()
        assert session.planner.adaptation.learn(frames, actions, 0)
        assert session.planner.engine.refresh() is (execution == "auto")
        plans[execution] = plan()
        assert not torch.allclose(before, plans[execution], atol=1e-3)
        session.clear()
        assert torch.equal(plan(), before)
    torch.testing.assert_close(plans["auto"], plans["plain"], atol=1e-4, rtol=0)


def test_the_robots_planner_asks_for_the_last_model_step_and_warms_up_with_it() -> None:
    settings = ["num_iterations=2", "adapt_learning_rate=0.0005"]
    planner = GoalPlanner("wall-base", None, "gbp", settings)
    assert planner.history == 2
    steps = []
    inner = planner._planner.adaptation
    step = inner._step
    inner._step = lambda: steps.append(step())  # type: ignore[method-assign]
    planner.warm_up()
    assert len(steps) == 1 and len(inner._buffer) == 0
    given = planner._planner.bundle.model.state_dict()
    for key, weight in inner.model.state_dict().items():
        assert torch.equal(weight, given[key]), key
    assert GoalPlanner("wall-base", None, "gbp", ["num_iterations=2"]).history == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("adapt_learning_rate=-1", "adapt_learning_rate must be at least 0"),
        ("adapt_transitions=0", "adapt_transitions must be at least 1"),
        ("adapt_layers=-1", "adapt_layers: expected a number from 0 to 100000000, got -1"),
        ("adapt_max_change=0", "adapt_max_change must be positive"),
        ("adapt_rate=1", "adapt_rate"),
    ],
)
def test_settings_are_checked(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planner_config({}, [setting])


def test_more_layers_than_there_are() -> None:
    with pytest.raises(ConfigError, match="adapt_layers 3: the predictor has 2 blocks"):
        real("published", adapt_layers=3)


def test_a_model_without_a_predictor_cannot_adapt() -> None:
    bundle = dot_bundle()
    del bundle.model.predictor
    with pytest.raises(ConfigError, match="adapt_learning_rate 0.01: this model has no predictor"):
        Planner(bundle, PlannerConfig(adapt_learning_rate=0.01))
