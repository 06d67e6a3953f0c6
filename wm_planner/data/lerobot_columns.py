"""Which columns of a LeRobot data set are a robot's proprioception, its action and its cameras.

A robot file says so (`of_robot`), or an embodiment is derived from the names that the data set
gives (`derived`), or the data set is an export of this package, which holds one (`of_export`).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_planner.config import suggest
from wm_planner.data.lerobot_meta import INFO, MAX_ENTRIES, Feature, Meta, read_meta
from wm_planner.data.lerobot_names import (
    VIEWS,
    action_names,
    camera_name,
    proprio_names,
    renamed,
    split,
    unique,
)
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.errors import ConfigError, DatasetError, raised_as
from wm_planner.robot import LeRobotKeys, RobotFile
from wm_planner.tasks.registry import resized

logger = logging.getLogger(__name__)

STATE, ACTION = "observation.state", "action"
VIEW = "observation.image"  # of a data set with one camera
OWN = "meta/wm_planner.json"  # what an export of this package holds besides: the embodiment
OWN_ROWS = "meta/wm_planner.parquet"  # and a row per episode, with its last frame and the states
OWN_SCHEMA = 1
IMAGE_SIZE = 96  # pixels, where nobody says otherwise
MODEL_STEP_S = 0.5  # about the duration of a model step, where nobody says otherwise
MARGIN = 0.05  # of the range of an action, by which its bounds lie beyond it


@dataclass(frozen=True)
class Columns:
    """A vector out of the entries of features.

    Attributes:
        features: their entries one after the other are numbered from 0.
        order: (M,) numbers of the entries that make the vector.
        scale: (M,) factors to the robot's unit.
    """

    features: tuple[Feature, ...]
    order: np.ndarray
    scale: np.ndarray

    def pick(self, values: np.ndarray) -> np.ndarray:
        """(T, M) float32 of the (T, all entries) values, in the robot's unit and order."""
        chosen = values[:, self.order]
        if (self.scale != 1).any():
            chosen = chosen.astype(np.float64) * self.scale
        with np.errstate(over="ignore"):  # what is too large becomes inf, and is found by `finite`
            return chosen.astype(np.float32)


@dataclass(frozen=True)
class View:
    """One camera, and the feature with its pictures; None: it was not recorded, and is black.

    `prepared` says that the pictures are what the model sees already.
    """

    camera: Camera
    feature: Feature | None
    prepared: bool = False


@dataclass(frozen=True)
class Reading:
    """How a data set is read.

    Attributes:
        embodiment: of the robot.
        state, action: its proprioception and what it was told.
        views: in the order of the model's picture.
        stride: rows of the data set per control period.
        actions_per_row: raw actions in one row.
    """

    embodiment: Embodiment
    state: Columns
    action: Columns
    views: tuple[View, ...]
    stride: int = 1
    actions_per_row: int = 1


def of_export(meta: Meta, robot: RobotFile | None) -> Reading:
    """How an export of this package is read back.

    Raises:
        DatasetError: it was changed since, or is of another robot than `robot`.
    """
    file = meta.root / OWN
    values = read_meta(file)
    if not isinstance(values, dict) or values.get("schema") != OWN_SCHEMA:
        got = values.get("schema") if isinstance(values, dict) else type(values).__name__
        raise DatasetError(f"{file}: schema {got}, expected {OWN_SCHEMA}")
    with raised_as(DatasetError, ConfigError):
        embodiment = Embodiment.from_json(values.get("embodiment"), f"{file}: embodiment")
    if robot is not None:
        here = resized(robot.embodiment, embodiment.image_size, embodiment.frame_skip)
        difference = here.difference(embodiment)
        if difference is not None:
            raise DatasetError(f"{file}: the data set is of another robot: {difference}")
    count, per_row = len(embodiment.proprio), embodiment.frame_skip
    state, action = meta.feature(STATE, str(file)), meta.feature(ACTION, str(file))
    for feature, size in ((state, count), (action, per_row * embodiment.action.size)):
        if feature.size != size:
            raise DatasetError(
                f"{meta.root / INFO}: '{feature.key}' has {feature.size} entries, {OWN} says "
                f"{size}; remove {OWN} where the data set was changed by other tools"
            )
    views = [
        View(camera, meta.feature(VIEWS + camera.name, str(file)), prepared=True)
        for camera in embodiment.cameras
    ]
    return _as_stored(embodiment, state, action, views, per_row)


def of_robot(meta: Meta, robot: RobotFile, image_size: int | None) -> Reading:
    """How a data set is read as that of a robot.

    Args:
        meta: of the data set.
        robot: see `LeRobotKeys`.
        image_size: side of the pictures in place of the robot file's.

    Raises:
        DatasetError: the data set lacks what the robot has, or has another clock.
    """
    keys, embodiment = robot.lerobot, resized(robot.embodiment, image_size)
    states = (keys.state,) if isinstance(keys.state, str) else keys.state
    state = tuple(_vector(meta, key, "robot file, lerobot: state") for key in states)
    action = (_vector(meta, keys.action, "robot file, lerobot: action"),)
    names = {name for feature in (*state, *action) for name in feature.names}
    _check_keys("names", keys.names, {*names, *(split(name)[0] for name in names)})
    joints = {entry.rpartition("/")[0] for entry in embodiment.proprio}
    _check_keys("scale", keys.scale, {*joints, *embodiment.action.names})
    reading = Reading(
        embodiment=embodiment,
        state=_columns(meta, state, embodiment.proprio, keys, whole=True),
        action=_columns(meta, action, embodiment.action.names, keys, whole=False),
        views=tuple(_view(meta, camera, keys) for camera in embodiment.cameras),
        stride=_stride(meta, embodiment, keys.fps or meta.fps),
    )
    _compare_bounds(meta, reading)
    return reading


def derived(meta: Meta, image_size: int | None) -> Reading:
    """How a data set is read of whose robot nothing is known but what it says itself.

    Joints have the names of the data set. Actions are positions, as those of LeRobot's arms are,
    unless all their names say velocity or delta. Their bounds are what was recorded, and 5 % more.
    A model step lasts about half a second.

    Raises:
        DatasetError: no state, no action or no camera is found.
    """
    way_out = "say in a robot file what is what (lerobot: {state: ..., action: ..., cameras: ...})"
    file = meta.root / INFO
    state, action = (_vector(meta, key, f"the usual name; {way_out}") for key in (STATE, ACTION))
    pictures = [f for f in meta.features.values() if f.is_picture and not f.is_depth]
    if not pictures:
        raise DatasetError(f"{file}: no feature of dtype 'image' or 'video'. {way_out}")
    low, high = meta.ranges(action)
    margin = np.maximum(MARGIN * (high - low), 1e-3 * np.maximum(1.0, np.abs(high)))
    names, kind = action_names(action)
    cameras = unique(tuple(camera_name(feature.key) for feature in pictures))
    before = f"{file}: no embodiment can be derived: "
    with raised_as(DatasetError, ValueError, before=before, after=f". {way_out}"):
        embodiment = Embodiment(
            name=re.sub(r"[^\w.-]+", "_", meta.root.resolve().name) or "lerobot",
            control_dt_s=1 / meta.fps,
            frame_skip=min(max(1, round(MODEL_STEP_S * meta.fps)), 1000),
            action=ActionSpace(
                names=names,
                low=tuple(float(f"{x:.6g}") for x in low - margin),
                high=tuple(float(f"{x:.6g}") for x in high + margin),
                kind=kind,
                unit="as in the data set",
            ),
            proprio=proprio_names(state, action),
            cameras=tuple(Camera(name, image_size or IMAGE_SIZE) for name in cameras),
        )
    views = [View(*pair) for pair in zip(embodiment.cameras, pictures, strict=True)]
    return _as_stored(embodiment, state, action, views)


def _as_stored(
    embodiment: Embodiment,
    state: Feature,
    action: Feature,
    views: list[View],
    actions_per_row: int = 1,
) -> Reading:
    """The robot's entries are those of two features, in their order and unit."""
    felt, sent = (Columns((f,), np.arange(f.size), np.ones(f.size)) for f in (state, action))
    return Reading(embodiment, felt, sent, tuple(views), actions_per_row=actions_per_row)


def _vector(meta: Meta, key: str, source: str) -> Feature:
    feature = meta.feature(key, source)
    if feature.is_picture or feature.dtype == "string" or feature.size > MAX_ENTRIES:
        raise DatasetError(
            f"{meta.root / INFO}: feature '{key}' ({source}) is of dtype {feature.dtype} with "
            f"{feature.size} entries; expected at most {MAX_ENTRIES} numbers"
        )
    return feature


def _columns(
    meta: Meta,
    features: tuple[Feature, ...],
    wanted: tuple[str, ...],
    keys: LeRobotKeys,
    whole: bool,
) -> Columns:
    """The entries that the robot wants, in its order; `whole` ones are '<joint>/<field>'."""
    size = sum(feature.size for feature in features)
    shown = " and ".join(f"'{feature.key}'" for feature in features)
    where = f"{meta.root / INFO}: feature {shown}"
    joints = [name.rpartition("/")[0] if whole else name for name in wanted]
    scale = np.array([float(keys.scale.get(joint, 1.0)) for joint in joints])
    if not all(feature.names for feature in features):
        if size != len(wanted):
            raise DatasetError(
                f"{where}: {size} entries without names; the robot file has {len(wanted)} "
                f"({', '.join(wanted)}), so nobody knows which is which. Name them in info.json"
            )
        return Columns(features, np.arange(size), scale)
    found: dict[str, int] = {}
    names = [name for feature in features for name in feature.names]
    for number, name in enumerate(names):
        joint, quantity = renamed(name, keys.names)
        entry = f"{joint}/{quantity or 'position'}" if whole else joint
        if entry in found and entry in wanted:
            raise DatasetError(
                f"{where}: '{names[found[entry]]}' and '{name}' both are the robot's '{entry}'; "
                "tell them apart in the robot file (lerobot: names: ...)"
            )
        found[entry] = number
    for entry in wanted:
        if entry not in found:
            raise DatasetError(
                f"{where}: nothing is the robot's '{entry}'; there are {', '.join(names)}. Say in "
                "the robot file which it is (lerobot: names: {<of the data set>: <of the robot>})"
            )
    return Columns(features, np.array([found[entry] for entry in wanted]), scale)


def _view(meta: Meta, camera: Camera, keys: LeRobotKeys) -> View:
    said = keys.cameras.get(camera.name)
    key = said or (VIEW if VIEWS + camera.name not in meta.features else VIEWS + camera.name)
    if key not in meta.features and camera.optional:
        return View(camera, None)
    source = f"robot file, camera '{camera.name}'"
    if said is None:
        source += f"; if it has another name, say lerobot: cameras: {{{camera.name}: ...}}"
    feature = meta.feature(key, source)
    if not feature.is_picture or feature.is_depth:
        what = "a depth picture" if feature.is_depth else f"of dtype {feature.dtype}"
        raise DatasetError(
            f"{meta.root / INFO}: feature '{key}' ({source}) is {what}; expected colour pictures"
        )
    return View(camera, feature)


def _stride(meta: Meta, embodiment: Embodiment, fps: float) -> int:
    """Rows per control period: a whole number, since nothing is interpolated."""
    rows = embodiment.control_dt_s * fps
    stride = max(1, round(rows))
    if abs(rows - stride) > 0.02 * stride:
        raise DatasetError(
            f"{meta.root / INFO}: {fps:g} frames per second do not fit control_dt_s "
            f"{embodiment.control_dt_s:g} of the robot file; write control_dt_s: {1 / fps:.6g}, or "
            "a multiple of it"
        )
    return stride


def _compare_bounds(meta: Meta, reading: Reading) -> None:
    """Warn of an action that lies far beyond the robot's bounds: most often it has another unit."""
    low, high = meta.ranges(reading.action.features[0])
    ends = reading.action.pick(np.stack([low, high]))
    space = reading.embodiment.action
    for index, name in enumerate(space.names):
        smallest, largest = sorted(ends[:, index].tolist())
        slack = space.high[index] - space.low[index]
        if smallest < space.low[index] - slack or largest > space.high[index] + slack:
            logger.warning(
                "%s: action '%s' goes from %.4g to %.4g, the robot file says %.4g to %.4g; if it "
                "has another unit, write lerobot: scale: {%s: ...}",
                *(meta.root, name, smallest, largest),
                *(space.low[index], space.high[index], name),
            )


def _check_keys(key: str, given: dict[str, Any], choices: set[str]) -> None:
    for name in given:
        if name not in choices:
            raise DatasetError(
                f"robot file, lerobot: {key}: '{name}' is nowhere.{suggest(name, choices)}"
            )
