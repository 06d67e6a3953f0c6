"""What learning from recorded episodes wins back on a robot that has changed, and what it costs.

``python -m benchmarks.learning --task wall --shift gain=2.0 --output runs/learning-wall`` drives
the changed robot with its shipped checkpoint and records it, learns from the first 10, 25 and 50
episodes with three seeds, and evaluates each version with and without the change, on targets that
were not recorded. It writes ``learning.json``, prints a table, and goes on where it was left. All
it runs are commands of `wm-planner`, kept in ``commands.log``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wm_planner.data.bags import bags_in
from wm_planner.evaluation.stats import wilson_interval
from wm_planner.files import read_json, write_json
from wm_planner.models.versions import versions

DRIVEN_SEED, TARGET_SEED = 100, 1  # of the recorded episodes, and of the targets of each evaluation


@dataclass(frozen=True)
class Learnt:
    """One training.

    Attributes:
        episodes: learnt from, or held out.
        seed: of the training.
        published: False where the gate kept the new model aside; the robot keeps the old one.
        reason: why.
        cpu_s: of the learner, all it did.
        changed, unchanged: goals that the robot reaches then, with the change and without.
    """

    episodes: int
    seed: int
    published: bool
    reason: str
    cpu_s: float
    changed: int
    unchanged: int


@dataclass(frozen=True)
class Bench:
    """One task and one change of its robot.

    Attributes:
        task: its name.
        shifts: 'key=value' each.
        checkpoint: to begin with.
        output: directory of all that is written.
        targets: of each evaluation.
    """

    task: str
    shifts: tuple[str, ...]
    checkpoint: str
    output: Path
    targets: int

    def record(self, count: int) -> Path:
        """Drive the changed robot; the directory of its bags."""
        directory = self.output / "driven"
        if not directory.exists():
            episodes = f"--episodes={count} --seed={DRIVEN_SEED}".split()
            self._run("sim", "--task", self.task, *self._changed, *episodes, "--output", directory)
        return directory / "bags"

    def reached(self, name: str, checkpoint: str | Path, change: bool) -> int:
        """Goals that a checkpoint reaches."""
        file = self.output / f"{name}-{'changed' if change else 'unchanged'}.json"
        if not file.exists():
            targets = f"--episodes={self.targets} --seed={TARGET_SEED}".split()
            words = ["--task", self.task, "--checkpoint", str(checkpoint), *targets]
            self._run("eval", *words, *(self._changed if change else ()), "--json", file)
        return int(read_json(file)["successes"])

    def learn(self, bags: Sequence[Path], seed: int, settings: Sequence[str]) -> Learnt:
        """Learn from some bags, once, and evaluate what the robot plans with then."""
        name = f"{len(bags)}-{seed}"
        directory = self.output / name
        few, told = directory / "bags", directory / "learnt.json"
        if not told.exists():
            few.mkdir(parents=True, exist_ok=True)
            for bag in bags:
                link = few / bag.name
                if not link.exists():
                    link.symlink_to(bag.resolve())
            words = ["--checkpoint", self.checkpoint, "--output", str(directory), "--once"]
            wanted = [f"every={len(bags)}", f"seed={seed}", *settings]
            sets = [word for setting in wanted for word in ("--set", setting)]
            write_json(told, {"cpu_s": self._run("learn", few, *words, *sets)})
        found = versions(directory / "versions")
        reason = str(read_json(directory / "learn.json")["last"]["reason"])
        used = name if found else "before"
        checkpoint = found[0] if found else self.checkpoint
        changed, unchanged = (self.reached(used, checkpoint, change) for change in (True, False))
        cpu_s = float(read_json(told)["cpu_s"])
        return Learnt(len(bags), seed, bool(found), reason, cpu_s, changed, unchanged)

    @property
    def _changed(self) -> list[str]:
        return [word for shift in self.shifts for word in ("--shift", shift)]

    def _run(self, *words: str | Path) -> float:
        """Run a command of `wm-planner`; its CPU seconds."""
        command = [sys.executable, "-m", "wm_planner.cli.main", *map(str, words)]
        with (self.output / "commands.log").open("a") as log:
            print("wm-planner", *words, file=log, flush=True)
            child = subprocess.Popen(command, stdout=log, stderr=log)
            _, status, used = os.wait4(child.pid, 0)
        if code := os.waitstatus_to_exitcode(status):
            raise SystemExit(f"{' '.join(command)}: exit code {code}, see {log.name}")
        return used.ru_utime + used.ru_stime


def rate(successes: int, trials: int) -> str:
    """For a table."""
    low, high = wilson_interval(successes, trials)
    return f"{100 * successes / trials:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def table(before: tuple[int, int], runs: Sequence[Learnt], targets: int) -> str:
    """Of all: seeds of one number of episodes share a row, and an interval of all their targets."""
    rows = [
        "| learnt from | with the change | without it | published | CPU s |",
        "|---|---|---|---|---|",
        f"| nothing | {rate(before[0], targets)} | {rate(before[1], targets)} | | |",
    ]
    for count in sorted({run.episodes for run in runs}):
        group = [run for run in runs if run.episodes == count]
        trials = targets * len(group)
        changed, unchanged = (
            f"{rate(sum(values), trials)}: {', '.join(map(str, values))}"
            for values in ([r.changed for r in group], [r.unchanged for r in group])
        )
        published = f"{sum(run.published for run in group)} of {len(group)}"
        cpu = f"{min(r.cpu_s for r in group):.0f} to {max(r.cpu_s for r in group):.0f}"
        rows.append(f"| {count} episodes | {changed} | {unchanged} | {published} | {cpu} |")
    return "\n".join(rows)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write ``learning.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", allow_abbrev=False)
    parser.add_argument("--task", required=True)
    parser.add_argument("--shift", action="append", required=True, dest="shifts")
    parser.add_argument("--checkpoint", help="default TASK-base")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--targets", type=int, default=100, help="of each evaluation")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 25, 50], help="episodes")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each size")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="of 'learn'")
    args = parser.parse_args(words)
    args.output.mkdir(parents=True, exist_ok=True)
    checkpoint = args.checkpoint or f"{args.task}-base"
    bench = Bench(args.task, tuple(args.shifts), checkpoint, args.output, args.targets)
    before = bench.reached("before", checkpoint, True), bench.reached("before", checkpoint, False)
    bags = bags_in(bench.record(max(args.sizes)))
    runs: list[Learnt] = []
    for seed in range(args.seeds):  # so that a run that is cut short has all sizes of some seeds
        for count in args.sizes:
            runs.append(bench.learn(bags[:count], seed, args.settings))
            report: dict[str, Any] = {"bench": {**asdict(bench), "output": str(args.output)}}
            report |= {"before": before, "settings": args.settings, "runs": list(map(asdict, runs))}
            write_json(args.output / "learning.json", report)
    print(table(before, runs, args.targets))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
