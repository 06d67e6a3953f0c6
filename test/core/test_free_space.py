"""Where a robot may go beside the limits of its joints: its tip's box, and clear of itself."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest

from wm_planner.errors import ConfigError
from wm_planner.kinematics.checks import space_of
from wm_planner.kinematics.robot_model import RobotModel
from wm_planner.robot import Workspace
from wm_planner.runtime.free_space import FreeSpace, PositionSpaceGuard, VelocityGuard
from wm_planner.runtime.integrator import Integrator
from wm_planner.runtime.safety import Measured, Reason, SafetyGate, limits_of

pytest.importorskip("mujoco", reason="needs the 'sim' extra")

NAMES = ("shoulder", "elbow", "wrist")


def link(name, shape='<box size="0.8 0.1 0.1"/>', x=0.5):
    return f"""<link name="{name}">
      <visual><geometry><mesh filename="package://nowhere/{name}.dae"/></geometry></visual>
      <inertial><mass value="0"/><inertia ixx="0" iyy="0" izz="0" ixy="0"/></inertial>
      <collision name="c"><origin xyz="{x} 0 0"/><geometry>{shape}</geometry></collision></link>"""


def joint(name, parent, child, x=1.0, kind="revolute", more=""):
    return f"""<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>
      <origin xyz="{x} 0 0"/><axis xyz="0 0 1"/>{more}<limit lower="0" upper="0"/></joint>"""


# Three links of a metre, in a plane; the tip is at the end of the last one.
URDF = f"""<robot name="arm"><link name="base"/>
  {link("upper")}{link("fore")}{link("hand")}<link name="tip"/><link name="finger"/>
  {joint("shoulder", "base", "upper", 0.0)}{joint("elbow", "upper", "fore")}
  {joint("wrist", "fore", "hand")}{joint("flange", "hand", "tip", kind="fixed")}
  {joint("grip", "tip", "finger", 0.1, "prismatic", '<mimic joint="wrist" multiplier="0.5"/>')}
  <transmission name="t"><joint name="shoulder"/></transmission></robot>"""
BOX = Workspace("tip", (-4.0, -1.0, -1.0), (2.9, 4.0, 1.0))


def tip_of(positions):
    angles = np.cumsum(positions)
    return np.array([np.cos(angles).sum(), np.sin(angles).sum()])


def test_where_the_links_are():
    model, rng = RobotModel(URDF, NAMES), np.random.default_rng(0)
    base, tip = model.link("base", "x"), model.link("tip", "x")
    for _ in range(20):
        positions = rng.uniform(-3, 3, 3)
        model.place(positions)
        np.testing.assert_allclose(model.point(tip, base)[:2], tip_of(positions), atol=1e-12)
    model.place(np.array([0.0, 0.0, 0.6]))
    hand, finger = model.link("hand", "x"), model.link("finger", "x")
    np.testing.assert_allclose(model.point(finger, hand), [1.1, 0, 0.3], atol=1e-12)  # mimics
    assert model.between(base, tip) == list(NAMES)
    assert model.between(model.link("fore", "x"), tip) == ["wrist"]
    assert model.between(hand, finger) == ["wrist"]


def drive(guard, wanted, place, dt_s=0.1, ticks=100, age=0):
    """Every place that a robot comes to which follows at once."""
    places = [place] * (age + 1)
    for tick in range(ticks):
        action = guard.allow(wanted(tick, places[-1]), places[-1 - age], age * dt_s)
        places.append(places[-1] + dt_s * action)
    return np.stack(places)


@pytest.mark.parametrize("age", [0, 2])
def test_velocities_keep_the_tip_in_its_box(age):
    rng = np.random.default_rng(2)
    space = space_of(URDF, NAMES, BOX)
    guard = VelocityGuard(space.free, space.place, 0.1, np.full(3, 5.0))
    directions = rng.uniform(-0.5, 0.5, (20, 3))
    places = drive(
        guard, lambda tick, _: directions[tick // 20], np.array([0.5, 0.5, 0.5]), ticks=400, age=age
    )
    tips = np.stack([tip_of(place) for place in places])
    assert np.all(tips[:, 0] <= 2.9 + 1e-6) and np.all(tips[:, 1] >= -1 - 1e-6)
    straight = drive(guard, lambda *_: np.full(3, -0.3), np.full(3, 0.5), ticks=60)
    assert 2.8 < tip_of(straight[-1])[0] <= 2.9  # it goes up to the wall
    assert space.free.cut == "workspace: tip above x = 2.9"
    guard.refuse(None)
    assert guard.allow(np.zeros(3), straight[-1], 0.0).tolist() == [0, 0, 0]
    assert space.free.cut == ""


def test_what_is_outside_may_come_back_and_goes_no_further_out():
    space = space_of(URDF, NAMES, BOX)
    guard = VelocityGuard(space.free, space.place, 0.1)
    outside = np.array([0.1, 0.0, 0.0])  # the tip is at x = 2.985
    assert guard.allow(np.array([-0.5, 0, 0]), outside, 0.0).tolist() == [0, 0, 0]
    assert guard.allow(np.array([0.5, 0, 0]), outside, 0.0).tolist() == [0.5, 0, 0]
    nan = guard.allow(np.array([0.5, 0, 0]), np.array([np.nan, 0, 0]), 0.0)
    assert nan.tolist() == [0, 0, 0]


def test_a_frame_of_the_box_and_a_joint_that_others_move():
    space = space_of(URDF, ("wrist",), Workspace("tip", (-2, -0.5, -1), (2, 0.5, 1), "fore"))
    assert (space.joints, space.others) == (("wrist",), ())
    guard = VelocityGuard(space.free, space.place, 0.1)
    places = drive(guard, lambda *_: np.array([1.0]), np.zeros(1))
    assert 0.45 < np.sin(places[-1, 0]) <= 0.5
    space = space_of(URDF, ("wrist",), Workspace("tip", (-4, -2, -1), (4, 2, 1)))
    assert space.others == ("shoulder", "elbow")
    space.model.sense({"shoulder": 1.2, "elbow": np.nan, "wrist": 9.0, "other": 1.0})
    guard = VelocityGuard(space.free, space.place, 0.1)
    assert guard.allow(np.array([0.2]), np.zeros(1), 0.0)[0] == 0.0  # the tip is at y = 2.8


def test_positions_and_what_leads_to_them_keep_the_box():
    begin, end = np.array([0.6, 0.0, 0.0]), np.array([-0.6, 0.0, 0.0])
    space = space_of(URDF, NAMES, BOX)
    allowed = PositionSpaceGuard(space.free).allow(end, begin, 0.0)
    assert 0.2 < allowed[0] < 0.6 and 3 * np.cos(allowed[0]) <= 2.9
    near = np.array([0.5, 0.0, 0.0])
    assert PositionSpaceGuard(space.free).allow(near, begin, 0.0) is near
    endless = np.full(3, np.inf)
    guard = Integrator("velocity", -endless, endless, 0.1, 0.2, space.free)
    guard.begin(begin)
    place = begin
    for _ in range(40):
        action = guard.allow(np.array([-0.5, 0.0, 0.0]), place, 0.0)
        place = guard.target
        assert 3 * np.cos(place[0]) <= 2.9
    assert abs(action[0]) < 0.5 and place[0] < 0.3


def test_a_twist_keeps_the_point_that_it_moves_in_the_box():
    axes = ("linear.x", "linear.y", "angular.z")
    space = space_of(URDF, axes, BOX, twist_frame="upper")
    assert space.joints == NAMES
    guard = VelocityGuard(space.free, space.place, 0.1, np.full(3, 0.5))
    turned = np.array([np.pi / 2, -0.6, -0.6])  # 'upper' looks along y: its -y is the box's x
    x = tip_of(turned)[0]
    assert guard.allow(np.array([0.1, 0.0, 0.3]), turned, 0.0).tolist() == [0.1, 0.0, 0.3]
    fast = guard.allow(np.array([0.0, -1.5, 0.0]), turned, 0.0)
    assert -1.5 < fast[1] < -1.0 and x - 0.1 * fast[1] + fast[1] ** 2 / (2 * 0.5) <= 2.9


def folded(bend):
    return np.array([0.0, bend, bend])


def test_links_keep_apart():
    """The hand folds back towards the upper arm; neighbours may touch."""
    space = space_of(URDF, NAMES, distance=0.05)
    assert {space.model.pair(n) for n in range(len(space.model.pairs))} == {"hand and upper"}
    guard = VelocityGuard(space.free, space.place, 0.1, np.full(3, 5.0))
    places = drive(guard, lambda *_: folded(0.4), folded(1.0), ticks=60)
    space.model.place(places[-1])
    distance = space.model.distances(1.0)[0]
    assert 0.05 <= distance < 0.25
    assert space.free.cut == "self_collision: hand and upper"
    touching, guard = places[-1], VelocityGuard(space.free, space.place, 0.1)
    while distance > -0.01:  # in each other
        touching = touching + folded(0.01)
        space.model.place(touching)
        distance = space.model.distances(1.0)[0]
    assert guard.allow(folded(0.1), touching, 0.0).tolist() == [0, 0, 0]
    assert np.all(guard.allow(folded(-0.1), touching, 0.0) == folded(-0.1))  # apart
    assert any("no home is known" in note for note in space.notes)


def test_what_touches_at_home_is_not_watched():
    ball = link("finger", '<sphere radius="0.05"/>', 0.0)
    space = space_of(URDF.replace('<link name="finger"/>', ball), NAMES, None, 0.01, folded(2.5))
    watched = {space.model.pair(n) for n in range(len(space.model.pairs))}
    assert "hand and upper" not in watched and "finger and fore" in watched
    assert "nearer at home, and not watched: hand and upper" in space.notes[-1]
    with pytest.raises(ConfigError, match="nothing can be checked: nearer at home: hand and upper"):
        space_of(URDF, NAMES, distance=0.01, home=folded(2.5))


def test_more_pairs_than_can_be_checked_in_time_are_refused():
    sphere = '<collision><geometry><sphere radius="0.1"/></geometry></collision>'
    many = URDF.replace('<link name="tip"/>', f'<link name="tip">{sphere * 10000}</link>')
    with pytest.raises(ConfigError, match="self_collision: .* pairs of shapes, at most 10000"):
        space_of(many, NAMES, distance=0.01)


def stl(path):
    corners = np.eye(4, 3, dtype="<f4") * 0.1
    faces = [(0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 3, 2)]
    data = b"".join(bytes(12) + corners[list(face)].tobytes() + bytes(2) for face in faces)
    path.write_bytes(bytes(80) + struct.pack("<I", len(faces)) + data)
    return path


def test_meshes_are_found_or_named(tmp_path, monkeypatch):
    share = tmp_path / "share" / "my_arm"
    share.mkdir(parents=True)
    stl(share / "hand.stl")
    (share / "broken.stl").write_text("solid x\nendsolid x\n")
    (share / "fore.dae").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")

    def with_mesh(name):
        mesh = f'<mesh filename="{name}" scale="2 2 2"/>'
        return URDF.replace(link("hand"), link("hand", mesh, 0.0))

    for name in ("package://my_arm/hand.stl", f"file://{share}/hand.stl", f"{share}/hand.stl"):
        assert RobotModel(with_mesh(name), NAMES, collisions=True).missing == []
    for name, words in (
        ("package://my_arm/none.stl", "is not found"),
        ("package://other/hand.stl", "is not found"),
        ("hand.stl", "is not found"),
        ("package://my_arm/fore.dae", "MuJoCo reads meshes of .stl and .obj"),
        ("package://my_arm/broken.stl", "STL"),
    ):
        (missing,) = RobotModel(with_mesh(name), NAMES, collisions=True).missing
        assert missing.startswith(f"link 'hand': {name}") and words in missing
    with pytest.raises(ConfigError, match="nothing can be checked: link 'hand': .* is not found"):
        space_of(with_mesh("package://other/hand.stl"), NAMES, distance=0.01)


@pytest.mark.parametrize(
    ("urdf", "names", "changed", "words"),
    [
        (URDF, NAMES, {"link": "tool"}, "workspace: link: no link 'tool' in the URDF"),
        (URDF, NAMES, {"frame": "bsae"}, "workspace: frame: no link 'bsae'.*Did you mean 'base'"),
        (URDF, NAMES, {"link": "base"}, "no joint of the action moves link 'base'"),
        (URDF, ("elbows",), {}, "no moving joint 'elbows'.*Did you mean 'elbow'"),
        (URDF.replace('xyz="0 0 1"', 'xyz="0 0 0"'), NAMES, {}, "MuJoCo cannot read it"),
        (URDF.replace('child link="fore"', 'child link="foe"'), NAMES, {}, "MuJoCo cannot read it"),
        (URDF.replace('joint="wrist"', 'joint="thumb"'), NAMES, {}, "'grip' mimics 'thumb'"),
        (URDF.replace('multiplier="0.5"', 'multiplier="x"'), NAMES, {}, "'grip': mimic"),
        ("<robot", NAMES, {}, "is not XML"),
        (URDF.replace('name="wrist"', 'name="elbow"'), NAMES, {}, "two joints are called 'elbow'"),
        (URDF.replace('xyz="1.0 0 0"', 'xyz="inf 0 0"'), NAMES, {}, "no finite number"),
        (f"<robot>{'<link/>' * 1001}</robot>", NAMES, {}, "has 1001 links; at most 1000"),
    ],
)
def test_what_cannot_be_used_is_named(urdf, names, changed, words):
    values = {"link": "tip", "low": (-1, -1, -1), "high": (1, 1, 1), **changed}
    with pytest.raises(ConfigError, match=words):
        space_of(urdf, names, Workspace(**values))


def test_the_gate_says_that_it_has_cut():
    space = space_of(URDF, NAMES, BOX)
    guard = VelocityGuard(space.free, space.place, 0.1)
    gate = SafetyGate(limits_of([-1] * 3, [1] * 3, []), np.zeros(3), 10**9, 10**8, guard=guard)
    gate.enable()
    inside = Measured(np.array([0.3, 0.0, 0.0]), 0)
    assert gate.check(np.full(3, 0.1), 0, 0, 0, inside).reason is Reason.OK
    command = gate.check(np.array([-1.0, 0, 0]), 0, 0, 0, inside)
    assert command.reason is Reason.LIMITED and -1 < command.action[0] <= 0
    assert gate.check(np.full(3, 0.1), 0, 0, 0, None).reason is Reason.STALE


def test_a_path_ends_before_the_first_bad_place():
    class Line:
        def excess(self, place):
            return np.array([place[0] - 1.0, -place[0]])

        def told(self, number):
            return f"condition {number}"

    space = FreeSpace([Line()])
    assert space.steps(np.array([[0.0], [0.5], [1.0], [1.5], [0.9]])) == 2  # not through it
    assert space.cut == "condition 0"
    assert space.steps(np.array([[2.0], [1.5], [2.0], [2.1]])) == 2
    assert space.steps(np.array([[0.5], [-0.5]])) == 0 and space.cut == "condition 1"


def test_nothing_loads_mujoco_before_it_is_needed():
    code = "import wm_planner.kinematics.checks, sys; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
    code = (
        "import sys; sys.modules['mujoco'] = None\n"
        "from wm_planner.kinematics.robot_model import RobotModel\n"
        "from wm_planner.errors import ConfigError\n"
        "try: RobotModel('<robot/>', ())\n"
        "except ConfigError as error: sys.exit('wm_planner[sim]' not in str(error))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
