"""A goal on disk: the picture as the planner sees it, and the proprioception at it.

A directory with ``image.png`` and ``goal.json``; a bare picture does, too, without proprioception.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError, raised_as
from wm_planner.files import read_bytes, read_json, write_bytes, write_json, writing

IMAGE, FACTS = "image.png", "goal.json"
SCHEMA = 1
MOST_BYTES = 1 << 26  # of a picture


def save_goal(
    directory: Path | str, image: np.ndarray, proprio: np.ndarray, embodiment: Embodiment
) -> None:
    """Write a goal.

    Args:
        directory: must not hold a goal yet.
        image: (S, C * S, 3) uint8 RGB, the cameras side by side, as the camera nodes send them.
        proprio: (P,) in the embodiment's units.
        embodiment: of the robot.

    Raises:
        ConfigError: the directory holds a goal already.
        WriteError: it cannot be written.
    """
    import cv2

    directory = Path(directory)
    if (directory / FACTS).exists():
        raise ConfigError(f"{directory}: holds a goal already; choose another directory")
    facts = {
        "schema": SCHEMA,
        "proprio": dict(zip(embodiment.proprio, map(float, proprio), strict=True)),
        "embodiment": embodiment.to_json(),
    }
    png = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1]
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    write_bytes(directory / IMAGE, png.tobytes())
    write_json(directory / FACTS, facts)


def load_goal(path: Path | str, embodiment: Embodiment) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a goal.

    Args:
        path: directory of `save_goal`, or a picture.
        embodiment: of the robot that shall go there.

    Returns:
        The picture (S, C * S, 3) uint8 RGB, and the proprioception (P,) float32, or None where it
        is not known.

    Raises:
        ConfigError: nothing can be read there, it is of another size, or it is of a robot with
            other proprioception.
    """
    path = Path(path)
    if not path.is_dir():
        return _picture(path, embodiment), None
    file = path / FACTS
    facts = read_json(file, way_out="'wm-planner robot goal' writes a goal")
    return _picture(path / IMAGE, embodiment), proprio_of(facts, str(file), embodiment)


def proprio_of(facts: Any, name: str, embodiment: Embodiment) -> np.ndarray:
    """(P,) float32 proprioception of what ``goal.json`` holds; `name` is the file's, for errors.

    Raises:
        ConfigError: it is no goal, or of a robot with other proprioception.
    """
    try:
        given = {str(entry): float(value) for entry, value in dict(facts["proprio"]).items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{name}: is no goal: {type(error).__name__}: {error}") from error
    missing = [entry for entry in embodiment.proprio if entry not in given]
    if missing:
        raise ConfigError(
            f"{name}: has no '{missing[0]}', which is proprioception of '{embodiment.name}'; take "
            "the goal again with 'wm-planner robot goal'"
        )
    proprio = np.array([given[entry] for entry in embodiment.proprio], np.float32)
    if not np.isfinite(proprio).all():
        raise ConfigError(f"{name}: proprio must be finite, got {proprio.tolist()}")
    return proprio


def picture_of(data: bytes, name: str, embodiment: Embodiment) -> np.ndarray:
    """(S, C * S, 3) uint8 RGB of a picture file's bytes; `name` is the file's, for errors.

    Raises:
        ConfigError: it is no picture, or not of the size that the planner sees.
    """
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # larger than OpenCV may make it, see `wm_planner`
        image = None
    if image is None:
        raise ConfigError(f"goal {name}: is not a picture that can be read")
    size, count = embodiment.image_size, len(embodiment.cameras)
    height, width = image.shape[:2]
    if (height, width) != (size, count * size):
        raise ConfigError(
            f"goal {name} is {width} x {height} pixels, the planner sees {count * size} x {size}: "
            "take it with 'wm-planner robot goal', which crops and resizes as the camera node does"
        )
    return np.ascontiguousarray(image[..., ::-1])


def _picture(file: Path, embodiment: Embodiment) -> np.ndarray:
    way_out = "; give a picture or a goal's directory"
    with raised_as(ConfigError, ConfigError, before="goal ", after=way_out):
        data = read_bytes(file, MOST_BYTES)
    return picture_of(data, str(file), embodiment)
