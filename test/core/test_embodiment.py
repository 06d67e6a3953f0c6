"""Embodiments: what is refused, what travels, and what older cards and stores become."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wm_planner.data.store import TrajectoryStore, write_store
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.errors import ConfigError, TaskError
from wm_planner.models.catalog import CARD, SHIPPED, read_card
from wm_planner.registry import Registry
from wm_planner.robot import CommandSink, read_robot
from wm_planner.tasks import get_task, registry, task_names

CARDS = sorted((Path(__file__).parents[1] / "data" / "cards").glob("*.json"))
ROBOTS = Path(__file__).parents[2] / "config" / "robots"
ARM = Embodiment(
    name="arm",
    control_dt_s=0.1,
    frame_skip=5,
    action=ActionSpace(names=("a", "b"), low=(-1.0, -2.0), high=(1.0, 2.0), max_rate=(3.0, 0.0)),
    proprio=("a/position", "b/velocity"),
    cameras=(Camera("front", 96, (80, 0, 480, 480)), Camera("wrist", 96, optional=True)),
    angles=("a/position",),
)


def test_it_travels_as_json():
    text = json.dumps(ARM.to_json())
    assert Embodiment.from_json(json.loads(text), "card") == ARM


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "my arm"}, "one word"),
        ({"control_dt_s": 0.0}, "control_dt_s must be from 0.001"),
        ({"frame_skip": 0}, "frame_skip must be from 1"),
        ({"proprio": ["a"]}, "'a' is not '<joint>/<field>'"),
        ({"proprio": ["a/place"]}, "position, velocity, effort"),
        ({"proprio": ["a/position", "a/position"]}, "'a/position' is named more than once"),
        ({"angles": ["c/position"]}, "'c/position' is no entry of proprio"),
        ({"cameras": []}, "expected at least one"),
        ({"cameras": [{"name": "a", "size": 64}, {"name": "b", "size": 96}]}, "must be equal"),
        ({"cameras": [{"name": "a", "size": 64, "optional": True}]}, "must not be optional"),
        ({"wheels": 4}, "unknown key 'wheels'"),
    ],
)
def test_what_cannot_be_is_named(change, text):
    with pytest.raises(ConfigError, match=f"arm.yaml.*{text}"):
        Embodiment.from_json({**ARM.to_json(), **change}, "arm.yaml")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"names": ["a", "a"]}, "'a' is named more than once"),
        ({"kind": "velocty"}, "Did you mean 'velocity'"),
        ({"low": [0.0]}, "low: needs 2 entries"),
        ({"high": [-1.0, 2.0]}, "low must be below high.*'a'"),
        ({"high": [float("nan"), 2.0]}, "finite"),
        ({"max_rate": [-1.0, 1.0]}, "max_rate: must be at least 0"),
        ({"names": ["linear.x", "a"]}, "cannot be mixed with joints"),
    ],
)
def test_bad_actions_are_named(change, text):
    action = {**ARM.to_json()["action"], **change}
    with pytest.raises(ConfigError, match=text):
        Embodiment.from_json({**ARM.to_json(), "action": action}, "arm.yaml")


def test_a_difference_is_said_and_bounds_are_none():
    assert ARM.difference(ARM) is None
    bounds = replace(ARM.action, low=(-0.1, -0.1), max_rate=(1.0, 1.0))
    assert ARM.difference(replace(ARM, action=bounds)) is None
    other = replace(ARM, action=replace(ARM.action, kind="effort"))
    assert ARM.difference(other) == "action.kind is effort there and velocity here"
    assert "['b', 'a']" in str(
        ARM.difference(replace(ARM, action=replace(ARM.action, names=("b", "a"))))
    )


@pytest.mark.parametrize("file", CARDS, ids=lambda f: f.name)
def test_a_card_of_before_is_read_as_its_successor(file, tmp_path):
    shipped = read_card(SHIPPED / file.name.removesuffix(".schema1.json") / CARD)
    (tmp_path / CARD).write_text(file.read_text())
    old = read_card(tmp_path / CARD)
    shipped["info"].pop("familiar")  # measured later
    shipped.pop("core_set")  # made later
    assert {**old, "schema": 2} == shipped
    body = Embodiment.from_json(old["embodiment"], "card")
    assert body.image_size == old["preprocess"]["image_size"]


def test_a_store_of_before_is_read(tmp_path):
    rows = {
        "images": np.zeros((3, 32, 32, 3), np.uint8),
        "proprio": np.zeros((3, 2), np.float32),
        "actions": np.zeros((2, 20), np.float32),
        "states": np.zeros((3, 2)),
    }
    write_store(tmp_path / "store", 1, [rows], {"task": "wall", "frame_skip": 10})
    file = tmp_path / "store" / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 1}))
    body = TrajectoryStore.open(tmp_path / "store").embodiment
    assert (body.name, body.frame_skip, body.image_size) == ("wall", 10, 32)
    assert body.action == get_task("wall").embodiment.action


def test_every_task_is_found_by_its_entry_point():
    assert {"wall", "point_maze", "pusht"} <= set(task_names())
    with pytest.raises(TaskError, match="Did you mean 'wall'"):
        get_task("wal")


def test_a_broken_entry_point_is_named(monkeypatch):
    from importlib.metadata import EntryPoint

    places = ("gone", "nowhere_at_all:TASK"), ("odd", "json:dumps"), ("two", "a:B"), ("two", "c:D")
    points = [EntryPoint(name, value, registry.GROUP) for name, value in places]
    monkeypatch.setattr("wm_planner.registry.entry_points", lambda group: points)
    tasks = Registry(registry.GROUP, "task", registry.TASKS._complaint, TaskError, "sim")
    monkeypatch.setattr(registry, "TASKS", tasks)
    assert task_names() == ["gone", "odd", "two"]
    with pytest.raises(TaskError, match=r"'gone' \(nowhere_at_all:TASK\) cannot be imported"):
        get_task("gone")
    with pytest.raises(TaskError, match=r"'odd'.*must be a wm_planner.tasks.Task"):
        get_task("odd")
    with pytest.raises(TaskError, match="'two' is installed more than once: a:B and c:D"):
        get_task("two")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("task: wall", "key 'task' is of an older version; write name"),
        ("hold: true", "positions hold by themselves"),
        ("home: [0.0]", "home: needs 6 entries"),
        ("position_limits: urdf", "position_limits: expected lists"),
        ("position_limits: {low: [0], high: [1]}", "position_limits: needs 6 entries"),
        ("cameras: {front: {size: 96}}", "cameras: front: topic: name the topic"),
        ("cameras: {}", "cameras: expected at least one"),
        ("command: {adapter: twist, topic: /t}", "needs frame_id"),
        (
            "command: {adapter: twist, topic: /t, frame_id: base}",
            r"twist axes \(linear\.x, .* the adapter",
        ),
        ("stale_after_s: 0", "stale_after_s must be from"),
        ("safe_action: [0.3, 0, 0, 0, 0, 0]", "is stopped by zeros"),
        ("arrived: {for_s: .inf}", "for_s: expected a finite number"),
        ("arrived: {proprio: .nan}", "proprio: expected a finite number"),
        ("home: [.nan, 0, 0, 0, 0, 0]", r"home\[0\]: expected a finite number"),
        ("workspace: {low: [0, 0, 0], high: [1, 1, 1]}", "workspace: key 'link' is missing"),
        ("workspace: {link: a, low: [0, 0], high: [1, 1, 1]}", "workspace: low: expected 3 values"),
        ("workspace: {link: a, low: [0, 1, 0], high: [1, 1, 1]}", "y is from 1 to 1"),
        (
            "workspace: {link: a, low: [0, .nan, 0], high: [1, 1, 1]}",
            "low: expected a finite number",
        ),
        ("self_collision: 2.0", "self_collision must be true, false or from 0 to 1 m"),
        ("self_collision: .nan", "expected a finite number"),
        ("self_collision: near", "self_collision: expected"),
        ("state: {topic: /m, type: a/msg/B, field: x}", "state: key 'good' is missing"),
        ("state: [{topic: /m, type: Bool, field: x, good: [1]}]", "state: type: expected"),
        ("topics: {plan: 3}", "topics: plan: expected the name of a topic"),
        ("cameras: {front: {topic: /image, size: 8}}", "size must be at least 16"),
        (
            "command: {adapter: forward, topic: /t, integrate: true, tracking_error: 0}",
            "tracking_error must be positive",
        ),
    ],
)
def test_a_bad_robot_file_names_file_and_key(line, text, tmp_path):
    lines = (ROBOTS / "example_forward.yaml").read_text().splitlines()
    key = line.partition(":")[0]
    kept, skipping = [], False
    for old in lines:
        if not old.startswith((" ", "#")):
            skipping = old.startswith(f"{key}:")
        if not skipping:
            kept.append(old)
    file = tmp_path / "arm.yaml"
    file.write_text("\n".join([*kept, line]))
    with pytest.raises(ConfigError, match=text) as caught:
        read_robot(file)
    assert "arm.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "position", "max_rate": ()}, "action: max_rate: kind 'position' needs one"),
        ({"kind": "position", "max_rate": (1.0, 0.0) * 3}, "action: max_rate: kind 'position'"),
        ({"kind": "position", "safe": (0.1,) * 6}, "safe_action: positions hold"),
        ({"kind": "position_delta", "safe": (0.1,) * 6}, "safe_action: positions hold"),
        ({"kind": "effort"}, "workspace and self_collision: nobody can tell where efforts lead"),
    ],
)
def test_a_robot_that_takes_positions_has_rates_and_holds(changes, text):
    robot = read_robot(ROBOTS / "example_forward.yaml")
    safe = changes.pop("safe", None)
    with pytest.raises(ValueError, match=text):
        replace(robot, action=replace(robot.action, **changes), safe_action=safe)


def test_a_twist_has_no_position_limits_and_may_go_without_a_stamp():
    robot = read_robot(ROBOTS / "example_servo.yaml")
    unstamped = CommandSink("/cmd_vel", "twist_unstamped")
    assert replace(robot, command=unstamped).command.frame_id == ""
    with pytest.raises(ValueError, match="position_limits: they are of joints"):
        replace(robot, position_limits="robot_description")
    with pytest.raises(ValueError, match="self_collision: the receiver of a twist"):
        replace(robot, self_collision=True)
