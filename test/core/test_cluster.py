"""Work on a cluster gives what local work gives; without Ray, on a stand-in for its cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from sim_bridge.rendering import check_rendering
from wm_planner.cli import ablation_run
from wm_planner.cli import collect as collect_command
from wm_planner.cli import main as cli
from wm_planner.cluster import Cluster, Task, call
from wm_planner.data.begun_store import OFTEN, BegunStore
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import ConfigError, DatasetError, RenderError, WmPlannerError
from wm_planner.evaluation.ablation import Ablation
from wm_planner.evaluation.episode import EnvMaker, Loop
from wm_planner.evaluation.job import Job, fill_records, job_of, run_job
from wm_planner.evaluation.record import Record
from wm_planner.evaluation.target import Targets, sample_targets
from wm_planner.models import checkpoint
from wm_planner.planning import PlannerConfig
from wm_planner.tasks import get_task

from ..nodes.waiting import until
from .dot_world import DotEnv, dot_bundle


class StandIn:
    """A cluster of this process, which ends what it was given last first."""

    def __init__(self, address: str = "auto") -> None:
        self.address, self.ran = address, []

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, function, items, cpus=1, gpus=0, in_order=False):
        items = list(items)
        self.ran += items
        for number in range(len(items)) if in_order else reversed(range(len(items))):
            yield number, function(*items[number])

    def run_graph(self, function, tasks, cpus=1):
        done: list = []
        for key, task in tasks.items():
            assert set(task.after) <= set(done)
            function(*task.arguments)
            done.append(key)
            yield key


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(EnvMaker, "__call__", lambda self, render: DotEnv(render))
    monkeypatch.setattr(checkpoint, "load_bundle", lambda *given: dot_bundle())


def dot_job(**planner) -> Job:
    config = PlannerConfig(objective="last", num_iterations=20, init="zero", **planner)
    loop = Loop("open-loop")
    job = job_of("wall", "base", {}, "test", loop)
    return replace(job, image_size=4, planner=config, batch_size=2)


def test_batches_on_a_cluster_give_the_local_result(world, tmp_path) -> None:
    job, targets = dot_job(), sample_targets(DotEnv(), 0, 5)
    local, cluster = run_job(job, targets), StandIn()
    told: list[int] = []
    record = Record(tmp_path / "run", job)
    found = run_job(job, targets, record, progress=told.append, cluster=cluster)
    assert found.episodes == local.episodes and len(cluster.ran) == 3
    assert found.plan_evaluations == local.plan_evaluations
    assert sum(told) == job.num_periods(targets)
    again = run_job(job, targets, record, cluster=StandIn())  # nothing is left to run
    assert again.episodes == local.episodes


def test_cells_fill_their_records_beside_each_other(world, tmp_path) -> None:
    targets = sample_targets(DotEnv(), 0, 4)
    jobs = [dot_job(), dot_job(horizon=6)]
    records = [Record(tmp_path / str(i), job) for i, job in enumerate(jobs)]
    run_job(jobs[0], targets.part(slice(2)), records[0])
    cluster, finished = StandIn(), []
    todo = [(job, targets, record) for job, record in zip(jobs, records, strict=True)]
    fill_records(todo, cluster, finished.append)
    assert len(cluster.ran) == 3 and sorted(finished) == [0, 1]
    for job, record in zip(jobs, records, strict=True):
        assert run_job(job, targets, record).episodes == run_job(job, targets).episodes
    fill_records(todo, cluster, finished.append)
    assert len(cluster.ran) == 3 and len(finished) == 4


def test_a_machine_with_other_weights_or_another_package_is_refused(world) -> None:
    job = replace(dot_job(horizon=4), weights_sha256="0" * 64)
    with pytest.raises(ConfigError, match="has one of other weights"):
        run_job(job, sample_targets(DotEnv(), 0, 2), cluster=StandIn())
    with pytest.raises(ConfigError, match=r"has wm_planner .*, this command 9.9"):
        call("9.9", len, ("abc",))


def trajectory(*given) -> dict[str, np.ndarray]:
    number = given[1]
    return {
        "images": np.full((3, 8, 8, 3), number, np.uint8),
        "proprio": np.full((3, 2), number, np.float32),
        "actions": np.full((2, 10), number, np.float32),
        "states": np.full((3, 2), number, np.float64),
    }


def meta(seed: int = 0) -> dict:
    return {"embodiment": get_task("wall").embodiment.to_json(), "seed": seed, "command": "c"}


def test_a_store_goes_on_where_it_was_interrupted(tmp_path) -> None:
    count, output = OFTEN + 6, tmp_path / "data"

    def some(first: int, end: int):
        yield from (trajectory("wall", number) for number in range(first, end))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BegunStore(output, count, meta()).write(some(0, OFTEN + 3))
    assert not output.exists()
    with pytest.raises(DatasetError, match="beginning of data with seed 0, this command has 1"):
        BegunStore(output, count, meta(seed=1))
    begun = BegunStore(output, count, {**meta(), "command": "other words"})
    assert begun.written == OFTEN
    store = begun.write(trajectory("wall", number) for number in range(OFTEN, count))
    np.testing.assert_array_equal(store.actions[:, 0, 0], np.arange(count))
    assert store.meta["command"] == "c" and not list(tmp_path.glob("*.begun"))
    with pytest.raises(DatasetError, match="exists already"):
        BegunStore(output, count, meta())


def test_too_few_trajectories_are_no_store(tmp_path) -> None:
    begun = BegunStore(tmp_path / "data", 4, meta())
    with pytest.raises(DatasetError, match="0 of 4 trajectories came"):
        begun.write(trajectory("wall", number) for number in range(3))


def test_collect_on_a_cluster_writes_in_order(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("wm_planner.cluster.Cluster", StandIn)
    monkeypatch.setattr(collect_command, "collect_trajectory", trajectory)
    output = tmp_path / "data"
    command = ["collect", "--task", "wall", "--num-trajectories", "9", "--steps", "2"]
    assert cli.main([*command, "--output", str(output), "--ray", "auto"]) == 0
    np.testing.assert_array_equal(TrajectoryStore.open(output).actions[:, 0, 0], np.arange(9))


def test_stages_of_an_ablation_wait_for_what_they_need(monkeypatch, tmp_path) -> None:
    """Rows that share an encoder train it once; what is there already is not run again."""
    monkeypatch.chdir(tmp_path)
    commands: list[list[str]] = []

    def command(words: list[str], **options):
        words = words[words.index("wm_planner.cli.main") + 1 :]
        commands.append(words)
        output = Path(words[words.index("--output") + 1])
        if words[0] == "eval":
            (output / "result.json").parent.mkdir(parents=True)
            (output / "result.json").touch()
        else:
            name = "encoder.safetensors" if words[:2] == ["train", "encoder"] else "checkpoint"
            (output / name).mkdir(parents=True)
        code = 3 if "fails" in str(output) else 0
        return type("Done", (), {"returncode": code})

    monkeypatch.setattr(ablation_run.subprocess, "run", command)
    rows = {"one": {}, "two": {"model": {"num_updates": 2}}}
    ablation = Ablation("r.yaml", rows, "one", seeds=(0,), modes=("mpc",), model_error_runs=0)
    recipe = {"task": "wall", "encoder": {}, "model": {}, "collect": {}}
    stages = ablation_run.AblationRun(ablation, recipe, Path("d"), Path("out"), threads=1)
    cluster = StandIn()
    stages.on(cluster, ["one", "two"])
    kinds = [words[1] if words[0] == "train" else words[0] for words in commands]
    assert kinds == ["encoder", "model", "eval", "model", "eval"]
    assert all("--resume" in words for words in commands if words[0] == "train")
    assert len(list(Path("out").rglob("*.log"))) == 5
    stages.on(cluster, ["one", "two"])
    assert len(commands) == 5
    stages = replace(stages, output=Path("fails"))
    with pytest.raises(ConfigError, match=r"failed on machine .* with exit code 3; see .*\.log"):
        stages.on(cluster, ["one"])


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes, with a processor each, on this machine."""
    pytest.importorskip("ray", reason="needs the 'ray' extra")
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes(timeout=60)
    yield nodes
    nodes.shutdown()


def node_of(folder: Path) -> str:
    """The node of this call, which leaves its name in a folder and waits for 'end' there.

    On a node that is named there as lost it waits for longer: its process outlives the node a bit.
    """
    import ray

    node = ray.get_runtime_context().get_node_id()
    (folder / f"{node}.node").touch()
    lost = folder / f"{node}.lost"
    until(lambda: (folder / "end").exists() and not lost.exists(), "the end of all calls")
    return node


def run_beside(
    cluster: Cluster, folder: Path, count: int, then: Callable[[], object] = lambda: None
) -> list[str]:
    """Nodes on which calls end, a call for each; once all of them run, `then` is called."""

    def end() -> None:
        until(lambda: len(list(folder.glob("*.node"))) == count, f"{count} nodes with a call")
        then()
        (folder / "end").touch()

    thread = Thread(target=end)
    thread.start()
    found = [node for _, node in cluster.run(node_of, [(folder,)] * count)]
    thread.join()
    return found


def test_two_nodes_give_the_local_result(nodes, tmp_path) -> None:
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    settings = {"num_iterations": 3, "warm_iterations": 1}
    job = replace(job_of("wall", "base", settings, "test", Loop("open-loop")), batch_size=1)
    targets = targets_of(job, 4)
    local = run_job(job, targets)
    output = tmp_path / "data"
    command = ["collect", "--task", "wall", "--num-trajectories", "5", "--steps", "1"]
    with Cluster(nodes.address) as cluster:
        assert len(set(run_beside(cluster, tmp_path, 2))) == 2
        far = run_job(job, targets, cluster=cluster)
        tasks = {"b": Task(("x",)), "a": Task(("y",), after=("b",))}
        assert list(cluster.run_graph(len, tasks)) == ["b", "a"]
        with pytest.raises(WmPlannerError, match="has one of other weights"):
            run_job(replace(job, weights_sha256="0"), targets, cluster=cluster)
    assert far.episodes == local.episodes and far.plan_evaluations == local.plan_evaluations
    assert cli.main([*command, "--output", str(output), "--ray", nodes.address]) == 0
    assert cli.main([*command, "--output", str(tmp_path / "local"), "--workers", "1"]) == 0
    for name in ("images", "actions", "states"):
        one, other = (np.load(tmp_path / where / f"{name}.npy") for where in ("data", "local"))
        np.testing.assert_array_equal(one, other)


def test_the_task_of_a_lost_node_is_run_on_another(nodes, tmp_path) -> None:
    third = nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes(timeout=60)

    def lose() -> None:
        (tmp_path / f"{third.node_id}.lost").touch()
        nodes.remove_node(third, allow_graceful=False)

    with Cluster(nodes.address) as cluster:
        found = run_beside(cluster, tmp_path, 3, lose)
    assert len(found) == 3 and third.node_id not in found


def targets_of(job: Job, count: int) -> Targets:
    env = job.make_env()(True)
    try:
        return sample_targets(env, 0, count)
    finally:
        env.close()


def test_no_cluster_is_said(capsys) -> None:
    pytest.importorskip("ray", reason="needs the 'ray' extra")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    assert cli.main(["eval", "--task", "wall", "--episodes", "1", "--ray", "127.0.0.1:1"]) == 2
    assert "--ray 127.0.0.1:1: no cluster answers there" in capsys.readouterr().err
