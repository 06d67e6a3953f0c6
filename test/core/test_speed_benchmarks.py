"""The benchmark's plain implementation computes the same; its table says what was measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from benchmarks import run  # noqa: E402
from benchmarks.cases import Amount, Case, cases  # noqa: E402
from benchmarks.hand_over import HandOver  # noqa: E402
from benchmarks.recordings import EPISODES, LENGTHS, record  # noqa: E402
from benchmarks.released import cross_entropy  # noqa: E402
from benchmarks.subjects import Subject, shipped  # noqa: E402
from benchmarks.timing import compare  # noqa: E402
from benchmarks.training import OurTraining, ReleasedTraining  # noqa: E402
from wm_planner.models.bundle import Bundle, build_model  # noqa: E402
from wm_planner.models.predictor import PredictorConfig  # noqa: E402
from wm_planner.models.preprocess import Preprocess  # noqa: E402
from wm_planner.models.world_model import ModelConfig  # noqa: E402
from wm_planner.tasks import get_task  # noqa: E402

CPU = torch.device("cpu")


def small(num_hist: int = 3, num_patches: int = 4, device: str = "cpu") -> Bundle:
    """The published architecture, small."""
    torch.manual_seed(0)
    side = 16 * round(num_patches**0.5)
    config = ModelConfig(
        image_size=side,
        num_hist=num_hist,
        num_patches=num_patches,
        visual_dim=12,
        action_dim=10,
        proprio_dim=4,
        predictor=PredictorConfig(2, 2, 8, 16),
        encoder={"kind": "dinov2", "variant": (12, 1, 2)},
    )
    preprocess = Preprocess(side, 5, (0.0,) * 2, (0.2,) * 2, (0.0,) * 4, (1.0,) * 4)
    return Bundle(build_model(config), preprocess, get_task("pusht").embodiment)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """With a window of three frames."""
    return Subject.of("small", small())


@pytest.mark.parametrize("rollout", ["markov", "history"])
def test_both_implementations_descend_alike(subject: Subject, rollout: str) -> None:
    plain, ours = subject.plain_descent(5, rollout), subject.descent(5, rollout=rollout)
    for _ in range(3):
        torch.testing.assert_close(plain.step(0.0), ours.step(0.0)[0], rtol=1e-4, atol=0)
        expected, actual = plain.actions.grad, ours.actions.grad[0]
        assert (actual - expected).norm() < 1e-4 * expected.norm()
    torch.testing.assert_close(ours.actions[0], plain.actions, rtol=0, atol=1e-3)


def test_the_released_procedure_pays_for_what_it_does(subject: Subject) -> None:
    """An encoding and a gradient of every weight in each iteration."""
    calls = []
    handle = subject.plain.encoder.register_forward_hook(lambda *_: calls.append(1))
    descent = subject.plain_descent(2, "markov")
    descent.step()
    descent.step()
    handle.remove()
    weights = [*subject.plain.predictor.parameters(), *subject.plain.action_encoder.parameters()]
    assert len(calls) == 2 and all(weight.grad is not None for weight in weights)
    subject.plain.zero_grad()


def test_training_losses_are_equal(subject: Subject) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 4, 3, 32, 32, generator=generator)
    proprio, actions = (torch.randn(2, 4, n, generator=generator) for n in (4, 10))
    loss = subject.bundle.model.loss(images, proprio, actions)["loss"]
    torch.testing.assert_close(subject.plain.training_loss(images, proprio, actions), loss)


def test_the_released_training_reads_whole_files(subject: Subject, tmp_path, monkeypatch) -> None:
    """An item is a window of the trajectory, at the model's step, with its actions."""
    data = record("pusht", tmp_path / "data", 32)
    asked = []
    read = type(data).frames
    monkeypatch.setattr(
        type(data), "frames", lambda self, i, rows=None: asked.append(rows) or read(self, i, rows)
    )
    images, proprio, actions = ReleasedTraining(subject, data, 2, False).item(3)
    assert asked == [None] and images.shape == (4, 3, 32, 32)
    preprocess = subject.bundle.preprocess
    expected = preprocess.images(read(data, 0, range(3, 19, 5)))
    torch.testing.assert_close(images, expected)
    torch.testing.assert_close(proprio, preprocess.normalise_proprio(data.proprio(0)[3:19:5]))
    torch.testing.assert_close(
        actions, preprocess.normalise_actions(data.actions(0)[3:23].reshape(4, 10))
    )


@pytest.mark.parametrize("task", LENGTHS)
def test_published_layouts_are_made_and_read(task: str, tmp_path) -> None:
    data = record(task, tmp_path / "data", 32)
    assert len(data) == EPISODES and (data.lengths == LENGTHS[task]).all()
    images = data.frames(1)
    # Mostly white, with a red square; a video is not exact.
    red = (images[..., 0] > 150) & (images[..., 1] < 90)
    assert images.mean() > 240 and (red.sum(axis=(1, 2)) >= 4).all()


def test_both_trainings_lower_the_loss(subject: Subject, tmp_path) -> None:
    data = record("pusht", tmp_path / "data", 32)
    runs = (
        ReleasedTraining(subject, data, 8, False),
        OurTraining(subject, data, 8, tmp_path / "ours"),
    )
    for training in runs:
        losses = [float(training.step()) for _ in range(30)]
        assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_decoder_learns_beside(subject: Subject, tmp_path) -> None:
    data = record("pusht", tmp_path / "data", 32)
    training = ReleasedTraining(subject, data, 1, True)
    assert training.decoder is not None
    before = [weight.detach().clone() for weight in training.decoder.parameters()]
    training.step()
    pairs = zip(before, training.decoder.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in pairs)
    encoder = training.model.encoder.parameters()
    assert all(weight.grad is None for weight in encoder)


def test_a_plan_message_comes_back(subject: Subject) -> None:
    pytest.importorskip("sensor_msgs")
    over = HandOver(Subject.of("wall", shipped("wall")))
    over.replan()
    first = over.plan
    over.replan()
    assert over.plan is not first and len(over.plan.points) == 25


def test_what_needs_something_missing_is_left_out(monkeypatch, capsys) -> None:
    def prepare(directory: Path) -> dict:
        raise ImportError("No module named 'rclpy'")

    case = Case("beside the plan", "wall", "", prepare, 1)
    monkeypatch.setattr(run, "cases", lambda *_: [case])
    threads = torch.get_num_threads()
    assert run.main([]) == 0
    torch.set_num_threads(threads)
    assert "left out: " in (printed := capsys.readouterr().out) and "No module" in printed


def test_plain_sampling_lowers_the_cost(subject: Subject) -> None:
    torch.manual_seed(0)
    start, descent = subject.start(3), subject.descent(3)
    goal = subject.plain_goal()
    plan = cross_entropy(subject.plain, *subject.images(), goal, start[0], "markov", 64, 6, 6)
    with torch.no_grad():
        assert descent.cost(plan[None, None]) < descent.cost(start[None])


def test_ratios_are_those_of_the_rounds(monkeypatch) -> None:
    """The machine gets slower with every round; the pairs do not."""
    now = [0.0]

    def work(seconds: float):
        turns = iter(range(1, 10))

        def spend() -> None:
            now[0] += seconds * next(turns)

        return spend

    timings = compare({"a": work(4.0), "b": work(1.0)}, 3, CPU, lambda: now[0])
    assert timings["b"].median_s == 3.0 and timings["a"].median_s == 12.0
    assert timings["b"].ratio == timings["b"].ratio_low == timings["b"].ratio_high == 4.0
    assert compare({"a": work(4.0)}, 1, CPU, lambda: now[0])["a"].ratio == 1.0


def test_every_row_runs_and_is_saved(tmp_path, monkeypatch, capsys, subject: Subject) -> None:
    amount = Amount(1, 1, 2, 1, 4, 4, 1, 1, 2, 1, ("wall",), 2)
    monkeypatch.setattr(run, "CPU", amount)
    monkeypatch.setattr("benchmarks.cases.full_size", lambda device: subject.bundle)
    threads = torch.get_num_threads()
    assert run.main(["--save", str(tmp_path)]) == 0
    torch.set_num_threads(threads)
    (file,) = tmp_path.iterdir()
    saved = json.loads(file.read_text())
    assert file.name.startswith(saved["machine"]["date"])
    names = {(row["what"], row["model"]) for row in saved["rows"]}
    rows = 8 + 11 - (importlib.util.find_spec("sensor_msgs") is None)
    assert len(names) == rows and ("warm replan", "wall") in names
    assert all(np.isfinite(row["median_s"]) and row["median_s"] > 0 for row in saved["rows"])
    printed = capsys.readouterr().out
    assert "camera to plan" in printed and f"saved {file}" in printed


def test_growth_is_measured_over_four_quantities(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("benchmarks.growth.full_size", small)
    threads = torch.get_num_threads()
    assert run.main(["--growth", "--save", str(tmp_path)]) == 0
    torch.set_num_threads(threads)
    (file,) = tmp_path.iterdir()
    assert file.stem.endswith("-growth")  # beside the results of another day, not over them
    rows: dict[str, list[str]] = {}
    for row in json.loads(file.read_text())["rows"]:
        rows.setdefault(row["what"].removeprefix("growth, "), []).append(row["by"])
    assert rows["horizon"] == ["H=1", "H=2", "H=5", "H=10"]
    assert rows["starting points"] == ["1 starts", "2 starts", "4 starts"]
    assert rows["patches"] == ["P=16", "P=49", "P=100", "P=196"]
    assert rows["history"] == ["K=1", "K=2", "K=3"]


def test_rows_can_be_chosen(monkeypatch, subject: Subject) -> None:
    monkeypatch.setattr("benchmarks.cases.full_size", lambda device: subject.bundle)
    chosen = [case.name for case in cases(Amount(shipped=()), "cpu", "iteration")]
    assert chosen == ["iteration, markov", "iteration, history"]
