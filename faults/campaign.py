"""Many injections into several graphs side by side."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from faults.fault import NETWORK, Fault
from faults.kinds import all_faults
from faults.network import hosts_of, make_hosts, remove_hosts
from faults.report import Report

EPISODE_EVERY = 6  # injections in one episode of the recorder


def faults_of(kind: str, skipped: Sequence[str] = ()) -> list[Fault]:
    """Faults that can be injected into a kind of graph."""
    return [f for f in all_faults() if kind in f.stages and f.subject not in skipped]


def schedule(faults: Sequence[Fault], count: int, seed: int) -> list[Fault]:
    """`count` faults: each in turn by its share, in an order that the seed decides."""
    rng = np.random.default_rng(seed)
    shares = np.array([fault.share for fault in faults])
    exact = shares / shares.sum() * count
    times = np.floor(exact).astype(int)
    for place in np.argsort(times - exact, kind="stable")[: count - times.sum()]:
        times[place] += 1
    drawn = [fault for fault, number in zip(faults, times, strict=True) for _ in range(number)]
    return [drawn[place] for place in rng.permutation(len(drawn))]


def run_stage(
    kind: str,
    directory: Path,
    domain: int,
    seed: int,
    count: int,
    only: str,
    tell: Callable[[dict], None],
) -> None:
    """Make the injections of one graph, and tell each outcome.

    Args:
        kind: of the graph.
        directory: for logs and bags.
        domain: ROS domain.
        seed: of what is drawn.
        count: of injections.
        only: faults whose name contains it; empty: all.
        tell: takes plain values.
    """
    from faults.bags import check_bags
    from faults.injection import inject
    from faults.stages import STAGES

    with STAGES[kind](directory, domain, seed) as stage:
        tell({"skipped": stage.skipped})
        if not stage.until(stage.driving, 90.0):
            words = {name: stage.processes.last_words(name) for name in stage.processes.commands}
            tell({"error": f"{kind}: the robot does not move: {words}"})
            return
        faults = [f for f in faults_of(kind, list(stage.skipped)) if only in f.name]
        if not faults:
            return
        began_s, begun = time.monotonic(), stage.processes.started
        for number, fault in enumerate(schedule(faults, count, seed)):
            if number % EPISODE_EVERY == 0:
                stage.begin_episode()
            outcome = inject(stage, fault, number, seed, began_s)
            tell({"outcome": asdict(outcome)})
            if number % EPISODE_EVERY == EPISODE_EVERY - 1:
                stage.end_episode()
                tell({"bags": check_bags(stage)})
        tell({"seconds": time.monotonic() - began_s, "starts": stage.processes.started - begun})


def main_of_stage(arguments: Sequence[str]) -> int:
    """Entry point of the process of one graph: JSON lines on stdout."""
    kind, directory, domain, seed, count, only = arguments

    def tell(values: dict) -> None:
        print(json.dumps(values), flush=True)

    run_stage(kind, Path(directory), int(domain), int(seed), int(count), only, tell)
    return 0


class Campaign:
    """Runs graphs side by side, each as a process of its own, and reports what they tell.

    Args:
        output: directory; each graph has one below it.
        seed: of all that is drawn.
        domain: first ROS domain; each graph has the next one.
        only: faults whose name contains it; empty: all.
        report: takes what the graphs tell.
    """

    def __init__(self, output: Path, seed: int, domain: int, only: str, report: Report) -> None:
        self._output, self._seed, self._domain = output, seed, domain
        self._only, self._report = only, report

    def run(self, lanes: Sequence[Sequence[tuple[str, int]]]) -> None:
        """Run lanes of (kind, injections) side by side, the graphs of a lane one after the other."""
        threads, domain = [], self._domain
        for lane in lanes:
            domains = range(domain, domain + len(lane))
            domain += len(lane)
            thread = threading.Thread(target=self._run_lane, args=(lane, domains))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def _run_lane(self, lane: Sequence[tuple[str, int]], domains: Sequence[int]) -> None:
        for (kind, count), domain in zip(lane, domains, strict=True):
            if kind == NETWORK:
                try:
                    remove_hosts(domain)
                    make_hosts(domain)
                except OSError as error:
                    self._report.skip("network", f"two hosts need root: {error}")
                    continue
            try:
                self._run(kind, count, domain)
            finally:
                if kind == NETWORK:
                    remove_hosts(domain)

    def _run(self, kind: str, count: int, domain: int) -> None:
        directory = self._output / kind
        directory.mkdir(parents=True, exist_ok=True)
        seed = self._seed * 1000 + domain
        words = [kind, str(directory), str(domain), str(seed), str(count), self._only]
        command = [sys.executable, "-m", "faults", "stage", *words]
        if kind == NETWORK:  # on the robot's host
            command = ["ip", "netns", "exec", hosts_of(domain)[0], *command]
        log = directory / "campaign.log"
        with log.open("w") as stream:
            stage = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True)
            assert stage.stdout is not None
            for line in stage.stdout:
                self._report.take(kind, json.loads(line))
        if stage.wait():
            lines = log.read_text(errors="replace").splitlines()[-3:]
            self._report.take(kind, {"error": f"the graph ended early: {' | '.join(lines)}"})
