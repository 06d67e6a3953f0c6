"""Where a plan is drawn to lead is where it leads in the simulator."""

from __future__ import annotations

import numpy as np
import pytest

from wm_planner.runtime.plan_path import joint_path, twist_path


def test_each_kind_of_action_leads_as_it_says():
    actions, here = np.array([[1.0, 0.0], [1.0, -2.0]]), np.array([5.0, 5.0])
    expected = [[5, 5], [5.1, 5.0], [5.2, 4.8]]
    np.testing.assert_allclose(joint_path("velocity", actions, here, 0.1), expected)
    expected = [[5, 5], [6, 5], [7, 3]]
    np.testing.assert_allclose(joint_path("position_delta", actions, here, 1.0), expected)
    np.testing.assert_allclose(joint_path("position", actions, here, 1.0), [[5, 5], *actions])
    assert joint_path("effort", actions, here, 1.0) is None


def test_a_twist_of_a_base_turns_with_it_and_that_of_a_tip_does_not():
    names = ("linear.x", "angular.z")
    quarter = np.array([[1.0, np.pi / 2], [1.0, 0.0]])
    base = twist_path(names, quarter, 1.0, turns=True)
    np.testing.assert_allclose(base, [[0, 0, 0], [1, 0, 0], [1, 1, 0]], atol=1e-12)
    tip = twist_path(names, quarter, 1.0, turns=False)
    np.testing.assert_allclose(tip, [[0, 0, 0], [1, 0, 0], [2, 0, 0]], atol=1e-12)


@pytest.mark.parametrize(("name", "within"), [("wall", 0.1), ("pusht", 1.0)])
def test_the_way_that_is_drawn_of_a_task_is_driven(name, within):
    """In the unit of positions; PushT's pusher loses some of the first while it gathers speed."""
    pytest.importorskip("mujoco")
    import gymnasium

    import sim_bridge  # noqa: F401
    from wm_planner.tasks import get_task

    task = get_task(name)
    env = gymnasium.make(task.env_id, render=False).unwrapped
    state = env.get_state()
    state[2:4] = 300.0  # PushT's block, out of the way
    state[:2] = [12.0, 12.0] if name == "wall" else [60.0, 60.0]
    env.set_state(state)
    actions = np.full((4, 2), 0.05)
    path = joint_path("velocity", actions, state[:2], task.action_step)
    driven = [env.get_state()[:2]]
    for action in actions:
        env.advance(action)
        driven.append(env.get_state()[:2])
    env.close()
    np.testing.assert_allclose(driven, path, atol=within)
