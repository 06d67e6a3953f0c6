"""An ablation: ways to train, side by side; which commands each takes, and the model's errors.

Every row changes a recipe. Rows that agree up to a stage share its run; every stage is a command
of `wm-planner` with a recipe of its own, so that any of them can be repeated by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from wm_planner.config import MAX_SEED, Natural, from_dict, suggest
from wm_planner.errors import ConfigError
from wm_planner.evaluation.episode import MODES
from wm_planner.evaluation.stats import mean_interval
from wm_planner.files import read_json
from wm_planner.models.encoder import comes_trained

STAGES = ("encoder", "projector", "model", "finetune")
MODEL_ERROR = "model-error"


@dataclass(frozen=True)
class Row:
    """One way to train; each entry changes the recipe's section of that name.

    Attributes:
        encoder, model: changes.
        projector: changes, or None: the encoder's latents are used as they are.
        finetune: changes and the key 'method', or None: not trained further.
        planner: planner settings, changing those of the recipe.
        reference: row that this one is compared with; None takes the ablation's.
    """

    encoder: dict = field(default_factory=dict)
    projector: dict | None = None
    model: dict = field(default_factory=dict)
    finetune: dict | None = None
    planner: dict = field(default_factory=dict)
    reference: str | None = None

    def __post_init__(self) -> None:
        if self.finetune is not None and "method" not in self.finetune:
            raise ValueError("finetune: key 'method' is missing")


@dataclass(frozen=True)
class Ablation:
    """What to compare.

    Attributes:
        recipe: file of the recipe that rows change, relative to this one.
        rows: settings of each `Row` by a name of your own.
        reference: row that the others are compared with, on the same targets, unless they name
            another.
        seeds: of training; each is a run of its own, of encoder, model and finetuning.
        modes: 'open-loop', 'mpc', or both.
        episodes, eval_seed: targets of each evaluation.
        model_error_runs: runs of the expert on which the model's error is compared with that on
            plans (`model_error`); 0 leaves it out.
        quick: changes of the recipe's sections that show that everything runs, and nothing else.
    """

    recipe: str
    rows: dict
    reference: str
    seeds: tuple[int, ...] = (0, 1, 2)
    modes: tuple[str, ...] = MODES
    episodes: Natural = 100
    eval_seed: int = 7
    model_error_runs: Natural = 50
    quick: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, settings in self.rows.items():
            if not isinstance(name, str):
                raise ValueError(f"rows: {name!r}: a name is text; put it in quotes")
            if settings is not None and not isinstance(settings, dict):
                raise ValueError(
                    f"rows: {name}: expected a mapping of changes, {{}} for none, got {settings!r}"
                )
        for reference in {self.reference, *(self.row(name).reference for name in self.rows)}:
            if reference is not None and reference not in self.rows:
                raise ValueError(
                    f"reference: '{reference}' is none of the rows.{suggest(reference, self.rows)}"
                )
        for mode in self.modes:
            if mode not in MODES:
                raise ValueError(f"modes: unknown mode '{mode}'.{suggest(mode, MODES)}")
        if self.episodes < 1 or not self.seeds:
            raise ValueError("at least one episode and one seed are needed")
        for key, seeds in (("seeds", self.seeds), ("eval_seed", (self.eval_seed,))):
            if not 0 <= min(seeds) <= max(seeds) <= MAX_SEED:
                raise ValueError(f"{key} must be from 0 to {MAX_SEED}, got {getattr(self, key)}")
        for key in ("seeds", "modes"):
            if len(set(values := getattr(self, key))) < len(values):
                raise ValueError(f"{key}: each may be named once, got {list(values)}")
        if self.model_error_runs < 0 or self.model_error_runs == 1:
            raise ValueError(
                "model_error_runs must be 0, for none, or at least 2, for an interval, "
                f"got {self.model_error_runs}"
            )

    def row(self, name: str) -> Row:
        """A row by its name."""
        return from_dict(Row, self.rows[name] or {}, f"rows: {name}")

    def planner_changes(self, name: str) -> list[str]:
        """A row's planner settings as 'key=value', for `eval --set`."""
        return [f"{key}={json.dumps(value)}" for key, value in self.row(name).planner.items()]

    def reference_of(self, name: str) -> str:
        """The row that a row is compared with."""
        return self.row(name).reference or self.reference


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        arguments: of `wm-planner`.
        output: directory or file that it writes; `done` is there when it has finished.
        recipe: what its recipe file holds, OUTPUT.yaml; None without one.
    """

    arguments: tuple[str, ...]
    output: Path
    done: Path
    recipe: dict | None = None

    @property
    def recipe_file(self) -> Path:
        """Beside the directory, which the command wants to find empty."""
        return self.output.with_name(self.output.name + ".yaml")


@dataclass(frozen=True)
class PooledError:
    """A row's model errors: means over steps, runs and seeds.

    Attributes:
        row: name.
        expert, planned: on the expert's runs, and on plans.
        gap: their difference, with its 95 % interval over the runs, of these models.
    """

    row: str
    expert: float
    planned: float
    gap: float
    gap_low: float
    gap_high: float


def read_error(file: Path) -> dict[str, list[float]]:
    """'expert', 'planned' and 'gaps' of the one checkpoint that `plot model-error` wrote of.

    Raises:
        ConfigError: it cannot be read, or is of another version.
    """
    try:
        (error,) = read_json(file)["checkpoints"].values()
        return {key: error[key] for key in ("expert", "planned", "gaps")}
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ConfigError(
            f"{file}: no result of 'wm-planner plot model-error' ({problem!r}); delete it and run "
            "the same command again"
        ) from problem


def pooled_error(row: str, errors: list[dict[str, list[float]]]) -> PooledError:
    """What `read_error` read of each seed, all on the same runs."""
    expert, planned = (fmean(fmean(e[kind]) for e in errors) for kind in ("expert", "planned"))
    gaps = np.mean([error["gaps"] for error in errors], axis=0).tolist()
    return PooledError(row, expert, planned, *mean_interval(gaps))


def merged(recipe: dict, changes: dict) -> dict:
    """`recipe` with `changes`, mapping by mapping."""
    result = dict(recipe)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def collected_name(recipe: dict) -> str:
    """Name of the directory for the data that a recipe collects: other data, another name."""
    return f"data-{_key(recipe['task'], recipe['collect'])}"


def training_stages(row: Row, recipe: dict, seed: int, data: Path, output: Path) -> Iterator[Stage]:
    """The commands that train a row, in order; equal beginnings of two rows are equal.

    A directory's name has a key of all that its content depends on: of the data their path, or
    their name where they lie in `output`, which may be moved.
    """
    previous: Path | None = None
    own = data.resolve().parent == output.resolve()
    key = _key(recipe["task"], data.name if own else str(data.resolve()))
    for name in STAGES:
        changes = getattr(row, name)
        if changes is None:
            continue
        changes = dict(changes)
        method = changes.pop("method", None)
        recipe = merged(recipe, {name: {**changes, "seed": seed}})
        # The model's checkpoint recommends the recipe's planner settings.
        planner = recipe.get("planner") if name == "model" else None
        key = _key(key, name, method, recipe[name], planner)
        if name == "encoder" and comes_trained(recipe[name].get("kind", "small")):
            continue
        directory = output / f"seed-{seed}" / f"{name}-{key}"
        arguments = ["finetune", "--method", method] if name == "finetune" else ["train", name]
        if previous is not None:
            if name == "finetune":
                arguments += ["--checkpoint", str(previous / "checkpoint")]
            else:
                arguments += ["--encoder", str(previous)]
        arguments += ["--data", str(data), "--output", str(directory)]
        weights = "encoder.safetensors" if name in ("encoder", "projector") else "checkpoint"
        yield Stage(tuple(map(str, arguments)), directory, directory / weights, recipe)
        previous = directory


def evaluation_stages(
    ablation: Ablation, name: str, seed: int, task: str, checkpoint: Path, output: Path
) -> Iterator[Stage]:
    """The commands that evaluate a row's checkpoint: one for each mode, then the model's error."""
    changes = [f"--set={change}" for change in ablation.planner_changes(name)]
    common = ["--task", task, "--checkpoint", str(checkpoint), "--seed", str(ablation.eval_seed)]

    def at(kind: str, arguments: list[str]) -> Path:  # with other settings, another place
        row = "".join(c if c.isalnum() else "-" for c in name.lower())
        return output / f"seed-{seed}" / "results" / f"{row}-{kind}-{_key(*arguments)}"

    for mode in ablation.modes:
        arguments = ["eval", *common, "--mode", mode, "--episodes", str(ablation.episodes)]
        arguments += changes
        directory = at(mode, arguments)
        done = directory / "result.json"
        yield Stage((*arguments, "--output", str(directory)), directory, done)
    if ablation.model_error_runs:
        arguments = ["plot", MODEL_ERROR, *common, "--episodes", str(ablation.model_error_runs)]
        arguments += changes
        figure = at(MODEL_ERROR, arguments).with_suffix(".png")
        done = figure.with_suffix(".json")
        yield Stage((*arguments, "--output", str(figure)), figure, done)


def _key(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
