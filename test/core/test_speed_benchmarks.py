"""The benchmark's plain implementation computes the same; its table says what was measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from benchmarks import run  # noqa: E402
from benchmarks.cases import Amount, cases  # noqa: E402
from benchmarks.released import cross_entropy  # noqa: E402
from benchmarks.subjects import Subject  # noqa: E402
from benchmarks.timing import compare  # noqa: E402
from wm_planner.models.bundle import Bundle, build_model  # noqa: E402
from wm_planner.models.predictor import PredictorConfig  # noqa: E402
from wm_planner.models.preprocess import Preprocess  # noqa: E402
from wm_planner.models.world_model import ModelConfig  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def subject() -> Subject:
    """The published architecture, small, with a window of three frames."""
    torch.manual_seed(0)
    config = ModelConfig(
        image_size=32,
        num_hist=3,
        num_patches=4,
        visual_dim=12,
        action_dim=10,
        proprio_dim=4,
        predictor=PredictorConfig(2, 2, 8, 16),
        encoder={"kind": "dinov2", "variant": (12, 1, 2)},
    )
    preprocess = Preprocess(32, 5, (0.0,) * 2, (0.2,) * 2, (0.0,) * 4, (1.0,) * 4)
    return Subject.of("small", Bundle(build_model(config), preprocess, "pusht"))


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
    amount = Amount(1, 1, 2, 1, 4, 4, 1, 1, 2, 1, ("wall",))
    monkeypatch.setattr(run, "CPU", amount)
    monkeypatch.setattr("benchmarks.cases.full_size", lambda device: subject.bundle)
    threads = torch.get_num_threads()
    assert run.main(["--save", str(tmp_path)]) == 0
    torch.set_num_threads(threads)
    (file,) = tmp_path.iterdir()
    saved = json.loads(file.read_text())
    assert file.name.startswith(saved["machine"]["date"])
    names = {(row["what"], row["model"]) for row in saved["rows"]}
    assert len(names) == 8 + 9 and ("warm replan", "wall") in names
    assert all(np.isfinite(row["median_s"]) and row["median_s"] > 0 for row in saved["rows"])
    printed = capsys.readouterr().out
    assert "camera to plan" in printed and f"saved {file}" in printed


def test_rows_can_be_chosen(monkeypatch, subject: Subject) -> None:
    monkeypatch.setattr("benchmarks.cases.full_size", lambda device: subject.bundle)
    chosen = [case.name for case in cases(Amount(shipped=()), "cpu", "iteration")]
    assert chosen == ["iteration, markov", "iteration, history"]
