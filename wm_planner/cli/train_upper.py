"""`wm-planner train upper`: a model of long steps for a checkpoint that is there already."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wm_planner.cli.training_options import is_finished, kept_for_resume, training_machine
from wm_planner.errors import ConfigError

if TYPE_CHECKING:
    from wm_planner.models.bundle import Bundle

_OF_OTHERS = ("encoder", "measure", "minutes", "updates")


def run_upper(args: argparse.Namespace) -> int:
    """Train; OUTPUT/checkpoint is the given checkpoint with an upper model; print its errors.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    from wm_planner.config import from_yaml
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint
    from wm_planner.models.checkpoint import load_bundle, save_bundle
    from wm_planner.models.core_set import load_core_set
    from wm_planner.training.recipe import ANY, Recipe, check_task
    from wm_planner.training.upper import train_upper

    for name in _OF_OTHERS:
        if getattr(args, name):
            raise ConfigError(
                f"--{name} is not for 'train upper'; a --recipe says how long it takes, with its "
                "key upper.num_updates"
            )
    result = args.output / "checkpoint"
    if is_finished(args, result):
        return 0
    directory = resolve_checkpoint(args.checkpoint)
    card, bundle = read_card(directory / CARD), load_bundle(directory)
    store = TrajectoryStore.open(args.data)
    recipe = from_yaml(Recipe, args.recipe or ANY)
    check_task(recipe, store)
    parent = {"checkpoint": str(args.checkpoint), "sha256": card["sha256"]}
    with training_machine(args) as machine:
        train_upper(store, bundle, recipe.upper, args.output, parent, machine)
        if machine.writes:
            with kept_for_resume(args.output):
                save_bundle(bundle, result, load_core_set(directory, card))
            print(_errors(bundle), end="")
            print(f"written: {result}\nnext: plan with it by --set levels={{}} (docs/planners.md)")
    return 0


def _errors(bundle: Bundle) -> str:
    """Held-out errors of each macro-step."""
    from wm_planner.cli.eval_recorded import errors_table

    upper = bundle.upper
    assert upper is not None
    step_s = upper.steps * bundle.embodiment.model_dt_s
    return errors_table(upper.info["held_out"], step_s, f"macro-step of {upper.steps}")
