"""Where the links of a robot are, and how near they come to each other, by its URDF and MuJoCo.

Shapes: J = joints that are given, P = pairs of shapes.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from wm_planner.config import suggest
from wm_planner.errors import ConfigError
from wm_planner.runtime.robot_description import named_joints, parsed_description

_MESHES = (".stl", ".obj")  # that MuJoCo reads
_COMPILER = {"fusestatic": "false", "strippath": "false", "discardvisual": "true"}
# Nothing moves by forces here, and MuJoCo refuses a moving link without mass.
_COMPILER |= {"boundmass": "1", "boundinertia": "1", "inertiafromgeom": "false"}
MAX_LINKS, MAX_PAIRS = 1000, 10_000  # beyond, reading and checking take too long
_TURNS, _SLIDES = ("revolute", "continuous"), ("prismatic",)


class RobotModel:
    """A robot's links, placed by the positions of its joints.

    Args:
        description: URDF, as text.
        joints: that `place` is given, in its order.
        collisions: read the links' collision geometry, too.

    Attributes:
        missing: collision geometry that cannot be read, for people.

    Raises:
        ConfigError: MuJoCo is missing, or cannot read the description, or a joint is not in it.
    """

    def __init__(self, description: str, joints: Sequence[str], collisions: bool = False) -> None:
        mujoco = _mujoco()
        root = parsed_description(description)
        self.missing: list[str] = []
        links = len(root.findall("link"))
        if links > MAX_LINKS:
            raise ConfigError(
                f"robot_description: has {links} links; at most {MAX_LINKS} are read for workspace "
                "and self_collision"
            )
        self._mimics = _mimics(named_joints(root))
        text = tostring(_prepared(mujoco, root, collisions, self.missing), encoding="unicode")
        try:
            self._model = mujoco.MjModel.from_xml_string(text)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"robot_description: MuJoCo cannot read it: {reason}") from error
        self._data = mujoco.MjData(self._model)
        self._mujoco = mujoco
        mujoco.mj_kinematics(self._model, self._data)
        if not np.isfinite(self._data.xpos).all():
            raise ConfigError("robot_description: the place of a link is no finite number")
        model = self._model
        self._address = {model.joint(i).name: int(model.jnt_qposadr[i]) for i in range(model.njnt)}
        for name in joints:
            if name not in self._address:
                choices = suggest(name, self._address)
                raise ConfigError(f"robot_description: no moving joint '{name}'.{choices}")
        self.joints = tuple(joints)
        self._given = [self._address[name] for name in joints]
        self.pairs: list[tuple[int, int]] = []
        self._first = self._second = np.zeros(0, int)

    @property
    def links(self) -> list[str]:
        """Names of the links."""
        return [self._model.body(i).name for i in range(self._model.nbody)]

    def link(self, name: str, key: str) -> int:
        """Number of a link; `key` names the setting in errors.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.links:
            raise ConfigError(f"{key}: no link '{name}' in the URDF.{suggest(name, self.links)}")
        return int(self._model.body(name).id)

    def between(self, frame: int, link: int) -> list[str]:
        """Joints that move a link in a frame of another one, those that mimic others by these."""
        chains = [set(self._chain(number)) for number in (frame, link)]
        moving = chains[0] ^ chains[1]
        leading = {self._mimics[name][0] if name in self._mimics else name for name in moving}
        return [name for name in self._address if name in leading]

    def sense(self, positions: Mapping[str, float]) -> None:
        """Note where joints are that `place` is not given."""
        for name, value in positions.items():
            if name in self._address and name not in self.joints and np.isfinite(value):
                self._data.qpos[self._address[name]] = value

    def place(self, positions: np.ndarray) -> None:
        """Put the joints at (J,) positions."""
        qpos = self._data.qpos
        qpos[self._given] = positions
        for name, (leader, factor, offset) in self._mimics.items():
            qpos[self._address[name]] = factor * qpos[self._address[leader]] + offset
        self._mujoco.mj_kinematics(self._model, self._data)

    def point(self, link: int, frame: int) -> np.ndarray:
        """(3,) where a link's origin is in the frame of another one, metres."""
        rotation = self._data.xmat[frame].reshape(3, 3)
        point: np.ndarray = rotation.T @ (self._data.xpos[link] - self._data.xpos[frame])
        return point

    def rotation(self, link: int, frame: int) -> np.ndarray:
        """(3, 3) from a link's axes to those of another one."""
        turned: np.ndarray = self._data.xmat[frame].reshape(3, 3).T @ self._data.xmat[link].reshape(
            3, 3
        )
        return turned

    # Pairs of shapes ------------------------------------------------------------------------

    def watch_pairs(self, home: np.ndarray | None, margin: float) -> list[str]:
        """Choose the pairs of shapes that must not touch.

        Left out are shapes of one rigid body, of neighbours in the tree, and of links that are
        nearer than the margin at home.

        Args:
            home: (J,) positions; None: not known, and none is left out because of it.
            margin: metres.

        Returns:
            Pairs of links that are left out because of home.

        Raises:
            ConfigError: there are too many to be checked in time.
        """
        model = self._model
        rigid = model.body_weldid[model.geom_bodyid]  # of each shape
        above = model.body_weldid[model.body_parentid[rigid]]  # its neighbour towards the base
        self._choose(
            (a, b)
            for a, b in itertools.combinations(range(model.ngeom), 2)
            if rigid[a] != rigid[b] and above[a] != rigid[b] and above[b] != rigid[a]
        )
        if len(self.pairs) > MAX_PAIRS:
            raise ConfigError(
                f"self_collision: {len(self.pairs)} pairs of shapes, at most {MAX_PAIRS} are "
                "checked in time: give the links fewer collision shapes"
            )
        if home is None:
            return []
        self.place(home)
        near = {
            self._links_of(pair)
            for pair, distance in zip(self.pairs, self.distances(margin), strict=True)
            if distance < margin
        }
        self._choose(pair for pair in self.pairs if self._links_of(pair) not in near)
        return [" and ".join(links) for links in sorted(near)]

    def distances(self, margin: float) -> np.ndarray:
        """(P,) how far the watched pairs are from each other, metres; at most `margin`.

        Shapes in each other have a negative distance.
        """
        model, data = self._model, self._data
        found = np.full(len(self.pairs), margin)
        centres, radii = data.geom_xpos, model.geom_rbound
        apart = np.linalg.norm(centres[self._first] - centres[self._second], axis=1)
        near = apart - radii[self._first] - radii[self._second] < margin
        for number in np.flatnonzero(near):
            a, b = self.pairs[number]
            found[number] = self._mujoco.mj_geomDistance(model, data, a, b, margin, None)
        return found

    def pair(self, number: int) -> str:
        """Links of a watched pair, for people."""
        return " and ".join(self._links_of(self.pairs[number]))

    def _choose(self, pairs: Iterable[tuple[int, int]]) -> None:
        self.pairs = list(pairs)
        numbers = np.array(self.pairs, int).reshape(-1, 2)
        self._first, self._second = numbers[:, 0], numbers[:, 1]

    def _links_of(self, pair: tuple[int, int]) -> tuple[str, ...]:
        model = self._model
        return tuple(sorted(model.body(model.geom_bodyid[geom]).name for geom in pair))

    def _chain(self, body: int) -> list[str]:
        """Joints between the root and a link."""
        model, names = self._model, []
        while body:
            first = int(model.body_jntadr[body])
            names += [model.joint(first + i).name for i in range(int(model.body_jntnum[body]))]
            body = int(model.body_parentid[body])
        return names


def _mujoco() -> Any:
    try:
        import mujoco
    except Exception as error:  # beside a missing package, whatever its graphics raise
        raise ConfigError(
            f"workspace and self_collision need MuJoCo, which cannot be imported ({error}): "
            "pip install 'wm_planner[sim]', or leave both out of the robot file"
        ) from error
    return mujoco


def _mimics(joints: Mapping[str, Element]) -> dict[str, tuple[str, float, float]]:
    """(leader, factor, offset) of each joint that mimics another one."""
    found = {}
    for name, joint in joints.items():
        mimic = joint.find("mimic")
        if mimic is not None:
            try:
                factor, offset = (
                    float(mimic.get(key, default))
                    for key, default in (("multiplier", "1"), ("offset", "0"))
                )
            except ValueError as error:
                raise ConfigError(f"robot_description: joint '{name}': mimic: {error}") from error
            found[name] = mimic.get("joint", ""), factor, offset
    moving = {name for name, joint in joints.items() if joint.get("type") in _TURNS + _SLIDES}
    for name, (leader, _, _) in found.items():
        if leader not in moving or leader in found:
            raise ConfigError(
                f"robot_description: joint '{name}' mimics '{leader}', which is no moving joint"
            )
    return {name: mimic for name, mimic in found.items() if name in moving}


def _prepared(mujoco: Any, root: Element, collisions: bool, missing: list[str]) -> Element:
    """The links, their places and their collision geometry: what is needed, as MuJoCo reads it."""
    robot = Element("robot", name="robot")
    compiler = SubElement(SubElement(robot, "mujoco"), "compiler")
    for key, value in _COMPILER.items():
        compiler.set(key, value)
    for link in root.findall("link"):
        name = link.get("name", "")
        made = SubElement(robot, "link", name=name)
        for collision in link.findall("collision") if collisions else ():
            geometry = collision.find("geometry")
            problem = _unreadable(mujoco, geometry)
            if problem:
                missing.append(f"link '{name}': {problem}")
                continue
            shape = SubElement(made, "collision")
            origin = collision.find("origin")
            if origin is not None:
                shape.append(origin)
            assert geometry is not None
            shape.append(geometry)
    for joint in root.findall("joint"):
        kind = joint.get("type", "")
        # Where something floats is not told by joint positions.
        kind = kind if kind in _TURNS + _SLIDES else "fixed"
        kind = "continuous" if kind in _TURNS else kind  # limits are kept elsewhere
        made = SubElement(robot, "joint", name=joint.get("name", ""), type=kind)
        for tag in ("parent", "child", "origin", "axis"):
            part = joint.find(tag)
            if part is not None:
                made.append(part)
    return robot


def _unreadable(mujoco: Any, geometry: Element | None) -> str:
    """Why a geometry cannot be read; a mesh is found, and its file name made absolute."""
    if geometry is None or not len(geometry):
        return "collision without a shape"
    mesh = geometry.find("mesh")
    if mesh is None:
        return ""
    name = mesh.get("filename", "")
    path = _found(name)
    if path is None:
        return f"{name} is not found"
    if path.suffix.lower() not in _MESHES:
        return f"{name}: MuJoCo reads meshes of {' and '.join(_MESHES)}"
    mesh.set("filename", str(path))
    one = Element("mujoco")
    SubElement(SubElement(one, "asset"), "mesh", name="mesh", file=str(path))
    try:
        mujoco.MjModel.from_xml_string(ElementTree.tostring(one, encoding="unicode"))
    except ValueError as error:
        return f"{name}: {' '.join(str(error).split())}"
    return ""


def _found(name: str) -> Path | None:
    """The file of a mesh: an absolute path, file:// or package://."""
    package = re.fullmatch(r"package://([^/]+)/(.+)", name)
    if package is None:
        path = Path(name.removeprefix("file://"))
        return path if path.is_absolute() and path.is_file() else None
    prefixes = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    places = (Path(prefix, "share", *package.groups()) for prefix in prefixes)
    return next((place for place in places if place.is_file()), None)
