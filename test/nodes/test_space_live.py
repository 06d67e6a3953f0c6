"""The controller keeps a robot's tip in its box, by the URDF that somebody publishes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco", reason="needs the 'sim' extra")

from diagnostic_msgs.msg import DiagnosticArray

from wm_planner.errors import ConfigError
from wm_planner.nodes.controller_config import ControllerConfig
from wm_planner.ros.diagnostics import values_of

from .test_controller_live import EFFORT, LIMITS, NEVER_S, POSITIONS, Arm


def slide(name: str, parent: str, child: str, axis: str) -> str:
    return f"""<link name="{child}"/><joint name="{name}" type="prismatic"><parent link="{parent}"/>
      <child link="{child}"/><axis xyz="{axis}"/><limit lower="-1" upper="1"/></joint>"""


URDF = f"""<robot name="slides"><link name="base_link"/>
  {slide("rail", "base_link", "cart", "0 0 1")}
  {slide("slide_x", "cart", "bridge", "1 0 0")}{slide("slide_y", "bridge", "tip", "0 1 0")}
</robot>"""
ABOVE = {"workspace_link": "tip", "workspace_low": [-1.0, -1.0, -1.0], "stale_after_s": NEVER_S}
BOX = {**ABOVE, "workspace_high": [0.32, 1.0, 1.0]}  # the arm stands at x = 0.3
RAIL = (*POSITIONS, "rail/position")


def test_the_tip_stays_in_its_box(graph):
    arm = Arm(graph, **BOX)
    told: list[Any] = []
    arm.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: told.extend(m.status), 50
    )
    arm.controller.trigger_activate()
    assert "workspace: nobody has published the robot's description" in str(arm.controller._failure)
    arm.describe(URDF)
    graph.until(lambda: arm.controller._description, "the description")
    arm.controller.trigger_activate()
    arm.live(lambda: len(arm.sent) > 2, "commands")
    assert not arm.moves(), "the rail moves the tip, too, and nobody says where it is"

    def state(at: tuple[float, float, float]) -> bool:
        arm.state(names=RAIL, values=at)
        return True

    arm.live(lambda: state((0.3, -0.2, 0.0)) and arm.moves(), "motion")
    cut = np.array(arm.sent[-1])
    assert 0 < cut[0] < 0.5 and 0.3 + 0.05 * cut[0] <= 0.32 and cut[0] == cut[1]
    arm.live(
        lambda: any("tip above x = 0.32" in values_of(s).get("cut_by", "") for s in told),
        "the word of diagnostics",
    )
    arm.live(lambda: state((0.2, -0.2, 0.0)) and arm.sent[-1] == [0.5, 0.5], "free motion")
    arm.live(lambda: state((0.32, -0.2, 0.0)) and arm.last_is_safe(), "no motion at the wall")


def test_a_twist_needs_the_joints_that_move_the_tip(graph):
    box = {**ABOVE, "workspace_high": [0.32, 1.0, 1.0]}
    arm = Arm(graph, "twist", **box)
    arm.describe(URDF)
    graph.until(lambda: arm.controller._description, "the description")
    arm.controller.trigger_activate()
    arm.live(lambda: len(arm.sent) > 2, "commands")
    assert not arm.moves()

    def state(x: float) -> bool:
        arm.state(names=RAIL, values=(x, -0.2, 0.0))
        return True

    arm.live(lambda: state(0.0) and arm.sent[-1] == [0.5, 0.5], "motion")
    arm.live(lambda: state(0.32) and arm.last_is_safe(), "no motion at the wall")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"workspace_link": "tip"}, "workspace: low: expected 3 values"),
        ({**BOX, "workspace_high": [-2.0, 1.0, 1.0]}, "x is from -1 to -2"),
        ({**BOX, **EFFORT}, "nobody can tell where efforts lead"),
        ({"self_collision": 0.1, **EFFORT}, "nobody can tell where efforts lead"),
        ({"self_collision": 0.1, "action_names": ["linear.x", "linear.y"]}, "chooses the joints"),
        ({"self_collision": 0.1, "home": [0.0, 0.0, 0.0]}, "home needs 2 entries"),
    ],
)
def test_settings_that_make_no_sense_are_named(parameters, words):
    values = {"action_names": ["slide_x", "slide_y"], **LIMITS, **parameters}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    with pytest.raises((ConfigError, ValueError), match=words):
        ControllerConfig(**values)
