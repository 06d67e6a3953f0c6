"""What `--help` of each command ends with: a line that runs as it stands, in a clone."""

from __future__ import annotations

import argparse

ARM = "config/robots/arm_reach.yaml"
EXAMPLES = {
    "robot check": ARM,
    "robot record": f"{ARM} --output runs/bags --episodes 1 --seconds 10",
    "robot explore": f"{ARM} --output runs/bags --episodes 2 --seconds 10 --yes",
    "robot goal": f"{ARM} --output runs/goal",
    "robot run": f"{ARM} --episodes 1 --film runs/film.mp4",
    "sim": "--task wall",
    "view": f"{ARM} --bring-up",
    "eval": "--task wall --episodes 20",
    "results": "--config config/tables/solvers.yaml --output runs/solvers --quick",
    "ablation": "--config config/tables/ablation.yaml --output runs/ablation --quick",
    "frontier": "--config config/tables/frontier.yaml --task wall --output runs/frontier --quick",
    "plot landscape": "--task wall --output runs/landscape.png",
    "plot model-error": "--task wall --output runs/model_error.png",
    "plot results": "runs/results/results.json --output runs/results.png",
    "plot learning": "runs/bags --output runs/learning.png",
    "collect": "--task wall --num-trajectories 20 --output runs/wall",
    "dataset info": "runs/wall",
    "dataset build": "runs/bags --output runs/arm",
    "train": "--data runs/wall --minutes 5 --output runs/model",
    "finetune": "--method base --checkpoint wall-base --data runs/wall --output runs/finetuned",
    "learn": "runs/bags --checkpoint arm_reach-base --output runs/learned",
    "probe": "arm_reach-base --task arm_reach",
    "import": "outputs/pusht --output runs/pusht",
    "calibrate": "runs/model/checkpoint --data runs/wall",
    "export": "wall-base --output runs/small",
    "info": "wall-base",
    "doctor": "--output runs",
    "completion": "bash",
}
BEGIN = "example: "


def add_examples(parser: argparse.ArgumentParser) -> None:
    """Put its example below the help of each command that this parser knows."""
    for name, command in commands(parser):
        if name in EXAMPLES:
            command.epilog = f"{BEGIN}wm-planner {name} {EXAMPLES[name]}"


def commands(
    parser: argparse.ArgumentParser, name: str = ""
) -> list[tuple[str, argparse.ArgumentParser]]:
    """Names and parsers of all commands that have no subcommands: 'robot run', 'sim', ..."""
    subcommands = [
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]
    if not subcommands:
        return [(name, parser)]
    found = []
    for action in subcommands:
        for part, below in action.choices.items():
            found += commands(below, f"{name} {part}".strip())
    return found
