"""What the figures show, on a model whose errors and losses are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sim_bridge.rendering import check_rendering
from wm_planner.cli import main as cli
from wm_planner.errors import RenderError, TaskError
from wm_planner.evaluation.episode import EnvMaker
from wm_planner.evaluation.figures import (
    execute,
    expert_runs,
    landscape,
    model_error,
)
from wm_planner.evaluation.stats import mean_interval
from wm_planner.models import checkpoint
from wm_planner.planning import SOLVERS, Planner, PlannerConfig

pytest.importorskip("matplotlib", reason="needs the 'viz' extra")

from wm_planner.cli.figures import SOLVERS as PUBLISHED
from wm_planner.cli.figures import looks, solver_title

from .dot_world import DotEnv, dot_bundle
from .made_result import result as made_result


class ExpertEnv(DotEnv):
    """The expert goes right, slowly; a motor that is asked for more than `strength` gives that."""

    def __init__(self, strength: float = 1.0, speed: float = 0.4) -> None:
        super().__init__()
        self.strength, self.speed = strength, speed

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform((15, 30), (25, 35))

    def expert(self, rng: np.random.Generator):
        return lambda state: np.array([self.speed, 0.0])

    def advance(self, action: np.ndarray) -> None:
        super().advance(np.clip(action, -self.strength, self.strength))


def planner(drift: float = 0.0, **settings) -> Planner:
    config = PlannerConfig(objective="last", num_iterations=40, init="zero", **settings)
    return Planner(dot_bundle(drift), config)


def test_expert_runs_are_what_the_environment_does() -> None:
    env = ExpertEnv()
    runs = expert_runs(env, 3, 2, 4)
    assert runs.states.shape == (2, 5, 2) and runs.actions.shape == (2, 20, 2)
    np.testing.assert_allclose(np.diff(runs.states[..., 0]), 4.0)  # 5 x 2 px x 0.4
    np.testing.assert_array_equal(runs.states[1], expert_runs(env, 3, 3, 4).states[1])
    states = execute(env, runs.states[0, 0], runs.actions[0])
    np.testing.assert_array_equal(states, runs.states[0])
    with pytest.raises(TaskError, match="end where they start"):
        expert_runs(ExpertEnv(speed=0.0), 0, 1, 4)


def test_a_drifting_model_is_wrong_by_the_drift() -> None:
    """Everywhere alike: step t is off by t times the drift, and there is no gap."""
    env = ExpertEnv()
    result = model_error(planner(drift=0.1), env, expert_runs(env, 0, 30, 5))
    expected = (0.1 * np.arange(1, 6)) ** 2
    for kind in ("expert", "planned"):
        np.testing.assert_allclose(result[kind], expected, atol=0.003)  # of 8-bit pictures
        np.testing.assert_array_less(result[f"{kind}_low"], result[kind])
        np.testing.assert_array_less(result[kind], result[f"{kind}_high"])
    assert result["runs"] == 30 and abs(result["gap"]) < 0.002


def test_a_model_that_is_wrong_only_where_plans_go_has_a_gap() -> None:
    """The expert stays within the motor's strength; noisy starts of plans do not."""
    env = ExpertEnv(strength=0.45)
    noisy = Planner(dot_bundle(), PlannerConfig(objective="last", num_iterations=1, init="randn"))
    result = model_error(noisy, env, expert_runs(env, 0, 30, 5))
    assert max(result["expert"]) < 1e-4
    assert 0 < result["gap_low"] < result["gap"] < result["gap_high"]
    mean = np.mean(result["planned"]) - np.mean(result["expert"])
    assert result["gap"] == pytest.approx(mean, rel=1e-3)


def test_landscape_of_a_linear_model_is_a_known_parabola() -> None:
    """Half the squared distance of the end; the expert's is zero, each plan's its own cost."""
    env, gbp = ExpertEnv(), planner()
    other = replace(gbp.config, num_iterations=1, init="randn")
    planners = {"gbp": gbp, "poor": Planner(dot_bundle(), other)}
    data = landscape(planners, ("gbp", "poor"), env, expert_runs(env, 0, 1, 5), size=11)
    side, loss = np.array(data["coordinates"]), np.array(data["losses"]["poor"])
    assert loss.shape == (11, 11) and side[0] == -1.25 and side[5] == 0.0
    assert loss[5, 5] < 1e-4 and loss.argmin() // 11 == 5
    # Along y, towards the poor plan, away from the expert: quadratic.
    at_one = loss[9, 5]
    assert at_one > 0.01 and side[9] == 1.0
    np.testing.assert_allclose(loss[:, 5], at_one * side**2, atol=0.1 * at_one)
    np.testing.assert_allclose(loss, data["losses"]["gbp"])  # the same model


@pytest.mark.parametrize(
    ("figure", "arguments", "key"),
    [
        ("landscape", "--size 3", "losses"),
        ("model-error", "--episodes 2", "checkpoints"),
    ],
)
def test_command_draws_and_writes_numbers(tmp_path, figure: str, arguments: str, key: str) -> None:
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    file = tmp_path / "figure.png"
    small = "--set num_iterations=1 --set num_samples=8 --set num_elites=4".split()
    command = ["plot", figure, "--task", "wall", "--output", str(file), *arguments.split(), *small]
    assert cli.main(command) == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(file.with_suffix(".json").read_text())[key]) >= 1


def test_checkpoints_are_compared_with_the_first_run_by_run(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(EnvMaker, "__call__", lambda self, render: ExpertEnv(strength=0.45))
    drifts = {"base": 0.0, "online": 0.1}
    monkeypatch.setattr(checkpoint, "load_bundle", lambda name, *more: dot_bundle(drifts[name]))
    file = tmp_path / "figure.png"
    command = ["plot", "model-error", "--task", "wall", "--output", str(file), "--episodes", "3"]
    command += [f"--set={x}" for x in ("num_iterations=1", "init=randn", "objective=last")]
    both = [option for name in drifts for option in ("--checkpoint", name)]
    assert cli.main([*command, *both]) == 0
    first, other = json.loads(file.with_suffix(".json").read_text())["checkpoints"].values()
    assert "gap_less_first" not in first
    gaps = np.subtract(other["gaps"], first["gaps"])
    assert len(gaps) == 3 and np.abs(gaps).max() > 0
    names = [f"{key}_less_first" for key in ("gap", "gap_low", "gap_high")]
    assert tuple(other[name] for name in names) == pytest.approx(mean_interval(gaps.tolist()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("landscape --task wal --output a.png", "unknown task 'wal'"),
        ("landscape --task wall --output a.jpg", "--output a.jpg: expected FILE.png"),
        ("landscape --task wall --output nowhere/a.png", "existing directory"),
        ("model-error --task wall --output a.png --episodes 0", "--episodes must be at least 2"),
        ("model-error --task wall --output a.png --episodes 1", "--episodes must be at least 2"),
        ("landscape --task wall --output a.png --size 1", "--size must be at least 2, got 1"),
        (
            "landscape --task wall --output a.png --seed -1",
            "--seed: expected a whole number",
        ),
        ("landscape --task wall --output /proc/a.png", "/proc/a.png: cannot be written"),
        (
            "landscape --task wall --output a.png --checkpoint a --checkpoint b --checkpoint c",
            "--checkpoint: a plane has two axes, got 3 plans",
        ),
    ],
)
def test_command_names_what_is_wrong(
    tmp_path, monkeypatch, capsys, arguments: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plot", *arguments.split()]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.json"])
def test_command_writes_over_no_directory(tmp_path, capsys, name: str) -> None:
    (tmp_path / name).mkdir()
    file = tmp_path / "a.png"
    assert cli.main(["plot", "landscape", "--task", "wall", "--output", str(file)]) == 2
    message = f"--output {tmp_path / name}: cannot be written: Is a directory"
    assert message in capsys.readouterr().err


def test_results_are_drawn_from_their_file(tmp_path, capsys) -> None:
    rows = [
        {**made_result("1101", seconds=0.1).to_json(), "shift": "none", "loop": "mpc"},
        {
            **made_result("1111", seconds=2.0, planner="mine").to_json(),
            "shift": "none",
            "loop": "x",
        },
    ]
    rows = [{**row, "against_reference": None} for row in rows]
    file, figure = tmp_path / "results.json", tmp_path / "figure.png"
    file.write_text(json.dumps({"rows": rows}))
    assert cli.main(["plot", "results", str(file), "--output", str(figure)]) == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    file.write_text("{}")
    assert cli.main(["plot", "results", str(file), "--output", str(figure)]) == 2
    assert f"{file}: not a results.json of 'wm-planner results'" in capsys.readouterr().err


def test_solvers_keep_their_looks_and_strangers_get_their_own() -> None:
    gbp, cem = solver_title("gbp"), solver_title("cem")
    alone, many = looks([cem]), looks(["mine", gbp, cem, "yours"])
    assert alone[cem] == many[cem]
    seen = [(look["color"], look["marker"]) for look in many.values()]
    assert len(set(seen)) == 4
    assert solver_title("mine") == "mine" and set(PUBLISHED) <= set(SOLVERS)
