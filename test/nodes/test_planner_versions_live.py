"""The planner node takes new versions of its checkpoint while it runs, and says which it uses."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("rclpy")
torch = pytest.importorskip("torch")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from wm_planner.models.bundle import Bundle  # noqa: E402
from wm_planner.models.checkpoint import load_bundle, save_bundle  # noqa: E402
from wm_planner.models.versions import next_version  # noqa: E402
from wm_planner.nodes.finetune_config import FinetuneConfig  # noqa: E402
from wm_planner.nodes.finetune_node import FinetuneNode  # noqa: E402
from wm_planner.ros.diagnostics import values_of  # noqa: E402
from wm_planner.ros.qos import RELIABLE  # noqa: E402
from wm_planner.runtime import version_watch  # noqa: E402

from . import test_planner_live  # noqa: E402

checkpoint = test_planner_live.checkpoint  # a fixture


class Graph:
    """A planner that is asked for plans, and what it tells of its checkpoint."""

    def __init__(self, graph, checkpoint: str, **parameters) -> None:
        self.graph, self.checkpoint = graph, checkpoint
        self.told: dict[str, list[DiagnosticStatus]] = {"plan": [], "checkpoint": []}
        node = graph.peer("watcher")
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_told, RELIABLE)
        self.peer = test_planner_live.Peer(graph, checkpoint, **parameters)
        graph.until(lambda: node.count_publishers("/diagnostics"), "discovery")
        self.peer.goal(100)
        graph.until(lambda: self.peer.accepted, "the goal")
        self.count = 0

    def _on_told(self, message: DiagnosticArray) -> None:
        for status in message.status:
            what = status.name.removeprefix("planner_node: ")
            if what in self.told:
                self.told[what].append(status)

    def plan(self) -> str:
        """One plan; the checkpoint that its status names."""
        self.count += 1
        before = len(self.told["plan"])
        self.peer.plan_for(self.count * 500_000_000)
        self.graph.until(lambda: len(self.told["plan"]) > before, "the status of the plan")
        return values_of(self.told["plan"][-1])["checkpoint"]

    def until_told(self, text: str) -> DiagnosticStatus:
        def said() -> bool:
            told = self.told["checkpoint"]
            return bool(told) and text in told[-1].message

        self.graph.until(said, f"'{text}'")
        return self.told["checkpoint"][-1]

    def look(self) -> None:
        """Until the planner has looked at what there is."""
        self.peer.planner._versions._watch.look()


@pytest.fixture
def quiet(monkeypatch):
    """No thread looks for versions: the test says when."""
    begin = version_watch.VersionWatch.__init__
    monkeypatch.setattr(
        version_watch.VersionWatch, "__init__", lambda self, live: begin(self, live, period_s=0)
    )


def publish(checkpoint: str, directory, change=lambda bundle: None):
    bundle = load_bundle(checkpoint)
    change(bundle)
    return save_bundle(bundle, next_version(directory))


def nan(bundle: Bundle) -> None:
    bundle.model.predictor.proj_out.weight.fill_(torch.nan)


def test_a_directory_named_while_it_runs_is_followed(graph, checkpoint, tmp_path):
    live = Graph(graph, checkpoint)
    assert live.plan() == checkpoint
    version = publish(checkpoint, tmp_path)
    answer = live.peer.planner.set_parameters([Parameter("versions", value=str(tmp_path / "no"))])
    assert not answer[0].successful and "is no directory" in answer[0].reason
    answer = live.peer.planner.set_parameters([Parameter("versions", value=str(tmp_path))])
    assert answer[0].successful
    planner = live.peer.planner
    graph.until(lambda: planner._versions._live.on_trial, "the version, loaded aside")
    assert live.plan() == str(version)
    told = live.until_told("taken, and on trial for 8 steps")
    values = values_of(told)
    assert values["checkpoint"] == str(version) and values["on_trial"] == "true"
    assert len(values["sha256"]) == 64 and values["versions"] == str(tmp_path)
    others = planner.set_parameters([Parameter("checkpoint", value="x")])
    assert not others[0].successful  # nothing else can be changed


def test_bad_versions_at_any_moment_leave_the_old_one_planning(
    graph,
    checkpoint,
    tmp_path,
    quiet,
):
    live = Graph(graph, checkpoint, versions=str(tmp_path))
    rng = np.random.default_rng(0)
    for number in range(8):
        version = publish(checkpoint, tmp_path, nan if number % 2 else (lambda bundle: None))
        file = version / "model.safetensors"
        if number % 4 == 0:  # a copy that was cut off anywhere
            file.write_bytes(file.read_bytes()[: rng.integers(file.stat().st_size)])
        elif number % 4 == 2:
            shutil.rmtree(version)
        live.look()
        assert live.plan() == checkpoint
    told = live.until_told("not taken: ")
    assert told.level == DiagnosticStatus.WARN


def test_bags_name_the_checkpoint_that_plans_now(graph, tmp_path):
    node = graph.add(FinetuneNode, output=str(tmp_path), checkpoint="wall-base")
    told = DiagnosticStatus(name="planner_node: checkpoint")
    from diagnostic_msgs.msg import KeyValue

    told.values = [KeyValue(key="checkpoint", value="v2"), KeyValue(key="sha256", value="ab")]
    node._on_told(DiagnosticArray(status=[told]))
    assert b'"checkpoint": {"name": "v2", "sha256": "ab"}' in node._heading().data
    config = FinetuneConfig(checkpoint="wall-base", checkpoint_sha256="cd")
    assert config.recording({})["checkpoint"] == {"name": "wall-base", "sha256": "cd"}
    assert FinetuneConfig().recording({})["checkpoint"] is None
