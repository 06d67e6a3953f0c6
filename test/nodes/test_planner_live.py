"""The planner node with a tiny random model: goals, plans, idempotence, bad goals."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")
torch = pytest.importorskip("torch")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from wm_planner.embodiment import Camera  # noqa: E402
from wm_planner.errors import CheckpointError, ConfigError  # noqa: E402
from wm_planner.models.bundle import Bundle, build_model  # noqa: E402
from wm_planner.models.checkpoint import save_bundle  # noqa: E402
from wm_planner.models.predictor import PredictorConfig  # noqa: E402
from wm_planner.models.preprocess import Preprocess  # noqa: E402
from wm_planner.models.world_model import ModelConfig  # noqa: E402
from wm_planner.nodes.planner_node import PlannerNode  # noqa: E402
from wm_planner.planning.encoding import ObservationEncoder  # noqa: E402
from wm_planner.ros.conversions import (  # noqa: E402
    image_message,
    joint_state_message,
    to_ns,
)
from wm_planner.ros.diagnostics import values_of  # noqa: E402
from wm_planner.ros.qos import COMMAND, LATCHED, RELIABLE  # noqa: E402
from wm_planner.runtime.goal_planner import GoalPlanner  # noqa: E402
from wm_planner.tasks import get_task, resized  # noqa: E402

SIZE = 32
NAMES = ("slide_x/position", "slide_y/position")
BODY = resized(get_task("wall").embodiment, SIZE)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random model of the wall task on disk."""
    torch.manual_seed(0)
    predictor = PredictorConfig(depth=1, heads=2, dim_head=8, mlp_dim=32, dropout=0.0, width=16)
    model = build_model(ModelConfig(SIZE, 1, 16, 8, 10, 2, predictor=predictor, decoder="small"))
    statistics = ((0.0, 0.0), (0.5, 0.5), (32.0, 32.0), (12.0, 12.0))
    bundle = Bundle(model, Preprocess(SIZE, 5, *statistics), BODY, {"num_iterations": 3})
    return str(save_bundle(bundle, tmp_path_factory.mktemp("models") / "random"))


@pytest.fixture(params=["before the plan", "beside the plan"])
def encoding(request, monkeypatch):
    """Both ways to encode; the second is a GPU's, but the threads are the same anywhere."""
    monkeypatch.setattr(ObservationEncoder, "is_concurrent", request.param == "beside the plan")


class Peer:
    """Everything around the planner."""

    def __init__(self, graph, checkpoint: str, lockstep: bool = True, **parameters) -> None:
        self.graph = graph
        self.planner = graph.add(
            PlannerNode, checkpoint=checkpoint, lockstep=lockstep, **parameters
        )
        self.planner.start()
        node = graph.peer("peer")
        self.plans: list[JointTrajectory] = []
        self.accepted: list[int] = []
        self.imagined: list[Image] = []
        node.create_subscription(JointTrajectory, "plan", self.plans.append, COMMAND)
        node.create_subscription(Image, "plan/imagined", self.imagined.append, RELIABLE)
        node.create_subscription(
            Header, "goal/accepted", lambda m: self.accepted.append(to_ns(m.stamp)), LATCHED
        )
        self._image = node.create_publisher(Image, "observation/image", RELIABLE)
        self._state = node.create_publisher(JointState, "joint_states", RELIABLE)
        self._goal = node.create_publisher(Image, "goal/image", LATCHED)
        self._goal_state = node.create_publisher(JointState, "goal/joint_states", LATCHED)
        publishers = (self._image, self._state, self._goal, self._goal_state)
        graph.until(
            lambda: (
                all(p.get_subscription_count() for p in publishers)
                and node.count_publishers("plan")
            ),
            "discovery",
        )

    def goal(self, stamp_ns: int, size: int = SIZE) -> None:
        picture = np.full((size, size, 3), 200, np.uint8)
        self._goal_state.publish(joint_state_message(np.array([40.0, 40.0]), NAMES, stamp_ns))
        self._goal.publish(image_message(picture, stamp_ns))

    def clear(self, stamp_ns: int) -> None:
        self._goal.publish(image_message(np.zeros((0, 0, 3), np.uint8), stamp_ns))

    def observe(self, stamp_ns: int) -> None:
        rng = np.random.default_rng(stamp_ns)
        picture = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        picture = picture.repeat(SIZE // 4, axis=0).repeat(SIZE // 4, axis=1)
        self._state.publish(joint_state_message(np.array([20.0, 30.0]), NAMES, stamp_ns))
        self._image.publish(image_message(picture, stamp_ns))

    def observe_goal(self, stamp_ns: int) -> None:
        """The robot is where the goal is."""
        picture = np.full((SIZE, SIZE, 3), 200, np.uint8)
        self._state.publish(joint_state_message(np.array([40.0, 40.0]), NAMES, stamp_ns))
        self._image.publish(image_message(picture, stamp_ns))

    def plan_for(self, stamp_ns: int) -> JointTrajectory:
        before = self.whole()
        self.observe(stamp_ns)
        self.graph.until(lambda: len(self.whole()) > len(before), "a plan")
        return self.whole()[-1]

    def whole(self) -> list[JointTrajectory]:
        """The plans; one without points says that there is none any more."""
        return [plan for plan in self.plans if plan.points]


def rows(plan: JointTrajectory) -> np.ndarray:
    return np.array([list(point.velocities) for point in plan.points])


@pytest.mark.usefixtures("encoding")
def test_plan_is_stamped_bounded_repeatable_and_drawn(graph, checkpoint):
    peer = Peer(graph, checkpoint)
    peer.goal(100)
    graph.until(lambda: peer.accepted == [100], "the accepted goal")
    plan = peer.plan_for(10**9)
    assert to_ns(plan.header.stamp) == 10**9
    assert to_ns(plan.points[1].time_from_start) == 10**8
    actions = rows(plan)
    assert actions.shape == (25, 2) and np.abs(actions).max() <= 1.0
    # The same tick again: the same answer, not a new plan.
    assert np.array_equal(rows(peer.plan_for(10**9)), actions)
    graph.until(lambda: peer.imagined, "the imagined frames")
    assert (peer.imagined[0].height, peer.imagined[0].width) == (SIZE, 6 * SIZE)
    # The same goal afresh: the same random numbers, the same plan.
    peer.goal(200)
    graph.until(lambda: 200 in peer.accepted, "the second goal")
    again = peer.plan_for(10**9)
    assert np.array_equal(rows(again), actions)


@pytest.mark.usefixtures("encoding")
def test_diagnostics_tell_the_distance_to_the_goal(graph, checkpoint):
    peer = Peer(graph, checkpoint)
    told: list[dict[str, str]] = []
    node = graph.peer("watcher")
    node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda m: told.extend(values_of(s) for s in m.status if s.name == "planner_node: plan"),
        RELIABLE,
    )
    graph.until(lambda: node.count_publishers("/diagnostics"), "discovery")
    peer.goal(100)
    graph.until(lambda: 100 in peer.accepted, "the goal")
    peer.plan_for(10**9)
    graph.until(lambda: told, "the diagnostic")
    assert float(told[0]["proprio_distance"]) == 20.0  # (20, 30) to (40, 40): the worst entry
    assert float(told[0]["picture_distance"]) > 0
    peer.observe_goal(2 * 10**9)
    graph.until(lambda: len(told) > 1, "the second diagnostic")
    assert float(told[-1]["picture_distance"]) < 1e-6 * float(told[0]["picture_distance"])
    assert float(told[-1]["proprio_distance"]) == 0.0


@pytest.mark.usefixtures("encoding")
def test_cleared_goal_ends_planning(graph, checkpoint):
    peer = Peer(graph, checkpoint)
    peer.goal(100)
    graph.until(lambda: 100 in peer.accepted, "the goal")
    peer.plan_for(10**9)
    peer.clear(300)
    graph.until(lambda: 300 in peer.accepted, "the cleared goal")
    graph.until(lambda: not peer.plans[-1].points, "the empty plan")
    peer.observe(2 * 10**9)
    peer.goal(400)
    graph.until(lambda: 400 in peer.accepted, "the next goal")
    assert not peer.plans[-1].points


def test_goal_of_another_size_is_not_accepted(graph, checkpoint):
    peer = Peer(graph, checkpoint)
    peer.goal(100, size=48)
    peer.goal(200)
    graph.until(lambda: peer.accepted, "the good goal")
    assert peer.accepted == [200]


def test_of_goals_that_were_sent_before_the_planner_began_the_newest_counts(
    graph, checkpoint, monkeypatch
):
    monkeypatch.setattr("wm_planner.nodes.planner_node.LATCHED_S", 3600.0)
    peer = Peer(graph, checkpoint, lockstep=False)
    peer.goal(400)  # in this order they come where another sender is discovered later
    peer.clear(300)
    peer.goal(200)
    peer.goal(500)
    graph.until(lambda: 500 in peer.accepted, "the newest goal")
    assert peer.accepted == [400, 500] or peer.accepted == [500]
    monkeypatch.setattr(peer.planner, "_latched_until_s", 0.0)
    peer.goal(100)  # a clock was set back
    graph.until(lambda: 100 in peer.accepted, "the goal of now")


def test_goal_file_of_another_size_names_both(graph, checkpoint, tmp_path):
    cv2 = pytest.importorskip("cv2")
    file = tmp_path / "goal.png"
    cv2.imwrite(str(file), np.zeros((48, 64, 3), np.uint8))
    node = graph.add(PlannerNode, checkpoint=checkpoint, goal=str(file), autostart=True)
    with pytest.raises(ConfigError, match="64 x 48 pixels.*32 x 32"):
        node.start()


@pytest.mark.usefixtures("encoding")
def test_deactivation_ends_the_plan_and_activation_begins_again(graph, checkpoint):
    peer = Peer(graph, checkpoint)
    peer.goal(100)
    graph.until(lambda: peer.accepted, "the goal")
    first = rows(peer.plan_for(10**9))
    peer.planner.trigger_deactivate()
    graph.until(lambda: not peer.plans[-1].points, "the empty plan")
    count = len(peer.whole())
    peer.observe(10**9)  # asked again: silent all the same
    peer.goal(200)
    graph.until(lambda: 200 in peer.accepted, "the next goal")
    assert len(peer.whole()) == count
    peer.planner.trigger_activate()
    again = rows(peer.plan_for(10**9))
    assert np.array_equal(again, first)


@pytest.mark.usefixtures("encoding")
def test_cleanup_and_configure_give_one_fresh_planner(graph, checkpoint):
    peer = Peer(graph, checkpoint)
    peer.goal(100)
    graph.until(lambda: peer.accepted, "the goal")
    first = rows(peer.plan_for(10**9))
    workers = peer.planner._workers
    for step in ("deactivate", "cleanup"):
        getattr(peer.planner, f"trigger_{step}")()
    assert workers and not any(worker._thread.is_alive() for worker in workers)
    peer.planner.start()
    graph.until(
        lambda: all(p.get_subscription_count() == 1 for p in (peer._image, peer._goal)), "one each"
    )
    peer.goal(300)
    graph.until(lambda: 300 in peer.accepted, "the goal of the second life")
    assert np.array_equal(rows(peer.plan_for(10**9)), first)


def test_goal_of_other_joints_is_refused_and_the_node_lives_on(graph, checkpoint):
    peer = Peer(graph, checkpoint)
    peer._goal_state.publish(joint_state_message(np.zeros(1), ("gripper/position",), 100))
    peer.goal(200)
    graph.until(lambda: 200 in peer.accepted, "the good goal")


def test_joint_states_of_a_gripper_are_passed_over(graph, checkpoint):
    peer = Peer(graph, checkpoint)
    peer.goal(100)
    graph.until(lambda: peer.accepted, "the goal")
    peer._state.publish(joint_state_message(np.array([0.1]), ("gripper/position",), 10**9 - 1))
    peer.plan_for(10**9)


@pytest.mark.parametrize(
    ("parameters", "error", "text"),
    [
        ({"checkpoint": "nothing"}, CheckpointError, "unknown checkpoint 'nothing'"),
        ({"planner": "gpb"}, ConfigError, "Did you mean 'gbp'"),
        ({"settings": ["num_iteration=3"]}, ConfigError, "Did you mean 'num_iterations'"),
        ({"settings": ["horizon"]}, ConfigError, "key=value"),
        ({"device": "gpu"}, ConfigError, "device 'gpu' cannot be used"),
        ({"goal": "nowhere.png"}, ConfigError, "nowhere.png"),
    ],
)
def test_bad_settings_fail_at_configure_with_the_reason(graph, checkpoint, parameters, error, text):
    node = graph.add(PlannerNode, **{"checkpoint": checkpoint, **parameters})
    with pytest.raises(error, match=text):
        node.start()


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"threads": 0}, "threads: expected 1 .. 1024, got 0"),
        ({"embodiment": "{"}, "embodiment: not valid JSON"),
        ({"embodiment": "[]"}, "embodiment: expected a mapping"),
        ({"embodiment": '{"name": "arm"}'}, "key 'control_dt_s' is missing"),
    ],
)
def test_bad_parameters_name_the_key(graph, parameters, text):
    with pytest.raises(ConfigError, match=text):
        graph.add(PlannerNode, **parameters)


def test_failed_configure_can_be_tried_again(graph, checkpoint, tmp_path):
    cv2 = pytest.importorskip("cv2")
    file = tmp_path / "goal.png"
    node = graph.add(
        PlannerNode,
        checkpoint=checkpoint,
        goal=str(file),
        autostart=False,
    )
    node.trigger_configure()
    assert "no such file" in str(node._failure)
    assert not node.count_publishers("plan")
    cv2.imwrite(str(file), np.zeros((SIZE, SIZE, 3), np.uint8))
    node.trigger_configure()
    graph.until(lambda: node.count_publishers("plan") == 1, "the publisher")


@pytest.mark.usefixtures("encoding")
def test_another_goal_ends_the_plan_for_the_one_before(graph, checkpoint):
    peer = Peer(graph, checkpoint)
    peer.goal(100)
    graph.until(lambda: peer.accepted == [100], "the accepted goal")
    peer.plan_for(10**9)
    peer.goal(200)
    graph.until(lambda: not peer.plans[-1].points, "the empty plan")
    assert to_ns(peer.plans[-1].header.stamp) == 200


def test_an_image_that_comes_during_a_plan_is_encoded_by_its_end(graph, checkpoint, monkeypatch):
    monkeypatch.setattr(ObservationEncoder, "is_concurrent", True)
    peer = Peer(graph, checkpoint)
    peer.goal(100)
    graph.until(lambda: peer.accepted, "the goal")
    planning, second = threading.Event(), threading.Event()
    call, encode = GoalPlanner.__call__, GoalPlanner.encode

    def slow_plan(self, goal, encoded, *args):
        planning.set()
        assert second.wait(20), "nothing was encoded while this was planned"
        return call(self, goal, encoded, *args)

    def watched_encode(self, observation):
        encoded = encode(self, observation)
        if observation.stamp_ns == 2 * 10**9:
            second.set()
        return encoded

    monkeypatch.setattr(GoalPlanner, "__call__", slow_plan)
    monkeypatch.setattr(GoalPlanner, "encode", watched_encode)
    peer.observe(10**9)
    graph.until(planning.is_set, "the first plan's beginning")
    peer.observe(2 * 10**9)
    graph.until(lambda: len(peer.whole()) == 2, "both plans")
    assert [to_ns(plan.header.stamp) for plan in peer.whole()] == [10**9, 2 * 10**9]


def test_what_was_being_encoded_for_the_goal_before_is_not_planned_from(
    graph, checkpoint, monkeypatch
):
    monkeypatch.setattr(ObservationEncoder, "is_concurrent", True)
    peer = Peer(graph, checkpoint)
    peer.goal(100)
    graph.until(lambda: peer.accepted, "the goal")
    begun, released, encode = threading.Event(), threading.Event(), GoalPlanner.encode

    def slow_encode(self, observation):
        begun.set()
        assert released.wait(20)
        return encode(self, observation)

    monkeypatch.setattr(GoalPlanner, "encode", slow_encode)
    peer.observe(10**9)
    graph.until(begun.is_set, "the encoding's beginning")
    peer.goal(200)
    graph.until(lambda: 200 in peer.accepted, "the next goal")
    released.set()
    peer.plan_for(2 * 10**9)
    assert [to_ns(plan.header.stamp) for plan in peer.whole()] == [2 * 10**9]


def test_an_image_that_cannot_be_encoded_is_told_and_the_next_is_planned_from(
    graph, checkpoint, monkeypatch
):
    monkeypatch.setattr(ObservationEncoder, "is_concurrent", True)
    peer = Peer(graph, checkpoint)
    told: list[DiagnosticArray] = []
    peer.planner.create_subscription(DiagnosticArray, "/diagnostics", told.append, RELIABLE)
    graph.until(lambda: peer.planner.count_subscribers("/diagnostics"), "the listener")
    peer.goal(100)
    graph.until(lambda: peer.accepted, "the goal")
    encode = GoalPlanner.encode

    def fails_once(self, observation):
        monkeypatch.setattr(GoalPlanner, "encode", encode)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(GoalPlanner, "encode", fails_once)
    peer.observe(10**9)
    graph.until(lambda: told, "what went wrong")
    assert told[0].status[0].message == "out of memory"
    assert to_ns(peer.plan_for(2 * 10**9).header.stamp) == 2 * 10**9


@pytest.mark.parametrize("lockstep", [True, False])
def test_a_moving_robot_is_planned_for_from_when_it_has_the_plan(graph, checkpoint, lockstep):
    peer = Peer(graph, checkpoint, lockstep)
    peer.goal(100)
    graph.until(lambda: peer.accepted, "the accepted goal")
    plan = peer.plan_for(time.time_ns() - 350_000_000)  # 3.5 control periods old
    assert np.abs(rows(plan)[10:]).max() > 1e-3
    assert (np.abs(rows(plan)[:4]).max() < 1e-6) == (not lockstep)  # it rested meanwhile


def test_two_cameras_are_planned_with_and_drawn_side_by_side(graph, tmp_path):
    cameras = (Camera("front", SIZE), Camera("wrist", SIZE))
    body = replace(BODY, name="two_eyes", cameras=cameras)
    predictor = PredictorConfig(depth=1, heads=2, dim_head=8, mlp_dim=32, dropout=0.0, width=16)
    encoder = {"kind": "multi", "cameras": 2, "base": {"kind": "small"}}
    config = ModelConfig(SIZE, 1, 2 * 16, 8, 10, 2, predictor=predictor, encoder=encoder)
    torch.manual_seed(0)
    model = build_model(replace(config, decoder="multi:2:small"))
    statistics = ((0.0, 0.0), (0.5, 0.5), (32.0, 32.0), (12.0, 12.0))
    preprocess = Preprocess(SIZE, 5, *statistics, num_cameras=2)
    bundle = Bundle(model, preprocess, body, {"num_iterations": 3})
    checkpoint = str(save_bundle(bundle, tmp_path / "two"))

    planner = graph.add(PlannerNode, checkpoint=checkpoint)
    planner.start()
    node = graph.peer("peer")
    plans, imagined, accepted = [], [], []
    node.create_subscription(Header, "goal/accepted", accepted.append, LATCHED)
    node.create_subscription(JointTrajectory, "plan", plans.append, COMMAND)
    node.create_subscription(Image, "plan/imagined", imagined.append, RELIABLE)
    names = ("goal/image", "observation/front", "observation/wrist")
    goal, *eyes = [
        node.create_publisher(Image, name, LATCHED if name == "goal/image" else RELIABLE)
        for name in names
    ]
    state = node.create_publisher(JointState, "joint_states", RELIABLE)
    publishers = (goal, state, *eyes)
    graph.until(lambda: all(p.get_subscription_count() for p in publishers), "discovery")
    goal.publish(image_message(np.full((SIZE, 2 * SIZE, 3), 200, np.uint8), 100))
    graph.until(lambda: accepted, "the accepted goal")

    def seen(stamp_ns: int, *numbers: int) -> None:
        state.publish(joint_state_message(np.array([20.0, 30.0]), NAMES, stamp_ns))
        for number in numbers:
            picture = np.full((SIZE, SIZE, 3), 100 + number, np.uint8)
            picture[: SIZE // 2] = 50
            eyes[number].publish(image_message(picture, stamp_ns))

    second_ns = time.time_ns()
    seen(second_ns - 10**9, 0)  # one eye alone is no observation
    seen(second_ns, 0, 1)
    graph.until(lambda: any(plan.points for plan in plans), "a plan")
    assert {to_ns(plan.header.stamp) for plan in plans if plan.points} == {second_ns}
    graph.until(lambda: imagined, "the imagined frames")
    assert (imagined[0].height, imagined[0].width) == (SIZE, 6 * 2 * SIZE)


def test_several_cameras_are_joined_as_the_reader_joins_them():
    from wm_planner.nodes.planner_config import frame_assembler, joint_collector

    body = get_task("point_maze").embodiment
    cameras = (Camera("front", 64, optional=True), Camera("wrist", 64))
    frames = frame_assembler(replace(body, cameras=cameras, angles=body.proprio[:1]), 3)
    assert (frames.optional, frames.reference) == ((True, False), 1)
    assert frames.tolerance_ns == body.dt_ns and frames.joint_gap_ns == max(2 * body.dt_ns, 10**8)
    assert frames.angles.tolist() == [True, False, False, False]
    every_tick = frame_assembler(replace(body, frame_skip=1), 2)
    assert every_tick.tolerance_ns < body.dt_ns / 2
    assert joint_collector(body).entries == body.proprio


def stamps_of(plans: list[JointTrajectory]) -> list[int]:
    """Of different plans: one that was asked for again came twice."""
    return list(dict.fromkeys(to_ns(plan.header.stamp) for plan in plans))


def slowly(peer: Peer) -> None:
    """What follows is shown later than it was taken, by as much as the machine needs."""
    peer.planner._observer._inputs._clocked = False


def look(peer: Peer, stamp_ns: int) -> None:
    """Until the planner has looked at a picture; sensors may be lost, and are sent again."""
    last_s = 0.0

    def taken() -> bool:
        nonlocal last_s
        if time.monotonic() - last_s > 1.0:
            last_s = time.monotonic()
            peer.observe(stamp_ns)
        return peer.planner._observer.frames._taken_ns == stamp_ns

    peer.graph.until(taken, "the picture")


def show(peer: Peer, stamp_ns: int) -> None:
    """The same, until the planner is done with what it made of it."""
    look(peer, stamp_ns)
    workers = peer.planner._workers
    peer.graph.until(lambda: not any(worker.busy for worker in workers), "the end of work")


@pytest.mark.parametrize(("steps", "period_ms"), [(1, 500), (2, 1000)])
def test_a_camera_of_30_hz_gives_a_plan_for_every_so_many_model_steps(
    graph, checkpoint, steps, period_ms
):
    peer = Peer(graph, checkpoint, lockstep=False, settings=[f"replan_steps={steps}"])
    peer.goal(100)
    graph.until(lambda: peer.accepted, "the goal")
    slowly(peer)
    begin_ns = time.time_ns() - 3 * 10**9
    stamps = [begin_ns + round(i * 1e9 / 30) for i in range(76)]  # 2.5 s
    for stamp_ns in stamps:
        show(peer, stamp_ns)
    count = 1 + 2500 // period_ms
    graph.until(lambda: len(stamps_of(peer.whole())) >= count, "the plans")
    planned = (np.array(stamps_of(peer.whole())) - begin_ns) / 1e6
    assert len(planned) == count, planned
    due = period_ms * np.arange(count)
    assert ((planned >= due - 50) & (planned <= due + 34)).all(), planned
    # The first picture towards another goal is planned from at once.
    peer.goal(200)
    graph.until(lambda: 200 in peer.accepted, "the second goal")
    show(peer, stamps[-1] + 33_333_333)
    graph.until(lambda: len(stamps_of(peer.whole())) == count + 1, "its plan")
    assert stamps_of(peer.whole())[-1] == stamps[-1] + 33_333_333


def test_after_a_slow_plan_the_newest_picture_is_planned_from_at_once(
    graph, checkpoint, monkeypatch
):
    peer = Peer(graph, checkpoint, lockstep=False)
    peer.goal(100)
    graph.until(lambda: peer.accepted, "the goal")
    planning, released, call = threading.Event(), threading.Event(), GoalPlanner.__call__

    def slow_plan(self, *args):
        planning.set()
        assert released.wait(20)
        return call(self, *args)

    monkeypatch.setattr(GoalPlanner, "__call__", slow_plan)
    slowly(peer)
    begin_ns = time.time_ns() - 3 * 10**9
    stamps = [begin_ns + round(i * 1e9 / 30) for i in range(22)]  # 0.7 s
    look(peer, stamps[0])
    graph.until(planning.is_set, "the first plan's beginning")
    for stamp_ns in stamps[1:]:
        look(peer, stamp_ns)
    released.set()
    graph.until(lambda: len(stamps_of(peer.whole())) == 2, "both plans")
    assert stamps_of(peer.whole()) == [stamps[0], stamps[-1]]
    # The next one is due where it always was: a second after the first.
    for milliseconds in (800, 900, 960):
        show(peer, begin_ns + milliseconds * 10**6)
    graph.until(lambda: len(stamps_of(peer.whole())) == 3, "the third plan")
    assert stamps_of(peer.whole())[-1] == begin_ns + 960 * 10**6


class Real(Peer):
    """A robot that does not wait: what it shows and feels is stamped with now, or wrongly."""

    def __init__(self, graph, checkpoint: str, **parameters) -> None:
        super().__init__(graph, checkpoint, lockstep=False, **parameters)
        self.told: list = []
        node = graph.peer("watcher")
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_told, RELIABLE)
        self.picture, self.values, self.ahead_ns = None, [20.0, 30.0], {"image": 0, "joints": 0}
        self.count = 0
        self.goal(100)
        graph.until(lambda: self.accepted, "the goal")
        node.create_timer(0.1, self._show)

    def _on_told(self, message: DiagnosticArray) -> None:
        self.told += [s for s in message.status if s.name == "planner_node: inputs"]

    def _show(self) -> None:
        self.count += 1
        now_ns = time.time_ns()
        rng = np.random.default_rng(self.count)
        picture = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        picture = picture.repeat(SIZE // 4, axis=0).repeat(SIZE // 4, axis=1)
        stamps = {name: max(0, now_ns + by) for name, by in self.ahead_ns.items()}
        state = joint_state_message(np.array(self.values), NAMES, stamps["joints"])
        self._state.publish(state)
        shown = picture if self.picture is None else self.picture
        self._image.publish(image_message(shown, stamps["image"]))

    def until_told(self, text: str, level: bytes) -> None:
        """Until the newest diagnostic of the inputs says this."""

        def said() -> bool:
            newest = self.told[-1] if self.told else DiagnosticStatus()
            return text in newest.message and newest.level == level

        self.graph.until(said, f"'{text}'", timeout_s=60)

    def until_planned(self) -> None:
        before = len(self.whole())
        self.graph.until(lambda: len(self.whole()) > before, "a plan", timeout_s=60)


def test_blind_pictures_withdraw_the_plan_until_they_are_good_again(graph, checkpoint):
    rules = '{"stop_after_s": 0.3, "resume_after_s": 0.3}'
    peer = Real(graph, checkpoint, camera_check=rules)
    peer.until_planned()
    peer.picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    text = "stopped: camera front: the picture is of a single colour"
    peer.until_told(text, DiagnosticStatus.ERROR)
    graph.until(lambda: not peer.plans[-1].points, "the empty plan")
    assert float(values_of(peer.told[-1])["contrast front"]) == 0.0
    count = len(peer.whole())
    peer.picture = None
    peer.until_told("observed", DiagnosticStatus.OK)
    graph.until(lambda: len(peer.whole()) > count, "a plan", timeout_s=60)


@pytest.mark.parametrize(
    ("topic", "ahead_ns", "text"),
    [
        ("image", -10 * 10**9, "observation/image: its stamps are 10.0 s behind"),
        ("joints", 3600 * 10**9, "joint_states: its stamps are 3600.0 s ahead"),
        ("joints", None, "count from the start of a machine"),
        ("joints", -2 * 10**9, "s behind those of observation/image"),
    ],
)
def test_a_wrong_clock_is_named_and_nothing_is_planned(graph, checkpoint, topic, ahead_ns, text):
    peer = Real(graph, checkpoint)
    # None: as of a machine that was started 5000 s ago.
    peer.ahead_ns[topic] = 5000 * 10**9 - time.time_ns() if ahead_ns is None else ahead_ns
    peer.until_told(text, DiagnosticStatus.ERROR)
    count = len(peer.whole())
    shown = peer.count
    graph.until(lambda: peer.count > shown + 5, "more pictures", timeout_s=60)
    assert len(peer.whole()) == count


def test_stamps_of_zero_are_planned_from_and_noted(graph, checkpoint):
    peer = Real(graph, checkpoint)
    peer.ahead_ns = dict.fromkeys(peer.ahead_ns, -time.time_ns() - 10**12)
    peer.until_planned()
    peer.until_told("stamps are 0", DiagnosticStatus.WARN)


def test_joints_that_are_no_numbers_are_named_where_they_enter(graph, checkpoint):
    peer = Real(graph, checkpoint)
    peer.until_planned()
    peer.values = [20.0, np.nan]
    peer.until_told("joint_states: joint slide_y: position nan", DiagnosticStatus.ERROR)
    peer.values = [20.0, 30.0]
    peer.until_told("observed", DiagnosticStatus.OK)
    peer.until_planned()


def test_a_picture_of_another_size_is_refused_and_the_node_goes_on(graph, checkpoint):
    peer = Real(graph, checkpoint)
    peer.picture = np.zeros((1, 1, 3), np.uint8)
    peer.until_told("observation/image is 1 x 1 pixels", DiagnosticStatus.ERROR)
    peer.picture = None
    peer.until_planned()


def test_without_a_goal_it_still_says_that_nothing_of_those_who_publish_has_come(
    graph, checkpoint, monkeypatch
):
    monkeypatch.setattr("wm_planner.nodes.planner_node.LATCHED_S", 0.0)
    told: list = []
    Peer(graph, checkpoint, lockstep=False)  # publishes nothing
    watcher = graph.peer("watcher")
    watcher.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: told.extend(m.status), RELIABLE
    )
    inputs = lambda: [s for s in told if s.name == "planner_node: inputs"]  # noqa: E731
    graph.until(inputs, "diagnostics")
    assert inputs()[-1].level == DiagnosticStatus.WARN
    assert "1 publishers are known, and nothing of theirs has come" in inputs()[-1].message
