"""`wm-planner eval --data`: what held-out recordings say of a checkpoint, without a simulator."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from wm_planner.cli.options import check_numbers, check_writable
from wm_planner.errors import ConfigError
from wm_planner.evaluation.table import figure, listing, markdown

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
    from wm_planner.evaluation.recordings import (
        encode_recordings,
        goal_measures,
        held_out,
        same_place,
        step_errors,
    )
    from wm_planner.files import write_json
    from wm_planner.models.checkpoint import load_bundle
    from wm_planner.planning import Planner
    from wm_planner.provenance import provenance

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

    recordings = encode_recordings(bundle, store, rows, bar("encode"))
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
    only = ("targets", "ahead", "max_steps", "goal_image", "goal_state", "latency", "ray", "film")
    for option in only:
        if getattr(args, option) is not None:
            raise ConfigError(f"--{option.replace('_', '-')} needs --task, a simulated one")
    if args.shifts or args.goals != "random":
        raise ConfigError("--shift and --goals need --task, a simulated one")
    check_writable("--json", args.json)
    if args.checkpoint == "base":
        raise ConfigError("--data without --task needs --checkpoint: a run directory of 'train'")


def errors_table(errors: dict[str, Any], step_s: float, step: str = "model step") -> str:
    """The errors of each step, beside those of copying the first frame, in Markdown.

    Args:
        errors: see `step_errors`.
        step_s: seconds of a step.
        step: what one is called.
    """
    rows = []
    for number, (model, copy) in enumerate(zip(errors["model"], errors["copy"], strict=True), 1):
        ratio = f"{model / copy:.2f}" if copy else "-"
        rows.append((number, f"{number * step_s:.2f}", figure(model), figure(copy), ratio))
    title = f"held-out error of the model, mean of {errors['windows']} windows"
    return f"{title}\n\n" + markdown(f"{step} | seconds | model | copying | ratio", rows)


def table(result: dict[str, Any], model_dt_s: float) -> str:
    """The result for people."""
    r = result

    def percent(key: str) -> str:
        return f"{100 * r[key]:.0f} %"

    distance = (
        f"falls in {percent('falls')} of the recorded steps towards a goal {r['horizon']} steps "
        "away (50 % tells nothing)"
    )
    nearer = (
        f"the plan's first step comes nearer for {percent('first_step_nearer')} of {r['goals']} "
        f"goals, as imagined; the recorded one for {percent('recorded_first_step_nearer')}"
    )
    found = (
        f"{percent('found')} of the steps: the recorded action is told from others "
        f"(by chance {percent('found_by_chance')})"
    )
    cost = (
        f"plans {r['plan_cost']:.3g}, what was recorded {r['recorded_cost']:.3g}, "
        f"standing still {r['still_cost']:.3g}, all by the model"
    )
    plan = (
        f"cosine {r['cosine']:.2f}, difference {r['action_error']:.2f} standard deviations of the "
        "action"
    )
    rows = [("latent distance", distance), ("look-ahead", nearer), ("action found", found)]
    rows += [("cost", cost), ("plan, recording", plan)]
    if (arrived := r["arrived"]) is not None:
        within = f"the same place is within {arrived['picture']:.3g} in the latent"
        rows.append(("arrived", f"{within} ({arrived['from']} frames)"))
    kind = "trajectories it KNOWS" if r["trained_on_them"] else "held-out trajectories"
    title = f"{r['embodiment']} {r['checkpoint']} {r['planner']}: {r['trajectories']} {kind}"
    return "\n".join([title, "", errors_table(r["errors"], model_dt_s), *listing(rows)])


def draw(file: Path, errors: dict[str, Any], name: str) -> None:
    """A figure of the errors by step; without matplotlib none, and that is said."""
    try:
        from wm_planner.cli.figures import draw_step_errors
    except ImportError:
        logger.info("no figure: matplotlib is missing (extra 'viz')")
        return
    draw_step_errors(file, errors, name)
