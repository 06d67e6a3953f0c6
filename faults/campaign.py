"""Many injections into several graphs side by side."""

from __future__ import annotations

import faulthandler
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from faults.fault import NETWORK, REMOTE, Fault
from faults.kinds import all_faults
from faults.network import hosts_of, make_hosts, remove_hosts
from faults.report import Report

# Injections in the life of a graph: what one graph cannot be freed of ends with it.
ROUND = 60


@dataclass(frozen=True)
class Part:
    """What one graph does.

    Attributes:
        kind: of the graph.
        count: of injections.
        only: faults that are `chosen`; empty: all.
        per_episode: injections in one episode of the recorder.
        slack_s: see `Stage`.
        first: number of the first injection: a graph lives for `ROUND` of them.
    """

    kind: str
    count: int
    only: str = ""
    per_episode: int = 6
    slack_s: float = 0.0
    first: int = 0


def faults_of(kind: str, skipped: Sequence[str] = ()) -> list[Fault]:
    """Faults that can be injected into a kind of graph."""
    return [f for f in all_faults() if kind in f.stages and f.subject not in skipped]


def chosen(only: str, name: str) -> bool:
    """Whether a fault's name contains one of the texts of `only`, between which stands a '|'."""
    return any(text in name for text in only.split("|"))


def schedule(faults: Sequence[Fault], count: int, seed: int) -> list[Fault]:
    """`count` faults: each once, the rest by their shares, in an order that the seed decides."""
    rng = np.random.default_rng(seed)
    shares = np.array([fault.share for fault in faults])
    once = int(count >= len(faults))
    exact = shares / shares.sum() * (count - once * len(faults))
    times = np.floor(exact).astype(int) + once
    for place in np.argsort(times - once - exact, kind="stable")[: count - times.sum()]:
        times[place] += 1
    drawn = [fault for fault, number in zip(faults, times, strict=True) for _ in range(number)]
    return [drawn[place] for place in rng.permutation(len(drawn))]


def run_stage(
    part: Part, directory: Path, domain: int, seed: int, tell: Callable[[dict], None]
) -> None:
    """Make the injections of one graph, from `part.first` on, and tell each outcome.

    Args:
        part: what is injected.
        directory: for logs and bags.
        domain: ROS domain.
        seed: of what is drawn.
        tell: takes plain values.
    """
    from faults.bags import check_bags
    from faults.injection import inject
    from faults.stages import STAGES

    with STAGES[part.kind](directory, domain, seed, part.slack_s) as stage:
        tell({"skipped": stage.skipped})
        if not stage.until(stage.whole, 90.0):
            words = {name: stage.processes.last_words(name) for name in stage.processes.commands}
            tell({"error": f"the robot does not move: {words}"})
            return
        faults = [f for f in faults_of(part.kind, list(stage.skipped)) if chosen(part.only, f.name)]
        if not faults:
            return
        began_s, begun = time.monotonic(), stage.processes.started
        drawn = schedule(faults, part.count, seed)
        for number, fault in list(enumerate(drawn))[part.first : part.first + ROUND]:
            if number % part.per_episode == 0:
                stage.begin_episode()
            outcome = inject(stage, fault, number, seed, began_s)
            tell({"outcome": asdict(outcome), "next": number + 1})
            if stage.lost:
                break  # a new graph goes on
            if number % part.per_episode == part.per_episode - 1:
                stage.end_episode()
                tell({"bags": check_bags(stage)})
        tell({"seconds": time.monotonic() - began_s, "starts": stage.processes.started - begun})


def main_of_stage(arguments: Sequence[str]) -> int:
    """Entry point of the process of one graph: JSON lines on stdout."""
    faulthandler.register(signal.SIGUSR1)  # prints where every thread is
    part, directory, domain, seed = arguments

    def tell(values: dict) -> None:
        print(json.dumps(values), flush=True)

    run_stage(Part(**json.loads(part)), Path(directory), int(domain), int(seed), tell)
    return 0


class Campaign:
    """Runs graphs side by side, each as a process of its own, and reports what they tell.

    Args:
        output: directory; each graph has one below it.
        seed: of all that is drawn.
        domain: first ROS domain; each graph has the next one.
        report: takes what the graphs tell.
    """

    def __init__(self, output: Path, seed: int, domain: int, report: Report) -> None:
        self._output, self._seed, self._domain = output, seed, domain
        self._report = report

    def run(self, lanes: Sequence[Sequence[Part]]) -> None:
        """Run lanes side by side, and the graphs of a lane one after the other."""
        threads, domain = [], self._domain
        for lane in lanes:
            domains = range(domain, domain + len(lane))
            domain += len(lane)
            thread = threading.Thread(target=self._run_lane, args=(lane, domains))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def _run_lane(self, lane: Sequence[Part], domains: Sequence[int]) -> None:
        for part, domain in zip(lane, domains, strict=True):
            if part.kind in (NETWORK, REMOTE):
                try:
                    remove_hosts(domain)
                    make_hosts(domain)
                except OSError as error:
                    self._report.skip("network", f"two hosts need root: {error}")
                    continue
            try:
                first = 0
                while first < part.count:
                    # One that cannot even begin is told of, and its injections are left out.
                    first = max(self._run(replace(part, first=first), domain), first + 1)
            finally:
                if part.kind in (NETWORK, REMOTE):
                    remove_hosts(domain)

    def _run(self, part: Part, domain: int) -> int:
        """Run one graph; the number of the injection that the next one begins with."""
        following = part.first + ROUND
        directory = self._output / f"{part.kind}-{domain}-{part.first}"
        directory.mkdir(parents=True, exist_ok=True)
        seed = self._seed * 1000 + domain
        words = [json.dumps(asdict(part)), str(directory), str(domain), str(seed)]
        command = [sys.executable, "-m", "faults", "stage", *words]
        if part.kind in (NETWORK, REMOTE):  # on the robot's host
            command = ["ip", "netns", "exec", hosts_of(domain)[0], *command]
        log = directory / "campaign.log"
        with log.open("w") as stream:
            stage = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True)
            assert stage.stdout is not None
            for line in stage.stdout:
                told = json.loads(line)
                self._report.take(part.kind, told)
                following = told.get("next", following)
        if stage.wait():
            lines = log.read_text(errors="replace").splitlines()[-3:]
            self._report.take(part.kind, {"error": f"the graph ended early: {' | '.join(lines)}"})
        return following
