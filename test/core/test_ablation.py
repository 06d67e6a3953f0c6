"""Ablations: what is shared, what is pooled, and a small one from nothing to its table."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.config import from_dict, from_yaml, read_yaml  # noqa: E402
from wm_planner.errors import ConfigError  # noqa: E402
from wm_planner.evaluation.ablation import (  # noqa: E402
    Ablation,
    Row,
    check_sections,
    evaluation_stages,
    merged,
    training_stages,
)
from wm_planner.evaluation.pooling import (  # noqa: E402
    ablation_table,
    error_table,
    pooled,
    pooled_error,
    read_error,
)
from wm_planner.training.recipe import Recipe  # noqa: E402

CONFIGS = sorted((Path(__file__).parents[2] / "config").glob("ablation*.yaml"))
CONFIG = Path(__file__).parents[2] / "config/ablation.yaml"


def stages(row: Row, recipe: dict | None = None, seed: int = 0):
    recipe = recipe or {"task": "wall", "encoder": {"dim": 8}, "model": {"num_updates": 3}}
    return list(training_stages(row, recipe, seed, Path("d"), Path("o")))


def result(outcomes: str, targets: str = "t") -> dict:
    return {
        "task": "wall",
        "seed": 0,
        "episodes": len(outcomes),
        "successes": outcomes.count("1"),
        "success_rate": outcomes.count("1") / len(outcomes),
        "plan_seconds_p50": 1.0,
        "targets": targets,
        "outcomes": outcomes,
    }


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
def test_the_committed_ablations_are_understood(config: Path) -> None:
    ablation = from_yaml(Ablation, config)
    recipe = merged(read_yaml(config.parent / ablation.recipe), ablation.quick)
    for name in ablation.rows:
        for stage in stages(ablation.row(name), recipe):
            check_sections(stage.recipe, Recipe, name)


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


def test_pooling_counts_all_pairs() -> None:
    row = pooled([result("1101"), result("1111")], [result("0101"), result("1001")])
    assert row["successes"] == 7 and row["episodes"] == 8 and row["rates"] == [0.75, 1.0]
    assert row["difference"] == 3 / 8 and row["p_value"] == 2 * 0.5**3
    assert row["interval_low"] < 7 / 8 < row["interval_high"]
    table = ablation_table([{"row": "a", "mode": "mpc", "reference": "b", **row}])
    assert "87.5 % (7/8)" in table and "| b | 37.5 % (" in table
    with pytest.raises(ConfigError, match="different targets"):
        pooled([result("1", "t")], [result("1", "u")])


def test_errors_are_means_over_seeds_with_an_interval_over_runs() -> None:
    def error(expert: float, gaps: list[float]) -> dict:
        return {"expert": [expert, 3 * expert], "planned": [expert, 5 * expert], "gaps": gaps}

    row = pooled_error([error(0.1, [0.0, 0.4]), error(0.3, [0.6, 0.6])])
    assert row["expert"] == pytest.approx(0.4) and row["planned"] == pytest.approx(0.6)
    margin = 1.96 * 0.1  # standard error of 0.3 and 0.5
    assert row["gap"] == pytest.approx(0.4)
    assert row["gap_high"] - row["gap"] == pytest.approx(margin, rel=1e-3)
    assert "| a | 0.4 | 0.6 | 1.50 | 0.4 (0.204 to 0.596) |" in error_table([{"row": "a", **row}])


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
    assert outputs(episodes=3)[0] != mpc
    assert outputs(rows={"base": {"planner": {"horizon": 4}}})[0] != mpc


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"base": {"reference": "bse"}}}, "Did you mean 'base'"),
        ({"model_error_runs": -1}, "must be 0, for none, or at least 2, for an interval, got -1"),
        ({"model_error_runs": 1}, "at least 2, for an interval, got 1"),
        ({"reference": "bse"}, "Did you mean 'base'"),
        ({"modes": ["mcp"]}, "Did you mean 'mpc'"),
        ({"rows": {"base": {"finetune": {}}}}, "'method' is missing"),
        ({"rows": {"base": {"encodr": {}}}}, "rows: base: unknown key 'encodr'"),
        ({"seeds": []}, "one seed"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict, message: str) -> None:
    content = {"recipe": "r.yaml", "rows": {"base": {}}, "reference": "base", **change}
    with pytest.raises(ConfigError, match=message):
        from_dict(Ablation, content, "a.yaml")


def test_a_setting_that_no_command_knows_is_said_before_the_first_one(tmp_path, capsys) -> None:
    write(tmp_path, {"base": {}, "odd": {"model": {"num_update": 3}}})
    assert run(tmp_path) == 2
    assert "rows: odd: model: unknown key 'num_update'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_from_nothing_to_a_table_and_again(tmp_path, capsys, monkeypatch) -> None:
    pytest.importorskip("mujoco", reason="needs the 'sim' extra")
    # The same commands without a new process for each, and without the encoder's measures.
    monkeypatch.setattr("wm_planner.cli.train._measure", lambda *arguments: None)
    monkeypatch.setattr("wm_planner.cli.ablation._command", in_process)
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


def in_process(arguments: list[str]) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        assert main(arguments) == 0


def test_a_failing_command_ends_it_with_what_to_do(tmp_path, capfd) -> None:
    write(tmp_path, {"base": {}})
    assert run(tmp_path, "--data", str(tmp_path)) == 2
    error = capfd.readouterr().err
    assert f"{tmp_path}: no meta.json" in error
    assert "failed with exit code 2" in error and "run the same command again" in error


def write(directory: Path, rows: dict) -> None:
    quick = read_yaml(CONFIG)["quick"]
    content = {"recipe": "recipe.yaml", "rows": rows, "reference": "base", "modes": ["mpc"]}
    (directory / "ablation.yaml").write_text(
        yaml.safe_dump({**content, "quick": quick}, sort_keys=False)
    )
    recipe = (CONFIG.parent / "train/wall_rough.yaml").read_text()
    (directory / "recipe.yaml").write_text(recipe)


def run(directory: Path, *more: str) -> int:
    config, output = str(directory / "ablation.yaml"), str(directory / "out")
    options = ["--config", config, "--output", output, "--quick", "--threads", "1"]
    return main(["ablation", *options, *more])
