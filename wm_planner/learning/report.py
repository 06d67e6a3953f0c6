"""What a round of learning has done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wm_planner.learning.gate import Errors


@dataclass(frozen=True)
class Report:
    """What a round has done.

    Attributes:
        number: of the round, from 1.
        episodes: learnt from or held out; failures: of them, by their outcome.
        model_steps: in all; operator_steps: of them, in which an operator drove.
        method: that was taken.
        before, after: errors of the version in use and of the new one.
        reason: why it failed the gate; '' when it was published.
        directory: where it lies.
    """

    number: int
    episodes: int
    failures: int
    model_steps: int
    operator_steps: int
    method: str
    before: Errors
    after: Errors
    reason: str
    directory: Path

    def line(self) -> str:
        """For people."""
        what = (
            f"kept aside in {self.directory}: {self.reason}"
            if self.reason
            else (f"published {self.directory}")
        )
        core = ""
        if self.before.core_set is not None and self.after.core_set is not None:
            core = f", on the core set {self.before.core_set:.3g} -> {self.after.core_set:.3g}"
        return (
            f"round {self.number}: {self.episodes} episodes ({self.failures} failed), "
            f"{self.method}; error on held-out ones {self.before.corrections:.3g} -> "
            f"{self.after.corrections:.3g} of what moved{core}; {what}"
        )
