"""What every solver promises, on a linear model with a known best plan, in one set of tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import LinearConstraint, minimize

from wm_planner.errors import PlanningError
from wm_planner.planning.bounds import Bounds, Rates
from wm_planner.planning.cem import CEMSolver
from wm_planner.planning.gradient import GradientSolver
from wm_planner.planning.gradient_cem import GradientCEMSolver
from wm_planner.planning.icem import ICEMSolver
from wm_planner.planning.lbfgs import LBFGSSolver
from wm_planner.planning.mppi import MPPISolver
from wm_planner.planning.noise import coloured
from wm_planner.planning.solver import Incumbent, SolverResult

HORIZON, ACTION, STATE, BATCH = 4, 2, 3, 3
EFFORT = 0.3
FREE = torch.full((ACTION,), torch.inf)
ANYWHERE = Bounds(-FREE, FREE)

# (solver, budget, share of the possible improvement it may leave)
CASES = {
    "sgd": (GradientSolver(0.05, "sgd", 0.0), 200, 1e-3),
    "momentum": (GradientSolver(0.01, "momentum", 0.0), 200, 1e-3),
    "adam": (GradientSolver(0.1, "adam", 0.003), 200, 1e-3),
    "adamw": (GradientSolver(0.1, "adamw", 0.003), 200, 1e-3),
    "last iterate": (GradientSolver(0.1, "adam", 0.0, best_so_far=False), 200, 1e-3),
    "cem": (CEMSolver(200, 2.0, num_elites=40), 30, 2e-2),
    "cem mean": (CEMSolver(200, 2.0, best_so_far=False, num_elites=40), 30, 2e-2),
    "icem": (ICEMSolver(200, 2.0, num_elites=40), 30, 2e-2),
    "icem white": (ICEMSolver(200, 2.0, num_elites=40, noise_exponent=0), 30, 2e-2),
    "mppi": (MPPISolver(num_samples=200, init_std=0.3, temperature=0.05), 40, 2e-2),
    "gradient-cem": (GradientCEMSolver(num_samples=50, num_elites=10), 15, 1e-2),
    "lbfgs": (LBFGSSolver(), 15, 1e-4),
}
# The same where rates limit the plan: its cost has kinks, at which steps of a fixed size, or along
# a line, come to an end.
AT_RATES = {name: 3 * share for name, (_, _, share) in CASES.items()}
AT_RATES.update(sgd=1.5e-2, lbfgs=5e-3)


class Linear:
    """x' = A x + B u towards a goal state, with a price on effort: a least-squares problem."""

    def __init__(self, seed: int = 0, batch: int = BATCH) -> None:
        generator = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
        self.a, self.b = 0.5 * draw(STATE, STATE), draw(STATE, ACTION)
        self.start, self.goal = draw(batch, STATE), 2 * draw(batch, STATE)
        self.init = draw(HORIZON, ACTION).expand(batch, 1, -1, -1)
        self.calls = 0

    def residuals(self, actions: torch.Tensor) -> torch.Tensor:
        """(B, N, rows) whose sum of squares is the cost."""
        state, rows = self.start[:, None].expand(-1, actions.shape[1], -1), []
        for step in range(HORIZON):
            state = state @ self.a.T + actions[:, :, step] @ self.b.T
            rows += [state - self.goal[:, None], EFFORT * actions[:, :, step]]
        return torch.cat(rows, dim=2)

    def cost(self, actions: torch.Tensor) -> torch.Tensor:
        self.calls += actions.shape[1]
        return self.residuals(actions).square().sum(dim=2)

    def optimum(self, low: float = -np.inf, high: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
        """(B,) lowest cost and (B, H, A) best actions, by an independent method."""
        costs, plans = [], []
        units = torch.eye(HORIZON * ACTION).reshape(1, -1, HORIZON, ACTION)
        zero = self.residuals(torch.zeros(len(self.goal), 1, HORIZON, ACTION))
        slopes = self.residuals(units.expand(len(self.goal), -1, -1, -1)) - zero
        for offset, slope in zip(zero.double().numpy(), slopes.double().numpy(), strict=True):
            x = np.clip(np.linalg.lstsq(slope.T, -offset[0], rcond=None)[0], low, high)
            step = 1 / np.linalg.norm(slope, 2) ** 2
            for _ in range(3000):  # a convex problem in a box: projected descent ends at the best
                x = np.clip(x - step * slope @ (slope.T @ x + offset[0]), low, high)
            costs.append(np.square(slope.T @ x + offset[0]).sum())
            plans.append(x.reshape(HORIZON, ACTION))
        return np.array(costs), np.array(plans)

    def optimum_at_rates(self, low: float, high: float, rates: Rates) -> tuple[np.ndarray, ...]:
        """The same where raw actions may not change faster than rates, by another method."""
        costs, plans = [], []
        size, count = rates.step.shape[1], HORIZON * ACTION
        units = torch.eye(count).reshape(1, -1, HORIZON, ACTION)
        zero = self.residuals(torch.zeros(len(self.goal), 1, HORIZON, ACTION))
        slopes = self.residuals(units.expand(len(self.goal), -1, -1, -1)) - zero
        change = np.eye(count) - np.eye(count, k=-size)
        for index, slope in enumerate(slopes.double().numpy()):
            offset = zero[index, 0].double().numpy()
            first = np.concatenate(
                [rates.previous[index, 0].double().numpy(), np.zeros(count - size)]
            )
            step = rates.step.flatten().double().numpy()
            found = minimize(
                lambda x, m=slope, b=offset: np.square(m.T @ x + b).sum(),
                np.zeros(count),
                jac=lambda x, m=slope, b=offset: 2 * m @ (m.T @ x + b),
                method="SLSQP",
                bounds=[(low, high)] * count,
                constraints=LinearConstraint(change, first - step, first + step),
                options={"ftol": 1e-12, "maxiter": 500},
            )
            assert found.success, found.message
            costs.append(found.fun)
            plans.append(found.x.reshape(-1, size))
        return np.array(costs), np.array(plans)

    def solve(self, name: str, bounds=ANYWHERE, budget=None, seed=0, **options) -> SolverResult:
        solver, usual, _ = CASES[name]
        generator = torch.Generator().manual_seed(seed)
        return solver.solve(self.cost, self.init, bounds, generator, budget or usual, **options)


def assert_near_optimum(problem: Linear, result: SolverResult, best: np.ndarray, share: float):
    costs = problem.cost(result.actions[:, None])[:, 0]
    torch.testing.assert_close(result.costs, costs)
    first = problem.cost(problem.init)[:, 0].numpy()
    left = (costs.numpy() - best) / (first - best)
    assert (left > -1e-5).all() and (left < share).all(), left


@pytest.mark.parametrize("name", CASES)
def test_finds_the_best_plan(name: str) -> None:
    problem = Linear()
    best, _ = problem.optimum()
    result = problem.solve(name)
    torch.testing.assert_close(result.initial_costs, problem.cost(problem.init)[:, 0])
    assert_near_optimum(problem, result, best, CASES[name][2])


@pytest.mark.parametrize("name", CASES)
def test_finds_the_best_plan_within_bounds(name: str) -> None:
    problem = Linear()
    bound = 0.4
    best, plans = problem.optimum(-bound, bound)
    assert (np.abs(np.abs(plans) - bound) < 1e-6).any(axis=(1, 2)).all(), "no bound is active"
    limit = torch.full((ACTION,), bound)
    result = problem.solve(name, Bounds(-limit, limit))
    assert (result.actions.abs() <= limit).all()
    problem.init = problem.init.clamp(-limit, limit)
    assert_near_optimum(problem, result, best, 2 * CASES[name][2])


def changes(actions: torch.Tensor, rates: Rates) -> torch.Tensor:
    """(B, N, R, a) from each raw action to the next."""
    rows = actions.unflatten(-1, (-1, rates.step.shape[1])).flatten(2, 3)
    previous = rates.previous.expand(*rows.shape[:2], -1)[:, :, None]
    return torch.cat([previous, rows], dim=2).diff(dim=2)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_finds_the_best_plan_within_bounds_and_rates(name: str, size: int) -> None:
    problem, bound, step = Linear(), 0.5, 0.25
    count = HORIZON * ACTION // size
    previous = torch.linspace(-0.2, 0.3, BATCH).reshape(-1, 1, 1).expand(-1, 1, size)
    rates = Rates(torch.full((count, size), step), previous)
    best, plans = problem.optimum_at_rates(-bound, bound, rates)
    first = torch.tensor(plans, dtype=torch.float32).reshape(BATCH, 1, HORIZON, ACTION)
    limited = changes(first, rates).abs() > step - 1e-5
    assert limited.flatten(1).any(dim=1).all() and not limited.all(), "no rate is active"
    limit = torch.full((ACTION,), bound)
    bounds = Bounds(-limit, limit, rates)
    inside = problem.cost

    def guarded(actions: torch.Tensor) -> torch.Tensor:
        assert (actions.abs() <= bound).all()
        assert (changes(actions, rates).abs() <= step + 1e-6).all()
        return inside(actions)

    problem.cost = guarded
    problem.init = bounds.project(problem.init)
    result = problem.solve(name, bounds)
    assert_near_optimum(problem, result, best, AT_RATES[name])


@pytest.mark.parametrize("name", CASES)
def test_rates_without_effect_change_nothing(name: str) -> None:
    limit = torch.full((ACTION,), 0.4)
    far = torch.tensor([9.0, torch.inf]).expand(HORIZON, -1)
    rates = Rates(far, torch.zeros(BATCH, 1, ACTION))
    plain, limited = (
        Linear().solve(name, Bounds(-limit, limit, chosen), budget=8) for chosen in (None, rates)
    )
    torch.testing.assert_close(limited.actions, plain.actions, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_every_candidate_stays_within_uneven_bounds(name: str) -> None:
    problem = Linear()
    low, high = torch.tensor([-0.1, -2.0]), torch.tensor([0.3, 0.0])
    inside = problem.cost

    def guarded(actions: torch.Tensor) -> torch.Tensor:
        assert (actions >= low).all() and (actions <= high).all()
        return inside(actions)

    problem.cost = guarded
    problem.solve(name, Bounds(low, high), budget=5)


@pytest.mark.parametrize("name", CASES)
def test_a_larger_budget_is_better(name: str) -> None:
    problem = Linear()
    costs = [problem.solve(name, budget=budget).costs.mean() for budget in (1, 4, 12)]
    assert costs[0] > costs[1] > costs[2]


@pytest.mark.parametrize("name", CASES)
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    one, two = (Linear().solve(name, budget=5) for _ in range(2))
    assert torch.equal(one.actions, two.actions) and torch.equal(one.costs, two.costs)


@pytest.mark.parametrize("name", ["adam", "cem", "mppi", "gradient-cem"])
def test_another_seed_gives_another_plan(name: str) -> None:
    assert not torch.equal(*(Linear().solve(name, budget=5, seed=s).actions for s in (0, 1)))


@pytest.mark.parametrize("name", CASES)
def test_a_problem_is_solved_as_if_it_were_alone(name: str) -> None:
    together = Linear()
    result = together.solve(name, budget=15)
    for index in range(BATCH):
        alone = Linear()
        alone.start, alone.goal = alone.start[[index]], alone.goal[[index]]
        alone.init = alone.init[[index]]
        torch.testing.assert_close(
            result.actions[[index]], alone.solve(name, budget=15).actions, rtol=1e-3, atol=1e-3
        )


# 'last iterate' may only return where it ended; the next test covers what it says then.
@pytest.mark.parametrize("name", [name for name in CASES if name != "last iterate"])
def test_a_nan_is_never_chosen_and_spoils_no_other_problem(name: str) -> None:
    problem = Linear()
    clean = problem.solve(name, budget=10)

    def cost(actions: torch.Tensor) -> torch.Tensor:
        costs = problem.cost(actions)
        steps_away = (actions - problem.init).abs().amax(dim=(2, 3)) > 0.02
        broken = torch.tensor([True] + [False] * (BATCH - 1))[:, None] & steps_away
        return torch.where(broken, torch.nan, costs)

    solver = CASES[name][0]
    init = problem.init.expand(-1, 2, -1, -1).clone()
    result = solver.solve(cost, init, ANYWHERE, torch.Generator().manual_seed(0), 10)
    assert result.costs.isfinite().all() and result.actions.isfinite().all()
    torch.testing.assert_close(result.costs, cost(result.actions[:, None])[:, 0])
    single = solver.solve(cost, problem.init, ANYWHERE, torch.Generator().manual_seed(0), 10)
    torch.testing.assert_close(single.actions[1:], clean.actions[1:])


def test_a_broken_candidate_does_not_hide_a_good_one_beside_it() -> None:
    candidates = torch.arange(4.0).reshape(1, 4, 1, 1).clone()
    candidates[0, 3] = torch.nan
    best = Incumbent(candidates)
    assert best.offer(candidates, torch.tensor([[torch.nan, 2.0, -torch.inf, 1.0]])) == 2.0
    actions, cost = best.take()
    assert (actions.item(), cost.item()) == (1.0, 2.0)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_no_finite_plan_is_an_error_that_names_the_problem(name: str, value: float) -> None:
    problem = Linear()
    plain = problem.cost
    lost = torch.tensor([False, True, False])[:, None]
    problem.cost = lambda actions: torch.where(lost, value, plain(actions))
    with pytest.raises(PlanningError, match=r"problem\(s\) \[1\]"):
        problem.solve(name, budget=3)


@pytest.mark.parametrize("name", CASES)
def test_stops_when_asked_and_returns_the_best_so_far(name: str) -> None:
    asked = []
    problem = Linear()
    result = problem.solve(name, should_stop=lambda: len(asked) == 2 or asked.append(1) is not None)
    assert len(result.trace) == 3
    short = Linear().solve(name, budget=3)
    assert torch.equal(result.actions, short.actions)


@pytest.mark.parametrize("name", CASES)
def test_evaluations_are_counted(name: str) -> None:
    problem = Linear()
    result = problem.solve(name, budget=4)
    assert result.num_evaluations == problem.calls


@pytest.mark.parametrize("name", CASES)
def test_what_is_decided_stays_and_the_rest_is_planned_around_it(name: str) -> None:
    problem = Linear()
    solver, budget, share = CASES[name]
    head = problem.init[:, 0, :2]
    low, high = ((sign * FREE).expand(problem.init.shape).clone()[:, :1] for sign in (-1, 1))
    low[:, 0, :2] = high[:, 0, :2] = head
    generator = torch.Generator().manual_seed(0)
    result = solver.solve(problem.cost, problem.init, Bounds(low, high), generator, budget)
    assert torch.equal(result.actions[:, :2], head)
    # The best rest, with the head nailed down by bounds of no width.
    costs = []
    for index in range(BATCH):
        alone = Linear()
        alone.start, alone.goal = alone.start[[index]], alone.goal[[index]]
        nailed = np.pad(head[index].numpy(), ((0, 2), (0, 0))).ravel()
        open_ = np.repeat([0.0, np.inf], HORIZON * ACTION // 2)
        costs.append(alone.optimum(nailed - open_ - 1e-9, nailed + open_ + 1e-9)[0][0])
    assert_near_optimum(problem, result, np.array(costs), 2 * share)


def test_restarts_return_the_lowest_of_all_starting_points() -> None:
    """Two valleys; the first starting point is in the shallow one."""

    def cost(actions: torch.Tensor) -> torch.Tensor:
        x = actions[..., 0, 0]
        return (x.square() - 1).square() + 0.3 * x

    init = torch.tensor([1.0, -0.8]).reshape(1, 2, 1, 1)
    bound = torch.full((1,), 3.0)
    for solver in (GradientSolver(0.05), LBFGSSolver()):
        draw = torch.Generator().manual_seed(0)
        one = solver.solve(cost, init[:, :1], Bounds(-bound, bound), draw, 60)
        both = solver.solve(cost, init, Bounds(-bound, bound), draw, 60)
        assert one.actions.item() > 0.9 and both.actions.item() < -0.9
        assert both.costs < one.costs


def test_gradient_cem_refits_on_the_refined_samples() -> None:
    """With one sample step of an exact length, the refit mean must have moved by it."""
    solver = GradientCEMSolver(
        num_samples=40,
        num_elites=40,
        optimizer="sgd",
        learning_rate=0.5,
        action_noise_std=0.0,
        best_so_far=False,
    )
    cost = lambda actions: (actions - 3.0).square().sum(dim=(2, 3))  # noqa: E731
    init = torch.zeros(1, 1, 1, 1)
    result = solver.solve(
        cost, init, Bounds(-FREE[:1], FREE[:1]), torch.Generator().manual_seed(0), 1
    )
    torch.testing.assert_close(result.actions, torch.full((1, 1, 1), 3.0))


def test_mppi_weights_are_those_of_its_temperature() -> None:
    solver = MPPISolver(temperature=0.5)
    samples = torch.tensor([[0.2, 0.9, -0.4]]).reshape(1, 3, 1, 1)
    mean, std = torch.full((1, 1, 1), 0.2), torch.full((1, 1, 1), 2.0)
    costs = torch.tensor([[1.0, 0.3, torch.inf]])
    moved, kept = solver._refit(samples, costs, mean, std)
    score = np.array([1.0, 0.3])
    weights = np.exp(-(score - score.min()) / 0.5)
    expected = (weights * [0.2, 0.9]).sum() / weights.sum()
    assert moved.item() == pytest.approx(expected, abs=1e-6) and torch.equal(kept, std)


def test_no_weight_receives_a_gradient() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    for name, (solver, _, _) in CASES.items():
        solver.solve(
            lambda actions: weight * actions.square().sum(dim=(2, 3)),
            torch.ones(1, 1, 2, 1),
            Bounds(-FREE[:1], FREE[:1]),
            torch.Generator().manual_seed(0),
            2,
        )
        assert weight.grad is None, name


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("steps", [2, 25, 64])
def test_coloured_noise_has_the_spectrum_it_is_asked_for(exponent, steps):
    white = torch.randn(4000, steps, 2, generator=torch.Generator().manual_seed(0))
    noise = coloured(white, exponent)
    assert float(noise.square().mean()) == pytest.approx(1, abs=0.06)
    power = torch.fft.rfft(noise, dim=1).abs().square().mean(dim=(0, 2))[1:-1]
    if steps == 64:
        frequency = torch.fft.rfftfreq(steps)[1:-1]
        slope = np.polyfit(frequency.log().numpy(), power.log().numpy(), 1)[0]
        assert slope == pytest.approx(-exponent, abs=0.05)


def test_icem_draws_fewer_samples_from_iteration_to_iteration_and_keeps_elites():
    counts, problem = [], Linear()

    def cost(actions: torch.Tensor) -> torch.Tensor:
        counts.append(actions.shape[1])
        return problem.cost(actions)

    solver = ICEMSolver(100, 2.0, num_elites=20, shrink=1.5, kept_share=0.3)
    result = solver.solve(cost, problem.init, ANYWHERE, torch.Generator().manual_seed(0), 4)
    assert counts == [1, 100, 67 + 6, 44 + 6, 40 + 6, 1]  # never fewer than twice the elites
    assert result.num_evaluations == sum(counts)


def test_icem_is_smooth_from_one_raw_action_to_the_next():
    """Two raw actions of one entry in each model action: neighbours are alike across the border."""
    generator = torch.Generator().manual_seed(0)
    solver = ICEMSolver(500, action_size=1)
    rows = solver._noise((500, 10, 2), generator, torch.device("cpu")).reshape(500, 20)
    step = (rows[:, 1:] - rows[:, :-1]).square().mean(dim=0)
    assert float(step.max()) < 0.5  # 2 of white noise


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"momentum": 1.0}, "momentum must be a number from 0 to 0.99, got 1.0"),
        ({"kept_share": "all"}, "kept_share must be a number"),
        ({"num_elites": 301}, "num_elites 301 exceeds num_samples 300"),
    ],
)
def test_icem_refuses_what_it_cannot_use(settings, text):
    with pytest.raises(ValueError, match=text):
        ICEMSolver(**settings)


def valleys(actions: torch.Tensor) -> torch.Tensor:
    """(B, N) a bowl with ripples: the lower the start, the lower the valley that it leads to."""
    return (0.05 * actions.square() + 1 - torch.cos(2 * actions)).sum(dim=(2, 3))


def test_halvings_spend_less_and_lose_little() -> None:
    generator = torch.Generator().manual_seed(0)
    init = 3 * torch.randn(2, 8, 1, 1, generator=generator)

    def solved(halvings: int, points: torch.Tensor = init):
        solver = GradientSolver(0.1, action_noise_std=0.0, halvings=halvings)
        return solver.solve(valleys, points, ANYWHERE_1, torch.Generator().manual_seed(0), 40)

    full, halved = solved(0), solved(3)
    assert full.num_evaluations == 41 * 8
    assert halved.num_evaluations == 10 * (8 + 4 + 2 + 1) + 1
    torch.testing.assert_close(halved.costs, full.costs, atol=1e-3, rtol=0)
    torch.testing.assert_close(halved.initial_costs, full.initial_costs)
    # Each problem is planned as it would be alone, and one start has no half.
    torch.testing.assert_close(solved(3, init[1:]).actions, halved.actions[1:])
    torch.testing.assert_close(solved(3, init[:, :1]).actions, solved(0, init[:, :1]).actions)


ANYWHERE_1 = Bounds(torch.tensor([-torch.inf]), torch.tensor([torch.inf]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"halvings": -1}, "halvings must be a whole number from 0 to 20, got -1"),
        ({"halvings": 1.5}, "halvings must be a whole number from 0 to 20, got 1.5"),
        ({"halvings": 1, "optimizer": "sgd"}, "halvings need the optimizer adam, got sgd"),
    ],
)
def test_halvings_that_cannot_be_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GradientSolver(**settings)
