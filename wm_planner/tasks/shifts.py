"""What may differ from the world that a model was trained in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from wm_planner.config import Natural, from_dict, parse_settings
from wm_planner.errors import ConfigError
from wm_planner.tasks.task import Task

_AT_LEAST_ZERO = (
    "process_noise image_noise proprio_noise delayed_frames friction brightness gain"
).split()
_POSITIVE = ("mass", "camera_zoom")
_MOST = 1e6  # of any number: far beyond what makes sense, and finite
_LAYOUT = ("obstacle", "maze", "wall_x", "door_y")
_LOOP = ("delayed_frames",)


@dataclass(frozen=True)
class Shifts:
    """Differences from the training world; the defaults are none.

    `delayed_frames` is the loop's business, what `layout` returns the environment's own, of the
    tasks that list it; all else is that of the simulator's wrapper.

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
        obstacle: a solid body in the way, at the place drawn from this number (1, 2, ...).
        maze: of point_maze, another maze by its name.
        wall_x, door_y: of wall, where wall and door are, pixels.
    """

    process_noise: float = 0.0
    image_noise: float = 0.0
    proprio_noise: float = 0.0
    delayed_frames: Natural = 0
    friction: float = 1.0
    mass: float = 1.0
    gain: float = 1.0
    camera_x: float = 0.0
    camera_y: float = 0.0
    camera_turn_deg: float = 0.0
    camera_zoom: float = 1.0
    hue_deg: float = 0.0
    brightness: float = 1.0
    obstacle: Natural | None = None
    maze: str | None = None
    wall_x: float | None = None
    door_y: float | None = None

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ZERO:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0.0 if field.name in (*_AT_LEAST_ZERO, *_POSITIVE) else -_MOST
            if isinstance(value, float) and not least <= value <= _MOST:
                raise ValueError(f"{field.name} must be from {least:g} to {_MOST:g}, got {value}")
        if self.obstacle is not None and self.obstacle < 1:
            raise ValueError(f"obstacle must be at least 1, got {self.obstacle}")

    def changes(self) -> dict[str, Any]:
        """What is not at its default."""
        values = asdict(self)
        return {f.name: values[f.name] for f in fields(self) if values[f.name] != f.default}

    def layout(self) -> dict[str, Any]:
        """What the scene is built with: the `layout` argument of the task's environment."""
        return {name: value for name, value in self.changes().items() if name in _LAYOUT}

    def fits(self, task: Task) -> bool:
        """Whether the task's scene can be so laid out."""
        return set(self.layout()) <= set(task.layout)

    def disturbances(self) -> dict[str, Any]:
        """What the simulator's wrapper changes of the scene; empty when it is not needed."""
        return {k: v for k, v in self.changes().items() if k not in (*_LAYOUT, *_LOOP)}

    def of_layout(self) -> Shifts:
        """The same scene without disturbances: its targets are the same under all of them."""
        return replace(Shifts(), **self.layout())


def parse_shifts(settings: Iterable[str], source: str = "--shift") -> Shifts:
    """Shifts from 'key=value' strings.

    Args:
        settings: the strings.
        source: of them, for errors.

    Raises:
        ConfigError: an unknown name, with the nearest one, or a value that cannot be used.
    """
    return from_dict(Shifts, parse_settings(settings, source), source)


def simulator_shifts(settings: Iterable[str], task: Task, source: str = "--shift") -> Shifts:
    """Shifts of a simulated robot that runs behind topics.

    Raises:
        ConfigError: see `parse_shifts`; or the simulator cannot do that.
    """
    shifts = parse_shifts(settings, source)
    if shifts.delayed_frames:
        raise ConfigError(f"{source}: delayed_frames is for 'wm-planner eval' alone")
    if not shifts.fits(task):
        unfit = ", ".join(sorted(set(shifts.layout()) - set(task.layout)))
        raise ConfigError(f"{source}: task '{task.name}' has no {unfit}")
    return shifts
