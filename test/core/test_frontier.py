"""The frontier: how settings are searched for, budgets swept, and points compared."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from wm_planner.cli import main as cli
from wm_planner.evaluation.episode import EnvMaker, Episode, Evaluation
from wm_planner.evaluation.frontier import (
    Frontier,
    Search,
    budget_text,
    pinned,
    scaled,
    swept,
)
from wm_planner.evaluation.frontier_points import Point, against, cheapest
from wm_planner.evaluation.stats import ratio_interval
from wm_planner.evaluation.tuning import Score, Trial, better_half, draw_trials, ranked
from wm_planner.models import checkpoint
from wm_planner.planning import PlannerConfig, planner_config

from .dot_world import DotEnv, dot_bundle

GRADIENTS = PlannerConfig(num_iterations=60, warm_iterations=8, num_candidates=16, num_restarts=4)
SAMPLES = PlannerConfig(solver="cem", num_iterations=10, num_samples=100, num_elites=10)


def configured(solver: str):
    return lambda settings: planner_config({"solver": solver}, map(as_text, settings.items()))


def as_text(item: tuple[str, object]) -> str:
    return f"{item[0]}={json.dumps(item[1])}"


def test_trials_are_the_first_values_then_others_that_the_solver_takes() -> None:
    lists = {"num_samples": [8, 4, 16], "num_elites": [4, 8, 16], "num_iterations": 3}
    trials = draw_trials("cem", lists, 5, 7, configured("cem"))
    assert trials[0].chosen == {"num_samples": 8, "num_elites": 4}
    assert len({trial.config for trial in trials}) == len(trials) == 5
    for trial in trials:
        assert trial.config.num_iterations == 3
        assert trial.config.num_elites <= trial.config.num_samples
    more = draw_trials("cem", lists, 20, 7, configured("cem"))
    assert more[:5] == trials and len(more) == 6  # all that a solver takes of nine
    other = draw_trials("cem", lists, 5, 8, configured("cem"))
    assert other[0] == trials[0] and other != trials


def test_the_fastest_of_those_that_do_as_well_goes_on() -> None:
    def score(index: int, successes: int, seconds: float) -> Score:
        return Score(Trial("cem", index, {}, SAMPLES), 10, successes, seconds)

    scores = [score(0, 10, 3.0), score(1, 9, 1.0), score(2, 8, 0.1), score(3, 7, 0.1)]
    assert [s.trial.index for s in ranked(scores, slack=1)] == [1, 0, 2, 3]
    assert [s.trial.index for s in ranked(scores, slack=0)] == [0, 1, 2, 3]
    assert [trial.index for trial in better_half(scores[:3], slack=1)] == [1, 0]


def test_budgets_are_swept_separately() -> None:
    points = dict(swept(GRADIENTS, (0.5, 2.0)))
    assert list(points) == ["tuned", "first x 0.5", "first x 2", "warm x 0.5", "warm x 2"]
    budgets = [(p.num_iterations, p.warm_iterations) for p in points.values()]
    assert budgets == [(60, 8), (30, 8), (120, 8), (60, 4), (60, 16)]
    points = dict(swept(SAMPLES, (0.5,)))
    first, warm = points["first x 0.5"], points["warm x 0.5"]
    assert (first.num_samples, first.num_elites) == (50, 5)
    assert first.when_warm().num_samples == 100 and first.when_warm().num_elites == 10
    assert (warm.num_samples, warm.when_warm().num_samples) == (100, 50)
    assert warm.when_warm().num_elites == 5
    # A budget that cannot be less is no other point.
    least = replace(GRADIENTS, warm_iterations=1)
    assert list(dict(swept(least, (0.25,)))) == ["tuned", "first x 0.25"]
    few = scaled(pinned(replace(SAMPLES, num_samples=8, num_elites=2)), first=0.1)
    assert (few.num_samples, few.num_elites) == (4, 2)


def test_budgets_as_tables_show_them() -> None:
    assert budget_text(GRADIENTS, warm=False) == "4 x 60 (of 16)"
    assert budget_text(replace(GRADIENTS, warm_candidates=1), warm=True) == "1 x 8"
    sampler = replace(SAMPLES, warm_samples=32, warm_iterations=3)
    assert (budget_text(sampler, False), budget_text(sampler, True)) == ("100 x 10", "32 x 3")


def point(planner: str, outcomes: str, seconds: list[float]) -> Point:
    runs = [
        Evaluation([Episode(o == "1", 3, 0.0, 1.0)], [s / 2, s / 2], [1, 1])
        for o, s in zip(outcomes, seconds, strict=True)
    ]
    return Point.of(planner, "tuned", planner, GRADIENTS, runs)


def test_points_are_compared_target_by_target() -> None:
    one, other = point("gbp", "1101", [1, 2, 3, 2]), point("cem", "1111", [2, 4, 6, 4])
    pair = against(one, other)
    assert (pair.time_ratio, pair.time_low, pair.time_high) == pytest.approx((0.5, 0.5, 0.5))
    assert pair.difference == -0.25 and pair.difference_low < -0.25 < pair.difference_high
    assert one.first_seconds == pytest.approx(1.0) and one.seconds == pytest.approx(2.0)
    slow = point("cem", "1111", [9, 9, 9, 9])
    assert cheapest([one, other, slow], margin=0.03) == {"cem": other}
    assert cheapest([one, other, slow], margin=0.25) == {"gbp": one, "cem": other}


def test_interval_of_a_ratio_holds_the_true_one() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        a, b = rng.gamma(4.0, 1.0, 40), rng.gamma(4.0, 2.0, 40)
        _, low, high = ratio_interval(a, b, draws=400)
        held += low <= 0.5 <= high
    assert 180 <= held <= 198


@pytest.fixture
def world(monkeypatch):
    made: list[SimpleNamespace] = []

    def make(self, render: bool) -> DotEnv:
        made.append(DotEnv(render))
        return made[-1]

    monkeypatch.setattr(EnvMaker, "__call__", make)
    monkeypatch.setattr(checkpoint, "load_bundle", lambda *given: dot_bundle())
    return made


SMALL = {
    "checkpoints": {"wall": "base"},
    "planners": {
        "gbp": {"num_iterations": [40, 20], "warm_iterations": 2, "objective": "last"},
        "cem": {"num_iterations": 4, "num_samples": [30, 20], "num_elites": 4, "objective": "last"},
    },
    "fixed": {"as it is": {"solver": "gbp", "num_iterations": 30, "objective": "last"}},
    "reference": "gbp",
    "factors": [0.5],
    "search": {"trials": 2, "episodes": [1, 2]},
    "episodes": 3,
}


def test_command_tunes_measures_draws_and_goes_on(world, tmp_path, capsys) -> None:
    file, output = tmp_path / "frontier.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    command = ["frontier", "--config", str(file), "--output", str(output)]
    assert cli.main(command) == 0
    table = capsys.readouterr().out
    there = output / "wall"
    assert (there / "frontier.md").read_text() == table
    assert (there / "frontier.png").read_bytes().startswith(b"\x89PNG")
    data = json.loads((there / "frontier.json").read_text())
    names = [p["name"] for p in data["points"]]
    assert names == [
        *("gbp, tuned", "gbp, first x 0.5", "gbp, warm x 0.5"),
        *("cem, tuned", "cem, first x 0.5", "cem, warm x 0.5", "as it is"),
    ]
    assert all(len(p["outcomes"]) == 3 and p["seconds"] > 0 for p in data["points"])
    assert [len(scores) for scores in data["rounds"]] == [4, 2]
    assert data["rounds"][1][0]["episodes"] == 2
    assert "| gbp, tuned |" in table and "| cem | 2 | num_samples=" in table
    episodes = sum(len(f.read_text().splitlines()) for f in there.rglob("batches.jsonl"))
    assert episodes == 4 + 2 + 7 * 3
    # Everybody once on each target, by turns, in one pair of environments.
    assert len(world) == 2
    (there / "points" / "cem-tuned" / "batches.jsonl").unlink()
    assert cli.main(command) == 0
    again = json.loads((there / "frontier.json").read_text())
    assert again["points"][0] == data["points"][0]
    assert again["points"][3]["outcomes"] == data["points"][3]["outcomes"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "cm"}, "Did you mean 'cem'?"),
        ({"planners": {"gpb": {}}}, "planners: gpb: unknown solver. Did you mean 'gbp'?"),
        ({"planners": {"gbp": {"num_iterations": []}}}, "num_iterations: the list is empty"),
        ({"fixed": {"a": {"solver": "gbp", "horizon": [5, 6]}}}, "a value is needed, not a list"),
        ({"fixed": {"gbp": {}}}, "fixed: gbp: is a name of the planners, too"),
        ({"seed": 100}, "settings must not be tuned on the targets that they are measured on"),
        ({"search": {"episodes": [4, 2]}}, "search: episodes must be rising"),
        ({"factors": [0.0]}, "factors must be positive"),
        ({"planners": {"gbp": {"num_iterashuns": 3}}}, "Did you mean 'num_iterations'?"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(world, tmp_path, capsys, changes, message) -> None:
    file = tmp_path / "frontier.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    assert cli.main(["frontier", "--config", str(file), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert str(file) in error and message in error
    assert not (tmp_path / "out").exists()


def test_an_unknown_task_is_refused(world, tmp_path, capsys) -> None:
    file = tmp_path / "frontier.yaml"
    file.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    command = ["frontier", "--config", str(file), "--output", str(tmp_path / "out")]
    assert cli.main([*command, "--task", "wal"]) == 2
    assert "Did you mean 'wall'?" in capsys.readouterr().err


def test_a_quick_run_is_quick() -> None:
    frontier = Frontier(**{**SMALL, "search": Search(), "quick": {"num_iterations": 1}}).quickly()
    assert frontier.search.trials == 2 and frontier.search.episodes == (1,)
    assert frontier.planners["gbp"]["num_iterations"] == 1 and frontier.episodes == 2
