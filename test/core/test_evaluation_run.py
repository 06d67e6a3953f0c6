"""Evaluations in batches: the same in any number of processes, and never run twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from datetime import datetime
from multiprocessing.connection import wait

import numpy as np
import pytest

from sim_bridge.rendering import check_rendering
from wm_planner.errors import ConfigError, RenderError
from wm_planner.evaluation import job as jobs
from wm_planner.evaluation.episode import EnvMaker, Episode, Evaluation, Loop
from wm_planner.evaluation.job import Job, default_batch, run_job
from wm_planner.evaluation.record import Record
from wm_planner.evaluation.target import sample_targets
from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint
from wm_planner.planning import PlannerConfig
from wm_planner.tasks.shifts import Shifts

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
TARGETS = sample_targets(DotEnv(), 0, 5)


@pytest.fixture
def world(monkeypatch):
    """The exact model; counts the episodes that are run."""
    started = []

    class Env(DotEnv):
        def set_state(self, state: np.ndarray) -> None:
            started.append(tuple(state))
            super().set_state(state)

    monkeypatch.setattr(EnvMaker, "__call__", lambda self, render: Env(render))
    return started


def run(job: Job = JOB, targets=TARGETS, directory=None, told=lambda periods: None):
    record = None if directory is None else Record(directory, job)
    return run_job(job, targets, record, bundle=dot_bundle(), progress=told)


def test_what_is_finished_is_not_run_again(world, tmp_path) -> None:
    told = []
    first = run(directory=tmp_path / "run", told=told.append)
    assert len(world) == 10 and sum(told) == 5 * 2 * 5 == JOB.num_periods(TARGETS)
    world.clear(), told.clear()
    assert run(directory=tmp_path / "run", told=told.append) == first
    assert not world and sum(told) == 50


def test_a_longer_evaluation_takes_over_whole_batches(world, tmp_path) -> None:
    short = run(targets=TARGETS.part(slice(3)), directory=tmp_path / "run")
    world.clear()
    whole = run(directory=tmp_path / "run")
    assert whole.episodes[:3] == short.episodes
    starts = {tuple(start) for start in TARGETS.starts[2:]}
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
    assert run(directory=tmp_path / "run").episodes == expected
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0][:9], *lines[1:]]) + "\n")  # where no crash leaves it
    with pytest.raises(ConfigError, match="batches.jsonl, line 1: cannot be read"):
        run(directory=tmp_path / "run")


def test_who_made_a_batch_is_remembered(world, tmp_path, caplog) -> None:
    """The first command stays, each batch has its commit, and another commit is told of once."""

    def go(count: int, commit: str):
        caplog.clear()
        record = Record(tmp_path, JOB, {"command": f"run {count}", "commit": commit})
        result = run_job(JOB, TARGETS.part(slice(count)), record, bundle=dot_bundle())
        return result, [message for message in caplog.messages if "commit" in message]

    file = tmp_path / "batches.jsonl"
    assert go(2, "old")[1] == []
    config = (tmp_path / "config.json").read_text()
    assert json.loads(config)["command"] == "run 2" and json.loads(config)["commit"] == "old"
    assert go(2, "old")[1] == []
    result, told = go(4, "new")
    assert told == [f"{tmp_path}: holds batches of commit old, this is new"]
    assert (tmp_path / "config.json").read_text() == config
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["commit"] for line in lines] == ["old", "new"]
    assert all(datetime.fromisoformat(line["written"]).tzinfo for line in lines)
    # Lines of before said neither.
    for line in lines:
        del line["commit"], line["written"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert go(4, "newer") == (result, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(plan_seconds=[]), "plan_seconds: expected at least one, got none"),
        (dict(plan_seconds=["1"]), "plan_seconds[0]: expected a number, got '1'"),
        (dict(plan_evaluations=None), "plan_evaluations: expected a list, got None"),
        (dict(success="yes"), "success: expected true or false, got 'yes'"),
        (dict(goal=1), "unknown key 'goal'"),
    ],
)
def test_a_bad_line_is_named(world, tmp_path, change, message) -> None:
    run(targets=TARGETS.part(slice(2)), directory=tmp_path)
    file = tmp_path / "batches.jsonl"
    line = json.loads(file.read_text())
    (line["episodes"][0] if "success" in change else line).update(change)
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError) as error:
        run(directory=tmp_path)
    assert f"{file}, line 1: cannot be read" in str(error.value) and message in str(error.value)
    file.write_text("[1, 2]\n")
    with pytest.raises(ConfigError, match="line 1: .*expected a mapping"):
        run(directory=tmp_path)


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
        Record(tmp_path / "run", replace(JOB, **change))
    assert message in str(error.value)


def test_foreign_directories_are_left_alone(tmp_path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no config.json"):
        Record(tmp_path, JOB)
    for text, message in (("{", "not valid JSON"), ("[1, 2]", "holds no settings")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match=f"config.json: {message}"):
            Record(tmp_path, JOB)


def test_batches_suit_planner_and_loop() -> None:
    assert default_batch(PlannerConfig(num_restarts=4), Loop()) == 25
    assert default_batch(PlannerConfig(solver="lbfgs", num_restarts=64), Loop()) == 8
    assert default_batch(PlannerConfig(solver="cem", num_samples=300), Loop()) == 1
    assert default_batch(PlannerConfig(), Loop(latency="measured")) == 1


def test_what_is_measured_has_the_machine_to_itself(world, monkeypatch) -> None:
    shared = []

    def in_processes(job, parts, *args):
        shared.append(job.loop.latency)
        return jobs._in_turn(job, parts, dot_bundle(), lambda periods: None)

    monkeypatch.setattr(jobs, "_in_processes", in_processes)
    for latency in (0.1, "measured"):
        job = replace(JOB, loop=Loop(latency=latency), batch_size=1)
        run_job(job, TARGETS.part(slice(2)), processes=2, bundle=dot_bundle())
    assert shared == [0.1]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no Linux /proc")
def test_memory_is_that_of_the_part_alone(world) -> None:
    """A quarter of a gigabyte that came and went before it is no memory of an evaluation."""
    before = run().memory_mib
    block = np.ones(2**28 // 8)
    assert run().memory_mib > before + 200
    del block
    assert run().memory_mib < before + 100


def interrupted(job: Job, targets) -> Evaluation:
    """The work of a process at a terminal where Ctrl-C is pressed; the second part never ends."""
    os.kill(os.getpid(), signal.SIGINT)
    if targets.starts[0, 0] != TARGETS.starts[0, 0]:
        signal.pause()
    return Evaluation([Episode(True, 1, 0.0, 1.0)] * 2, [0.1], [1])


def test_only_the_parent_hears_an_interrupt(tmp_path, monkeypatch) -> None:
    """It keeps what is finished and waits for nothing else."""
    monkeypatch.setattr(jobs, "_work", interrupted)
    record, told = Record(tmp_path, JOB), []

    def stop(periods: int) -> None:
        told.append(periods)
        if len(told) > 1:  # the first is what was finished before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(JOB, TARGETS.part(slice(4)), record, processes=2, progress=stop)
    assert list(record.finished()) == [TARGETS.part(slice(2)).sha256()]
    for child in multiprocessing.active_children():
        # Not by its exit code: the pool's own thread may be about to fetch that.
        assert wait([child.sentinel], 60), "it is still planning"


def test_processes_do_not_change_results(tmp_path) -> None:
    """On a shipped checkpoint and the simulator, with noise; bit for bit."""
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    shifts = Shifts(process_noise=0.1, image_noise=5.0)
    card = read_card(resolve_checkpoint(JOB.checkpoint, JOB.task) / CARD)
    job = replace(JOB, shifts=shifts, weights_sha256=card["sha256"])
    targets = sample_targets(job.make_env()(True), 1, 4)
    alone = run_job(job, targets)
    record = Record(tmp_path / "run", job)
    shared = run_job(job, targets, record, processes=2)
    assert shared.episodes == alone.episodes
    assert shared.plan_evaluations == alone.plan_evaluations
    assert shared.memory_mib > 50
    lines = (tmp_path / "run" / "batches.jsonl").read_text().splitlines()
    assert len({json.loads(line)["problems"] for line in lines}) == 2
