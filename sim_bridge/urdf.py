"""The URDF of a simulated arm, as a real one's driver publishes it."""

from __future__ import annotations

import itertools
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from sim_bridge.envs.arm import ArmEnv
from sim_bridge.rendering import load_mujoco

MAX_EFFORT = 150.0  # Nm, a UR5e's largest joints


def urdf_of(arm: ArmEnv, max_speed: float, gripper_joint: str = "") -> str:
    """Links, inertias, looks, and joints with their limits.

    Args:
        arm: the arm; the limits are those that its joints have in its scene.
        max_speed: of each joint, rad/s.
        gripper_joint: name of a joint that closes a gripper at the flange; empty: none.
    """
    model = arm.model
    robot = Element("robot", name=arm.task.name)
    bodies = [model.body("base").id, *model.jnt_bodyid[:6]]
    for body in bodies:
        _add_link(robot, model, body)
    for number, body in enumerate(bodies[1:]):
        parent, child = _link(model, bodies[number]), _link(model, body)
        joint = _add_joint(robot, model.joint(number).name, "revolute", parent, child)
        _add_origin(joint, model.body_pos[body], model.body_quat[body])
        SubElement(joint, "axis", xyz=_text(model.jnt_axis[number]))
        low, high = arm.limits[:, number]
        _add_limit(joint, low, high, max_speed)
    SubElement(robot, "link", name="tool0")
    fixed = _add_joint(robot, "tool0_joint", "fixed", _link(model, bodies[-1]), "tool0")
    tip = model.site("tip")
    _add_origin(fixed, tip.pos, tip.quat)
    if gripper_joint:
        SubElement(robot, "link", name="finger")
        finger = _add_joint(robot, gripper_joint, "revolute", "tool0", "finger")
        SubElement(finger, "axis", xyz="1 0 0")
        _add_limit(finger, 0.0, 0.8, 1.0)
    indent(robot)
    return tostring(robot, encoding="unicode", xml_declaration=True)


def _add_link(robot: Any, model: Any, body: int) -> None:
    kinds = load_mujoco().mjtGeom
    link = SubElement(robot, "link", name=_link(model, body))
    if model.body_mass[body] > 0:
        inertial = SubElement(link, "inertial")
        _add_origin(inertial, model.body_ipos[body], model.body_iquat[body])
        SubElement(inertial, "mass", value=f"{model.body_mass[body]:.6g}")
        xx, yy, zz = (f"{value:.6g}" for value in model.body_inertia[body])
        SubElement(inertial, "inertia", ixx=xx, iyy=yy, izz=zz, ixy="0", ixz="0", iyz="0")
    shapes = np.flatnonzero(model.geom_bodyid == body)
    for tag, geom in itertools.product(("visual", "collision"), shapes):
        part = SubElement(link, tag)
        _add_origin(part, model.geom_pos[geom], model.geom_quat[geom])
        shape = SubElement(part, "geometry")
        kind, size = model.geom_type[geom], model.geom_size[geom]
        if kind == kinds.mjGEOM_BOX:
            SubElement(shape, "box", size=_text(2 * size))
        elif kind == kinds.mjGEOM_SPHERE:
            SubElement(shape, "sphere", radius=f"{size[0]:.6g}")
        else:  # capsules too: URDF has none
            length = f"{2 * size[1]:.6g}"
            SubElement(shape, "cylinder", radius=f"{size[0]:.6g}", length=length)


def _add_joint(robot: Any, name: str, kind: str, parent: str, child: str) -> Any:
    joint = SubElement(robot, "joint", name=name, type=kind)
    SubElement(joint, "parent", link=parent)
    SubElement(joint, "child", link=child)
    return joint


def _add_origin(element: Any, place: np.ndarray, quat: np.ndarray) -> None:
    w, x, y, z = quat / np.linalg.norm(quat)
    rpy = np.array(
        [
            np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
            np.arcsin(np.clip(2 * (w * y - z * x), -1.0, 1.0)),
            np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
        ]
    )
    SubElement(element, "origin", xyz=_text(place), rpy=_text(rpy))


def _add_limit(joint: Any, low: float, high: float, speed: float) -> None:
    SubElement(
        joint,
        "limit",
        lower=f"{low:.6g}",
        upper=f"{high:.6g}",
        effort=f"{MAX_EFFORT:g}",
        velocity=f"{speed:.6g}",
    )


def _link(model: Any, body: int) -> str:
    name = model.body(body).name
    return "base_link" if name == "base" else name


def _text(values: np.ndarray) -> str:
    return " ".join(f"{value:.6g}" for value in values)
