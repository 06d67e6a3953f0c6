"""The arm: its kinematics, its limits, and what it pushes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from sim_bridge.envs.arm import JOINTS, REACH_HALF, REACH_HOME
from sim_bridge.envs.arm_push import BLOCK, TIP, TIP_HEIGHT, TIP_HIGH, TIP_LOW
from sim_bridge.envs.shifts import ShiftedEnv
from wm_planner.robot import read_robot
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts

from .simulated_tasks import RESTING, renderer  # noqa: F401


def make(name, **options):
    options.setdefault("render", "image_size" in options)
    return gymnasium.make(get_task(name).env_id, **options).unwrapped


@pytest.fixture(scope="module")
def reach():
    return make("arm_reach")


@pytest.fixture(scope="module")
def push():
    return make("arm_push")


def in_picture(env, points):
    """(n, 2) places of (n, 3) points in the picture: -1 to 1 from edge to edge."""
    camera = env.model.camera(env.camera).id
    axes = env.data.cam_xmat[camera].reshape(3, 3)
    seen = (np.asarray(points) - env.data.cam_xpos[camera]) @ axes
    return seen[:, :2] / -seen[:, 2:] / np.tan(np.deg2rad(env.model.cam_fovy[camera]) / 2)


def put(env, joints):
    env.set_state(np.concatenate([joints, np.zeros(3)]))


# arm_reach ----------------------------------------------------------------------------------


def test_zero_pose_is_that_of_a_ur5e():
    """Stretched along x; heights and offsets are the sums of a UR5e's published link lengths."""
    env = make("arm_reach")
    tip = env.tip_of(np.zeros(6))
    tool = 0.25  # from wrist 3 to the tip, along y
    np.testing.assert_allclose(tip, [0.425 + 0.392, 0.138 - 0.131 + 0.127 + tool, 0.063], atol=1e-6)


def test_a_joint_moves_with_the_commanded_velocity(reach):
    velocity = np.array([0.5, -0.2, 0.3, 0.4, -0.5, 0.5])
    put(reach, REACH_HOME)
    for period in (1, 2, 3):
        reach.advance(velocity)
        expected = REACH_HOME + 0.1 * period * velocity
        np.testing.assert_allclose(reach.get_state()[:6], expected, atol=1e-3)
    before = reach.get_state()
    reach.advance(np.zeros(6))
    np.testing.assert_allclose(reach.get_state(), before, atol=1e-6)


@pytest.mark.parametrize("joint", range(6))
@pytest.mark.parametrize("side", [-1, 1])
def test_a_velocity_into_a_limit_stops_at_it(reach, joint, side):
    put(reach, REACH_HOME)
    for _ in range(30):
        reach.advance(0.5 * side * np.eye(6)[joint])
    expected = REACH_HOME + side * REACH_HALF * np.eye(6)[joint]
    np.testing.assert_allclose(reach.get_state()[:6], expected, atol=2e-3)


def test_within_the_limits_the_tip_is_in_the_picture_and_all_above_the_table(reach):
    corners = np.stack(np.meshgrid(*[(-1.0, 1.0)] * 6), axis=-1).reshape(-1, 6)
    inner = np.random.default_rng(0).uniform(-1, 1, (500, 6))
    least = 1.0
    for joints in REACH_HOME + REACH_HALF * np.concatenate([corners, inner]):
        put(reach, joints)
        places = np.concatenate([[reach.get_state()[6:9]], reach.data.xpos[2:]])
        view = np.abs(in_picture(reach, places))
        assert view[0].max() < 1.0, "the tip"
        assert view.max() < 1.07, "a link"
        least = min(least, float(places[:, 2].min()))
        jacobian = np.zeros((6, 6))
        reach._mujoco.mj_jacSite(reach.model, reach.data, jacobian[:3], jacobian[3:], reach._tip)
        assert np.linalg.svd(jacobian)[1][-1] > 0.1, "neither stretched nor folded"
    assert least > 0.03


def test_random_motion_covers_the_box(reach):
    rng = np.random.default_rng(0)
    joints = []
    for _ in range(12):
        reach.set_state(reach.sample_state(rng))
        policy = reach.explore(rng)
        last = np.zeros(6)
        for _ in range(60):
            action = policy(reach.get_state())
            assert np.abs(action - last).max() <= 0.5 + 1e-6, "max_rate"
            last = action
            reach.advance(action)
            joints.append(reach.get_state()[:6])
    spread = np.std(joints, axis=0) / REACH_HALF
    assert spread.min() > 0.35 and spread.max() < 0.75, "a uniform spread has 0.58"


def test_reach_problems_are_apart_and_within_the_limits(reach):
    rng = np.random.default_rng(3)
    for _ in range(50):
        start, goal = reach.sample_target(rng)
        assert reach.task.distance(start, goal) >= 0.1
        assert not reach.task.is_success(start, goal)
        assert reach.is_possible(start) and reach.is_possible(goal)
        np.testing.assert_allclose(reach.tip_of(goal[:6]), goal[6:9], atol=1e-12)


def test_success_is_three_centimetres_of_the_tip(reach):
    goal = reach.sample_state(np.random.default_rng(0))
    near, far = goal.copy(), goal.copy()
    near[8] += 0.029
    far[8] += 0.031
    assert reach.task.is_success(near, goal) and not reach.task.is_success(far, goal)


# arm_push -----------------------------------------------------------------------------------


def test_poses_for_the_tip_are_exact_and_upright(push):
    for x in np.linspace(TIP_LOW[0], TIP_HIGH[0], 5):
        for y in np.linspace(TIP_LOW[1], TIP_HIGH[1], 5):
            state = push.state_at(np.array([x, y]), np.array([0.5, 0.0, 0.0]))
            push.set_state(state)
            place = push.data.site_xpos[push._tip]
            np.testing.assert_allclose(place, [x, y, TIP_HEIGHT], atol=1e-9)
            np.testing.assert_allclose(push.data.site_xmat[push._tip][8], -1.0, atol=1e-12)


def test_the_tip_moves_with_the_commanded_velocity_at_its_height(push):
    start = push.state_at(np.array([0.40, 0.20]), np.array([0.55, -0.15, 0.0]))
    push.set_state(start)
    for period in range(1, 11):
        push.advance(np.array([0.15, -0.05]))
        expected = start[TIP] + 0.1 * period * np.array([0.15, -0.05])
        np.testing.assert_allclose(push.get_state()[TIP], expected, atol=5e-4)
        assert push.data.site_xpos[push._tip][2] == pytest.approx(TIP_HEIGHT, abs=1e-4)


@pytest.mark.parametrize("side", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_the_tip_stops_at_the_edge_of_its_region(push, side):
    push.set_state(push.state_at(np.array([0.5, 0.0]), np.array([0.3, -0.35, 0.0])))
    for _ in range(40):
        push.advance(0.2 * np.array(side))
    edge = np.where(np.array(side) > 0, TIP_HIGH, TIP_LOW)
    np.testing.assert_allclose(push.get_state()[TIP], edge, atol=1e-3)


def test_the_block_rests_unless_pushed_and_stops(push):
    block = np.array([0.50, 0.05, 0.3])
    push.set_state(push.state_at(np.array([0.38, -0.20]), block))
    for _ in range(10):
        push.advance(np.array([0.1, 0.0]))
    np.testing.assert_allclose(push.get_state()[BLOCK], block, atol=1e-4)
    push.set_state(push.state_at(np.array([0.38, 0.05]), block))
    for _ in range(10):
        push.advance(np.array([0.2, 0.0]))
    pushed = push.get_state()
    assert pushed[8] > block[0] + 0.05, "the way it is pushed"
    assert pushed[6] < pushed[8], "the tip is behind the block, not in it"
    push.advance(np.array([-0.2, 0.0]))
    rest = push.get_state()[BLOCK]
    for _ in range(5):
        push.advance(np.array([-0.2, 0.0]))
    np.testing.assert_allclose(push.get_state()[BLOCK], rest, atol=5e-4)


def test_pushing_does_not_depend_on_the_time_step():
    """Against steps of half a millisecond, over the 2.5 s in which a goal is reached."""
    usual, fine = make("arm_push"), make("arm_push")
    fine.model.opt.timestep, fine._substeps = 0.0005, round(0.02 / 0.0005)
    moved, off, turned = [], [], []
    for seed in range(6):
        rng = np.random.default_rng([7, seed])
        start = fine.sample_state(rng)
        policy = fine.expert(rng)
        for env in (fine, usual):
            env.set_state(start)
        for _ in range(25):
            action = policy(fine.get_state())
            fine.advance(action)
            usual.advance(action)
        one, two = fine.get_state(), usual.get_state()
        moved.append(fine.task.distance(start, one))
        off.append(fine.task.distance(one, two))
        turned.append(abs((one[10] - two[10] + np.pi) % (2 * np.pi) - np.pi))
    assert np.mean(moved) > 0.03, "something is pushed"
    assert np.mean(off) < 0.005 and np.rad2deg(np.mean(turned)) < 2.0


def test_exploration_pushes_the_block_flat_and_mostly_in_view(push):
    rng = np.random.default_rng(0)
    moving, flat, seen = [], [], []
    for _ in range(8):
        push.set_state(push.sample_state(rng))
        policy, last, before = push.explore(rng), np.zeros(2), push.get_state()
        for number in range(1, 101):
            action = policy(push.get_state())
            assert np.abs(action - last).max() <= 0.2 + 1e-6, "max_rate"
            last = action
            push.advance(action)
            if number % 5 == 0:
                state = push.get_state()
                moving.append(push.task.distance(before, state) > 0.005)
                flat.append(push.data.body("block").xmat[8])
                seen.append(push.is_possible(state))
                before = state
    assert np.mean(moving) > 0.25
    assert np.rad2deg(np.arccos(min(flat))) < 2.0
    assert np.mean(seen) > 0.95


def test_push_problems_move_the_block(push):
    rng = np.random.default_rng(0)
    for _ in range(5):
        start, goal = push.sample_target(rng)
        assert not push.task.is_success(start, goal)
        assert push.is_possible(start) and push.is_possible(goal)


@pytest.mark.parametrize(
    ("way", "turn_deg", "success"),
    [(0.029, 0, True), (0.031, 0, False), (0, 14, True), (0, 16, False), (0, 346, True)],
)
def test_push_success_is_of_place_and_angle(push, way, turn_deg, success):
    goal = np.array(RESTING["arm_push"])
    state = goal.copy()
    state[8] += way
    state[10] += np.deg2rad(turn_deg)
    assert push.task.is_success(state, goal) is success


# Both ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arm_reach", "arm_push"])
def test_joints_are_named_as_in_the_model(name):
    env = make(name)
    assert [env.model.joint(i).name for i in range(6)] == list(JOINTS)
    assert env.task.embodiment.proprio == tuple(f"{joint}/position" for joint in JOINTS)


@pytest.mark.parametrize("name", ["arm_reach", "arm_push"])
def test_robot_file_is_of_the_tasks_embodiment(name):
    file = Path(__file__).parents[2] / "config" / "robots" / f"{name}.yaml"
    robot, body = read_robot(file), get_task(name).embodiment
    camera = replace(robot.embodiment.cameras[0], crop=None)
    assert replace(robot.embodiment, cameras=(camera,)) == body
    if name == "arm_reach":
        assert robot.home == tuple(REACH_HOME)


@pytest.mark.parametrize("name", ["arm_reach", "arm_push"])
def test_shifts_change_what_they_say(name):
    state = np.array(RESTING[name])

    def picture(**shifts):
        env = make(name, image_size=64)
        image = ShiftedEnv(env, Shifts(**shifts)).render_state(state).astype(float)
        env.close()
        return image

    usual = picture()
    assert picture(brightness=0.5).mean() == pytest.approx(0.5 * usual.mean(), rel=0.1)
    moved = picture(camera_x=-8 / 64)  # the camera goes to the left, things to the right
    np.testing.assert_allclose(np.abs(moved[:, 16:-8] - usual[:, 8:-16]).mean(), 0.0, atol=12.0)
    assert np.abs(moved - usual).mean() > 8.0
    turned = picture(camera_turn_deg=180.0)
    np.testing.assert_allclose(np.abs(turned[::-1, ::-1] - usual).mean(), 0.0, atol=4.0)

    before, after = [], []
    for gain, seen in ((1.0, before), (1.5, after)):
        env = ShiftedEnv(make(name), Shifts(gain=gain))
        if name == "arm_push":
            state = env.state_at(np.array([0.45, 0.1]), state[BLOCK])
        env.set_state(state)
        start = env.get_state()
        env.advance(np.full(env.action_space.shape, 0.1))
        seen.append(env.get_state() - start)
    columns = slice(0, 6) if name == "arm_reach" else TIP
    np.testing.assert_allclose(after[0][columns], 1.5 * before[0][columns], rtol=0.05, atol=1e-4)
