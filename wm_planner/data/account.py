"""What a recording holds, and what of it is not read and why, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wm_planner.data.aligner import Aligner
from wm_planner.errors import DatasetError


@dataclass(frozen=True)
class Account:
    """What a recording holds, in numbers.

    Attributes:
        seconds: from its first to its last sample.
        rates_hz: samples per second by stream: each camera, 'joints', 'commands'.
        holes: (count, longest in seconds) of the pauses that are longer than tolerated, by stream.
        possible: model steps while all streams were there.
        kept: model steps that are read.
        lost: model steps that are not, by what is missing there; 'robot_state': the robot did not
            execute its commands; 'ends': shorter than a step.
        notes: what was mended or passed over, in words.
        damage: what of the files could not be read, in words.
    """

    seconds: float
    rates_hz: dict[str, float]
    holes: dict[str, tuple[int, float]]
    possible: int
    kept: int
    lost: dict[str, int]
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    def shown(self, model_step_s: float) -> str:
        """For people."""
        rates = ", ".join(f"{name} {rate:g} Hz" for name, rate in self.rates_hz.items())
        holes = ", ".join(f"{count} in {name}" for name, (count, _) in self.holes.items())
        return (
            f"{self.seconds:g} s with {rates}; a model step takes {model_step_s:g} s; holes: "
            f"{holes or 'none'}"
        )


def account_of(
    aligner: Aligner,
    seconds: float,
    stamps: dict[str, np.ndarray],
    notes: Sequence[str],
    damage: Sequence[str],
) -> Account:
    """What was read and what was not.

    Args:
        aligner: with its pieces chosen.
        seconds: from the first to the last sample.
        stamps: (K,) of each stream.
        notes: what was mended or passed over.
        damage: what could not be read.

    Raises:
        DatasetError: a camera has no picture left.
    """
    body = aligner.body
    step = body.model_dt_ns
    unknown: dict[str, list[tuple[int, int]]] = {}
    pauses: dict[str, list[tuple[int, int]]] = {}
    held = aligner.held
    firsts, lasts = [int(held.stamps_ns[0])], [int(held.ends_ns.max())]
    for name in aligner.required:
        own = aligner.cameras[name][0]
        if not len(own):
            raise DatasetError(f"camera {name}: none of its pictures can be decoded")
        far = aligner.step_ns(name)
        firsts.append(int(own[0]))
        lasts.append(int(own[-1]))
        period = np.median(np.diff(own)) if len(own) > 1 else 0
        pauses[name] = _pauses(own, max(2 * far, int(1.5 * period)))
        unknown[f"camera {name}"] = [(a + far, b - far) for a, b in pauses[name]]
    silent: set[tuple[int, int]] = set()
    for own, _ in aligner.joints:
        firsts.append(int(own[0]) - body.dt_ns // 2)
        lasts.append(int(own[-1]) + body.dt_ns // 2)
        silent.update(_pauses(own, aligner.limits.joint_gap_ns))
    unknown["joints"] = pauses["joints"] = sorted(silent)
    between = zip(held.ends_ns[:-1].tolist(), held.stamps_ns[1:].tolist(), strict=True)
    refused = aligner.disobeyed
    unknown["commands"] = pauses["commands"] = [
        (a, b)
        for a, b in between
        if b > a and not any(begin <= a and b <= end for begin, end in refused)
    ]
    start, end = max(firsts), min(lasts)
    unknown["robot_state"] = pauses["robot_state"] = [
        (max(a, start), min(b, end)) for a, b in refused if a < end and b > start
    ]
    kept = sum(len(chain) - 1 for chain in aligner.pieces)
    possible = max(kept, (end - start) // step)
    lost = _shared_out(possible - kept, _losses(aligner, start, end, unknown))
    rates = {name: _rate(own) for name, (own, _) in aligner.cameras.items()}
    rates["joints"] = min(_rate(own) for own, _ in aligner.joints)
    rates["commands"] = _rate(np.unique(stamps["commands"]))
    return Account(
        round(seconds, 2),
        rates,
        {
            name: (len(spans), round(max(b - a for a, b in spans) * 1e-9, 3))
            for name, spans in pauses.items()
            if spans
        },
        int(possible),
        kept,
        lost,
        tuple(notes),
        tuple(damage),
    )


def _losses(
    aligner: Aligner, start: int, end: int, unknown: dict[str, list[tuple[int, int]]]
) -> dict[str, float]:
    """Time that is not read, by what is missing the longest in each stretch of it."""
    losses: dict[str, float] = {}
    spans = [(int(aligner.stamps_ns[c[0]]), int(aligner.stamps_ns[c[-1]])) for c in aligner.pieces]
    bounds = [start, *[moment for span in spans for moment in span], end]
    for begin, stop in zip(bounds[::2], bounds[1::2], strict=True):
        if stop <= begin:
            continue
        missing = {
            name: sum(max(0, min(b, stop) - max(a, begin)) for a, b in intervals)
            for name, intervals in unknown.items()
        }
        name = max(missing, key=lambda key: missing[key])
        name = name if missing[name] else "ends"
        losses[name] = losses.get(name, 0.0) + (stop - begin)
    return losses


def _pauses(stamps_ns: np.ndarray, longer_than_ns: int) -> list[tuple[int, int]]:
    index = np.flatnonzero(np.diff(stamps_ns) > longer_than_ns)
    return [(int(stamps_ns[i]), int(stamps_ns[i + 1])) for i in index]


def _rate(stamps_ns: np.ndarray) -> float:
    span = int(stamps_ns[-1] - stamps_ns[0]) if len(stamps_ns) else 0
    return round((len(stamps_ns) - 1) / (span * 1e-9), 1) if span else 0.0


def _shared_out(count: int, parts: dict[str, float]) -> dict[str, int]:
    """`count` whole ones, in proportion to the parts."""
    total = sum(parts.values())
    if not count or not total:
        return {"ends": count} if count else {}
    exact = {name: count * part / total for name, part in parts.items()}
    whole = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_rest[: count - sum(whole.values())]:
        whole[name] += 1
    return {name: number for name, number in whole.items() if number}
