"""The values that cross between rooms: plain numpy, frozen, with shapes and units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Observation:
    """What the robot saw and felt, one frame per model step, oldest first.

    Attributes:
        images: (T, H, W, 3) uint8 RGB. T grows from 1 to the model's history length.
        proprio: (T, P) float32 in physical units, in the order of the task's ``proprio`` names.
        stamp_ns: capture time of the newest frame, nanoseconds of the ROS clock.
        actions: (T - 1, A) float32 model actions in physical units that led from frame to frame
            (A = frame_skip * action size), or None when T is 1 or the model does not need them.
    """

    images: np.ndarray
    proprio: np.ndarray
    stamp_ns: int
    actions: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise ValueError(
                f"images must be (T, H, W, 3) uint8, got {self.images.shape} {self.images.dtype}"
            )
        if self.proprio.ndim != 2 or len(self.proprio) != len(self.images):
            raise ValueError(
                f"proprio must be (T, P) with T = {len(self.images)}, got {self.proprio.shape}"
            )


@dataclass(frozen=True)
class Goal:
    """Where to go: an image, and the proprioception there when it is known.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        proprio: (P,) float32 in physical units, or None: then the objective uses the image alone.
        stamp_ns: time from which the goal holds; identifies it.
    """

    image: np.ndarray
    proprio: np.ndarray | None = None
    stamp_ns: int = 0

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[-1] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"goal image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype}"
            )


@dataclass(frozen=True)
class Plan:
    """Actions in physical units, valid from the capture time of the observation they came from.

    Attributes:
        stamp_ns: capture time of the observation; action i is due at stamp_ns + i * dt_ns.
        dt_ns: control period, nanoseconds.
        actions: (N, A) float32, one row per control period (N = horizon * frame_skip).
        cost: objective of this plan under the model (unitless).
        seconds: time the planner took.
    """

    stamp_ns: int
    dt_ns: int
    actions: np.ndarray
    cost: float = float("nan")
    seconds: float = float("nan")

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or len(self.actions) == 0:
            raise ValueError(f"plan actions must be (N, A) with N >= 1, got {self.actions.shape}")
        if self.dt_ns <= 0:
            raise ValueError(f"plan dt_ns must be positive, got {self.dt_ns}")


@dataclass(frozen=True)
class Episode:
    """One recorded run, one row per control period.

    Attributes:
        images: (T + 1, H, W, 3) uint8 RGB.
        proprio: (T + 1, P) float32, physical units.
        actions: (T, A) float32, physical units: the action applied from row t to row t + 1.
        states: (T + 1, S) float64 full simulator states, or None on hardware.
        info: provenance (task, seed, source file, ...).
    """

    images: np.ndarray
    proprio: np.ndarray
    actions: np.ndarray
    states: np.ndarray | None = None
    info: dict[str, Any] = field(default_factory=dict)
