"""Rounds of learning: new episodes, finetuning, the gate, and a version that is published.

Every round begins with the given checkpoint and learns from all episodes so far, so that it depends
on nothing but them: errors of one round do not add up in the next, and a round that was killed is
simply made again.

Where the pictures are unlike those of the training, because a camera was moved, the light has
changed or something else stands in the scene, a round first puts them back (see `registration`).
That alone is a new version, unless the robot has changed as well.
"""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from wm_planner.config import Natural, Weight, check_at_least, to_dict
from wm_planner.errors import ConfigError
from wm_planner.files import read_json, write_json
from wm_planner.learning.episodes import Episode, Episodes
from wm_planner.learning.gate import (
    Errors,
    error,
    errors,
    probe_plans,
    reason_against,
    usual_surprise,
)
from wm_planner.learning.registration import with_registration, without_registration
from wm_planner.models.bundle import Bundle
from wm_planner.models.catalog import CARD, VERSIONS, read_card, resolve_checkpoint
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.core_set import CoreSet, load_core_set
from wm_planner.models.versions import next_version, versions
from wm_planner.training.adversarial import Adversarial
from wm_planner.training.loop import fit
from wm_planner.training.machine import Machine
from wm_planner.training.model import TransitionTraining
from wm_planner.training.segments import ReplayLearner, Segments, joined, of_stretches

METHODS = ("base", "online", "adversarial", "all")
FAILED, SCRATCH, STATE = "failed", ".round", "learn.json"
REGISTRATION = "registration"  # the method that changes how pictures are seen, and no weights
HELD_OUT = 5  # of so many episodes, or stretches of the core set, one is not trained on
SHARES = (1.0, 0.85, 0.7, 0.5, 0.3)  # of a change of weights, that are tried
NEWEST = 10  # episodes that show how the cameras stand now
# Of the error with the registration alone: a finetuned model, which forgets, must err less than so
# much to be preferred.
WORTH = 0.7


@dataclass(frozen=True)
class Learning(TransitionTraining):
    """Settings of `wm-planner learn`.

    Attributes:
        method: 'online' mixes recorded episodes and the core set by `recorded_share`;
            'adversarial' does so on perturbed inputs; 'base' draws from both as they are; 'all'
            tries each of these and takes the best that passes the gate.
        every: new episodes that begin a round; at least 2 in all, one of which is held out.
        recorded_share: share of recorded windows in a batch.
        most_forgotten: by which factor the error on the core set may grow.
        keep: versions and failures that stay on the disk, the newest.
        adversarial: the adversary.
    """

    method: str = "online"
    every: Natural = 10
    recorded_share: float = 0.7
    most_forgotten: Weight = 5.0
    keep: Natural = 10
    num_updates: Natural = 120
    rollout_fraction: float = 1.0
    learning_rate: Weight = 1e-4
    # A motor that has changed is learnt by the action embedding, which has few numbers.
    embedding_learning_rate: Weight | None = 3e-2
    adversarial: Adversarial = field(default_factory=Adversarial)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, every=1, keep=2)
        if self.method not in METHODS:
            raise ValueError(f"unknown method '{self.method}'; choices: {', '.join(METHODS)}")
        if not 0 < self.recorded_share <= 1 or not self.most_forgotten >= 1:
            raise ValueError(
                "recorded_share must be in (0, 1] and most_forgotten at least 1, got "
                f"{self.recorded_share}, {self.most_forgotten}"
            )


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


class Rounds:
    """Learns from a directory of bags, round after round.

    Args:
        bags: directory that receives the bags.
        checkpoint: shipped name or directory.
        output: receives ``versions/``, ``failed/``, the converted episodes, and ``learn.json``.
        config: settings.

    Attributes:
        notes: what is missing, for people.

    Raises:
        ConfigError: `output` belongs to another checkpoint.
        CheckpointError: the checkpoint cannot be used.
    """

    def __init__(self, bags: Path, checkpoint: str, output: Path, config: Learning) -> None:
        self.config, self.output = config, output
        self._base_directory = resolve_checkpoint(checkpoint)
        card = read_card(self._base_directory / CARD)
        self._base = without_registration(load_bundle(self._base_directory))
        self._sha256 = str(card["sha256"])
        self._core = load_core_set(self._base_directory, card)
        self.notes = []
        if self._core is None:
            self.notes.append(
                f"{self._base_directory}: has no core set, so nothing keeps the model from "
                "forgetting what it knew; 'wm-planner calibrate CHECKPOINT --data DATA --core-set' "
                "makes one of the training data"
            )
        state = self._state()
        if state.get("checkpoint", self._sha256) != self._sha256:
            raise ConfigError(
                f"{output}: learns from another checkpoint, {state.get('name')}; choose another "
                "--output"
            )
        self._bags = bags
        self.episodes = self._episodes_of(self._base)
        self._machine = Machine(bar=False)

    def work(self) -> Report | None:
        """Convert what is new; make a round where there is enough of it.

        Raises:
            WmPlannerError: the disk is full, or the settings make the training diverge.
        """
        self.episodes.convert()
        state = self._state()
        known = [str(name) for name in state.get("episodes", [])]
        there = self.episodes.names()
        order = known + [name for name in there if name not in known]
        if len(order) - len(known) < self.config.every:
            return None
        usable = _loaded(self.episodes, order)
        if sum(episode is not None for episode in usable) < 2:
            return None
        report = self._round(int(state.get("round", 0)) + 1, order, usable)
        told = {**asdict(report), "directory": str(report.directory)}
        state = {"checkpoint": self._sha256, "name": str(self._base_directory)}
        state |= {"round": report.number, "episodes": order, "last": told}
        write_json(self.output / STATE, state)
        self._prune()
        return report

    def in_use(self) -> Path:
        """The newest version that is not rejected, or else the given checkpoint."""
        return (versions(self.output / VERSIONS) or [self._base_directory])[0]

    def _state(self) -> dict[str, Any]:
        file = self.output / STATE
        state: dict[str, Any] = read_json(file) if file.is_file() else {}
        return state

    def _episodes_of(self, bundle: Bundle) -> Episodes:
        return Episodes(self._bags, self.output / "episodes", bundle)

    def _round(self, number: int, order: Sequence[str], usable: Sequence[Episode | None]) -> Report:
        core_train, core_held_out = _core_parts(self._core)
        current = load_bundle(self.in_use())
        its = self._episodes_of(current)
        its.convert()
        before = errors(current.model, _parts(_loaded(its, order))[1], core_held_out)
        base, usable = self._registered(order, usable)
        train, held_out = _parts(usable)
        methods = METHODS[:-1] if self.config.method == "all" else (self.config.method,)
        candidates = []
        for method in methods:
            finetuned = self._finetuned(base, method, train, core_train)
            candidates.append((method, _mixed(base, finetuned, held_out, core_held_out), 1.0))
        if base is not self._base:
            named = [(f"{REGISTRATION}, {method}", bundle, 1.0) for method, bundle, _ in candidates]
            candidates = [(REGISTRATION, base, WORTH), *named]
        tried = []
        for method, bundle, worth in candidates:
            after = errors(bundle.model, held_out, core_held_out)
            reason = reason_against(
                bundle,
                before,
                after,
                lambda bundle=bundle: probe_plans(bundle, held_out),  # type: ignore[misc]
                self.config.most_forgotten,
            )
            tried.append((bool(reason), worth * after.corrections, method, bundle, after, reason))
        _, _, method, bundle, after, reason = min(tried, key=lambda each: each[:2])
        episodes = [episode for episode in usable if episode is not None]
        report = Report(
            number,
            len(episodes),
            sum(episode.outcome == "failure" for episode in episodes),
            sum(episode.segments.num_steps for episode in episodes),
            sum(episode.operator_steps for episode in episodes),
            method,
            before,
            after,
            reason,
            next_version(self.output / (FAILED if reason else VERSIONS)),
        )
        self._publish(bundle, report, train)
        return report

    def _registered(
        self, order: Sequence[str], usable: Sequence[Episode | None]
    ) -> tuple[Bundle, Sequence[Episode | None]]:
        """What finetuning begins with, and the episodes as it sees them.

        The given checkpoint, or one that puts the pictures back, where it errs less then.
        """
        cameras = self._base.preprocess.num_cameras
        reference = None if self._core is None else self._core.reference(cameras)
        if reference is None:
            return self._base, usable
        rows, held = _numbers(usable)
        shown = {i: episode.pictures for i, episode in enumerate(usable) if episode is not None}
        pictures, others = (
            self._base.preprocess.images(torch.cat([shown[i] for i in part[-NEWEST:]]))
            for part in (rows, held)
        )
        bundle = with_registration(self._base, pictures, others, reference)
        if bundle is None:
            return self._base, usable
        episodes = self._episodes_of(bundle)
        episodes.convert()
        seen = _loaded(episodes, order)
        if sum(episode is not None for episode in seen) < 2:  # the bags of the others are gone
            return self._base, usable
        now, then = (error(self._base.model, _parts(each)[1]) for each in (seen, usable))
        return (bundle, seen) if now < then else (self._base, usable)

    def _finetuned(
        self, base: Bundle, method: str, train: Segments, core: Segments | None
    ) -> Bundle:
        config, bundle = self.config, copy.deepcopy(base)
        replayed = core
        if method == "base" and core is not None:
            train, replayed = joined([train, core]), None
        adversary = config.adversarial if method == "adversarial" else None
        learner = ReplayLearner(
            bundle.model, train, replayed, config.recorded_share, config, self._machine, adversary
        )
        scratch = self.output / SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        fit(learner, {"learn": to_dict(config), "method": method}, scratch, self._machine)
        shutil.rmtree(scratch, ignore_errors=True)
        bundle.model.eval().requires_grad_(False)
        return bundle

    def _publish(self, bundle: Bundle, report: Report, train: Segments) -> None:
        known = self._base.info.get("familiar")
        if known is not None and report.reason == "":
            found, before = usual_surprise(bundle.model, train), known["surprise"]
            wider = [max(pair) for pair in zip(found, before, strict=False)]
            bundle.info["familiar"] = {**known, "surprise": [*wider, *before[len(wider) :]]}
        told = {**asdict(report), "directory": str(report.directory)}
        parent = {"checkpoint": str(self._base_directory), "sha256": self._sha256}
        bundle.info["learnt"] = {**told, "settings": to_dict(self.config), "parent": parent}
        report.directory.parent.mkdir(parents=True, exist_ok=True)
        save_bundle(bundle, report.directory, self._core)

    def _prune(self) -> None:
        """Old versions and failures; what is in use is loaded already where it is used."""
        for kind in (VERSIONS, FAILED):
            for old in versions(self.output / kind)[self.config.keep :]:
                shutil.rmtree(old, ignore_errors=True)


def _mixed(
    base: Bundle, finetuned: Bundle, held_out: Segments, core_held_out: Segments | None
) -> Bundle:
    """The finetuned bundle, or so much of its change as errs least on both kinds of recordings.

    Weights between those of before and those of after finetuning forget less than they lose
    (arXiv 2109.01903).
    """
    if core_held_out is None:
        return finetuned
    before = base.model.state_dict()
    least, best = math.inf, finetuned
    for share in SHARES:
        tried = copy.deepcopy(finetuned)
        with torch.no_grad():
            for key, value in tried.model.state_dict().items():
                if share < 1 and value.is_floating_point():
                    value.lerp_(before[key], 1 - share)
        found = errors(tried.model, held_out, core_held_out)
        assert found.core_set is not None
        if found.corrections + found.core_set < least:
            least, best = found.corrections + found.core_set, tried
    return best


def _loaded(episodes: Episodes, order: Sequence[str]) -> list[Episode | None]:
    """The episodes of these names; None where one is not there any more."""
    there = set(episodes.names())
    return [episodes.load(name) if name in there else None for name in order]


def _numbers(usable: Sequence[Episode | None]) -> tuple[list[int], list[int]]:
    """Which to train on, and which to judge by: every `HELD_OUT`-th episode, or else the last."""
    numbers = [i for i, episode in enumerate(usable) if episode is not None]
    held = [i for i in numbers if i % HELD_OUT == HELD_OUT - 1] or numbers[-1:]
    if held == numbers:
        held = numbers[-1:]
    return [i for i in numbers if i not in held], held


def _parts(usable: Sequence[Episode | None]) -> tuple[Segments, Segments]:
    """Segments to train on, and to judge by."""
    chosen = {i: episode.segments for i, episode in enumerate(usable) if episode is not None}
    train, held = (joined([chosen[i] for i in part]) for part in _numbers(usable))
    return train, held


def _core_parts(core: CoreSet | None) -> tuple[Segments | None, Segments | None]:
    if core is None:
        return None, None
    held = torch.arange(len(core.actions)) % HELD_OUT == HELD_OUT - 1
    if not bool(held.any()):
        held[-1] = True
    both = [
        of_stretches(core.visual[rows], core.proprio[rows], core.actions[rows])
        for rows in (~held, held)
    ]
    return both[0], both[1]
