"""Evaluation with an exact model: results are known before they are measured."""

from __future__ import annotations

import numpy as np
import pytest

from wm_planner.errors import DatasetError
from wm_planner.evaluation.arena import Arena
from wm_planner.evaluation.episode import Episode, Evaluation, Loop
from wm_planner.evaluation.job import Job
from wm_planner.evaluation.result import Result
from wm_planner.evaluation.target import Targets, sample_targets
from wm_planner.planning import Planner, PlannerConfig
from wm_planner.planning.objective import frame_weights

from .dot_world import DotEnv, dot_bundle


def planner(drift: float = 0.0, **settings) -> Planner:
    settings = {"objective": "last", "num_iterations": 30, **settings}
    return Planner(dot_bundle(drift), PlannerConfig(**settings))


def targets(*pairs) -> Targets:
    starts, goals = zip(*pairs, strict=True)
    return Targets("wall", np.array(starts, np.float64), np.array(goals, np.float64))


NEAR, FAR = ([10, 10], [14, 20]), ([10, 10], [60, 60])


def evaluate(
    plan_with: Planner, make_env, which: Targets, batch_size: int, told=lambda n: None, mode="mpc"
):
    """All targets, so many at a time."""
    result = Evaluation()
    with Arena(plan_with, make_env, min(batch_size, len(which)), Loop(mode)) as arena:
        for first in range(0, len(which), batch_size):
            result.extend(arena.run(which.part(slice(first, first + batch_size)), told))
    return result


def run(plan_with: Planner, which: Targets, mode: str = "mpc", batch_size: int = 8, **env):
    made = []

    def make_env(render: bool) -> DotEnv:
        made.append(DotEnv(render, **env))
        return made[-1]

    return evaluate(plan_with, make_env, which, batch_size, mode=mode), made[1:]


def test_mpc_stops_at_success_and_counts_the_steps_it_took() -> None:
    """Ten pixels per model step and axis at most: 50 px need at least five steps."""
    result, robots = run(planner(), targets(NEAR, FAR))
    near, far = result.episodes
    assert near.success and far.success and near.distance < 4.5 > far.distance
    assert near.num_steps <= 5 <= far.num_steps <= 6
    assert near.start_distance == pytest.approx(np.hypot(4, 10))
    for robot, episode in zip(robots, result.episodes, strict=True):
        assert len(robot.actions) == 5 * episode.num_steps, "moved after success"


def test_stages_go_by_model_steps_not_by_replans(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(
        "wm_planner.planning.planner.frame_weights",
        lambda mode, base, horizon, step: asked.append(step) or frame_weights("last", 1.0, horizon),
    )
    run(planner(num_iterations=1, replan_steps=3), targets(FAR))
    assert asked[:4] == [0, 0, 3, 6]  # the first to warm up


def test_mpc_corrects_a_wrong_model_and_open_loop_does_not() -> None:
    """The model believes in a drift that is not there."""
    which = targets(([10, 30], [40, 30]))
    for mode, success in (("mpc", True), ("open-loop", False)):
        result, _ = run(planner(drift=0.06, objective="all", num_iterations=60), which, mode)
        assert result.episodes[0].success is success, mode


def test_open_loop_executes_one_whole_plan_and_looks_at_its_end_only() -> None:
    result, robots = run(planner(horizon=6), targets(FAR, NEAR), "open-loop")
    assert [episode.num_steps for episode in result.episodes] == [6, 6]
    assert [len(robot.actions) for robot in robots] == [30, 30]
    assert len(result.plan_seconds) == 2


def test_a_robot_that_does_not_move_fails_after_the_tasks_last_step() -> None:
    result, _ = run(planner(num_iterations=2), targets(NEAR), stuck=True)
    assert result.episodes == [Episode(False, 10, *[pytest.approx(np.hypot(4, 10))] * 2)]
    assert len(result.plan_seconds) == 10


@pytest.mark.parametrize(("replan_steps", "plans"), [(1, 10), (3, 4), (5, 2)])
def test_replan_steps(replan_steps: int, plans: int) -> None:
    solver = planner(num_iterations=2, replan_steps=replan_steps)
    result, _ = run(solver, targets(FAR), stuck=True)
    assert len(result.plan_seconds) == plans and result.episodes[0].num_steps == 10


@pytest.mark.parametrize("rollout", ["markov", "history"])
def test_the_batch_does_not_change_results(rollout: str) -> None:
    which = sample_targets(DotEnv(), 3, 7)
    solver = planner(rollout=rollout, num_iterations=4)
    results = [run(solver, which, batch_size=size)[0].episodes for size in (1, 3, 50)]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert (one.success, one.num_steps) == (two.success, two.num_steps)
            assert one.distance == pytest.approx(two.distance, abs=1e-3)


def test_history_rollouts_get_up_to_num_hist_frames() -> None:
    solver = planner(rollout="history", num_iterations=1)
    run(solver, targets(FAR), stuck=True)
    assert solver.bundle.model.frames == {1, 2, 3}


def test_the_warm_start_is_the_rest_of_the_last_plan() -> None:
    """With one iteration per replan only a warm start can finish the descent."""
    which = targets(([10, 30], [55, 30]))
    settings = dict(num_iterations=40, warm_iterations=1, learning_rate=0.05)
    warm, _ = run(planner(**settings), which)
    assert warm.episodes[0].success
    assert warm.plan_evaluations[:2] == [41, 2]


def test_the_same_seed_gives_the_same_result() -> None:
    which = sample_targets(DotEnv(), 0, 4)
    one, two = (run(planner(num_iterations=3), which)[0].episodes for _ in range(2))
    assert one == two


def test_progress_adds_up_to_all_steps() -> None:
    told = []
    which = targets(NEAR, FAR, NEAR)
    evaluate(planner(), lambda render: DotEnv(), which, 2, told.append)
    assert sum(told) == 150


def test_environments_are_closed_when_planning_fails() -> None:
    closed = []

    class Env(DotEnv):
        def advance(self, action: np.ndarray) -> None:
            raise RuntimeError("physics")

        def close(self) -> None:
            closed.append(self)

    with pytest.raises(RuntimeError, match="physics"):
        evaluate(planner(num_iterations=1), lambda r: Env(), targets(NEAR, FAR), 2)
    assert len(closed) == 3


def test_a_longer_set_of_targets_begins_with_the_shorter_one() -> None:
    short, long = (sample_targets(DotEnv(), 5, n) for n in (2, 4))
    np.testing.assert_array_equal(long.starts[:2], short.starts)
    assert not np.array_equal(sample_targets(DotEnv(), 6, 2).goals, short.goals)


GOOD = dict(task="wall", starts=np.zeros((1, 2)), goals=np.zeros((1, 2)))


def test_targets_are_written_and_read(tmp_path) -> None:
    written = sample_targets(DotEnv(), 5, 3)
    written.save(tmp_path / "targets.npz")
    read = Targets.load(tmp_path / "targets.npz", "wall")
    np.testing.assert_array_equal(read.starts, written.starts)
    np.testing.assert_array_equal(read.goals, written.goals)


@pytest.mark.parametrize(
    ("content", "task", "message"),
    [
        (None, "wall", "targets.npz: no such file"),
        (b"PK\x03\x04 broken", "wall", "is no file of targets"),
        (targets(NEAR), "point_maze", "holds targets of task 'wall', not of 'point_maze'"),
        (dict(task="pusht", starts=np.zeros((1, 2)), goals=np.zeros((1, 2))), "pusht", r"\(N, 7\)"),
        (dict(task="wall", starts=np.zeros((1, 2))), "wall", "goals"),
        (dict(GOOD, task="wal"), "wall", "targets.npz: is no file of targets: unknown task 'wal'"),
        (np.zeros((1, 2)), "wall", "is no file of targets: it is no archive of arrays"),
        (dict(GOOD, starts=np.array(5.0)), "wall", r"starts of task 'wall' must be \(N, 2\)"),
        (dict(GOOD, starts=np.array([["a", "b"]])), "wall", "starts must be numbers, got <U1"),
        (dict(GOOD, goals=np.array([[1, np.nan]])), "wall", r"npz: .*goals\[0\] is not finite"),
        (dict(GOOD, dropped=np.zeros(2)), "wall", "dropped must be one whole number"),
        (dict(GOOD, goal_images=np.zeros((1, 5), np.uint8)), "wall", r"uint8 \(1, H, W, 3\)"),
        (dict(GOOD, goal_images=np.zeros((1, 4, 4, 1), np.uint8)), "wall", r"got uint8 \(1, 4"),
    ],
)
def test_a_bad_file_of_targets_is_named(tmp_path, content, task: str, message: str) -> None:
    file = tmp_path / "targets.npz"
    if isinstance(content, Targets):
        content.save(file)
    elif isinstance(content, np.ndarray):  # .npy, renamed
        with file.open("wb") as stream:
            np.save(stream, content)
    elif isinstance(content, dict):
        np.savez(file, **content)
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        Targets.load(file, task)


def test_result_by_hand() -> None:
    episodes = [Episode(i < 9, 3, float(i), 50.0) for i in range(10)]
    which = targets(*[FAR] * 10)
    job = Job("wall", "base", "0", 64, PlannerConfig(horizon=5), Loop(), batch_size=25)
    evaluation = Evaluation(episodes, [0.1, 0.2, 0.3], [100, 100, 40], 7.0)
    result = Result.of(job, 3, which, evaluation)
    assert (result.episodes, result.successes, result.success_rate) == (10, 9, 0.9)
    # Wilson's interval of 9 in 10, from its closed form.
    assert result.interval_low == pytest.approx(0.5958, abs=1e-4)
    assert result.interval_high == pytest.approx(0.9821, abs=1e-4)
    assert result.plan_seconds_p50 == pytest.approx(0.2)
    assert result.plan_seconds_per_episode == pytest.approx((0.1 + 0.2 + 0.3) / 10)
    assert result.plan_evaluations == 80 and result.distance_median == 4.5
    # Student's t with 9 degrees of freedom, 2.2622, and a deviation of 3.0277 of 0 to 9.
    assert result.distance_mean == 4.5 and result.distance_start == 50.0
    assert result.distance_high == pytest.approx(4.5 + 2.2622 * 3.0277 / 10**0.5, abs=1e-3)
    assert result.distance_low == pytest.approx(9.0 - result.distance_high)
    assert result.model_calls == 240 * 5 / 10 and result.memory_mib == 7.0
    assert (result.seed, result.batch_size, result.outcomes) == (3, 10, "1111111110")
    assert result.targets == which.sha256()
