"""The fast forms of rollout and descent against the plain ones, which are the reference."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from wm_planner.errors import ConfigError
from wm_planner.models.bundle import Bundle
from wm_planner.models.fast import library, linear
from wm_planner.models.fast.linear import FrozenLinear
from wm_planner.models.fast.predictor import FrozenPredictor
from wm_planner.models.predictor import PredictorConfig, ViTPredictor
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import Latent, ModelConfig, WorldModel
from wm_planner.planning import Planner, PlannerConfig
from wm_planner.planning.bounds import Bounds, Rates
from wm_planner.planning.cuda_graph import CapturedSolver
from wm_planner.planning.engine import Engine
from wm_planner.planning.gradient import Adam, GradientSolver
from wm_planner.planning.objective import frame_weights
from wm_planner.planning.problem import Problem
from wm_planner.tasks import get_task

SIZES = {
    "published": (5, 3, PredictorConfig(2, 2, 16, 32)),
    "residual": (5, 3, PredictorConfig(2, 2, 16, 32, residual=True)),
    "many tokens": (70, 1, PredictorConfig(2, 2, 16, 32)),
    "own width": (5, 3, PredictorConfig(2, 2, 8, 16, width=12, residual=True)),
    "one token": (1, 1, PredictorConfig(2, 2, 8, 16, width=12, residual=True)),
    "one token, history": (1, 2, PredictorConfig(2, 2, 8, 16, width=12, residual=True)),
}
BATCH, HORIZON, ACTION, PROPRIO = 2, 5, 10, 2
LAST, ALL = (frame_weights(mode, 0.5, HORIZON) for mode in ("last", "all"))
bfloat16 = pytest.mark.skipif(
    not library.has_bfloat16(torch.device("cpu")), reason="the processor has no bfloat16"
)


def predictor(name: str) -> ViTPredictor:
    torch.manual_seed(0)
    patches, history, config = SIZES[name]
    result = ViTPredictor(22, patches, history, config).eval().requires_grad_(False)
    if config.width:
        torch.nn.init.normal_(result.proj_out.weight, std=0.3)
    return result


def world_model(name: str) -> WorldModel:
    patches, history, config = SIZES[name]
    sizes = ModelConfig(16, history, patches, 2, ACTION, PROPRIO, predictor=config)
    torch.manual_seed(0)
    model = WorldModel(sizes, torch.nn.Identity()).eval().requires_grad_(False)
    model.predictor = predictor(name)
    return model


def problem(name: str, frames: int = 1) -> Problem:
    patches = SIZES[name][0]
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(BATCH, *shape, generator=generator)  # noqa: E731
    now, goal = (Latent(draw(t, patches, 2), draw(t, 10)) for t in (frames, 1))
    return Problem(now, goal, draw(frames - 1, ACTION) if frames > 1 else None, 1.0, ALL)


def close(actual: Tensor, expected: Tensor) -> None:
    error = (actual - expected).norm() / expected.norm()
    assert error < 1e-5, error


@pytest.mark.parametrize("name", SIZES)
def test_frames_one_by_one_are_the_window(name: str) -> None:
    """Predictions and gradients of every frame, with what later frames see of earlier ones."""
    plain = predictor(name)
    patches, history, _ = SIZES[name]
    frozen = FrozenPredictor(plain)
    z = torch.randn(BATCH, history, patches, 22, requires_grad=True)
    past, outputs = (), []
    for slot in range(history):
        output, past = frozen.predict(z[:, slot], slot, past, keep=True)
        outputs.append(output)
    expected, weight = plain(z), torch.randn(BATCH, history, patches, 22)
    close(torch.stack(outputs, dim=1), expected)
    of_plain, of_frozen = (
        torch.autograd.grad((out * weight).sum(), z)[0]
        for out in (expected, torch.stack(outputs, dim=1))
    )
    close(of_frozen, of_plain)
    past = ()
    for slot in range(history - 1):
        past = frozen.remember(z[:, slot], slot, past)
    last, kept = frozen.predict(z[:, -1], history - 1, past)
    assert not kept
    close(last, plain(z)[:, -1])
    of_plain, of_frozen = (
        torch.autograd.grad((out * weight[:, -1]).sum(), z)[0] for out in (plain(z)[:, -1], last)
    )
    close(of_frozen, of_plain)


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("rollout", ["markov", "history"])
@pytest.mark.parametrize("name", SIZES)
def test_costs_and_gradients_are_those_of_the_plain_path(
    name: str, rollout: str, frames: int
) -> None:
    """Longer than the window, so that it grows and slides; of several candidates at once."""
    model, at = world_model(name), problem(name, frames)
    start = torch.randn(BATCH, 3, HORIZON, ACTION)
    results = []
    for execution in ("plain", "auto"):
        config = PlannerConfig(horizon=HORIZON, rollout=rollout, execution=execution)
        engine = Engine(model, config)
        actions = start.clone().requires_grad_(True)
        with engine.products():
            costs = at.costs(engine, actions)
            (gradient,) = torch.autograd.grad(costs.sum(), actions)
        results.append((costs.detach(), gradient))
    for actual, expected in zip(results[1], results[0], strict=True):
        close(actual, expected)


def test_derivatives_of_the_first_frame() -> None:
    model, at = world_model("published"), problem("published")
    engine = Engine(model, PlannerConfig())
    visual = at.now.visual.clone().requires_grad_(True)
    proprio = at.now.proprio.clone().requires_grad_(True)
    actions = torch.randn(BATCH, HORIZON, ACTION)
    gradients = []
    for rollout in (model.rollout, engine.rollout):
        ahead = rollout(Latent(visual, proprio), actions, None)
        total = ahead.visual.square().sum() + ahead.proprio.square().sum()
        gradients.append(torch.autograd.grad(total, (visual, proprio)))
    for actual, expected in zip(gradients[1], gradients[0], strict=True):
        close(actual, expected)


@pytest.mark.skipif(linear._half_product is None, reason="torch has no such products")
@pytest.mark.parametrize("rows", [1, 5, 64, 65])
def test_float16_numbers_are_kept_as_such_and_nothing_is_lost(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(*size, generator=generator) for size in ((20, 12), (20,)))
    x, gradient = (torch.randn(rows, size, generator=generator) for size in (12, 20))
    exact, other = weight.half().float(), weight
    for kept, is_half in ((exact, True), (other, False)):
        layer = FrozenLinear(kept, bias, torch.float32)
        assert layer.halves == is_half
        close(layer.forward(x), (x.double() @ kept.double().t() + bias).float())
        close(layer.backward(gradient), (gradient.double() @ kept.double()).float())
    assert not FrozenLinear(exact, bias, torch.bfloat16).halves
    assert not FrozenLinear(exact * 1e6, bias, torch.float32).halves  # too large for float16


@pytest.mark.parametrize("name", ["own width", "one token"])
def test_rounded_checkpoints_descend_as_the_plain_path(name: str) -> None:
    model, at = world_model(name), problem(name)
    for weight in model.predictor.parameters():
        weight.data = weight.data.half().float()
    results = []
    for execution in ("plain", "auto"):
        config = PlannerConfig(horizon=HORIZON, execution=execution)
        actions = torch.ones(BATCH, 3, HORIZON, ACTION, requires_grad=True)
        costs = at.costs(Engine(model, config), actions)
        results.append((costs.detach(), torch.autograd.grad(costs.sum(), actions)[0]))
    for actual, expected in zip(results[1], results[0], strict=True):
        close(actual, expected)


@bfloat16
@pytest.mark.parametrize("rollout", ["markov", "history"])
def test_bfloat16_gradients_point_where_float32_points(rollout: str) -> None:
    model, at = world_model("published"), problem("published")
    gradients = []
    for precision in ("float32", "bfloat16"):
        config = PlannerConfig(rollout=rollout, precision=precision)
        actions = torch.ones(BATCH, 1, HORIZON, ACTION, requires_grad=True)
        costs = at.costs(Engine(model, config), actions)
        gradients.append(torch.autograd.grad(costs.sum(), actions)[0].flatten())
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert 0.9995 < cosine < 0.99999999  # and it is not float32


def test_precision_that_cannot_be_had_is_named(monkeypatch) -> None:
    model = world_model("one token")
    with pytest.raises(ConfigError, match="'bfloat16'.*'plain'"):
        Engine(model, PlannerConfig(precision="bfloat16", execution="plain"))
    monkeypatch.setattr("wm_planner.planning.engine.has_bfloat16", lambda device: False)
    with pytest.raises(ConfigError, match="'bfloat16'.*use float32"):
        Engine(model, PlannerConfig(precision="bfloat16"))


def test_changed_weights_are_taken_before_the_next_plan() -> None:
    model = world_model("own width")
    engine = Engine(model, PlannerConfig())
    assert not engine.refresh()
    with torch.no_grad():
        model.predictor.transformer.layers[0][0].to_qkv.weight.mul_(2.0)
    assert engine.refresh()
    z = torch.randn(1, 5, 22)
    close(engine.predict(z), model.predict(z[:, None])[:, 0])


@pytest.mark.parametrize("name", library.LIBRARIES)
def test_libraries_are_put_back_also_after_an_error(name: str) -> None:
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision, torch._C._get_mkldnn_enabled()
    with pytest.raises(KeyError), library.library(name):
        inside = matmul.fp32_precision, torch._C._get_mkldnn_enabled()
        raise KeyError
    assert (inside == before) == (name == "usual")
    assert (matmul.fp32_precision, torch._C._get_mkldnn_enabled()) == before


def test_an_inexact_library_is_not_chosen(monkeypatch) -> None:
    """A clock that favours oneDNN, and products that it rounds."""
    exact = torch.bmm
    # Where the processor has matrix units for bfloat16, oneDNN itself rounds.
    monkeypatch.setattr(library, "library", lambda name: nullcontext())
    ticks = iter(range(10**6))
    # Begin and end of the usual one, then of oneDNN: 9 units against 1.
    monkeypatch.setattr(
        library.time, "perf_counter", lambda: (0, 9, 9, 10)[(n := next(ticks)) % 4] + n // 4 * 10
    )
    assert library.fastest_library(2, 80, 16) == "onednn"
    monkeypatch.setattr(
        torch,
        "bmm",
        lambda a, b: exact(a, b) if a.dtype == torch.float64 else exact(a, b).bfloat16().float(),
    )
    assert library.fastest_library(2, 80, 16) == "usual"


def test_training_multiplies_by_a_rule(monkeypatch) -> None:
    """The same on every run of a machine; never where it rounds, or attention is small."""
    cpu = torch.device("cpu")
    monkeypatch.setattr(library, "library", lambda name: nullcontext())  # as exact as usual
    monkeypatch.setattr(library, "_is_amd", lambda: True)
    assert library.training_library(2, cpu) == library.training_library(64, cpu) == "usual"
    assert library.training_library(588, torch.device("cuda")) == "usual"
    chosen = {library.training_library(count, cpu) for count in (1, 588)}
    assert chosen == {"onednn" if library._has_choice() else "usual"}
    exact = library._is_exact
    monkeypatch.setattr(library, "_is_exact", lambda q, k: not exact(q, k))
    assert library.training_library(588, cpu) == "usual"
    monkeypatch.setattr(library, "_is_exact", exact)
    monkeypatch.setattr(library, "_is_amd", lambda: False)
    assert library.training_library(588, cpu) == "usual"


def test_adam_is_that_of_torch_to_the_last_bit() -> None:
    ours = torch.randn(1, 4, HORIZON, ACTION)
    theirs = ours.clone()
    pair = Adam(ours, 0.2), torch.optim.Adam([theirs], lr=0.2, foreach=False)
    for scale in (1.0, 1e-6, 0.0, 1e4, 1.0):
        ours.grad = scale * torch.randn_like(ours)
        theirs.grad = ours.grad.clone()
        for optimizer in pair:
            optimizer.step()
        assert torch.equal(ours, theirs)


def again(work):
    """A recorder that needs no GPU: what it records is called again."""
    work()
    return work


# Solver, raw actions that are decided, and the greatest change.
CAPTURES: dict[str, tuple[GradientSolver, int, float | None]] = {
    "plain": (GradientSolver(), 0, None),
    "sgd, last iterate": (GradientSolver(0.05, "sgd", best_so_far=False), 0, None),
    "two steps decided": (GradientSolver(), 2, None),
    "without noise": (GradientSolver(action_noise_std=0.0), 0, None),
    "at rates": (GradientSolver(), 0, 0.1),
    "two steps decided, at rates": (GradientSolver(), 2, 0.1),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_a_recorded_iteration_descends_as_the_solver_does(name: str) -> None:
    """Twice with one recording, and another problem the second time."""
    solver, decided, rate = CAPTURES[name]
    engine = Engine(world_model("own width"), PlannerConfig())
    low = torch.full((ACTION,), -0.8)
    costs = lambda at, actions: at.costs(engine, actions)  # noqa: E731
    recordings = []

    def record(work):
        recordings.append(work)
        return again(work)

    captured = CapturedSolver(solver, costs, record)
    first = problem("own width")
    for at in (first, Problem(first.goal, first.now, None, 1.0, LAST)):
        init = torch.randn(BATCH, 3, HORIZON, ACTION).clamp(low, -low)
        draws = [torch.Generator().manual_seed(3) for _ in range(2)]
        ends = [sign * low.expand(init[:, :1].shape) for sign in (1, -1)]
        for bound in ends:
            bound[:, :, :decided] = init[:, :1, :decided]
        rates = None
        if rate is not None:
            step = torch.full((HORIZON * 5, 2), rate)
            step[: 5 * decided] = torch.inf
            rates = Rates(step, init[:, :1, 0, :2] / 2)
        bounds = Bounds(*ends, rates)
        result = captured.solve(at, init, bounds, draws[0], 6)
        expected = solver.solve(lambda a, at=at: costs(at, a), init, bounds, draws[1], 6)
        for actual, wanted in zip(vars(result).values(), vars(expected).values(), strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)
    assert len(recordings) == 1


def test_a_recording_stops_when_asked() -> None:
    engine = Engine(world_model("one token"), PlannerConfig())
    limit = torch.full((ACTION,), 1.0)
    costs = lambda at, actions: at.costs(engine, actions)  # noqa: E731
    at, generator = problem("one token"), torch.Generator()
    alone = Problem(at.now[:1], at.goal[:1], None, 1.0, ALL)
    init = torch.zeros(1, 1, HORIZON, ACTION)
    bounds = Bounds(-limit, limit)
    captured = CapturedSolver(GradientSolver(), costs, again)
    result = captured.solve(alone, init, bounds, generator, 50, should_stop=lambda: True)
    assert len(result.trace) == 1


def bundle() -> Bundle:
    preprocess = Preprocess(16, 5, (0.0,) * 2, (1.0,) * 2, (0.0,) * PROPRIO, (1.0,) * PROPRIO)
    return Bundle(world_model("own width"), preprocess, get_task("wall").embodiment)


def test_plans_are_those_of_the_plain_path_to_rounding() -> None:
    at, plans = problem("own width"), []
    for execution in ("plain", "auto"):
        planner = Planner(bundle(), PlannerConfig(execution=execution, num_iterations=10))
        plans.append(planner.plan_latents(at.now, at.goal, None, 0, planner.generator()))
    torch.testing.assert_close(plans[1].actions, plans[0].actions, rtol=0, atol=1e-3)
    torch.testing.assert_close(plans[1].costs, plans[0].costs, rtol=1e-4, atol=0)


def test_what_cannot_be_recorded_is_planned_without() -> None:
    at = problem("own width")
    planner = Planner(bundle(), PlannerConfig(num_iterations=3))
    expected = planner.plan_latents(at.now, at.goal, None, 0, planner.generator())

    def fail(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    args = planner._solver, planner._costs
    planner.captured = CapturedSolver(*args, fail)
    with pytest.warns(UserWarning, match="not permitted.*more slowly"):
        result = planner.plan_latents(at.now, at.goal, None, 0, planner.generator())
    assert planner.captured.failed and torch.equal(result.actions, expected.actions)
    planner.captured = CapturedSolver(*args, again)
    result = planner.plan_latents(at.now, at.goal, None, 0, planner.generator())
    torch.testing.assert_close(result.actions, expected.actions, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["many tokens", "own width"])
def test_sampling_solvers_use_the_same_rollouts(name: str) -> None:
    at, costs = problem(name), []
    for execution in ("plain", "auto"):
        config = PlannerConfig(
            "cem", num_iterations=2, num_samples=8, num_elites=3, execution=execution
        )
        planner = Planner(
            Bundle(world_model(name), bundle().preprocess, get_task("wall").embodiment), config
        )
        costs.append(planner.plan_latents(at.now, at.goal, None, 0, planner.generator()).costs)
    torch.testing.assert_close(costs[1], costs[0], rtol=1e-4, atol=0)
