"""What a probe means for planning, in words.

The thresholds are those of latents whose success is known: the shipped ones, which plan, and the
ones of docs/experiments that do not.
"""

from __future__ import annotations

from typing import Any

from wm_planner.evaluation.probe import Entry, Probe
from wm_planner.evaluation.table import figure, markdown, percent

SEEN, HALF = 0.9, 0.5  # R2 from which an entry is seen, and below which it is not
RANKS, HARDLY = 0.6, 0.3  # rank correlation that leads a planner, and that does not
IN_ORDER, CHANCE = 0.65, 0.55  # share of frames in order: enough, and no more than chance
GOOD, POOR = 0.4, 0.9  # the model's error, of copying's

YES, PART, NO = "yes", "in part", "no"
_MEANING = {
    YES: "this latent can be planned in",
    PART: "this latent can be planned in for what it shows, not for all",
    NO: "this latent cannot be planned in",
}


def verdict(found: Probe, errors: dict[str, Any] | None = None) -> tuple[str, list[str]]:
    """'yes', 'in part' or 'no', and the reasons, a sentence each.

    Args:
        found: of the encoder.
        errors: of the model by step, see `recordings.step_errors`; None before there is a model.
    """
    said = [*_of_things(found), *_of_distance(found), *_of_model(errors)]
    worst = max((grade for grade, _ in said), default=0)
    return (YES, PART, NO)[worst], [reason for _, reason in said]


def _of_things(found: Probe) -> list[tuple[int, str]]:
    said = []
    for thing in dict.fromkeys(e.thing for e in found.entries if e.thing is not None):
        entries = [e for e in found.entries if e.thing == thing and e.seen is not None]
        blind = [e for e in entries if (e.seen or 0.0) < HALF]
        half = [e for e in entries if e not in blind and (e.seen or 0.0) < SEEN]
        if not entries:
            said.append((1, f"The {thing} never moves in these data, so nothing is known of it."))
        elif len(blind) == len(entries):
            said.append((2, f"It does not see the {thing}: no plan can aim at it."))
        elif blind:
            said.append((1, f"It does not see {_names(blind)} of the {thing}."))
        if half:
            said.append((1, f"It half sees {_names(half)} of the {thing}."))
        if entries and not blind and not half:
            said.append((0, f"It sees the {thing}{_by_network(entries)}."))
    if not found.is_state:
        said.append((0, "Whether it sees anything but the robot is not known without states."))
    return said


def _names(entries: list[Entry]) -> str:
    return ", ".join(f"{e.name} (R2 {e.seen:.2f})" for e in entries)


def _by_network(entries: list[Entry]) -> str:
    bent = [e for e in entries if (e.linear or 0.0) < HALF]
    return ", though only a network can read " + ", ".join(e.name for e in bent) if bent else ""


def _of_distance(found: Probe) -> list[tuple[int, str]]:
    said = []
    if (rank := found.ranks.get("all")) is not None:
        told = f"(rank correlation {rank:.2f})"
        if rank < HARDLY:
            said.append((2, f"Its distances do not rank true distances {told}."))
        elif rank < RANKS:
            said.append((1, f"Its distances rank true distances roughly {told}."))
        else:
            said.append((0, f"Its distances rank true distances {told}."))
    if not found.is_state and found.order is not None:
        told = f"(in {percent(found.order)} of the pairs)"
        if found.order < CHANCE:
            said.append((2, f"What is later in time is not further away in it {told}."))
        elif found.order < IN_ORDER:
            said.append((1, f"What is later in time is hardly further away in it {told}."))
        else:
            said.append((0, f"What is later in time is further away in it {told}."))
    return said


def _of_model(errors: dict[str, Any] | None) -> list[tuple[int, str]]:
    if errors is None or not errors["copy"] or not errors["copy"][-1]:
        return []
    share, steps = errors["model"][-1] / errors["copy"][-1], len(errors["copy"])
    told = f"after {steps} steps its model errs by {percent(share)} of what copying does"
    if share >= POOR:
        return [(2, f"The model knows no more than that nothing moves: {told}.")]
    if share >= GOOD:
        return [(1, f"The model is rough: {told}.")]
    return [(0, f"The model predicts: {told}.")]


def text(found: Probe, errors: dict[str, Any] | None = None) -> str:
    """Tables and verdict for people."""
    what = "state" if found.is_state else "proprioception"
    fitted, tested = found.trajectories
    several = any(entry.beyond is not None for entry in found.entries)
    headings = f"{what} | linear R2 | network R2{' | beyond the others R2' * several} | error"
    return "\n".join(
        [
            f"read from the latent on {tested} trajectories, by readouts fitted on {fitted} others",
            "",
            markdown(headings, (_row(entry, several) for entry in found.entries)),
            markdown(
                "thing | share of the latent's variance | rank correlation of distance",
                (
                    [name, percent(share), figure(found.ranks.get(name), 2, "-")]
                    for name, share in found.shares.items()
                ),
            ),
            *verdict_lines(found, errors),
        ]
    )


def _row(entry: Entry, several: bool) -> list[str]:
    name = f"{entry.thing}: {entry.name}" if entry.thing else f"{entry.name} (in no picture)"
    beyond = [entry.beyond] if several else []
    values = (entry.linear, entry.network, *beyond, entry.error)
    return [name, *(figure(value, 3, "-") for value in values)]


def verdict_lines(found: Probe, errors: dict[str, Any] | None = None) -> list[str]:
    """The verdict alone."""
    grade, reasons = verdict(found, errors)
    return [f"verdict: {grade}, {_MEANING[grade]}", *(f"  {reason}" for reason in reasons)]
