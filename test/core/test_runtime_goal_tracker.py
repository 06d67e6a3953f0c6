"""Goal image and goal proprioception, in any order."""

import numpy as np

from wm_planner.runtime.goal_tracker import GoalTracker

IMAGE = np.full((4, 4, 3), 7, np.uint8)
PROPRIO = np.array([1.0, 2.0], np.float32)


def test_either_order_gives_the_whole_goal():
    first, second = GoalTracker(), GoalTracker()
    assert first.put_image(IMAGE, 5) and first.goal.proprio is None
    assert first.put_proprio(PROPRIO, 5)
    assert not second.put_proprio(PROPRIO, 5) and second.goal is None
    assert second.put_image(IMAGE, 5)
    for tracker in (first, second):
        np.testing.assert_array_equal(tracker.goal.proprio, PROPRIO)
        assert tracker.goal.stamp_ns == 5


def test_a_goal_sent_again_stays_the_same_object():
    tracker = GoalTracker()
    tracker.put_image(IMAGE, 5)
    tracker.put_proprio(PROPRIO, 5)
    goal = tracker.goal
    assert not tracker.put_image(IMAGE.copy(), 5)
    assert not tracker.put_proprio(PROPRIO, 5)
    assert tracker.goal is goal


def test_another_picture_or_stamp_is_another_goal():
    tracker = GoalTracker()
    tracker.put_image(IMAGE, 0)
    assert tracker.put_image(IMAGE + 1, 0)  # sent by hand, without a stamp
    assert tracker.put_image(IMAGE + 1, 9)
    assert not tracker.put_proprio(PROPRIO, 5)  # of a goal that is over
    assert tracker.goal.proprio is None


def test_clear():
    tracker = GoalTracker()
    tracker.put_image(IMAGE, 5)
    tracker.clear()
    assert tracker.goal is None
    assert tracker.put_image(IMAGE, 5)


def test_of_goals_that_come_in_any_order_the_newest_can_be_told():
    tracker = GoalTracker()
    tracker.put_proprio(PROPRIO, 9)
    tracker.put_proprio(PROPRIO + 1, 5)  # of an older goal
    assert not tracker.is_older(5)
    assert tracker.put_image(IMAGE, 9)
    np.testing.assert_array_equal(tracker.goal.proprio, PROPRIO)
    assert tracker.is_older(5) and not tracker.is_older(9) and not tracker.is_older(0)
    tracker.clear(12)
    assert tracker.is_older(9)


def test_joints_without_a_stamp_do_not_outlive_the_next_goal():
    tracker = GoalTracker()
    tracker.put_proprio(PROPRIO, 0)
    assert tracker.put_image(IMAGE, 0) and tracker.goal.proprio is not None
    tracker.put_proprio(PROPRIO, 5)
    tracker.clear()
    assert tracker.put_image(IMAGE, 0) and tracker.goal.proprio is None
