"""Runs the stages of an ablation: commands of `wm-planner`, here or on a cluster."""

from __future__ import annotations

import logging
import shlex
import socket
import subprocess
import sys
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wm_planner.cluster import Cluster, Task
from wm_planner.end_with_parent import with_parent
from wm_planner.errors import ConfigError
from wm_planner.evaluation.ablation import (
    Ablation,
    Stage,
    evaluation_stages,
    read_error,
    training_stages,
)
from wm_planner.evaluation.result import read_result
from wm_planner.files import write_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AblationRun:
    """All that is to be run; what is there already is not run again.

    Attributes:
        ablation, recipe: what to compare.
        data: directory to train on.
        output: directory of all that is written.
        threads: of a training.
    """

    ablation: Ablation
    recipe: dict
    data: Path
    output: Path
    threads: int

    def training(self, name: str, seed: int) -> list[Stage]:
        """The stages that train a row, one after the other."""
        row = self.ablation.row(name)
        return list(training_stages(row, self.recipe, seed, self.data, self.output))

    def evaluating(self, name: str, seed: int) -> list[Stage]:
        """The stages that evaluate what came of `training`."""
        checkpoint, task = self.training(name, seed)[-1].done, self.recipe["task"]
        return list(evaluation_stages(self.ablation, name, seed, task, checkpoint, self.output))

    def results(self, name: str, seed: int) -> list[Any]:
        """Run a row here; a `Result` of each mode, then the model's error."""
        for stage in self.training(name, seed):
            _run(stage, self._more(stage), f"{name}, seed {seed}")
        results = []
        for stage in self.evaluating(name, seed):
            _run(stage, [], f"{name}, seed {seed}")
            read = read_result if stage.arguments[0] == "eval" else read_error
            results.append(read(stage.done))
        return results

    def on(self, cluster: Cluster, names: list[str]) -> None:
        """Run rows on a cluster: a task for each stage, after the one that it needs.

        Rows that share a stage wait for the same task.
        """
        tasks: dict[Hashable, Task] = {}
        what: dict[Hashable, str] = {}
        here = Path.cwd()
        for seed in self.ablation.seeds:
            for name in names:
                before: tuple[Hashable, ...] = ()
                training = self.training(name, seed)
                for stage in (*training, *self.evaluating(name, seed)):
                    if stage.done.exists():
                        continue
                    trains = stage in training
                    more = self._more(stage) if trains else []
                    tasks.setdefault(stage.output, Task((stage, more, here), before))
                    what.setdefault(stage.output, f"{name}, seed {seed}: {stage.output.name}")
                    if trains:
                        before = (stage.output,)
        for number, key in enumerate(cluster.run_graph(run_stage, tasks, self.threads), start=1):
            logger.info("%s: finished, %d of %d", what[key], number, len(tasks))

    def _more(self, stage: Stage) -> list[str]:
        """What a training stage is told beside its own arguments."""
        return ["--resume", "--threads", str(self.threads), "--recipe", str(stage.recipe_file)]


def run_stage(stage: Stage, more: list[str], directory: Path) -> None:
    """A stage on a machine of a cluster; what it prints goes into OUTPUT.log.

    Args:
        stage: see `Stage`; its paths are those of the machine that the ablation was started on.
        more: further arguments.
        directory: where the ablation was started.

    Raises:
        ConfigError: the directory is not there, or the command failed.
    """
    machine = socket.gethostname()
    if not directory.is_dir():
        raise ConfigError(
            f"{directory} is not there on machine {machine} of the cluster: start the ablation in "
            "a directory that all machines share"
        )
    log = directory / stage.output.with_name(stage.output.name + ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    if stage.recipe is not None:
        write_text(directory / stage.recipe_file, yaml.safe_dump(stage.recipe, sort_keys=False))
    command = [*stage.arguments, *more]
    with log.open("ab") as stream:
        code = subprocess.run(
            # Two at once would write into one directory: Ray runs a task again whose process dies.
            with_parent([sys.executable, "-m", "wm_planner.cli.main", *command]),
            cwd=directory,
            stdout=stream,
            stderr=stream,
            check=False,
        ).returncode
    if code:
        raise ConfigError(
            f"'{shlex.join(['wm-planner', *command])}' failed on machine {machine} with exit code "
            f"{code}; see {log}, mend what it says and run the same command again"
        )


def _run(stage: Stage, more: list[str], what: str) -> None:
    if stage.done.exists():
        return
    stage.output.parent.mkdir(parents=True, exist_ok=True)
    if stage.recipe is not None:
        write_text(stage.recipe_file, yaml.safe_dump(stage.recipe, sort_keys=False))
    logger.info("%s: %s", what, shlex.join(["wm-planner", *stage.arguments, *more]))
    run_command([*stage.arguments, *more])


def run_command(arguments: list[str]) -> None:
    """A process of its own: nothing of one run lingers in the next."""
    # Its table would be taken for this command's result.
    code = subprocess.run(
        [sys.executable, "-m", "wm_planner.cli.main", *arguments], stdout=sys.stderr, check=False
    ).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise ConfigError(
            f"'{shlex.join(['wm-planner', *arguments])}' failed with exit code {code}; mend what "
            "it says and run the same command again, which goes on from there"
        )
