"""Ablations: what is shared, what is pooled, and a small one from nothing to its table."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.cli.main import main
from wm_planner.config import from_dict, read_yaml
from wm_planner.errors import ConfigError
from wm_planner.evaluation.ablation import (
    Ablation,
    Row,
    collected_name,
    evaluation_stages,
    pooled_error,
    read_error,
    training_stages,
)
from wm_planner.evaluation.result import pooled
from wm_planner.evaluation.table import ablation_table, error_table

from .made_result import result
from .training_world import dot_store

CONFIG = Path(__file__).parents[2] / "config/tables/ablation.yaml"


RECIPE = {"task": "wall", "encoder": {"dim": 8}, "model": {"num_updates": 3}}


def stages(row: Row, recipe: dict | None = None, seed: int = 0, data: Path = Path("d")):
    return list(training_stages(row, recipe or RECIPE, seed, data, Path("o")))


def test_rows_share_what_they_have_in_common_and_nothing_else() -> None:
    base = stages(Row())
    tuned = stages(Row(finetune={"method": "adversarial", "num_updates": 9}))
    other = stages(Row(model={"num_updates": 4}))
    projected = stages(Row(projector={}))
    assert [s.output for s in tuned[:2]] == [s.output for s in base]
    assert other[0].output == base[0].output and other[1].output != base[1].output
    assert projected[0].output == base[0].output
    assert [s.arguments[:2] for s in projected] == [
        ("train", "encoder"),
        ("train", "projector"),
        ("train", "model"),
    ]
    assert projected[2].output != base[1].output
    assert stages(Row(), seed=1)[0].output != base[0].output
    last = tuned[-1]
    assert last.arguments[:3] == ("finetune", "--method", "adversarial")
    assert last.arguments[4] == str(tuned[1].done)
    assert last.recipe["finetune"] == {"num_updates": 9, "seed": 0}
    assert last.recipe["encoder"] == {"dim": 8, "seed": 0}


def test_an_encoder_that_comes_trained_is_not_trained() -> None:
    (only,) = stages(Row(), {"task": "pusht", "encoder": {"kind": "dinov2"}})
    assert only.arguments[:2] == ("train", "model") and "--encoder" not in only.arguments
    trained, _ = stages(
        Row(encoder={"kind": "small"}), {"task": "pusht", "encoder": {"kind": "dinov2"}}
    )
    assert trained.arguments[:2] == ("train", "encoder")


def test_models_of_other_data_are_others(tmp_path, monkeypatch) -> None:
    def outputs(recipe: dict = RECIPE, data: Path = Path("d")) -> list[Path]:
        return [stage.output for stage in stages(Row(), recipe, data=data)]

    here = outputs()
    monkeypatch.chdir(tmp_path)
    there = outputs()  # the same words, another directory
    assert not {*here} & {*there}
    assert outputs(data=tmp_path / "d") == there  # other words, the same one
    # Data that the ablation has collected move with its output.
    assert outputs(data=Path("o/data-1")) == outputs(data=tmp_path / "o/data-1")
    inside = outputs(data=Path("o/data-1"))
    assert not {*inside} & {*outputs(data=Path("o/data-2"))}
    monkeypatch.chdir(Path(__file__).parent)
    assert outputs(data=Path("o/data-1")) == inside


def test_data_collected_otherwise_lie_elsewhere() -> None:
    sizes = {"num_trajectories": 9, "steps": 3, "image_size": 8}
    name = collected_name({"task": "wall", "collect": sizes})
    assert name.startswith("data-") and name == collected_name({"task": "wall", "collect": sizes})
    assert name != collected_name({"task": "wall", "collect": {**sizes, "steps": 4}})
    assert name != collected_name({"task": "pusht", "collect": sizes})


def test_a_model_recommends_the_recipes_planner_settings() -> None:
    before, after = stages(Row()), stages(Row(), {**RECIPE, "planner": {"horizon": 4}})
    assert after[0].output == before[0].output and after[1].output != before[1].output
    assert stages(Row(), {**RECIPE, "task": "pusht"})[0].output != before[0].output


def test_pooling_counts_all_pairs() -> None:
    of_both = [result("1101"), result("1111")], [result("0101"), result("1001")]
    row = pooled("a", "mpc", "b", *of_both)
    assert row.successes == 7 and row.episodes == 8 and row.rates == [0.75, 1.0]
    assert row.difference == 3 / 8 and row.p_value == pytest.approx(0.25)
    assert row.interval_low < 7 / 8 < row.interval_high
    table = ablation_table([row])
    assert "87.5 % (7/8)" in table and "| b | 37.5 % (" in table
    assert "| 0.25 | +25, +50 | -121.3 % to 196.3 % |" in table
    with pytest.raises(ConfigError, match="different targets"):
        pooled("a", "mpc", "b", [result("1", "t")], [result("1", "u")])


def test_seeds_are_the_trials_of_what_is_said_of_trainings() -> None:
    """15, 2 and 3 points more: McNemar's p is sure of these models, three trainings are not."""
    more = [result("1" * gain + "0" * (100 - gain)) for gain in (15, 2, 3)]
    row = pooled("a", "mpc", "b", more, [result("0" * 100)] * 3)
    assert row.differences == [0.15, 0.02, 0.03] and row.p_value < 1e-5
    margin = 4.30265 * 0.0723418 / 3**0.5
    assert row.seeds_low == pytest.approx(0.2 / 3 - margin, abs=1e-5)
    assert row.seeds_high == pytest.approx(0.2 / 3 + margin, abs=1e-5)
    table = ablation_table([row])
    assert "| +15, +2, +3 | -11.3 % to 24.6 % |" in table and "speaks of trainings" in table


def test_one_seed_says_nothing_of_trainings() -> None:
    row = pooled("a", "mpc", "b", [result("11")], [result("10")])
    assert row.seeds_low is row.seeds_high is None
    assert "| +50 | one seed |" in ablation_table([row])


def test_errors_are_means_over_seeds_with_an_interval_over_runs() -> None:
    def error(expert: float, gaps: list[float]) -> dict:
        return {"expert": [expert, 3 * expert], "planned": [expert, 5 * expert], "gaps": gaps}

    row = pooled_error("a", [error(0.1, [0.0, 0.4]), error(0.3, [0.6, 0.6])])
    assert row.expert == pytest.approx(0.4) and row.planned == pytest.approx(0.6)
    margin = 12.7062 * 0.1  # Student's t, and the standard error of 0.3 and 0.5
    assert row.gap == pytest.approx(0.4)
    assert row.gap_high - row.gap == pytest.approx(margin, rel=1e-3)
    assert "| a | 0.4 | 0.6 | 1.50 | 0.4 (-0.871 to 1.67) |" in error_table([row])


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "{}", '{"checkpoints": {}}', '{"checkpoints": {"c": {"gap": 1}}}'],
)
def test_errors_that_cannot_be_read_name_the_file(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "error.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match="error.json: no result of .* delete it and run"):
        read_error(file)


def test_evaluations_with_other_settings_are_others() -> None:
    content = {"recipe": "r", "rows": {"base": {}}, "reference": "base", "modes": ["mpc"]}

    def outputs(**changes: object) -> list[Path]:
        ablation = from_dict(Ablation, content | changes, "a.yaml")
        stages = evaluation_stages(ablation, "base", 0, "wall", Path("c"), Path("o"))
        return [stage.output for stage in stages]

    mpc, error = outputs()
    assert "mpc" in mpc.name and error.suffix == ".png"
    assert outputs() == [mpc, error] and outputs(model_error_runs=0) == [mpc]
    assert outputs(episodes=3)[0] != mpc and outputs(episodes=3)[1] == error
    assert not {*outputs(eval_seed=3)} & {mpc, error}
    assert outputs(model_error_runs=3)[1] != error
    assert outputs(rows={"base": {"planner": {"horizon": 4}}})[0] != mpc


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"base": {"reference": "bse"}}}, "Did you mean 'base'"),
        ({"model_error_runs": -1}, "model_error_runs: expected a number from 0 to .*, got -1"),
        ({"model_error_runs": 1}, "at least 2, for an interval, got 1"),
        ({"reference": "bse"}, "Did you mean 'base'"),
        ({"modes": ["mcp"]}, "Did you mean 'mpc'"),
        ({"rows": {"base": {"finetune": {}}}}, "'method' is missing"),
        ({"rows": {"base": {"encodr": {}}}}, "rows: base: unknown key 'encodr'"),
        ({"seeds": []}, "one seed"),
        ({"seeds": [0, -1]}, r"seeds must be from 0 to .* got \(0, -1\)"),
        ({"seeds": [1, 1]}, r"each may be named once, got \[1, 1\]"),
        ({"modes": ["mpc", "mpc"]}, "modes: each may be named once"),
        ({"seeds": [2**64]}, "seeds must be from 0 to 9223372036854775807"),
        ({"eval_seed": -3}, "eval_seed must be from 0 to .*, got -3"),
        ({"rows": {"base": 3}}, "rows: base: expected a mapping of changes, {} for none, got 3"),
        ({"rows": {"base": 0}}, "rows: base: expected a mapping of changes, {} for none, got 0"),
        ({"rows": {"base": {}, 1: {}}}, "rows: 1: a name is text; put it in quotes"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict, message: str) -> None:
    content = {"recipe": "r.yaml", "rows": {"base": {}}, "reference": "base", **change}
    with pytest.raises(ConfigError, match=f"^a.yaml: .*{message}"):
        from_dict(Ablation, content, "a.yaml")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"model": {"num_update": 3}}, "model: unknown key 'num_update'"),
        ({"model": {"num_updates": 0}}, "model: num_updates must be at least 1, got 0"),
        ({"finetune": {"method": "bas"}}, "finetune: unknown method 'bas'. Did you mean 'base'?"),
        ({"finetune": {"method": 1}}, "finetune: unknown method '1'. Choices: adversarial, base"),
        (
            {"finetune": {"method": "adversarial", "adversarial": {"rollouts": False}}},
            "finetune: adversarial.rollouts is false and rollout_fraction 1",
        ),
        ({"planner": {"horizn": 1}}, "planner: unknown key 'horizn'. Did you mean 'horizon'?"),
        ({"planner": {"horizon": 0}}, "planner: horizon must be at least 1, got 0"),
        ({"planner": {"gbp": {"horizon": 3}}}, "planner: unknown key 'gbp'"),
    ],
)
def test_what_a_command_would_refuse_is_said_before_the_first_one(
    tmp_path, capsys, row: dict, message: str
) -> None:
    write(tmp_path, {"base": {}, "odd": row})
    assert run(tmp_path) == 2
    assert f"{tmp_path / 'ablation.yaml'}: rows: odd: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0 to"),
        (["--seed", "1", "--seed", "1"], "--seed: seeds: each may be named once"),
        (["--row", "bse"], "Did you mean 'base'?"),
    ],
)
def test_options_are_checked_before_anything_runs(tmp_path, capsys, options, message) -> None:
    write(tmp_path, {"base": {}})
    assert run(tmp_path, *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("planner: {horizn: 1}", "recipe.yaml: planner: unknown key 'horizn'"),
        ("1: {}", "'1', a key, is not text; quote it"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_named(tmp_path, capsys, change, message) -> None:
    write(tmp_path, {"base": {}})
    recipe = tmp_path / "recipe.yaml"
    others = yaml.safe_load(recipe.read_text())
    others.pop(change.partition(":")[0], None)
    recipe.write_text(yaml.safe_dump(others) + "\n" + change)
    assert run(tmp_path) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_from_nothing_to_a_table_and_again(tmp_path, capsys, monkeypatch) -> None:
    pytest.importorskip("mujoco", reason="needs the 'sim' extra")
    # The same commands without a new process for each, and without the encoder's measures.
    monkeypatch.setattr("wm_planner.cli.ablation_run.run_command", in_process)
    tuned = {"finetune": {"method": "base"}}
    adapted = {"planner": {"adapt_learning_rate": 0.001}, "reference": "continued"}
    write(tmp_path, {"base": {}, "continued": tuned, "adapted": adapted, "other": {"model": {}}})
    assert run(tmp_path, "--row", "adapted") == 0
    table = capsys.readouterr().out
    assert table == (tmp_path / "out/ablation.md").read_text()
    content = json.loads((tmp_path / "out/ablation.json").read_text())
    assert [(row["row"], row["mode"], row["episodes"]) for row in content["rows"]] == [
        ("base", "mpc", 2),
        ("continued", "mpc", 2),
        ("adapted", "mpc", 2),
    ]
    assert [row["row"] for row in content["model_error"]] == ["base", "continued", "adapted"]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("result.json")}
    assert len(before) == 3 and run(tmp_path, "--row", "adapted") == 0
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_a_run_uses_no_data_but_its_own(tmp_path, capsys, monkeypatch) -> None:
    commands: list[list[str]] = []

    def record(arguments: list[str]) -> None:
        commands.append(arguments)
        if arguments[0] == "train":
            raise ConfigError("enough")

    monkeypatch.setattr("wm_planner.cli.ablation_run.run_command", record)
    write(tmp_path, {"base": {}})
    config = tmp_path / "ablation.yaml"
    few = config.read_text()
    for text in (few, few.replace("num_trajectories: 8", "num_trajectories: 9")):
        config.write_text(text)
        (tmp_path / "out/data").mkdir(parents=True, exist_ok=True)  # of an earlier version
        assert run(tmp_path) == 2
    collected = [a[a.index("--output") + 1] for a in commands if a[0] == "collect"]
    trained = [(a[a.index("--data") + 1], a[a.index("--output") + 1]) for a in commands[1::2]]
    assert [data for data, _ in trained] == collected
    assert all(len(set(paths)) == 2 for paths in (collected, *zip(*trained, strict=True)))


def in_process(arguments: list[str]) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        assert main(arguments) == 0


def test_a_failing_command_ends_it_with_what_to_do(tmp_path, capfd) -> None:
    write(tmp_path, {"base": {}})
    store = dot_store(tmp_path / "short", count=2, steps=1)
    assert run(tmp_path, "--data", str(store.directory)) == 2
    error = capfd.readouterr().err
    assert f"{store.directory}: trajectories have 2 frames" in error
    assert "failed with exit code 2" in error and "run the same command again" in error


def write(directory: Path, rows: dict) -> None:
    quick = read_yaml(CONFIG)["quick"]
    content = {"recipe": "recipe.yaml", "rows": rows, "reference": "base", "modes": ["mpc"]}
    (directory / "ablation.yaml").write_text(
        yaml.safe_dump({**content, "quick": quick}, sort_keys=False)
    )
    recipe = (CONFIG.parent / "../recipes/wall_rough.yaml").read_text()
    (directory / "recipe.yaml").write_text(recipe)


def run(directory: Path, *more: str) -> int:
    config, output = str(directory / "ablation.yaml"), str(directory / "out")
    options = ["--config", config, "--output", output, "--quick"]
    options += [] if "--threads" in more else ["--threads", "1"]
    return main(["ablation", *options, *more])
