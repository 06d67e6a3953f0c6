"""Evaluations in batches: the same in any number of processes, and never run twice."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from sim_bridge.rendering import check_rendering
from wm_planner.errors import ConfigError, RenderError
from wm_planner.evaluation import job as jobs
from wm_planner.evaluation import run as runs
from wm_planner.evaluation.episodes import Loop
from wm_planner.evaluation.goals import sample_problems
from wm_planner.evaluation.job import Job, default_batch
from wm_planner.evaluation.run import RunDirectory, num_periods, run_job
from wm_planner.planning import PlannerConfig

from .dot_world import DotEnv, dot_bundle

JOB = Job(
    task="wall",
    checkpoint="base",
    weights_sha256="0",
    image_size=64,
    planner=PlannerConfig(num_iterations=2, horizon=2),
    loop=Loop("open-loop"),
    batch_size=2,
)
PROBLEMS = sample_problems(DotEnv(), 0, 5)


@pytest.fixture
def world(monkeypatch):
    """The exact model; counts the episodes that are run."""
    started = []

    class Env(DotEnv):
        def set_state(self, state: np.ndarray) -> None:
            started.append(tuple(state))
            super().set_state(state)

    monkeypatch.setattr(jobs.EnvMaker, "__call__", lambda self, render: Env(render))
    return started


def run(job: Job = JOB, problems=PROBLEMS, directory=None, told=lambda periods: None):
    record = None if directory is None else RunDirectory(directory, job)
    return run_job(job, problems, record, bundle=dot_bundle(), progress=told)


def test_what_is_finished_is_not_run_again(world, tmp_path) -> None:
    told = []
    first = run(directory=tmp_path / "run", told=told.append)
    assert len(world) == 10 and sum(told) == 5 * 2 * 5 == num_periods(JOB, PROBLEMS)
    world.clear(), told.clear()
    assert run(directory=tmp_path / "run", told=told.append) == first
    assert not world and sum(told) == 50


def test_a_longer_evaluation_takes_over_whole_batches(world, tmp_path) -> None:
    short = run(problems=PROBLEMS.part(slice(3)), directory=tmp_path / "run")
    world.clear()
    whole = run(directory=tmp_path / "run")
    assert whole.episodes[:3] == short.episodes
    starts = {tuple(start) for start in PROBLEMS.starts[2:]}
    assert {state for state in world if state in starts} == starts and len(world) == 6


def test_an_interrupted_evaluation_goes_on(world, tmp_path) -> None:
    """The second batch fails; and the line of the first one was cut short by a full disk."""
    expected = run().episodes

    def stop(periods: int) -> None:
        if len(world) > 6:
            raise KeyboardInterrupt

    world.clear()
    with pytest.raises(KeyboardInterrupt):
        run(directory=tmp_path / "run", told=stop)
    file = tmp_path / "run" / "batches.jsonl"
    line = file.read_text()
    assert line.count("\n") == 1
    file.write_text(line + line[: len(line) // 2])
    assert run(directory=tmp_path / "run").episodes == expected
    # Now the torn line is within the file, where no crash leaves it.
    with pytest.raises(ConfigError, match="batches.jsonl, line 2: cannot be read"):
        run(directory=tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(loop=Loop("mpc")), "with loop.mode open-loop, this one has mpc"),
        (dict(planner=PlannerConfig(num_iterations=2, horizon=3)), "planner.horizon 2"),
        (dict(weights_sha256="1"), "weights_sha256 0, this one has 1"),
        (dict(batch_size=3), "batch_size 2, this one has 3"),
    ],
)
def test_a_directory_holds_one_kind_of_evaluation(world, tmp_path, change, message) -> None:
    run(directory=tmp_path / "run")
    with pytest.raises(ConfigError) as error:
        RunDirectory(tmp_path / "run", replace(JOB, **change))
    assert message in str(error.value)


def test_foreign_directories_are_left_alone(tmp_path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no config.json"):
        RunDirectory(tmp_path, JOB)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="config.json: not valid JSON"):
        RunDirectory(tmp_path, JOB)


def test_batches_suit_planner_and_loop() -> None:
    assert default_batch(PlannerConfig(num_restarts=4), Loop()) == 25
    assert default_batch(PlannerConfig(solver="lbfgs", num_restarts=64), Loop()) == 8
    assert default_batch(PlannerConfig(solver="cem", num_samples=300), Loop()) == 1
    assert default_batch(PlannerConfig(), Loop(latency="measured")) == 1


def test_what_is_measured_has_the_machine_to_itself(world, monkeypatch) -> None:
    shared = []

    def in_processes(job, parts, *args):
        shared.append(job.loop.latency)
        return runs._in_turn(job, parts, dot_bundle(), lambda periods: None)

    monkeypatch.setattr(runs, "_in_processes", in_processes)
    for latency in (0.1, "measured"):
        job = replace(JOB, loop=Loop(latency=latency), batch_size=1)
        run_job(job, PROBLEMS.part(slice(2)), processes=2, bundle=dot_bundle())
    assert shared == [0.1]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no Linux /proc")
def test_memory_is_that_of_the_part_alone(world) -> None:
    """A quarter of a gigabyte that came and went before it is no memory of an evaluation."""
    before = run().memory_mib
    block = np.ones(2**28 // 8)
    assert run().memory_mib > before + 200
    del block
    assert run().memory_mib < before + 100


def test_processes_do_not_change_results(tmp_path) -> None:
    """On a shipped checkpoint and the simulator, with noise; bit for bit."""
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    shifts = jobs.Shifts(process_noise=0.1, image_noise=5.0)
    job = replace(JOB, shifts=shifts)
    problems = sample_problems(job.make_env()(True), 1, 4)
    alone = run_job(job, problems)
    record = RunDirectory(tmp_path / "run", job)
    shared = run_job(job, problems, record, processes=2)
    assert shared.episodes == alone.episodes
    assert shared.plan_evaluations == alone.plan_evaluations
    assert shared.memory_mib > 50
    lines = (tmp_path / "run" / "batches.jsonl").read_text().splitlines()
    assert len({json.loads(line)["problems"] for line in lines}) == 2
