"""The one training loop: updates, metrics, saved states, interruption, and an end at a NaN."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from wm_planner.errors import TrainingError, WriteError
from wm_planner.models.fast.library import library
from wm_planner.provenance import provenance
from wm_planner.training.learner import Learner
from wm_planner.training.machine import Machine
from wm_planner.training.run_directory import (
    Reserve,
    RunLog,
    load_state,
    random_state,
    save_batch,
    save_state,
    set_random_state,
)

logger = logging.getLogger(__name__)
_MAX_NORM = 1.0  # of the gradient, clipped


class _Loss(nn.Module):
    """The loss as a module, which is what is shared by processes."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.module = learner.module
        self._loss = learner.loss

    def forward(self, step: int, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return self._loss(step, *batch)


def fit(learner: Learner, config: dict[str, Any], output: Path, machine: Machine) -> dict[str, Any]:
    """Train `learner` to the end of its schedule; log and save into `output`.

    Args:
        learner: on `machine.device` already.
        config: everything that the result depends on, as plain values.
        output: run directory; must not hold a run unless `machine.resume`.
        machine: device, processes, and how often to save.

    Returns:
        'command', 'commit' and 'minutes', for the checkpoint's card.

    Raises:
        ConfigError: the directory cannot be used (see `RunLog`).
        TrainingError: a loss or gradient is not finite; weights are as before that update.
        WriteError: the disk has no room for the run's state.
        SystemExit: after SIGTERM, KeyboardInterrupt: after SIGINT; the state is saved.
    """
    return _Fit(learner, config, Path(output), machine).run()


class _Fit:
    def __init__(
        self, learner: Learner, config: dict[str, Any], output: Path, machine: Machine
    ) -> None:
        self.learner, self.output, self.machine = learner, output, machine
        self.group = machine.group
        self.log: RunLog | None = None
        if machine.writes:
            config = {**config, "machine": machine.describe()}
            self.log = RunLog(output, config, machine.resume, machine.tensorboard)
            self.reserve = Reserve(output, learner.module)
        self.group.wait()
        self.loss: nn.Module = _Loss(learner)
        if self.group.size > 1:
            self.loss = DistributedDataParallel(self.loss)
        groups = learner.parameter_groups()
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer, self.schedule = learner.schedule.build(groups)

    def run(self) -> dict[str, Any]:
        total = self.learner.schedule.num_updates
        first = self._restore()
        bar = tqdm(
            range(first, total),
            desc=self.learner.name,
            unit="update",
            initial=first,
            total=total,
            disable=not (self.machine.writes and self.machine.bar),
        )
        self._saved_s = time.monotonic()
        try:
            with Interrupt() as interrupt:
                for step in bar:
                    terms = self._update(step)
                    if step % self.learner.log_every == 0 or step == total - 1:
                        self._report(step, terms, bar)
                    self._save_if_due(step + 1, interrupt)
            self._save(total, last=True)  # what comes next may fail
            return {**provenance(), "minutes": round(self._minutes, 1)}
        finally:
            bar.close()
            if self.log is not None:
                self.log.close()
                self.reserve.release()

    def _update(self, step: int) -> dict[str, Tensor]:
        batch = tuple(x.to(self.machine.device) for x in self.learner.batch(step))
        with library(self.learner.library):
            device = self.machine.device.type
            with torch.autocast(device, torch.bfloat16, enabled=self.machine.bf16):
                terms = self.loss(step, batch)
            self.optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, _MAX_NORM)
        finite = bool(torch.isfinite(terms["loss"].detach()) & torch.isfinite(norm))
        bad = torch.tensor(float(not finite), device=self.machine.device)
        if self.group.total(bad) > 0:
            self._stop(step, terms, batch)
        self.optimizer.step()
        self.schedule.step()
        return {**terms, "gradient_norm": norm}

    def _report(self, step: int, terms: dict[str, Tensor], bar: Any) -> None:
        shared = self.group.mean(torch.stack([value.detach().float() for value in terms.values()]))
        values = dict(zip(terms, shared.tolist(), strict=True))
        values |= self.learner.evaluate()
        if self.log is not None:
            self.log.write(step, **values)
        bar.set_postfix({name: f"{value:.4f}" for name, value in values.items()})

    def _save_if_due(self, step: int, interrupt: Interrupt) -> None:
        """All processes agree: the first one's clock, and whoever was told to stop."""
        due = time.monotonic() - self._saved_s >= self.machine.save_minutes * 60
        wishes = [float(interrupt.number > 0), float(due and self.machine.writes)]
        stop, save = self.group.total(torch.tensor(wishes, device=self.machine.device)).tolist()
        if stop or save:
            self._save(step, last=stop > 0)
        if stop:
            if self.machine.writes and self.machine.bar:
                logger.warning("stopped after update %d; --resume goes on from there", step)
            interrupt.leave()

    def _save(self, step: int, last: bool = False) -> None:
        """Save the state; a full disk ends the training where it ends anyway."""
        random = self.group.gather(random_state(self.machine.device))
        if self.log is not None:
            state = {
                "step": step,
                "minutes": self._minutes,
                "weights": self.learner.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "random": random,
                "learner": self.learner.state(),
            }
            if last:
                self.reserve.release()
            try:
                save_state(self.output, state)
            except WriteError as error:
                if last:
                    raise
                logger.warning("%s; training goes on, without a state of update %d", error, step)
        self._saved_s = time.monotonic()

    def _restore(self) -> int:
        """Take up the saved state, if any; return the first update to make."""
        state = load_state(self.output, self.group) if self.machine.resume else None
        first, minutes = 0, 0.0
        if state is not None:
            first, minutes = state["step"], state["minutes"]
            self.learner.module.load_state_dict(state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.learner.set_state(state["learner"])
            set_random_state(state["random"][self.group.rank], self.machine.device)
        if self.log is not None:
            self.log.rewind(first, minutes)
        if first:
            logger.info("%s: goes on after update %d", self.output, first)
        return first

    def _stop(self, step: int, terms: dict[str, Tensor], batch: tuple[Tensor, ...]) -> None:
        self._save(step, last=True)
        file = save_batch(self.output, step, self.group.rank, batch)
        values = ", ".join(f"{name} {float(value.detach()):g}" for name, value in terms.items())
        raise TrainingError(
            f"{file}: this batch of update {step} gave {values}, or a gradient that is not "
            f"finite; look for damaged data in it, or lower the learning rate. {self.output} "
            "keeps the weights before it, and --resume goes on behind it"
        )

    @property
    def _minutes(self) -> float:
        return 0.0 if self.log is None else self.log.minutes


class Interrupt:
    """Remembers SIGTERM and SIGINT between updates; a second one acts at once."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._before[number])

    def leave(self) -> None:
        """End the process as the signal asked."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)
