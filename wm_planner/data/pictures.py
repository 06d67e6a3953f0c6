"""What pictures of a camera look like: measures of one, and what the training pictures were like.

Everything here is numpy. One picture of 224 pixels takes about two milliseconds on one core.

Legend: S = side of a picture, pixels; D = `SIDE` squared.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_planner.errors import ConfigError

SIDE = 24  # of the small picture by which a view is recognised
# Of a picture, whatever it shows. A single colour has no contrast; in pure noise neighbours differ
# by more than the standard deviation of all pixels.
LEAST_CONTRAST, MOST_SHARPNESS = 2.0, 0.9
STILL = 0.25  # least change of the proprioception that must be seen, standard deviations
BRIGHTNESS = (4.0, 251.0)
MEASURES = ("brightness", "contrast", "sharpness")
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Look:
    """Measures of one picture.

    Attributes:
        brightness: mean grey value, 0 to 255.
        contrast: standard deviation of the grey values.
        sharpness: mean difference of neighbouring pixels, as a share of the contrast. A blurred
            picture has little, noise has most.
        small: (D,) float32, the picture in `SIDE` x `SIDE` fields, of mean 0 and standard
            deviation 1: brightness and contrast do not change it.
    """

    brightness: float
    contrast: float
    sharpness: float
    small: np.ndarray


def look(picture: np.ndarray) -> Look:
    """Measure a picture (S, S, 3) uint8; S is at least `SIDE`, or fields repeat."""
    grey = picture @ _GREY
    contrast = float(grey.std())
    steps = (np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2
    return Look(
        brightness=float(grey.mean()),
        contrast=contrast,
        sharpness=float(steps) / max(contrast, 1e-3),
        small=_small(grey[None])[0],
    )


def small_pictures(pictures: np.ndarray) -> np.ndarray:
    """(F, D) float32 `Look.small` of F pictures (F, S, S, 3) uint8."""
    return _small(pictures @ _GREY)


def _small(grey: np.ndarray) -> np.ndarray:
    """(F, D) means of the fields of F pictures (F, S, S), standardised one by one."""
    side = grey.shape[1]
    edge = np.arange(SIDE) * side // SIDE
    sums = np.add.reduceat(np.add.reduceat(grey, edge, axis=1), edge, axis=2)
    sizes = np.maximum(np.diff(np.append(edge, side)), 1)
    fields = (sums / np.outer(sizes, sizes)).reshape(len(grey), -1)
    fields = fields - fields.mean(axis=1, keepdims=True)
    spread = np.maximum(fields.std(axis=1, keepdims=True), 1e-3)
    return np.asarray(fields / spread, np.float32)


@dataclass(frozen=True)
class CameraLook:
    """What the training pictures of one camera looked like.

    Attributes:
        brightness, contrast, sharpness: (least, greatest) that is accepted.
        template: (D,) float32; its product with `Look.small` is 1 for the median training picture
            and 0 for the mean of turned, mirrored and moved ones.
        offset: is added to that product.
        view: least accepted sum. Where training pictures look alike when they are mirrored or
            turned, no threshold tells them apart; `recognised` says so.
        recognised: share of held-out pictures that are told from the training view, by what was
            done to them.
    """

    brightness: tuple[float, float]
    contrast: tuple[float, float]
    sharpness: tuple[float, float]
    template: np.ndarray
    offset: float
    view: float
    recognised: dict[str, float]

    def view_of(self, seen: Look) -> float:
        """1: the training view; 0 and less: another one."""
        return float(self.template @ seen.small) + self.offset

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **{name: [round(x, 4) for x in getattr(self, name)] for name in MEASURES},
            "template": base64.b64encode(self.template.astype("<f2").tobytes()).decode(),
            "offset": self.offset,
            "view": round(self.view, 4),
            "recognised": self.recognised,
        }

    @classmethod
    def from_json(cls, values: Any, source: str) -> CameraLook:
        """What `to_json` gave.

        Raises:
            ConfigError: it is something else; the message begins with `source`.
        """
        try:
            template = np.frombuffer(base64.b64decode(values["template"], validate=True), "<f2")
            ranges = {name: _range(values[name]) for name in MEASURES}
            offset, view = float(values["offset"]), float(values["view"])
            recognised = {str(key): float(share) for key, share in values["recognised"].items()}
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise ConfigError(
                f"{source}: cannot be read: {type(error).__name__}: {error}"
            ) from None
        if template.shape != (SIDE * SIDE,) or not np.isfinite(template).all():
            raise ConfigError(f"{source}: template: expected {SIDE * SIDE} finite numbers")
        if not (math.isfinite(offset) and math.isfinite(view)):
            raise ConfigError(f"{source}: offset and view must be finite")
        return cls(
            **ranges,
            template=template.astype(np.float32),
            offset=offset,
            view=view,
            recognised=recognised,
        )


def _range(values: Any) -> tuple[float, float]:
    low, high = (float(value) for value in values)
    if not low <= high:
        raise ValueError(f"expected least and greatest, got {values}")
    return low, high


@dataclass(frozen=True)
class Familiar:
    """What a checkpoint is familiar with.

    Attributes:
        cameras: by name.
        still: greatest change of the proprioception between two equal pictures, in its standard
            deviations (Euclidean): what moves by more is seen to move.
        surprise: latent error of the model that hardly any held-out step exceeds, after 1, 2, ..
            model steps.
    """

    cameras: dict[str, CameraLook]
    still: float
    surprise: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        cameras = {name: camera.to_json() for name, camera in self.cameras.items()}
        return {"cameras": cameras, "still": self.still, "surprise": list(self.surprise)}

    @classmethod
    def from_json(cls, values: Any, source: str) -> Familiar:
        """What `to_json` gave.

        Raises:
            ConfigError: it is something else; the message begins with `source`.
        """
        try:
            cameras = dict(values["cameras"])
            still = float(values["still"])
            surprise = tuple(float(value) for value in values["surprise"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{source}: cannot be read: {type(error).__name__}: {error}"
            ) from None
        if not all(value > 0 and math.isfinite(value) for value in (still, *surprise)):
            raise ConfigError(f"{source}: still and surprise must be above 0 and finite")
        looks = {
            str(name): CameraLook.from_json(camera, f"{source}: cameras: {name}")
            for name, camera in cameras.items()
        }
        return cls(looks, still, surprise)
