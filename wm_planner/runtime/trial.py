"""A new checkpoint on trial: what it expects against what comes, beside the one before it."""

from __future__ import annotations

from dataclasses import dataclass, field

WORSE = 1.1  # times the error of the one before it
_NOTHING = 1e-12  # of a latent: nothing has moved

RUNNING, KEPT, WORSE_THAN_BEFORE = "on trial", "kept", "worse"


@dataclass
class Trial:
    """Errors of two models on the same steps, each as a share of what moved in its own latent.

    Attributes:
        steps: how many steps decide.
    """

    steps: int
    _errors: list[tuple[float, float]] = field(default_factory=list)
    _moved: list[tuple[float, float]] = field(default_factory=list)

    def add(self, errors: tuple[float, float], moved: tuple[float, float]) -> str:
        """Take one step; the verdict.

        Args:
            errors: mean squared errors of what the new and the old model expected.
            moved: mean squared changes of their latents meanwhile.
        """
        self._errors.append(errors)
        self._moved.append(moved)
        if len(self._errors) < self.steps:
            return RUNNING
        new, old = self.errors
        return KEPT if new <= WORSE * old else WORSE_THAN_BEFORE

    @property
    def done(self) -> int:
        """Steps so far."""
        return len(self._errors)

    @property
    def errors(self) -> tuple[float, float]:
        """Of the new and the old model so far: 1 is that of expecting that nothing moves."""
        new, old = (
            sum(error[i] for error in self._errors) / max(sum(m[i] for m in self._moved), _NOTHING)
            for i in range(2)
        )
        return new, old
