"""What may differ from the world that a model was trained in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import yaml

from wm_planner.config import from_dict
from wm_planner.errors import ConfigError

_AT_LEAST_ZERO = (
    "process_noise image_noise proprio_noise delayed_frames friction brightness gain".split()
)
_POSITIVE = ("mass", "camera_zoom")


@dataclass(frozen=True)
class Shifts:
    """Differences from the training world; the defaults are none.

    All but `delayed_frames`, which is the loop's business, are those of the simulator's wrapper
    `ShiftedEnv`, of the same names.

    Attributes:
        process_noise: standard deviation added to each raw action, action units.
        image_noise: standard deviation added to each pixel and channel, grey levels of 255.
        proprio_noise: standard deviation added to each entry, in its unit.
        delayed_frames: model steps by which the planner's observation is old.
        friction: factor of contact friction, joint friction loss and joint damping.
        mass: factor of every mass and inertia.
        gain: factor of what a raw action does.
        camera_x, camera_y: move of the camera, in widths of its view.
        camera_turn_deg: turn of the camera about its axis, degrees.
        camera_zoom: factor of the size of things in the picture.
        hue_deg: turn of all colours on the colour wheel, degrees.
        brightness: factor of the light.
    """

    process_noise: float = 0.0
    image_noise: float = 0.0
    proprio_noise: float = 0.0
    delayed_frames: int = 0
    friction: float = 1.0
    mass: float = 1.0
    gain: float = 1.0
    camera_x: float = 0.0
    camera_y: float = 0.0
    camera_turn_deg: float = 0.0
    camera_zoom: float = 1.0
    hue_deg: float = 0.0
    brightness: float = 1.0

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ZERO:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def changes(self) -> dict[str, Any]:
        """What is not at its default."""
        values = asdict(self)
        return {f.name: values[f.name] for f in fields(self) if values[f.name] != f.default}

    def of_simulator(self) -> dict[str, float]:
        """Keyword arguments of the simulator's wrapper; empty when it is not needed."""
        return {name: value for name, value in self.changes().items() if name != "delayed_frames"}


def parse_shifts(settings: Iterable[str], source: str = "--shift") -> Shifts:
    """Shifts from 'name=value' strings.

    Raises:
        ConfigError: an unknown name, with the nearest one, or a value that cannot be used.
    """
    values = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"{source}: '{setting}' is not of the form name=value")
        try:
            values[name.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{source}: '{setting}': the value is not valid YAML") from error
    return from_dict(Shifts, values, source)
