"""The rows of the table: what is measured, on which model, against what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.hand_over import HandOver
from benchmarks.recordings import record
from benchmarks.released import cross_entropy
from benchmarks.subjects import SHIPPED, Subject, full_size, shipped
from benchmarks.training import OurTraining, ReleasedTraining
from wm_planner.models.fast.library import has_bfloat16
from wm_planner.planning import Session
from wm_planner.types import Observation

HORIZON = 5
ROLLOUTS = ("markov", "history")
_HAND_OVERS = 51
Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: what is done.
        subject: model.
        sizes: of the work, for people.
        prepare: gives the alternatives by name; ratios are to the first, which is the released
            procedure unless the note says otherwise. Called with an empty directory that goes when
            the row is done. An ImportError leaves the row out.
        rounds: times that each is run.
        note: how the numbers are to be read.
    """

    name: str
    subject: str
    sizes: str
    prepare: Callable[[Path], dict[str, Run]]
    rounds: int
    note: str = ""


@dataclass(frozen=True)
class Amount:
    """How much is done: everything, or what fits two minutes on two cores."""

    rounds: int = 9
    full_rounds: int = 5
    plan_iterations: int = 100
    full_plan_iterations: int = 100
    samples: int = 300
    full_samples: int = 300
    refits: int = 30
    full_refits: int = 30
    batch: int = 32
    full_batch: int = 4
    shipped: tuple[str, ...] = field(default=SHIPPED)
    published_refits: int = 30  # where gradients stand in for CEM, on every machine


FULL = Amount()
# A CPU takes hours for the published amount; of CEM the time goes with samples and refits.
CPU = Amount(full_plan_iterations=3, full_samples=4, full_refits=1, refits=1, full_batch=2)
QUICK = Amount(5, 2, 20, 1, 64, 2, 3, 1, 8, 1, ("wall",), 2)


def cases(amount: Amount, device: str, only: str = "") -> Iterator[Case]:
    """All rows whose name or model contains `only`; models are built as they are needed."""
    for name in ("full", *amount.shipped):
        bundle = full_size(device=device) if name == "full" else shipped(name, device)
        for case in _of(Subject.of(name, bundle), amount, bundle.device):
            if only in case.name or only in case.subject:
                yield case


def _of(subject: Subject, amount: Amount, device: torch.device) -> Iterator[Case]:
    full = subject.name == "full"
    rounds = amount.full_rounds if full else amount.rounds
    batch = amount.full_batch if full else amount.batch
    precisions = ["float32"]
    if full and has_bfloat16(device):
        precisions.append("bfloat16")
    make = _Make(subject, rounds, precisions)
    yield make.encode()
    yield make.predict()
    for rollout in ROLLOUTS if subject.bundle.model.config.num_hist > 1 else ROLLOUTS[:1]:
        yield make.iteration(rollout)
    iterations = amount.full_plan_iterations if full else amount.plan_iterations
    yield make.plan(iterations)
    yield make.restarts(4 if full and device.type == "cpu" else 16, iterations)
    if not full:
        yield make.replan()
        yield make.camera()
        yield make.hand_over()
        yield make.against_cem(amount.samples, amount.published_refits)
    yield make.cem(
        *((amount.full_samples, amount.full_refits) if full else (amount.samples, amount.refits))
    )
    yield make.training(batch)


@dataclass(frozen=True)
class _Make:
    subject: Subject
    rounds: int
    precisions: list[str]

    def _case(self, name: str, sizes: str, runs: dict[str, Run], note: str = "") -> Case:
        return Case(name, self.subject.name, sizes, lambda _: runs, self.rounds, note)

    def encode(self) -> Case:
        subject, (images, proprio) = self.subject, self.subject.images()
        session = subject.session()

        @torch.no_grad()
        def plain() -> object:
            return subject.plain.encode(images, proprio)

        def ours() -> object:
            with session.planner.engine.encoding():
                return subject.bundle.model.encode(images, proprio)

        return self._case("encode", "1 image", {"released": plain, "float32": ours})

    def predict(self) -> Case:
        subject = self.subject
        now = subject.bundle.encode_observation(subject.observation)
        z = subject.bundle.model.assemble(now, subject.start(1)).detach()
        runs: dict[str, Run] = {"released": torch.no_grad()(lambda: subject.plain.predictor(z))}
        for precision in self.precisions:
            engine = subject.session(precision=precision).planner.engine

            @torch.no_grad()
            def ours(engine=engine) -> object:  # type: ignore[no-untyped-def]
                with engine.products():
                    return engine.predict(z[:, 0])

            runs[precision] = ours
        return self._case("predict", "1 frame", runs)

    def iteration(self, rollout: str) -> Case:
        runs: dict[str, Run] = {"released": self.subject.plain_descent(HORIZON, rollout).step}
        for precision in self.precisions:
            descent = self.subject.descent(HORIZON, rollout=rollout, precision=precision)
            runs[precision] = descent.step
        plain = self.subject.descent(HORIZON, rollout=rollout, execution="plain")
        runs["plain path"] = plain.step
        return self._case(f"iteration, {rollout}", f"H={HORIZON}", runs)

    def plan(self, iterations: int) -> Case:
        subject = self.subject
        runs = {"released": _released(subject, iterations)}
        for precision in self.precisions:
            session = subject.session(
                num_iterations=iterations, horizon=HORIZON, precision=precision
            )
            runs[precision] = lambda session=session: session.plan(subject.observation)
        return self._case(f"plan of {iterations}", f"H={HORIZON}", runs, "with encoding")

    def restarts(self, count: int, iterations: int) -> Case:
        runs: dict[str, Run] = {}
        for starts in (1, count):
            session = self.subject.session(
                num_restarts=starts, num_iterations=iterations, horizon=HORIZON
            )
            runs[f"{starts} starts"] = lambda session=session: session.plan(
                self.subject.observation
            )
        sizes = f"H={HORIZON}, {iterations} iterations"
        return self._case("restarts", sizes, runs, "against 1 start")

    def replan(self) -> Case:
        return self._closed_loop("warm replan", None)

    def camera(self) -> Case:
        return self._closed_loop("camera to plan", (480, 640))

    def _closed_loop(self, name: str, camera: tuple[int, int] | None) -> Case:
        """Plans as the node makes them, each from the last."""
        subject = Subject.of(self.subject.name, self.subject.bundle, camera)
        count, ours = _replanning(subject)
        sizes = f"H={HORIZON}, {count} iterations"
        return self._case(name, sizes, {"released": _released(subject, count), "shipped": ours})

    def against_cem(self, samples: int, refits: int) -> Case:
        """What a plan by gradients costs beside one by CEM, which starts anew every time."""
        session = _cem(self.subject, samples, refits)
        count, ours = _replanning(self.subject)
        runs = {
            f"CEM {samples} x {refits}": lambda: session.plan(self.subject.observation),
            f"{count} steps": ours,
        }
        sizes = f"H={HORIZON}"
        return self._case("gradient for CEM", sizes, runs, "warm replan against our own CEM")

    def cem(self, samples: int, refits: int) -> Case:
        subject, elites = self.subject, _elites(samples)

        def plain() -> object:
            images, start = subject.images(), subject.start(HORIZON)[0]
            goal = subject.plain_goal()
            return cross_entropy(
                subject.plain, *images, goal, start, "markov", samples, elites, refits
            )

        runs: dict[str, Run] = {"released": plain}
        for precision in self.precisions:
            session = _cem(subject, samples, refits, horizon=HORIZON, precision=precision)
            runs[precision] = lambda session=session: session.plan(subject.observation)
        return self._case("CEM plan", f"{samples} x {refits}, H={HORIZON}", runs)

    def hand_over(self) -> Case:
        def prepare(_directory: Path) -> dict[str, Run]:
            return {"shipped": HandOver(self.subject).replan}

        note = "image message to plan message with a planner that answers at once; no network"
        return Case("beside the plan", self.subject.name, "", prepare, _HAND_OVERS, note)

    def training(self, batch: int) -> Case:
        subject = self.subject

        def prepare(directory: Path) -> dict[str, Run]:
            side = subject.bundle.preprocess.image_size
            data = record(subject.bundle.embodiment.name, directory / "data", side)
            runs: dict[str, Run] = {
                "released": ReleasedTraining(subject, data, batch, True).step,
                "no decoder": ReleasedTraining(subject, data, batch, False).step,
            }
            for precision in self.precisions:
                run = directory / precision
                ours = OurTraining(subject, data, batch, run, precision == "bfloat16")
                runs[precision] = ours.step
            return runs

        note = (
            "released: whole files of images read, every frame encoded, the decoder trained beside "
            "(or not); ours: from frames encoded once before, which is not counted"
        )
        return Case("training step", subject.name, f"batch {batch}", prepare, self.rounds, note)


def _elites(samples: int) -> int:
    """The published share of CEM's samples."""
    return max(2, samples // 10)


def _cem(subject: Subject, samples: int, refits: int, **settings: object) -> Session:
    return subject.session(
        solver="cem",
        num_samples=samples,
        num_elites=_elites(samples),
        num_iterations=refits,
        **settings,
    )


def _released(subject: Subject, iterations: int) -> Run:
    """A plan by the released procedure."""

    def plan() -> None:
        descent = subject.plain_descent(HORIZON, "markov")
        for _ in range(iterations):
            descent.step()

    return plan


def _replanning(subject: Subject) -> tuple[int, Run]:
    """Iterations of a warm plan of the shipped settings, and what makes the next one."""
    session = subject.session(warm_start=True)
    period_ns = session.planner.dt_ns * subject.bundle.preprocess.frame_skip
    seen, turn = subject.observation, [0]
    session.plan(seen)

    def replan() -> None:
        turn[0] += 1
        session.plan(Observation(seen.images, seen.proprio, turn[0] * period_ns))

    return session.planner.config.iterations(True), replan
