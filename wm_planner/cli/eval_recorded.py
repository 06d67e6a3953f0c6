"""`wm-planner eval --data`: what held-out recordings say of a checkpoint, without a simulator."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from wm_planner.cli.checks import check_numbers, check_writable
from wm_planner.errors import ConfigError

logger = logging.getLogger(__name__)


def run_recorded(args: argparse.Namespace) -> int:
    """Evaluate on recordings and print one table.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    import torch
    from tqdm import tqdm

    from wm_planner.cli.eval import planner_settings
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.evaluation.recorded import (
        encode_recordings,
        goal_measures,
        held_out,
        same_place,
        step_errors,
    )
    from wm_planner.evaluation.run import write_json
    from wm_planner.models.checkpoint import load_bundle
    from wm_planner.planning import Planner
    from wm_planner.training.run_log import provenance

    _check(args)
    torch.set_num_threads(args.threads)
    store = TrajectoryStore.open(args.data)
    bundle = load_bundle(args.checkpoint, args.device)
    config = planner_settings(bundle.planner, args)
    rows, known = held_out(bundle, store)
    if known:
        logger.warning(
            "the checkpoint was trained on %s and does not say what it held out: its errors there "
            "are too good; take recordings that it has not seen",
            args.data,
        )

    def bar(name: str) -> Any:
        return lambda parts: tqdm(list(parts), desc=name, unit="batch")

    recordings = encode_recordings(bundle, store, rows, known, bar("encode"))
    result = {
        "checkpoint": str(args.checkpoint),
        "data": str(args.data),
        "embodiment": bundle.embodiment.name,
        "planner": config.solver,
        "horizon": config.horizon,
        "trajectories": len(rows),
        "trained_on_them": known,
        "errors": step_errors(bundle, recordings, config.horizon, config.rollout),
        **goal_measures(Planner(bundle, config), recordings, args.episodes, bar("plan")),
        "arrived": same_place(recordings),
        **provenance(),
    }
    if args.json is not None:
        write_json(args.json, result)
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        write_json(args.output / "result.json", result)
        draw(args.output / "result.png", result["errors"], bundle.embodiment.name)
    print(table(result, bundle.embodiment.model_dt_s))
    return 0


def _check(args: argparse.Namespace) -> None:
    check_numbers(args, episodes=1)
    for option in ("targets", "goal_image", "goal_state", "latency"):
        if getattr(args, option) is not None:
            raise ConfigError(f"--{option.replace('_', '-')} needs --task, a simulated one")
    if args.shifts or args.goals != "random":
        raise ConfigError("--shift and --goals need --task, a simulated one")
    if args.json is not None:
        check_writable("--json", args.json)
    if args.checkpoint == "base":
        raise ConfigError("--data without --task needs --checkpoint: a run directory of 'train'")


def errors_table(errors: dict[str, Any], model_dt_s: float) -> str:
    """The errors of each step, beside those of copying the first frame, in Markdown."""
    lines = [
        f"held-out error of the model, mean of {errors['windows']} windows",
        "",
        "| model step | seconds | model | copying | ratio |",
        "|---|---|---|---|---|",
    ]
    for step, (model, copy) in enumerate(zip(errors["model"], errors["copy"], strict=True), 1):
        ratio = f"{model / copy:.2f}" if copy else "-"
        lines.append(f"| {step} | {step * model_dt_s:.2f} | {model:.3g} | {copy:.3g} | {ratio} |")
    return "\n".join(lines)


def table(result: dict[str, Any], model_dt_s: float) -> str:
    """The result for people."""
    horizon, goals = result["horizon"], result["goals"]
    percent = "{:.0f} %".format
    rows = [
        (
            "latent distance",
            "falls in "
            + percent(100 * result["falls"])
            + " of the recorded steps towards a goal "
            + f"{horizon} steps away (50 % tells nothing)",
        ),
        (
            "look-ahead",
            f"the plan's first step comes nearer for {percent(100 * result['first_step_nearer'])}"
            f" of {goals} goals, as imagined; the recorded one for "
            + percent(100 * result["recorded_first_step_nearer"]),
        ),
        (
            "action found",
            f"{percent(100 * result['found'])} of the steps: the recorded action is told from "
            f"others (by chance {percent(100 * result['found_by_chance'])})",
        ),
        (
            "cost",
            f"plans {result['plan_cost']:.3g}, what was recorded {result['recorded_cost']:.3g}, "
            f"standing still {result['still_cost']:.3g}, all by the model",
        ),
        (
            "plan, recording",
            f"cosine {result['cosine']:.2f}, difference {result['action_error']:.2f} standard "
            "deviations of the action",
        ),
    ]
    if result["arrived"] is not None:
        arrived = result["arrived"]
        rows.append(
            (
                "arrived",
                f"the same place is within {arrived['picture']:.3g} in the latent "
                f"({arrived['from']} frames)",
            )
        )
    kind = "held-out trajectories" if not result["trained_on_them"] else "trajectories it KNOWS"
    title = f"{result['embodiment']} {result['checkpoint']} {result['planner']}"
    lines = [f"{title}: {result['trajectories']} {kind}", ""]
    lines.append(errors_table(result["errors"], model_dt_s))
    lines += ["", *(f"  {name:<18}{value}" for name, value in rows)]
    return "\n".join(lines)


def draw(file: Path, errors: dict[str, Any], name: str) -> None:
    """A figure of the errors by step; without matplotlib none, and that is said."""
    try:
        from wm_planner.cli.figures import draw_step_errors
    except ImportError:
        logger.info("no figure: matplotlib is missing (extra 'viz')")
        return
    draw_step_errors(file, errors, name)
