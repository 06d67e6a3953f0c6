"""`wm-planner info`: what a checkpoint is, from its card and the header of its weights."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from wm_planner.errors import CheckpointError
from wm_planner.models.catalog import (
    CARD,
    WEIGHTS,
    read_card,
    resolve_checkpoint,
    shipped_checkpoints,
)

MIB = 2**20
BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}  # others: 1


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("info", help="describe a checkpoint, or list those shipped")
    parser.add_argument("checkpoint", nargs="?", help="shipped name or directory")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the names of the shipped checkpoints, or a description of one as YAML."""
    if args.checkpoint is None:
        sys.stdout.write("".join(f"{name}\n" for name in shipped_checkpoints()))
        return 0
    description = describe(resolve_checkpoint(args.checkpoint))
    yaml.safe_dump(description, sys.stdout, sort_keys=False, default_flow_style=None, width=100)
    return 0


def describe(directory: Path) -> dict[str, Any]:
    """A checkpoint in plain values; its weights are not loaded.

    Raises:
        CheckpointError: the card or a file of weights cannot be read.
    """
    card = read_card(directory / CARD)
    weights = _parts(directory / WEIGHTS)
    upper = {"upper": card["upper"]} if "upper" in card else {}
    return {
        "directory": str(directory),
        "embodiment": card["embodiment"],
        "model": card["model"],
        "weights": {**weights, "total": _sum(weights)} if weights else "missing",
        **upper,
        "normalisation": card["preprocess"],
        "planner": card["planner"],
        "provenance": {**card["info"], "sha256": card["sha256"]},
    }


def _parts(file: Path) -> dict[str, dict[str, float]]:
    """Parameters (buffers with them) and MiB by part; nothing when there is no such file."""
    from safetensors import SafetensorError, safe_open

    parameters: Counter[str] = Counter()
    size: Counter[str] = Counter()
    if not file.is_file():
        return {}
    try:
        with safe_open(file, "numpy") as tensors:
            for name in tensors.keys():
                tensor, part = tensors.get_slice(name), name.partition(".")[0]
                count = math.prod(tensor.get_shape())
                parameters[part] += count
                size[part] += count * BYTES.get(tensor.get_dtype(), 1)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: truncated or damaged: {error}; copy it again") from error
    return {p: {"parameters": n, "mib": round(size[p] / MIB, 2)} for p, n in parameters.items()}


def _sum(parts: dict[str, dict[str, float]]) -> dict[str, float]:
    total = {key: sum(part[key] for part in parts.values()) for key in ("parameters", "mib")}
    return {**total, "mib": round(total["mib"], 2)}
