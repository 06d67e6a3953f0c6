"""Can a latent be planned in? What it shows of the world, measured before a model is trained.

A planner goes down the distance to the goal's latent. It can do so where the latent shows all that
moves, and where its distances rank true distances. What it shows is what can be read from it on
trajectories that neither readout nor encoder has seen: linearly, and by a small network.

Legend: n rows, a frame each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from wm_planner.evaluation.encoded import Frames
from wm_planner.evaluation.readout import (
    NETWORK_COMPONENTS,
    Scale,
    components,
    explained,
    read_by_network,
    read_linearly,
)
from wm_planner.tasks import get_task

_PAIRS = 20000  # of frames whose distances are compared


@dataclass(frozen=True)
class Entry:
    """How far one state entry can be read, on trajectories that were not fitted.

    Attributes:
        name, thing: of the entry; no thing: a speed, which one picture does not show.
        linear, network: R2 of the two readouts; None where the entry does not change.
        beyond: R2 of the better readout of what the other things do not tell of the entry; None
            where there is no other, or where they tell all.
        error: root mean square of the better readout's error, in the entry's unit; of an angle in
            degrees.
    """

    name: str
    thing: str | None
    linear: float | None
    network: float | None
    beyond: float | None
    error: float | None

    @property
    def seen(self) -> float | None:
        """R2 that counts: of the better readout, and not by way of other things."""
        if self.linear is None or self.network is None:
            return None
        best = max(self.linear, self.network)
        return best if self.beyond is None else min(best, self.beyond)


@dataclass(frozen=True)
class Probe:
    """What was found; see `evaluation.verdict` for what follows from it.

    Attributes:
        frames, trajectories: of both: (fitted, tested).
        is_state: whether the entries are states; else they are proprioception.
        entries: one for each entry.
        shares: by thing, the share of the latent's variance that it alone explains; 'together'
            what several explain in common, 'else' what nothing of it explains.
        ranks: by thing, Spearman's rank correlation of latent with true distance; 'all' of the
            success test's distance where there is a task, else of all things.
        order: share of pairs of frames of which the one that is nearer in time to the window's
            first frame is nearer in the latent; chance is one half. None where windows have two
            frames.
    """

    frames: tuple[int, int]
    trajectories: tuple[int, int]
    is_state: bool
    entries: tuple[Entry, ...]
    shares: dict[str, float]
    ranks: dict[str, float]
    order: float | None


@torch.no_grad()
def probe(frames: Frames, task: str | None = None, seed: int = 0) -> Probe:
    """Measure.

    Args:
        frames: see `read_frames`.
        task: name of the simulated task whose success test's distance is compared, too.
        seed: of the readouts.
    """
    world, fitted, groups = frames.world, frames.fitted, frames.groups
    shown = components(frames.latent, fitted)

    return Probe(
        (int(fitted.sum()), int((~fitted).sum())),
        (len(groups[fitted].unique()), len(groups[~fitted].unique())),
        world.is_state,
        _entries(frames, shown, seed),
        _shares(frames, shown, seed),
        _ranks(frames, task, seed),
        _order(frames),
    )


def _entries(frames: Frames, shown: Tensor, seed: int) -> tuple[Entry, ...]:
    world, fitted = frames.world, frames.fitted
    thing_of = {e: thing for thing, entries in world.things.items() for e in entries}
    raw = {name: world.columns([name]) for name in world.names}
    rest: dict[str, Tensor] = {}
    for thing, names in world.things.items():
        if others := world.beside(thing):
            whole = world.columns(names)
            told = _told(world.columns(others), whole, frames, seed)
            widths = [raw[name].shape[1] for name in names]
            parts = (whole - told).split(widths, dim=1)
            rest.update(zip(names, parts, strict=True))
    targets = {**raw, **{f"{name} beyond": value for name, value in rest.items()}}
    widths = [value.shape[1] for value in targets.values()]
    joint = torch.cat(list(targets.values()), dim=1)
    scale = Scale.of(joint[fitted])
    joint = scale.standard(joint)
    linear = read_linearly(shown, joint, frames.groups, fitted)
    small = shown[:, :NETWORK_COMPONENTS]
    network = read_by_network(small, joint, frames.groups, fitted, seed)
    split = [
        dict(zip(targets, part.split(widths, dim=1), strict=True))
        for part in (joint, linear, network, scale.mean[None], scale.deviation[None])
    ]
    found = []
    for name in world.names:

        def right(key: str) -> tuple[float | None, float | None]:
            true, *reads = (part[key][~fitted] for part in split[:3])
            mean = split[0][key][fitted].mean(dim=0)
            return explained(reads[0], true, mean), explained(reads[1], true, mean)

        by_line, by_network = right(name)
        # What the others tell all but a trace of leaves nothing to see.
        known = name not in rest or _trace(rest[name], raw[name], ~fitted)
        beyond = [] if known else [r for r in right(f"{name} beyond") if r is not None]
        error = None
        if by_line is not None and by_network is not None:
            better = 1 if by_line >= by_network else 2
            values = [split[i][name] * split[4][name] + split[3][name] for i in (better, 0)]
            error = _error(values[0][~fitted], values[1][~fitted])
        most = max(beyond, default=None)
        found.append(Entry(name, thing_of.get(name), by_line, by_network, most, error))
    return tuple(found)


def _told(others: Tensor, whole: Tensor, frames: Frames, seed: int) -> Tensor:
    """(n, m) what the entries of other things tell of these."""
    scale = Scale.of(whole[frames.fitted])
    told = read_by_network(others, scale.standard(whole), frames.groups, frames.fitted, seed)
    return told * scale.deviation + scale.mean


def _trace(rest: Tensor, raw: Tensor, rows: Tensor) -> bool:
    spread = raw[rows].var(dim=0).sum()
    return bool(rest[rows].var(dim=0).sum() <= 0.01 * spread)


def _error(read: Tensor, true: Tensor) -> float:
    if true.shape[1] == 1:
        return float((read - true).square().mean().sqrt())
    turned = torch.atan2(read[:, 1], read[:, 0]) - torch.atan2(true[:, 1], true[:, 0])
    turned = (turned + torch.pi) % (2 * torch.pi) - torch.pi
    return float(turned.square().mean().sqrt().rad2deg())


def _shares(frames: Frames, shown: Tensor, seed: int) -> dict[str, float]:
    world, fitted = frames.world, frames.fitted
    mean = frames.latent[fitted].double().mean(dim=0)
    whole = float((frames.latent[~fitted].double() - mean).square().sum())
    names = tuple(e for entries in world.things.values() for e in entries)
    target = shown[:, :NETWORK_COMPONENTS]

    def share(entries: tuple[str, ...]) -> float:
        if not entries or whole == 0:
            return 0.0
        source = world.columns(entries)
        read = read_by_network(source, target, frames.groups, fitted, seed)[~fitted]
        kept = target[~fitted]
        # What lies beyond these components is explained by nothing.
        return max(0.0, float(kept.square().sum() - (read - kept).square().sum()) / whole)

    everything = share(names)
    alone = {t: max(0.0, everything - share(world.beside(t))) for t in world.things}
    together = max(0.0, everything - sum(alone.values()))
    rest = {"together": together} if len(alone) > 1 else {}
    return {**alone, **rest, "else": 1 - everything}


def _ranks(frames: Frames, task: str | None, seed: int) -> dict[str, float]:
    """Of pairs of tested frames."""
    world, rows = frames.world, (~frames.fitted).nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(seed)
    pairs = rows[torch.randint(len(rows), (2, _PAIRS), generator=generator)]
    pairs = pairs[:, pairs[0] != pairs[1]]
    if pairs.shape[1] < 2:
        return {}

    def apart(values: Tensor) -> np.ndarray:
        distance: np.ndarray = (values[pairs[0]] - values[pairs[1]]).norm(dim=1).numpy()
        return distance

    latent = apart(frames.latent)
    scaled = {}
    for thing, names in world.things.items():
        columns = world.columns(names)
        scaled[thing] = Scale.of(columns[frames.fitted]).standard(columns)
    found = {thing: _spearman(latent, apart(columns)) for thing, columns in scaled.items()}
    if task is None:
        return {**found, "all": _spearman(latent, apart(torch.cat(list(scaled.values()), 1)))}
    distance, values = get_task(task).distance, world.values.numpy()
    true = np.array([distance(values[i], values[j]) for i, j in pairs.T.tolist()])
    return {**found, "all": _spearman(latent, true)}


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


def _order(frames: Frames) -> float | None:
    windows = frames.tokens[frames.tested].flatten(2)
    distance = (windows[:, 1:] - windows[:, :1]).norm(dim=2)
    steps = distance.shape[1]
    near, far = torch.triu_indices(steps, steps, 1)
    if not len(near):
        return None
    gap = distance[:, far] - distance[:, near]
    return float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())
