"""What a plan costs beside its distance to the goal: weighted terms, ours and those of others.

The cost of a plan is the goal's distance (see `objective`) times its weight, plus the sum of the
terms that the setting `costs` names, each times its own weight. A term is a frozen dataclass whose
fields are its settings; it is found by its entry point in the group 'wm_planner.costs'.

Shapes: B problems, N candidates, H model steps, R raw actions of a plan, a entries of one, P
entries of proprioception.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from wm_planner.config import from_dict, suggest
from wm_planner.errors import ConfigError
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.world_model import Latent, WorldModel
from wm_planner.registry import Registry

GOAL = "goal"  # its name among the costs


class Units:
    """From standardised numbers to a robot's own.

    Args:
        bundle: of the model and the robot.

    Attributes:
        embodiment: of the robot.
        largest: (a,) greatest size of each entry of a raw action, physical units.
    """

    def __init__(self, bundle: EmbodiedModel) -> None:
        self._bundle, self.embodiment = bundle, bundle.embodiment
        action = self.embodiment.action
        bounds = torch.tensor([action.low, action.high], dtype=torch.float32)
        self.largest = bounds.abs().amax(dim=0).to(bundle.device)
        self.proprio_std = torch.tensor(bundle.preprocess.proprio_std).to(bundle.device)

    def raw_actions(self, rows: Tensor) -> Tensor:
        """(..., a) standardised raw actions -> physical units."""
        preprocess, size = self._bundle.preprocess, rows.shape[-1]
        held = rows.repeat(*[1] * (rows.ndim - 1), preprocess.frame_skip)
        return preprocess.denormalise_actions(held)[..., :size]

    def proprio(self, embedded: Tensor) -> Tensor:
        """(..., Dp) embedded -> (..., P) physical units, as near as the embedding tells."""
        return self._bundle.preprocess.denormalise_proprio(self._reader()(embedded))

    def check_proprio(self) -> None:
        """Raise ConfigError where the model cannot say what proprioception it expects."""
        self._reader()
        ours, entries = self._bundle.model, len(self.embodiment.proprio)
        if isinstance(ours, WorldModel) and ours.config.proprio_emb_dim < entries:
            raise ConfigError(
                f"costs: the model embeds {entries} entries of proprioception in "
                f"{ours.config.proprio_emb_dim} numbers, from which they cannot be told"
            )

    def _reader(self) -> Callable[[Tensor], Tensor]:
        read: Callable[[Tensor], Tensor] | None = getattr(self._bundle.model, "read_proprio", None)
        if read is not None:
            return read
        raise ConfigError(
            "costs: this model does not say what proprioception it expects: it has no method "
            "read_proprio"
        )

    def entry(self, name: str) -> int:
        """Place of an entry of proprioception.

        Raises:
            ConfigError: the robot has none of that name.
        """
        names = self.embodiment.proprio
        if name not in names:
            raise ConfigError(
                f"costs: unknown entry of proprioception '{name}'.{suggest(name, names)}"
            )
        return names.index(name)


@dataclass(frozen=True)
class Rollout:
    """Candidates, and what the model expects of them.

    Attributes:
        imagined: (B, N, H + 1, ...) latents; the first frame is now.
        goal: (B, 1, 1, ...).
        actions: (B, N, H, A) standardised model actions.
        previous: (B, 1, a) standardised: the raw action before the first.
        units: of the robot.
    """

    imagined: Latent
    goal: Latent
    actions: Tensor
    previous: Tensor
    units: Units

    def raw_actions(self) -> Tensor:
        """(B, N, R, a) physical units."""
        return self.units.raw_actions(self._rows())

    def changes(self) -> Tensor:
        """(B, N, R, a) from each raw action to the next, the first from `previous`; physical."""
        rows = self._rows()
        first = self.previous[:, :, None].expand(-1, rows.shape[1], -1, -1)
        before = torch.cat([first, rows[:, :, :-1]], dim=2)
        return self.units.raw_actions(rows) - self.units.raw_actions(before)

    def proprio(self) -> Tensor:
        """(B, N, H + 1, P) expected proprioception, physical units."""
        return self.units.proprio(self.imagined.proprio)

    def _rows(self) -> Tensor:
        rows: Tensor = self.actions.unflatten(-1, (-1, self.previous.shape[-1]))
        return rows.flatten(2, 3)


class CostTerm(Protocol):
    """One term of the cost: a frozen dataclass with a field `weight`.

    Attributes:
        weight: factor of the term.
        is_constraint: whether it shall be zero in the end. The weight of a constraint then grows
            from round to round of a plan, see `PlannerConfig.penalty_rounds`.
    """

    is_constraint: ClassVar[bool]
    weight: float

    def check(self, units: Units) -> None:
        """Raise ConfigError where this robot or model has not what the term needs."""

    def __call__(self, rollout: Rollout) -> Tensor:
        """(B, N) costs, differentiable in the rollout, before the weight."""


@dataclass(frozen=True)
class Term:
    """What most terms share."""

    weight: float = 1.0

    is_constraint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be positive, got {self.weight}")

    def check(self, units: Units) -> None:
        """Every robot will do."""


@dataclass(frozen=True)
class Effort(Term):
    """Mean square of the raw actions, each entry as a share of its greatest size."""

    def __call__(self, rollout: Rollout) -> Tensor:
        """See `CostTerm`."""
        share = rollout.raw_actions() / rollout.units.largest
        return share.square().mean(dim=(2, 3))


@dataclass(frozen=True)
class Rate(Term):
    """Mean square of the changes between raw actions, as shares of each entry's greatest size."""

    def __call__(self, rollout: Rollout) -> Tensor:
        """See `CostTerm`."""
        share = rollout.changes() / rollout.units.largest
        return share.square().mean(dim=(2, 3))


@dataclass(frozen=True)
class KeepOut(Term):
    """Where proprioception should not come: inside all the intervals of a region at once.

    It is a price at the frames that the model imagines. Between them, and where the model is wrong,
    a robot may pass through: limits of safety belong into the robot file.

    A frame outside costs nothing. Inside, it costs the square of its depth: how far it is from the
    nearest side, as a share of half the interval (of the entry's standard deviation where the
    interval is open to one side), at most 1. Frames are added up, all but the first, which is now.

    Attributes:
        region: entry of proprioception -> [low, high], physical units; null leaves a side open.
    """

    region: dict[str, Any] = field(default_factory=dict)

    is_constraint: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.region:
            raise ValueError("region: name an entry of proprioception and its [low, high]")
        for name, interval in self.region.items():
            sides = interval if isinstance(interval, (list, tuple)) else ()
            numbers = [x for x in sides if isinstance(x, (int, float)) and not isinstance(x, bool)]
            if len(sides) != 2 or not numbers or sides.count(None) + len(numbers) != 2:
                raise ValueError(
                    f"region: {name}: expected [low, high], one of them may be null, got "
                    f"{interval!r}"
                )
            if not all(map(math.isfinite, numbers)) or numbers != sorted(set(numbers)):
                raise ValueError(f"region: {name}: low must lie below high, got {interval!r}")

    def check(self, units: Units) -> None:
        """See `CostTerm`."""
        units.check_proprio()
        for name in self.region:
            units.entry(name)

    def __call__(self, rollout: Rollout) -> Tensor:
        """See `CostTerm`."""
        proprio, depths = rollout.proprio()[:, :, 1:], []
        for name, (low, high) in self.region.items():
            index = rollout.units.entry(name)
            x, unit = proprio[..., index], rollout.units.proprio_std[index]
            if low is not None and high is not None:
                unit = (high - low) / 2
            if low is not None:
                depths.append((x - low) / unit)
            if high is not None:
                depths.append((high - x) / unit)
        return torch.stack(depths).amin(dim=0).clamp(0, 1).square().sum(dim=2)


def _no_term(_name: str, found: object) -> str:
    if is_dataclass(found) and callable(found) and hasattr(found, "is_constraint"):
        return ""
    return (
        "must be a dataclass with is_constraint and __call__ (see wm_planner.planning.costs.Term), "
        f"got {found!r}"
    )


COSTS: Registry[type[Any]] = Registry("wm_planner.costs", "cost", _no_term)


def make_terms(costs: Mapping[str, Any]) -> tuple[float, tuple[CostTerm, ...]]:
    """The goal's weight, and the terms beside it.

    Args:
        costs: name -> weight, or the term's settings.

    Raises:
        ConfigError: an unknown name, or settings that cannot be used.
    """
    goal, terms = 1.0, []
    for name, settings in costs.items():
        given = settings if isinstance(settings, dict) else {"weight": settings}
        if name == GOAL:
            goal = from_dict(_Goal, given, f"costs: {name}").weight
        else:
            terms.append(from_dict(COSTS[name], given, f"costs: {name}"))
    return goal, tuple(terms)


@dataclass(frozen=True)
class _Goal:
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight must be at least 0, got {self.weight}")
