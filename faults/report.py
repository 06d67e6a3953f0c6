"""What a campaign has shown: lines as it goes, and the table of docs/faults.md."""

from __future__ import annotations

import platform
import threading
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

from faults.fault import STOP

MARKS = "<!-- {name}: begin -->", "<!-- {name}: end -->"


class Report:
    """Takes what graphs tell, from any thread."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.outcomes: list[dict[str, Any]] = []
        self.skipped: dict[str, str] = {}
        self.errors: list[str] = []
        self.complete = 0
        self.lost: list[str] = []
        self.seconds = 0.0
        self._lock = threading.Lock()

    @property
    def problems(self) -> bool:
        """Whether anything was not as it must be."""
        failed = any(outcome["problems"] for outcome in self.outcomes)
        return failed or bool(self.errors) or bool(self.lost)

    def skip(self, subject: str, why: str) -> None:
        """Nothing of this subject can be injected here."""
        with self._lock:
            self.skipped[subject] = why
            print(f"left out: {subject}: {why}", flush=True)

    def take(self, stage: str, told: dict[str, Any]) -> None:
        """What a graph tells."""
        for subject, why in told.get("skipped", {}).items():
            self.skip(subject, why)
        with self._lock:
            if "outcome" in told:
                self.outcomes.append(told["outcome"])
                print(_line(told["outcome"]), flush=True)
            if "error" in told:
                self.errors.append(told["error"])
                print(f"{stage}: {told['error']}", flush=True)
            if "bags" in told:
                self.complete += told["bags"]["complete"]
                self.lost += told["bags"]["lost"]
                for lost in told["bags"]["lost"]:
                    print(f"{stage}: a complete episode is lost: {lost}", flush=True)
            self.seconds += told.get("seconds", 0.0)

    def summary(self) -> str:
        """A few lines for the end of the run."""
        failed = [outcome for outcome in self.outcomes if outcome["problems"]]
        kinds = sorted({outcome["fault"] for outcome in failed})
        lines = [
            f"{len(self.outcomes)} injections of {len({o['fault'] for o in self.outcomes})} kinds, "
            f"{len(failed)} not as they must be; {self.complete} complete episodes, "
            f"{len(self.lost)} lost",
            *(f"left out: {subject}: {why}" for subject, why in self.skipped.items()),
            *self.errors,
        ]
        for kind in kinds:
            of_kind = [outcome for outcome in failed if outcome["fault"] == kind]
            number = sum(outcome["fault"] == kind for outcome in self.outcomes)
            lines.append(f"{kind}: {len(of_kind)} of {number}: {of_kind[0]['problems'][0]}")
        return "\n".join(lines)

    def table(self) -> str:
        """The campaign as Markdown."""
        failed = sum(bool(outcome["problems"]) for outcome in self.outcomes)
        lines = [
            f"{heading(self.seed)}: "
            f"{len(self.outcomes)} injections of {len({o['fault'] for o in self.outcomes})} kinds, "
            f"{failed} not as they must be, {self.complete} complete episodes, "
            f"{len(self.lost)} lost.",
            "",
            "| fault | graph | injections | not as it must be | slowest stop, of its limit (s) | "
            "slowest return (s) |",
            "|---|---|---|---|---|---|",
        ]
        groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for outcome in self.outcomes:
            groups[outcome["fault"], outcome["stage"]].append(outcome)
        for (fault, stage), outcomes in sorted(groups.items()):
            bad = sum(bool(outcome["problems"]) for outcome in outcomes)
            stops = [o["stopped_s"] for o in outcomes if o["stopped_s"] is not None]
            stop = "-"
            if outcomes[0]["expect"] == STOP:
                slowest = f"{max(stops):.2f}" if stops else "never"
                stop = f"{slowest} of {outcomes[0]['allowed_s']:.2f}"
            returns = [o["recovered_s"] for o in outcomes if o["recovered_s"] is not None]
            back = f"{max(returns):.1f}" if returns else "stays stopped"
            lines.append(f"| {fault} | {stage} | {len(outcomes)} | {bad} | {stop} | {back} |")
        lines += ["", *(f"Left out: {subject}: {why}." for subject, why in self.skipped.items())]
        return "\n".join(lines).rstrip() + "\n"


def heading(seed: int) -> str:
    """When, where and with which seed something was measured."""
    return f"Seed {seed}, {date.today().isoformat()}, {_machine()}"


def save(text: str, page: Path, name: str) -> None:
    """Put `text` between the two marks of a page that are called `name`.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = (mark.format(name=name) for mark in MARKS)
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page}: '{begin}' and '{end}' are missing")
    page.write_text(f"{before}{begin}\n{text.rstrip()}\n{end}{after}")


def _line(outcome: dict[str, Any]) -> str:
    stop, back = outcome["stopped_s"], outcome["recovered_s"]
    words = [
        "FAILED" if outcome["problems"] else "ok    ",
        f"{outcome['stage']:8} {outcome['number']:4} {outcome['at_s']:7.1f} s",
        f"{outcome['fault']:46}",
        "no stop" if stop is None else f"stop {stop:.3f} s",
        "stays stopped" if back is None else f"back {back:.2f} s",
        f"held {outcome['held_s']:.2f} s",
    ]
    lines = [" ".join(words)]
    expected = f"expected: {outcome['expect']} within {outcome['allowed_s']:.2f} s"
    if outcome["problems"]:
        lines.append(f"       {expected}; seed {outcome['seed']}")
    lines += [f"       {problem}" for problem in outcome["problems"]]
    return "\n".join(lines)


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()
