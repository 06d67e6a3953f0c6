"""The frame assembler: what an Observation holds depends on stamps alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from wm_planner.data.frames import FrameAssembler
from wm_planner.data.joints import JointCollector
from wm_planner.errors import ConfigError

from .replayed import replay

MS = 1_000_000
DT = 500 * MS
TOLERANCE = 20 * MS


def image(value):
    return np.full((2, 2, 3), value % 256, np.uint8)


def feeling(value):
    return np.array([value, -value], np.float32)


def make(history_len=1, frame_skip=None):
    return FrameAssembler(history_len, DT, TOLERANCE, frame_skip)


def same(a, b):
    if a.stamp_ns != b.stamp_ns or (a.actions is None) != (b.actions is None):
        return False
    pairs = [(a.images, b.images), (a.proprio, b.proprio)]
    if a.actions is not None:
        pairs.append((a.actions, b.actions))
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)


def test_an_image_waits_for_proprioception_at_or_after_its_stamp():
    frames = make()
    frames.push_proprio(95 * MS, feeling(1))
    frames.push_image(100 * MS, image(7))
    assert frames.take() is None
    frames.push_proprio(115 * MS, feeling(2))
    observation = frames.take()
    assert observation.stamp_ns == 100 * MS
    np.testing.assert_array_equal(observation.images, image(7)[None])
    np.testing.assert_array_equal(observation.proprio, [[1, -1]])  # 5 ms away, not 15
    assert observation.actions is None
    assert frames.take() is None  # each image once


@pytest.mark.parametrize("proprio_first", [True, False])
def test_equal_stamps_need_no_waiting(proprio_first):
    """Lock-step: image and joint state carry the same stamp and arrive in any order."""
    frames = make()
    pushes = [
        lambda: frames.push_proprio(0, feeling(3)),
        lambda: frames.push_image(0, image(1)),
    ]
    for push in pushes if proprio_first else reversed(pushes):
        push()
    np.testing.assert_array_equal(frames.take().proprio, [[3, -3]])


def test_an_image_that_nothing_follows_stops_waiting_after_the_tolerance():
    frames = make()
    frames.push_proprio(95 * MS, feeling(1))
    frames.push_image(100 * MS, image(7))
    frames.push_image(120 * MS, image(8))
    assert frames.take() is None
    frames.push_image(121 * MS, image(9))
    assert frames.take().stamp_ns == 100 * MS


def test_an_image_without_proprioception_nearby_is_never_given():
    frames = make()
    frames.push_image(100 * MS, image(7))
    frames.push_proprio(121 * MS, feeling(1))
    assert frames.take() is None


def test_the_newest_ready_image_wins_and_time_never_goes_back():
    frames = make()
    for stamp in (0, 30, 60):
        frames.push_image(stamp * MS, image(stamp))
    frames.push_proprio(30 * MS, feeling(1))
    assert frames.take().stamp_ns == 30 * MS
    frames.push_proprio(0, feeling(2))
    assert frames.take() is None


def test_history_grows_to_its_length_oldest_first():
    frames = make(history_len=3)
    for step in range(5):
        frames.push_image(step * DT, image(step))
        frames.push_proprio(step * DT, feeling(step))
        observation = frames.take()
        expected = list(range(max(0, step - 2), step + 1))
        np.testing.assert_array_equal(observation.images[:, 0, 0, 0], expected)
        np.testing.assert_array_equal(observation.proprio[:, 0], expected)


def test_history_takes_the_image_nearest_to_each_multiple_and_ends_at_a_gap():
    frames = make(history_len=3)
    for stamp_ms in (0, 985, 1015, 1490, 2000):
        frames.push_image(stamp_ms * MS, image(stamp_ms // 10))
        frames.push_proprio(stamp_ms * MS, feeling(stamp_ms))
    observation = frames.take()  # 985 and 1015 are equally near: the earlier
    np.testing.assert_array_equal(observation.proprio[:, 0], [985, 1490, 2000])
    frames.push_image(2511 * MS, image(1))
    frames.push_proprio(2511 * MS, feeling(2511))
    assert len(frames.take().images) == 2  # 1490 is 21 ms from 1511


def test_actions_of_each_model_step_are_concatenated():
    frames = make(history_len=3, frame_skip=5)
    for tick in range(11):
        if tick % 5 == 0:
            frames.push_image(tick * DT // 5, image(tick))
        frames.push_proprio(tick * DT // 5, feeling(tick))
        observation = frames.take()
        if observation is not None:
            newest = observation
        frames.push_action(tick * DT // 5, [tick, 100 + tick])
    assert newest.actions.shape == (2, 10)
    np.testing.assert_array_equal(newest.actions[0], [0, 100, 1, 101, 2, 102, 3, 103, 4, 104])
    np.testing.assert_array_equal(newest.actions[1, ::2], [5, 6, 7, 8, 9])


def test_an_image_waits_for_the_last_action_before_it():
    frames = make(history_len=2, frame_skip=2)
    frames.push_image(0, image(0))
    frames.push_proprio(0, feeling(0))
    assert len(frames.take().images) == 1  # without a predecessor no action is needed
    frames.push_action(0, [1.0])
    frames.push_image(DT, image(1))
    frames.push_proprio(DT, feeling(1))
    assert frames.take() is None
    frames.push_action(DT // 2, [2.0])
    np.testing.assert_array_equal(frames.take().actions, [[1.0, 2.0]])


def test_history_without_recorded_actions_is_not_given():
    """The controller was off during the step before: a model must not be told it sent nothing."""
    frames = make(history_len=2, frame_skip=2)
    for step in range(2):
        frames.push_image(step * DT, image(step))
        frames.push_proprio(step * DT, feeling(step))
    frames.push_proprio(DT + TOLERANCE + 1, feeling(9))
    observation = frames.take()
    assert observation.stamp_ns == DT
    assert len(observation.images) == 1 and observation.actions is None


def test_a_clock_that_jumps_back_clears_but_a_late_camera_does_not():
    frames = make(history_len=2)
    frames.push_proprio(10_000 * MS, feeling(1))
    frames.push_proprio(10_900 * MS, feeling(2))
    frames.push_image(10_000 * MS, image(3))  # 0.9 s late
    np.testing.assert_array_equal(frames.take().proprio[:, 0], [1])
    frames.push_image(100 * MS, image(4))
    frames.push_proprio(100 * MS, feeling(5))
    observation = frames.take()
    assert observation.stamp_ns == 100 * MS
    assert len(observation.images) == 1


def test_clear_starts_an_episode():
    frames = make(history_len=3)
    for step in range(3):
        frames.push_image(step * DT, image(step))
        frames.push_proprio(step * DT, feeling(step))
    frames.clear()
    assert frames.take() is None
    frames.push_image(3 * DT, image(3))
    frames.push_proprio(3 * DT, feeling(3))
    assert len(frames.take().images) == 1


def test_memory_is_bounded_when_a_topic_is_silent():
    frames = make(history_len=2)
    for step in range(1000):
        frames.push_image(step * 30 * MS, image(step))
    assert len(frames._images) <= (2 * DT + 1000 * MS) // (30 * MS) + 1


def recording(rng, num_images=40, jitter_ms=6):
    """A 30 Hz camera, 100 Hz joint states, 10 Hz commands, each with its own phase and jitter."""

    def stamps(count, period_ms):
        phase = rng.uniform(0, period_ms)
        times = phase + period_ms * np.arange(count) + rng.uniform(0, jitter_ms, count)
        return [int(t * MS) for t in times]

    seconds = num_images / 30
    images = [(s, rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)) for s in stamps(num_images, 33)]
    proprio = [(s, rng.normal(size=3)) for s in stamps(int(seconds * 105), 10)]
    actions = [(s, rng.normal(size=2)) for s in stamps(int(seconds * 11), 100)]
    return images, proprio, actions


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("frame_skip", [None, 5])
def test_live_and_offline_give_the_same_observations(seed, frame_skip):
    """Topics arrive with delays of their own; each topic keeps its order, as DDS delivers it."""
    rng = np.random.default_rng(seed)
    streams = recording(rng, num_images=60)
    offline = {o.stamp_ns: o for o in replay(make(3, frame_skip), *streams)}
    frames = make(3, frame_skip)
    pushes = (frames.push_image, frames.push_proprio, frames.push_action)
    arrivals = []
    for push, stream in zip(pushes, streams, strict=True):
        delay = rng.uniform(0, TOLERANCE * 0.5)
        for number, (stamp, value) in enumerate(stream):
            arrival = stamp + delay + rng.uniform(0, TOLERANCE * 0.4)
            arrivals.append((arrival, number, push, stamp, value))
    # Within a topic the order of stamps; between topics whatever the delays make of it.
    by_topic = {push: sorted(a[0] for a in arrivals if a[2] == push) for push in pushes}
    events = [(by_topic[p][n], n, p, s, v) for _, n, p, s, v in arrivals]
    live = []
    for _, _, push, stamp, value in sorted(events, key=lambda event: event[0]):
        push(stamp, value)
        observation = frames.take()
        if observation is not None:
            live.append(observation)
    assert len(live) >= 40
    assert max(len(o.images) for o in live) == 3
    assert (live[-1].actions is not None) == (frame_skip is not None)
    for observation in live:
        assert same(observation, offline[observation.stamp_ns])


def test_any_order_of_arrival_gives_the_same_observation_once_all_is_there():
    rng = np.random.default_rng(1)
    images, proprio, actions = recording(rng, num_images=40)
    observations = []
    for _ in range(10):
        frames = make(3, frame_skip=5)
        events = [(frames.push_image, s) for s in images]
        events += [(frames.push_proprio, s) for s in proprio]
        events += [(frames.push_action, s) for s in actions]
        for index in rng.permutation(len(events)):
            push, sample = events[index]
            push(*sample)
        observations.append(frames.take())
    assert len(observations[0].images) == 3
    assert all(same(observations[0], other) for other in observations)


def test_a_message_published_again_changes_nothing():
    frames = make()
    frames.push_image(0, image(1))
    frames.push_image(0, image(2))
    frames.push_proprio(0, feeling(1))
    frames.push_proprio(0, feeling(2))
    observation = frames.take()
    assert observation.images[0, 0, 0, 0] == 1 and observation.proprio[0, 0] == 1
    frames.push_image(0, image(1))
    assert frames.take() is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, DT, 0), "history_len"),
        ((1, 0, 0), "model_dt_ns"),
        ((1, DT, DT // 2), "tolerance_ns"),
        ((1, DT, -1), "tolerance_ns"),
        ((1, DT, 0, 0), "frame_skip"),
    ],
)
def test_a_wrong_value_is_named(arguments, words):
    with pytest.raises(ConfigError, match=words):
        FrameAssembler(*arguments)


def several(optional, **more):
    return FrameAssembler(2, DT, TOLERANCE, optional=optional, **more)


def push(frames, stamp_ms, *values):
    """One image of each camera that has a value, and the joints."""
    for camera, value in enumerate(values):
        if value is not None:
            frames.push_image((stamp_ms + camera) * MS, image(value), camera)
    frames.push_proprio((stamp_ms + len(values)) * MS, feeling(stamp_ms))


def test_pictures_of_several_cameras_are_side_by_side():
    frames = several((False, False, False))
    push(frames, 0, 10, 20, 30)
    observation = frames.take()
    assert observation.stamp_ns == 0 and observation.images.shape == (1, 2, 6, 3)
    np.testing.assert_array_equal(observation.images[0, 0, ::2, 0], [10, 20, 30])
    push(frames, 500, 11, 21, 31)
    history = frames.take().images
    np.testing.assert_array_equal(history[:, 0, ::2, 0], [[10, 20, 30], [11, 21, 31]])


def test_the_first_camera_that_is_not_optional_gives_the_stamps():
    frames = several((True, False))
    assert frames.reference == 1
    push(frames, 100, 10, 20)
    frames.push_proprio(122 * MS, feeling(1))  # no picture of the first can be nearer any more
    observation = frames.take()
    assert observation.stamp_ns == 101 * MS
    np.testing.assert_array_equal(observation.images[0, 0, ::2, 0], [10, 20])
    with pytest.raises(ConfigError, match="must not be optional"):
        several((True, True))


def test_an_image_waits_for_the_other_cameras():
    frames = several((False, False))
    frames.push_image(0, image(10), 0)
    frames.push_proprio(0, feeling(1))
    assert frames.take() is None
    frames.push_image(-5 * MS, image(20), 1)
    assert frames.take() is None, "a nearer one may still come"
    frames.push_image(2 * MS, image(21), 1)
    np.testing.assert_array_equal(frames.take().images[0, 0, ::2, 0], [10, 21])


def test_without_a_camera_that_is_needed_there_is_no_observation():
    frames = several((False, False))
    push(frames, 0, 10, None)
    frames.push_proprio(100 * MS, feeling(1))
    assert frames.take() is None
    push(frames, 500, 11, 21)
    assert len(frames.take().images) == 1, "the history ends where a picture is missing"


def test_an_optional_camera_is_black_and_not_waited_for_while_it_is_silent():
    frames = several((False, True))
    push(frames, 0, 10, None)
    observation = frames.take()
    np.testing.assert_array_equal(observation.images[0, 0, ::2, 0], [10, 0])
    push(frames, 500, 11, 21)
    np.testing.assert_array_equal(frames.take().images[:, 0, ::2, 0], [[10, 0], [11, 21]])
    frames.push_image(1000 * MS, image(12), 0)
    frames.push_proprio(1000 * MS, feeling(1))
    assert frames.take() is None, "it was there a moment ago"
    frames.push_proprio(1021 * MS, feeling(1))
    np.testing.assert_array_equal(frames.take().images[:, 0, ::2, 0], [[11, 21], [12, 0]])
    push(frames, 2000, 14, None)
    assert frames.take().stamp_ns == 2000 * MS


def test_proprioception_is_interpolated_to_the_image():
    angles = np.array([True, False])
    frames = FrameAssembler(1, DT, TOLERANCE, joint_gap_ns=50 * MS, angles=angles)
    frames.push_proprio(90 * MS, [3.1, 0])
    frames.push_image(100 * MS, image(7))
    frames.push_proprio(130 * MS, [-3.1, 4])
    (felt,) = frames.take().proprio
    np.testing.assert_allclose(felt, [3.1 + 0.25 * (2 * np.pi - 6.2), 1], rtol=1e-6)
    frames.push_image(130 * MS, image(8))
    np.testing.assert_array_equal(frames.take().proprio, np.float32([[-3.1, 4]]))
    frames.push_image(150 * MS, image(9))  # its neighbours are too far from each other
    frames.push_proprio(185 * MS, [0, 5])
    np.testing.assert_array_equal(frames.take().proprio, np.float32([[-3.1, 4]]))


def test_joints_of_one_robot_come_in_several_messages():
    joints = JointCollector(("a/position", "b/velocity"), 50 * MS)
    message = SimpleNamespace

    def say(names, stamp_ms, position=(), velocity=()):
        said = message(name=list(names), position=position, velocity=velocity, effort=())
        return joints.add(said, stamp_ms * MS)

    assert say(["finger"], 0, [1.0]) is None and len(joints.missing) == 2
    assert say(["a"], 0, [1.0]) is None and joints.missing == ["b/velocity"]
    np.testing.assert_array_equal(say(["b"], 10, [0.0], [2.0]), [1, 2])
    np.testing.assert_array_equal(say(["a"], 20, [3.0]), [3, 2])
    assert say(["a"], 70, [4.0]) is None, "b is too old"
    assert say(["finger"], 71, [1.0]) is None and not joints.missing
    whole = say(["b", "a"], 200, [0.0, 5.0], [6.0, 0.0])
    np.testing.assert_array_equal(whole, [5, 6])
    assert whole.dtype == np.float32
