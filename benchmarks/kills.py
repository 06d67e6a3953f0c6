"""What is left on the disk when learner, planner or recorder are killed at any moment.

``python -m benchmarks.kills BAGS --checkpoint wall-base`` runs each of them in a process of its own
on bags that were recorded before, ends it with SIGKILL after a random time, looks at what it left,
and lets the next one go on from there.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.report import report
from benchmarks.swaps import Robot, noise, publish
from wm_planner.data.bags import Bag, bags_in
from wm_planner.data.layouts import BAG_METADATA
from wm_planner.errors import DatasetError
from wm_planner.files import read_json
from wm_planner.learning.rounds import Rounds
from wm_planner.learning.settings import Learning
from wm_planner.models.catalog import resolve_checkpoint
from wm_planner.models.checkpoint import check_weights, load_bundle
from wm_planner.models.versions import versions
from wm_planner.runtime.recorder import EpisodeRecorder

QUICK = Learning(every=1, num_updates=2, batch_size=8)  # most of its time goes to files


def killed(work: Callable[[], object], after_s: float) -> bool:
    """Run in another process and kill it; False where it had ended before."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def learner(place: Path, bags: Sequence[Path], checkpoint: str, count: int, seed: int = 0) -> dict:
    """Rounds of two updates over a directory that grows; it must go on after each kill."""
    rng, told = random.Random(seed), Counter[str]()
    fed, output, longest = place / "fed", place / "learnt", 0.0
    fed.mkdir()

    def work() -> None:
        rounds = Rounds(fed, checkpoint, output, QUICK)
        while rounds.work() is not None:
            pass

    left = list(bags)
    number = -1
    while told["killed"] < count:
        number += 1
        if not left:
            left, told["fresh starts"] = list(bags), told["fresh starts"] + 1
            shutil.rmtree(fed), shutil.rmtree(output, ignore_errors=True)
            fed.mkdir()
        bag = left.pop(0)
        (fed / bag.name).symlink_to(bag.resolve())
        if number < 2:  # the first is alone; the second says how long a kill may wait
            begin = time.perf_counter()
            work()
            longest = time.perf_counter() - begin
            continue
        told["killed"] += killed(work, rng.uniform(0.0, longest))
        newest = versions(output / "versions")
        if newest:
            told["newest version loads"] += bool(_loads(newest[0]))
        else:
            told["no version yet"] += 1
        if (output / "learn.json").is_file():
            told["state is readable"] += "round" in read_json(output / "learn.json")
    before = len(versions(output / "versions"))
    work()
    after = len(versions(output / "versions"))
    told["goes on at the end"] = after > 0 and before <= after
    return dict(told)


def planner(place: Path, checkpoint: str, task: str, count: int, seed: int = 0) -> dict:
    """Each beginning finds a version, every other one worse than before; the newest must load."""
    rng, told, base = random.Random(seed), Counter[str](), resolve_checkpoint(checkpoint)
    directory = place / "versions"

    def work() -> None:
        robot = Robot(task, directory, seed)
        while True:
            robot.step()

    for number in range(count):
        publish(directory, noise if number % 2 else lambda _bundle: None, base)
        told["killed"] += killed(work, rng.uniform(0.0, 6.0))
        for version in versions(directory):
            told["versions that load"] += bool(_loads(version))
        for mark in directory.glob("*.rejected.json"):
            told["marks that are readable"] += "reason" in read_json(mark)
        told["marks"] += len(list(directory.glob("*.rejected.json")))
        told["versions"] += len(versions(directory))
        for old in versions(directory)[2:]:
            shutil.rmtree(old)
    return dict(told)


def recorder(place: Path, bags: Sequence[Path], count: int, seed: int = 0) -> dict:
    """Episodes as they were recorded, one after the other; the closed ones must be whole."""
    rng, told = random.Random(seed), Counter[str]()
    sources = [list(Bag(bag).messages()) for bag in bags[:5]]

    def work() -> None:
        recording = EpisodeRecorder(place / "bags")
        while True:
            for number, messages in enumerate(sources):
                first, last = messages[0].stamp_ns, messages[-1].stamp_ns
                recording.start(f"{number}", first)
                for at, message in enumerate(messages):
                    recording.add(message.topic, message.msgtype, message.data, message.stamp_ns)
                    if at % 30 == 29:
                        recording.flush()
                recording.end(last)

    for _ in range(count):
        told["killed"] += killed(work, rng.uniform(0.0, 0.5))
        for bag in bags_in(place / "bags") if (place / "bags").is_dir() else []:
            closed = (bag / BAG_METADATA).is_file()
            name = "complete" if closed else "cut off"
            told[name] += 1
            recorded = Bag(bag)
            try:
                found = len(list(recorded.messages()))
            except DatasetError:
                continue
            wanted = len(sources[int(bag.name.partition("_")[0])])
            whole = found == wanted and not recorded.damage
            told[f"{name}, whole" if closed else f"{name}, readable"] += whole or not closed
        shutil.rmtree(place / "bags", ignore_errors=True)
    return dict(told)


def _loads(version: Path) -> bool:
    bundle = load_bundle(version)
    check_weights(bundle.model, version)
    return True


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", allow_abbrev=False)
    parser.add_argument("bags", type=Path)
    parser.add_argument("--checkpoint", default="wall-base")
    parser.add_argument("--task", default="wall")
    parser.add_argument("--learner", type=int, default=100, help="kills")
    parser.add_argument("--planner", type=int, default=100, help="kills")
    parser.add_argument("--recorder", type=int, default=100, help="kills")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    bags = bags_in(args.bags)
    result = {}
    for name, work in (
        ("recorder", lambda place: recorder(place, bags, args.recorder)),
        ("learner", lambda place: learner(place, bags, args.checkpoint, args.learner)),
        ("planner", lambda place: planner(place, args.checkpoint, args.task, args.planner)),
    ):
        if getattr(args, name):
            with tempfile.TemporaryDirectory() as place:
                result[name] = work(Path(place))
            print(f"{name}: {result[name]}", file=sys.stderr, flush=True)
    report(result, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
