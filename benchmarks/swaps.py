"""A planner that plans without a pause while versions of its checkpoint are published.

``python -m benchmarks.swaps`` drives a simulated robot by a shipped checkpoint, in lock-step and as
fast as it plans, beside processes that keep every core busy. Meanwhile it publishes good versions
(how long is the robot without a new plan while one is taken?), bad ones at random moments (is one
taken, is a plan missed?), and bad ones that look good (how soon are they taken back?).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import report
from wm_planner.evaluation.episode import EnvMaker
from wm_planner.evaluation.target import sample_targets
from wm_planner.models.bundle import Bundle
from wm_planner.models.catalog import CARD, WEIGHTS, resolve_checkpoint
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.versions import next_version, versions
from wm_planner.nodes.planner_config import PlannerNodeConfig
from wm_planner.runtime.goal_planner import GoalPlanner
from wm_planner.runtime.live_planner import LivePlanner
from wm_planner.runtime.version_watch import VersionWatch
from wm_planner.types import Goal, Observation

_LOOK_S = 0.05  # the node looks once a second; here, what happens is what is measured
_MOST_STEPS = 60  # until a version must have been taken, kept or taken back


class Robot:
    """A simulated robot that follows a planner whose checkpoint is exchanged.

    Args:
        task: simulated task with a shipped checkpoint.
        directory: receives the versions.
        seed: of the targets.

    Attributes:
        gaps: seconds from one plan to the next.
        said: what the planner said of checkpoints, one line each.
    """

    def __init__(self, task: str, directory: Path, seed: int = 0) -> None:
        self.versions, self.said, self.gaps = directory, list[str](), list[float]()
        directory.mkdir(parents=True, exist_ok=True)
        planner = GoalPlanner(f"{task}-base", None, "gbp")
        planner.warm_up()
        self._body = body = planner.embodiment
        steps = PlannerNodeConfig(checkpoint=task).trial_steps
        self.live = LivePlanner(planner, steps, lambda _bad, text: self.said.append(text))
        self._env = EnvMaker(task, body.image_size)(True)
        self._targets = sample_targets(self._env, seed, 100)
        self._count, self._left, self._target = 0, 0, -1
        self._newest_s: float | None = None
        self._watch = VersionWatch(self.live, _LOOK_S)
        self._watch.watch(directory)

    @property
    def name(self) -> str:
        """Of the checkpoint that plans."""
        return self.live.current.checkpoint.name

    def step(self) -> None:
        """One plan, and a model step of it."""
        env, body = self._env, self._body
        if not self._left:
            self._target = (self._target + 1) % len(self._targets)
            goal = self._targets.goals[self._target]
            self._goal = Goal(env.render_state(goal), env.proprio_of(goal))
            env.set_state(self._targets.starts[self._target])
            self._left, self._newest_s = env.task.max_model_steps, None
        state, stamp_ns = env.get_state(), self._count * body.model_dt_ns
        seen = Observation(env.render_state(state)[None], env.proprio_of(state)[None], stamp_ns)
        result = self.live(self._goal, seen)
        now_s = time.perf_counter()
        if self._newest_s is not None:  # the first plan towards a goal is the long one
            self.gaps.append(now_s - self._newest_s)
        self._newest_s = now_s
        for row in range(body.frame_skip):
            action = result.plan.actions[row]
            self.live.current.sent.add(stamp_ns + row * body.dt_ns, action)
            env.advance(action)
        self._count, self._left = self._count + 1, self._left - 1

    def until(self, done: Callable[[], bool]) -> bool:
        """Step until something is so; False where it does not come about."""
        for _ in range(_MOST_STEPS):
            if done():
                return True
            self.step()
        return done()

    def close(self) -> None:
        """End its thread."""
        self._watch.close()
        self._env.close()


def publish(directory: Path, change: Callable[[Bundle], object], base: Path) -> Path:
    """A changed copy of a checkpoint as the next version."""
    bundle = load_bundle(base)
    with torch.no_grad():
        change(bundle)
    return save_bundle(bundle, next_version(directory))


def swaps(robot: Robot, base: Path, count: int) -> dict[str, Any]:
    """Good versions, one after the other; gaps from the publication until it plans."""
    before = len(robot.gaps)
    for _ in range(2 * count):
        robot.step()
    calm, during, taken = robot.gaps[before:], list[float](), 0
    ready = [publish(robot.versions.with_name("ready"), lambda _: None, base) for _ in range(count)]
    for made in ready:
        version = made.rename(next_version(robot.versions))
        before = len(robot.gaps)
        came = robot.until(lambda name=version.name: robot.name == name)  # type: ignore[misc]
        during += robot.gaps[before:]
        taken += came and robot.until(lambda: not robot.live.on_trial)
    step_s = robot._body.model_dt_s
    told = {"published": count, "taken_and_kept": taken, "model_step_s": step_s}
    return {**told, "gap_without_s": _spread(calm), "gap_while_taken_s": _spread(during)}


def bad_ones(robot: Robot, base: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Bad versions at random moments from another thread, while the robot goes on."""
    rng, first, kinds = random.Random(seed), len(robot.said), Counter[str]()
    makers = _makers(base)
    ended, before = threading.Event(), len(robot.gaps)

    def work() -> None:
        for _ in range(count):
            kind = rng.choice(sorted(makers))
            kinds[kind] += 1
            makers[kind](next_version(robot.versions), rng)
            time.sleep(rng.uniform(0.0, 4 * _LOOK_S))
        ended.set()

    name = robot.name
    thread = threading.Thread(target=work)
    thread.start()
    others = plans = 0
    while not ended.is_set() or thread.is_alive():
        robot.step()
        plans += 1
        others += robot.name != name
    robot.until(lambda: False)  # what was published last is looked at, too
    said = robot.said[first:]
    for version in versions(robot.versions):
        shutil.rmtree(version)
    return {
        "published": dict(kinds),
        "taken": sum(": taken" in text for text in said),
        "plans_of_another": others,
        "refused_in_a_line": sum("not taken" in text for text in said),
        "plans": plans,
        "gap_s": _spread(robot.gaps[before:]),
    }


def good_looking(robot: Robot, base: Path, count: int) -> dict[str, Any]:
    """Finite weights of the right sizes that know nothing, or less."""
    found = {}
    for kind, change in (("noise of 10 %", noise), ("weights of another seed", _another_seed)):
        ends = Counter[str]()
        for number in range(count):
            first = len(robot.said)
            torch.manual_seed(number)
            version = publish(robot.versions, change, base)
            robot.until(lambda name=version.name: robot.name == name)  # type: ignore[misc]
            robot.until(lambda: not robot.live.on_trial)
            robot.until(lambda: False)
            said = robot.said[first:]
            ends["published"] += 1
            ends["taken"] += sum(": taken" in text for text in said)
            ends["rolled back"] += sum("rolled back" in text for text in said)
            ends["kept"] += sum(": kept" in text for text in said)
            for left in versions(robot.versions):
                shutil.rmtree(left)
        found[kind] = dict(ends)
    return found


def _makers(base: Path) -> dict[str, Callable[[Path, random.Random], object]]:
    other = resolve_checkpoint("pusht-base" if "pusht" not in base.name else "wall-base")

    def cut(name: str) -> Callable[[Path, random.Random], object]:
        def make(version: Path, rng: random.Random) -> None:
            shutil.copytree(base, version)
            content = (version / name).read_bytes()
            (version / name).write_bytes(content[: rng.randrange(len(content))])

        return make

    def sizes(version: Path, _rng: random.Random) -> None:
        shutil.copytree(base, version)
        card = json.loads((version / CARD).read_text())
        card["model"]["depth"] = int(card["model"].get("depth", 1)) + 1
        (version / CARD).write_text(json.dumps(card))

    def changed(change: Callable[[Bundle], object]) -> Callable[[Path, random.Random], object]:
        return lambda version, _rng: publish(version.parent, change, base)

    return {
        "weights cut off": cut(WEIGHTS),
        "card cut off": cut(CARD),
        "not a number": changed(lambda bundle: _first(bundle).fill_(torch.nan)),
        "all zero": changed(lambda bundle: [p.zero_() for p in bundle.model.parameters()]),
        "another robot's": lambda version, _rng: shutil.copytree(other, version),
        "other sizes": sizes,
    }


def _first(bundle: Bundle) -> torch.Tensor:
    return next(bundle.model.predictor.parameters())


def noise(bundle: Bundle) -> None:
    """Change each weight by a tenth of the spread of its tensor."""
    for weight in bundle.model.predictor.parameters():
        weight.add_(0.1 * weight.std().nan_to_num(0.0) * torch.randn_like(weight))


def _another_seed(bundle: Bundle) -> None:
    for module in bundle.model.predictor.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Of gaps, seconds."""
    points = {"p50": 50, "p99": 99, "most": 100}
    found = {key: round(float(np.percentile(values, p)), 4) for key, p in points.items()}
    return {"count": len(values), **found}


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep so many cores busy, at the learner's priority."""
    running = [multiprocessing.Process(target=_busy, daemon=True) for _ in range(processes)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()


def _busy() -> None:
    os.nice(19)
    while True:
        pass


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swaps", allow_abbrev=False)
    parser.add_argument("--task", default="wall")
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--bad", type=int, default=200)
    parser.add_argument("--good-looking", type=int, default=20, help="of each kind")
    parser.add_argument("--load", type=int, default=os.cpu_count() or 1, help="busy processes")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    base = resolve_checkpoint(f"{args.task}-base")
    with tempfile.TemporaryDirectory() as place, load(args.load):
        robot = Robot(args.task, Path(place) / "versions")
        result = {"task": args.task, "load": args.load}
        if args.bad:
            result["bad"] = bad_ones(robot, base, args.bad)
        if args.good_looking:
            result["good_looking"] = good_looking(robot, base, args.good_looking)
        if args.swaps:
            result["swaps"] = swaps(robot, base, args.swaps)
        robot.close()
    report(result, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
