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
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wm_planner.config import to_dict
from wm_planner.errors import ConfigError
from wm_planner.files import read_json, write_json
from wm_planner.learning.episodes import Episode, Episodes, remove_others, view_of
from wm_planner.learning.gate import (
    Errors,
    against_errors,
    error,
    errors,
    probe_plans,
    reason_against,
    usual_surprise,
)
from wm_planner.learning.mixing import mixed
from wm_planner.learning.parts import core_parts, in_both, loaded, newest_pictures, parts_of
from wm_planner.learning.registration import (
    puts_back_as_well,
    registered_as,
    with_registration,
    without_registration,
)
from wm_planner.learning.report import Report
from wm_planner.learning.settings import METHODS, Learning
from wm_planner.models.bundle import Bundle
from wm_planner.models.catalog import CARD, VERSIONS, read_card, resolve_checkpoint
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.core_set import load_core_set
from wm_planner.models.versions import next_version, versions
from wm_planner.training.loop import fit
from wm_planner.training.machine import Machine
from wm_planner.training.segments import ReplayLearner, Segments, joined

FAILED, SCRATCH, STATE, EPISODES = "failed", ".round", "learn.json", "episodes"
REGISTRATION = "registration"  # the method that changes how pictures are seen, and no weights
NEWEST = 10  # episodes that show how the cameras stand now
# Of the error with the registration alone: a finetuned model, which forgets, must err less than so
# much to be preferred.
WORTH = 0.7


@dataclass(frozen=True)
class _Candidate:
    """What may be published, what it errs, and what speaks against it."""

    method: str
    bundle: Bundle
    after: Errors
    reason: str

    def is_better(self, other: _Candidate) -> bool:
        """Than one that was tried before it."""
        if bool(self.reason) != bool(other.reason):
            return not self.reason
        if other.method == REGISTRATION:
            return self.after.corrections < WORTH * other.after.corrections
        return self.after.corrections < other.after.corrections


def _passes(before: Errors, most_forgotten: float, worth: float, after: Errors) -> bool:
    return against_errors(before, after, most_forgotten, worth) == ""


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
        if self._core is not None and self._core.shown is None:
            self.notes.append(
                f"{self._base_directory}: its core set has no mean picture, so a moved camera or "
                "other light is not put back; 'wm-planner calibrate CHECKPOINT --data DATA "
                "--core-set' adds it"
            )
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
        usable = loaded(self.episodes, order)
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
        return Episodes(self._bags, self.output / EPISODES, bundle)

    def _seen_by(self, bundle: Bundle, order: Sequence[str]) -> list[Episode | None]:
        """The episodes as this bundle sees them."""
        episodes = self._episodes_of(bundle)
        episodes.convert()
        return loaded(episodes, order)

    def _round(self, number: int, order: Sequence[str], usable: list[Episode | None]) -> Report:
        current = load_bundle(self.in_use())
        base, usable = self._registered(order, usable, current)
        usable, its = in_both(usable, self._seen_by(current, order)) or (usable, usable)
        core_held_out = core_parts(self._core)[1]
        before = errors(current.model, parts_of(its)[1], core_held_out)
        best: _Candidate | None = None
        for candidate in self._candidates(base, usable, current, before):
            if best is None or candidate.is_better(best):
                best = candidate
        assert best is not None
        episodes = [episode for episode in usable if episode is not None]
        report = Report(
            number,
            len(episodes),
            sum(episode.outcome == "failure" for episode in episodes),
            sum(episode.segments.num_steps for episode in episodes),
            sum(episode.operator_steps for episode in episodes),
            best.method,
            before,
            best.after,
            best.reason,
            next_version(self.output / (FAILED if best.reason else VERSIONS)),
        )
        self._publish(best.bundle, report, parts_of(usable)[0])
        return report

    def _candidates(
        self, base: Bundle, usable: list[Episode | None], current: Bundle, before: Errors
    ) -> Iterator[_Candidate]:
        """What may be published: the registration alone, where there is one, and each method's."""
        train, held_out = parts_of(usable)
        core_train, core_held_out = core_parts(self._core)
        most, worth, prefix = self.config.most_forgotten, 1.0, ""

        def judged(name: str, bundle: Bundle, after: Errors) -> _Candidate:
            probe = partial(probe_plans, bundle, held_out)
            against = reason_against(bundle, before, after, probe, most, worth)
            return _Candidate(name, bundle, after, against)

        def measure(bundle: Bundle) -> Errors:
            return errors(bundle.model, held_out, core_held_out)

        if base is not self._base:
            prefix = f"{REGISTRATION}, "
            learnt = current.info.get("learnt", {}).get("method")
            if learnt == REGISTRATION and view_of(base) == view_of(current):  # it is in use
                worth = WORTH
            else:
                yield judged(REGISTRATION, base, measure(base))
        for method in METHODS[:-1] if self.config.method == "all" else (self.config.method,):
            finetuned = self._finetuned(base, method, train, core_train)
            passes = partial(_passes, before, most, worth)
            yield judged(f"{prefix}{method}", *mixed(base, finetuned, measure, passes))

    def _registered(
        self, order: Sequence[str], usable: list[Episode | None], current: Bundle
    ) -> tuple[Bundle, list[Episode | None]]:
        """What finetuning begins with, and the episodes as it sees them.

        The given checkpoint, or one that puts the pictures back, where it errs less then.
        """
        shown = None if self._core is None else self._core.shown
        found = newest_pictures(usable, NEWEST)
        if shown is None or found is None:
            return self._base, usable
        pictures, others = (self._base.preprocess.images(each) for each in found)
        bundle = with_registration(self._base, pictures, others, shown)
        if bundle is None:
            return self._base, usable
        if puts_back_as_well(current, bundle, others):  # nothing is to be encoded anew
            bundle = registered_as(self._base, current)
        both = in_both(self._seen_by(bundle, order), usable)
        if both is None:
            return self._base, usable
        now, then = (error(self._base.model, parts_of(each)[1]) for each in both)
        return (bundle, both[0]) if now < then else (self._base, usable)

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
        told |= {"settings": to_dict(self.config), "view": view_of(bundle)}
        bundle.info["learnt"] = {**told, "parent": parent}
        report.directory.parent.mkdir(parents=True, exist_ok=True)
        save_bundle(bundle, report.directory, self._core)

    def _prune(self) -> None:
        """Old versions and failures, and the episodes as they saw them; what is in use is loaded
        already where it is used.
        """
        for kind in (VERSIONS, FAILED):
            for old in versions(self.output / kind)[self.config.keep :]:
                shutil.rmtree(old, ignore_errors=True)
        kept = [read_card(each / CARD)["info"] for each in versions(self.output / VERSIONS)]
        views = {str(info.get("learnt", {}).get("view")) for info in kept}
        remove_others(self.output / EPISODES, {self.episodes.directory.name, *views})
