"""What recordings say of a checkpoint, on a world whose model is exact."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data.store import TrajectoryStore  # noqa: E402
from wm_planner.errors import DatasetError  # noqa: E402
from wm_planner.evaluation.recordings import (  # noqa: E402
    Recordings,
    encode_recordings,
    goal_measures,
    held_out,
    same_place,
    step_errors,
)
from wm_planner.models.checkpoint import load_bundle, save_bundle  # noqa: E402
from wm_planner.models.world_model import Latent  # noqa: E402
from wm_planner.planning import Planner, PlannerConfig  # noqa: E402

from .dot_world import MEAN, SCALE, STD, dot_bundle  # noqa: E402
from .training_world import mute_store  # noqa: E402

HORIZON = 4


def recordings(straight: bool = False, noise: float = 0.0, seed: int = 0) -> Recordings:
    """40 dots that were driven for 8 model steps; latent and proprioception are the position."""
    rng = np.random.default_rng(seed)
    shape = (40, 1, 10) if straight else (40, 8, 10)
    raw = np.broadcast_to(rng.uniform(-0.3, 0.3, shape), (40, 8, 10))
    if straight:  # one direction all along, for every raw action
        raw = np.tile(raw[..., :2], 5)
    moved = 2 * SCALE * raw.reshape(40, 8, 5, 2).sum(axis=2).cumsum(axis=1)
    start = rng.uniform(-0.3, 0.3, (40, 1, 2))
    place = torch.from_numpy(np.concatenate([start, start + moved], axis=1)).float()
    actions = (raw - np.tile(MEAN, 5)) / np.tile(STD, 5)
    seen = place + noise * torch.from_numpy(rng.normal(size=place.shape)).float()
    return Recordings(Latent(seen[:, :, None], place), torch.from_numpy(actions).float(), place)


def planner(drift: float = 0.0, **settings) -> Planner:
    config = {"horizon": HORIZON, "num_iterations": 60, "init": "zero", "objective": "last"}
    return Planner(dot_bundle(drift), PlannerConfig(**{**config, **settings}))


def test_an_exact_model_has_no_error_and_copying_has():
    errors = step_errors(dot_bundle(), recordings(), HORIZON, "markov")
    assert np.allclose(errors["model"], 0, atol=1e-10) and len(errors["model"]) == HORIZON
    assert np.all(np.diff(errors["copy"]) > 0) and errors["windows"] == 40 * 5
    drifting = step_errors(dot_bundle(0.1), recordings(), HORIZON, "markov")
    assert drifting["model"] == pytest.approx(
        [(0.1 * i) ** 2 for i in range(1, HORIZON + 1)], rel=1e-3
    )


def test_goals_on_straight_ways_are_neared_at_every_step():
    result = goal_measures(planner(), recordings(straight=True), 30)
    assert result["goals"] == 30 and result["falls"] == 1.0
    assert result["recorded_first_step_nearer"] == 1.0 and result["first_step_nearer"] == 1.0
    assert result["distance"][-1] == 0.0 and np.all(np.diff(result["distance"]) < 0)
    assert result["recorded_cost"] == pytest.approx(0, abs=1e-8)
    assert result["plan_cost"] < 0.05 * result["still_cost"]
    assert result["found"] == 1.0 and result["found_by_chance"] == 1 / 16
    assert result == goal_measures(planner(), recordings(straight=True), 30), "the same again"


def test_a_robot_that_takes_positions_is_planned_for_from_where_it_was():
    limits = {"low": (-100.0, -100.0), "high": (100.0, 100.0), "max_rate": (1.0, 1.0)}
    config = PlannerConfig(horizon=HORIZON, num_iterations=2, init="zero")
    held = Planner(dot_bundle(action={"kind": "position", **limits}), config)
    assert goal_measures(held, recordings(), 12)["goals"] == 12
    latent, _, places = recordings().windows(HORIZON, 12)
    assert torch.equal(places, latent.proprio[:, 0])


def test_a_latent_without_content_shows_in_every_measure():
    lost = recordings()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(lost.latent.visual.shape, generator=generator)
    lost = Recordings(Latent(noise, noise[:, :, 0]), lost.actions, lost.proprio)
    result = goal_measures(planner(), lost, 40)
    assert 0.3 < result["falls"] < 0.75, "the goal's own frame is the one that is near"
    assert result["found"] < 0.3
    assert result["recorded_cost"] > 0.5 * result["still_cost"]


def test_plans_of_what_was_done_agree_with_it():
    """A quadratic goal from the recorded start: what is left free is the way, not its sum."""
    same = goal_measures(planner(objective="all", objective_base=1.0), recordings(True), 20)
    other = goal_measures(planner(drift=0.2), recordings(True), 20)
    assert same["cosine"] > other["cosine"]
    assert same["action_error"] < other["action_error"]


def arrived_of(visual, place):
    return same_place(Recordings(Latent(visual, place), torch.zeros(len(place), 60, 10), place))


def test_arrived_is_the_distance_of_what_looks_the_same():
    generator = torch.Generator().manual_seed(0)
    place = torch.zeros(2, 61, 2)
    place[1] = torch.arange(61)[:, None]
    visual = place[:, :, None] + 0.1 * torch.randn(2, 61, 1, 2, generator=generator)
    # Half the squared difference of two such noises has mean 0.02 and is exponential. The second
    # recording moves: a step of 1 is a distance of 1 and some noise, and one of 0.2 is 0.04.
    still = arrived_of(visual, place)
    assert still["from"] == 110 and still["within"] == 1.0
    assert still["picture"] == pytest.approx(0.02 * 3.0, rel=0.5)
    assert arrived_of(visual[1:], place[1:])["picture"] == pytest.approx(0.04, rel=0.6)
    assert (
        same_place(
            Recordings(Latent(visual[:, :1], place[:, :1]), torch.zeros(2, 0, 10), place[:, :1])
        )
        is None
    )


@pytest.mark.parametrize("speed", [0.05, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("pauses", [1, 2, 6])
def test_arrived_does_not_depend_on_how_fast_the_robot_was_recorded(speed, pauses):
    """Nor on how long it stood still in between."""
    way = speed * torch.arange(61).div(pauses, rounding_mode="floor")
    place = way[None, :, None].repeat(2, 1, 2)
    found = arrived_of(place[:, :, None].clone(), place)
    assert 0.019 < found["picture"] < 0.041


def test_short_recordings_are_refused():
    short = recordings()
    with pytest.raises(DatasetError, match="8 model steps, a horizon of 9"):
        step_errors(dot_bundle(), short, 9, "markov")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A checkpoint of a robot that no task knows, and the store that it was trained on."""
    from .test_train_all import command

    directory = tmp_path_factory.mktemp("run")
    mute_store(directory / "data")
    from .test_train_all import RECIPE

    (directory / "recipe.yaml").write_text(RECIPE)
    assert main(command(directory, directory / "run")) == 0
    return directory


def test_eval_takes_what_training_held_out_and_else_all(run, tmp_path):
    bundle = load_bundle(run / "run")
    store = TrajectoryStore.open(run / "data")
    rows, known = held_out(bundle, store)
    assert rows.tolist() == bundle.info["held_out_trajectories"] and not known
    other = mute_store(tmp_path / "other", seed=1)
    rows, known = held_out(bundle, other)
    assert len(rows) == 12 and not known
    del bundle.info["held_out_trajectories"]
    assert held_out(bundle, store)[1], "nothing says that it does not know them"
    assert not held_out(bundle, other)[1]


def test_eval_without_task_or_simulator(run, capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the 'viz' extra")
    base = ["eval", "--data", str(run / "data"), "--checkpoint", str(run / "run")]
    output = [
        "--episodes",
        "3",
        "--json",
        str(tmp_path / "e.json"),
        "--output",
        str(tmp_path / "o"),
    ]
    assert main([*base, *output]) == 0
    text = capsys.readouterr().out
    assert "mystery" in text and "2 held-out trajectories" in text and "| 5 | " in text
    for row in ("latent distance", "look-ahead", "action found", "cost", "arrived"):
        assert f"  {row} " in text
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["goals"] == 3 and 0 <= result["falls"] <= 1 and -1 <= result["cosine"] <= 1
    assert (tmp_path / "o" / "result.png").is_file()
    assert result == json.loads((tmp_path / "o" / "result.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what is to be evaluated?"),
        (["--data", "DATA"], "needs --checkpoint"),
        (["--data", "DATA", "--checkpoint", "RUN", "--horizon", "7"], "a horizon of 7"),
        (["--data", "DATA", "--checkpoint", "RUN", "--shift", "obstacle=1"], "--shift and --goals"),
        (["--data", "DATA", "--checkpoint", "wall-base"], "not the checkpoint's robot"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(run, capsys, words, message):
    places = {"DATA": str(run / "data"), "RUN": str(run / "run")}
    assert main(["eval", *(places.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error


def test_recordings_of_another_robot_are_named(run, tmp_path):
    bundle = load_bundle(run / "run")
    values = bundle.embodiment.to_json() | {"frame_skip": 4}
    bundle.embodiment = type(bundle.embodiment).from_json(values, "test")
    save_bundle(bundle, tmp_path / "checkpoint")
    with pytest.raises(DatasetError, match="frame_skip is 5 there and 4 here"):
        encode_recordings(bundle, TrajectoryStore.open(run / "data"), np.array([0]))
