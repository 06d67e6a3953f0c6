"""Recorded episodes become versions of a checkpoint, or are kept aside with the reason."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("rosbags", reason="needs the 'record' extra")

from wm_planner.cli.learning_film import HELD
from wm_planner.cli.main import main
from wm_planner.data.store import write_store
from wm_planner.embodiment import Camera
from wm_planner.errors import CheckpointError, ConfigError
from wm_planner.learning import rounds as rounds_module
from wm_planner.learning.episodes import ENDED_S, Episodes
from wm_planner.learning.gate import Errors, error, errors, probe_plans, reason_against
from wm_planner.learning.mixing import mixed
from wm_planner.learning.registration import without_registration
from wm_planner.learning.rounds import Rounds
from wm_planner.learning.settings import Learning
from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.core_set import CORE, MOST_BYTES, load_core_set
from wm_planner.models.versions import reject, versions
from wm_planner.tasks import resized
from wm_planner.training.core_set import core_set
from wm_planner.training.loop import fit
from wm_planner.training.machine import Machine
from wm_planner.training.segments import ReplayLearner, Segments, joined, of_stretches

from .bag_messages import MS, START, command, described, encode, event, header, joints, write
from .training_world import SIZE, dot_store, dot_trajectory, tiny_bundle

QUICK = Learning(num_updates=6, batch_size=8, every=3, learning_rate=3e-3)


def bundle_of_dots():
    bundle = tiny_bundle()
    bundle.embodiment = resized(bundle.embodiment, SIZE)
    bundle.planner = {"gbp": {"num_iterations": 5}}
    return bundle


def picture(stamp, pixels):
    return encode(
        "sensor_msgs/msg/Image",
        header=header(stamp),
        height=SIZE,
        width=SIZE,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * SIZE,
        data=pixels.reshape(-1),
    )


def episode(
    path: Path,
    seed: int,
    steps: int = 4,
    success: bool = True,
    close: bool = True,
    body=None,
    change=lambda images: images,
):
    """A bag of a dot that was driven at random."""
    trajectory = dot_trajectory(np.random.default_rng(seed), steps)
    trajectory["images"] = change(trajectory["images"])
    rows = trajectory["actions"].reshape(-1, 2)
    body = body or bundle_of_dots().embodiment

    def messages():
        yield "/recording", described(body), START
        yield "/episode", event("start", seed=seed), START
        for i in range(5 * steps + 1):
            stamp = START + i * 100 * MS
            yield "/joint_states", joints(stamp, trajectory["proprio"][i // 5]), stamp
            if i % 5 == 0:
                yield "/observation/image", picture(stamp, trajectory["images"][i // 5]), stamp
            if i < len(rows):
                yield "/command_sent", command(stamp, rows[i]), stamp
        outcome = "success" if success else "failure"
        yield "/episode", event("end", outcome=outcome), START + 500 * steps * MS

    return write(path, messages(), close)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    bundle = bundle_of_dots()
    store = dot_store(directory / "store", count=8, steps=6)
    return save_bundle(bundle, directory / "base", core_set(bundle, store))


def test_a_core_set_is_small_whole_and_of_many_trajectories(checkpoint, tmp_path):
    card = read_card(checkpoint / CARD)
    core = load_core_set(checkpoint, card)
    assert core.actions.shape == (16, 5, 10) and core.visual.dtype == torch.float16
    assert (checkpoint / CORE).stat().st_size < MOST_BYTES
    large = bundle_of_dots()
    large.model.config = replace(large.model.config, visual_dim=2000)  # what it would take
    few = core_set(large, dot_store(tmp_path / "many", count=12, steps=6))
    assert len(few.actions) == (MOST_BYTES - 1000) // (6 * (2 * 16 * 2000 + 8) + 200)
    assert load_core_set(save_bundle(bundle_of_dots(), tmp_path / "before"), {}) is None
    file = checkpoint / CORE
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / CORE).write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="checksum"):
        load_core_set(copy, card)


def test_windows_of_stretches_are_as_short_as_an_episode():
    parts = []
    for number, steps in enumerate((1, 4, 2)):
        frames = torch.arange(steps + 1) + 100.0 * number
        actions = frames[:, None]
        parts.append(
            Segments(frames[:, None, None], frames[:, None], actions, torch.tensor([steps]))
        )
    segments = joined(parts)
    generator = torch.Generator().manual_seed(0)
    for length, starts in ((1, [0, 2, 3, 4, 5, 7, 8]), (2, [2, 3, 4, 7]), (4, [2]), (5, [])):
        assert segments.starts(length).tolist() == starts
    visual, proprio, actions = segments.windows(32, 2, generator)
    assert visual.shape == (32, 3, 1, 1) and torch.equal(proprio[:, :-1], actions)
    assert torch.equal(visual.diff(dim=1), torch.ones(32, 2, 1, 1))  # never across two episodes
    lengths = {segments.draw_length(3, generator) for _ in range(50)}
    assert lengths == {1, 2, 3}
    stretches = of_stretches(torch.zeros(2, 4, 1, 1), torch.zeros(2, 4, 1), torch.ones(2, 3, 1))
    assert stretches.starts(3).tolist() == [0, 4] and stretches.num_steps == 6


def test_episodes_are_converted_once_when_they_are_complete(tmp_path):
    bags, now_s = tmp_path / "bags", [0.0]
    bundle = bundle_of_dots()
    episodes = Episodes(bags, tmp_path / "out", bundle, lambda: now_s[0])
    assert episodes.convert() == []  # nothing was recorded yet
    episode(bags / "a", 0), episode(bags / "b", 1, steps=1, success=False)
    episode(bags / "running", 2, close=False)
    other = replace(bundle.embodiment, cameras=(Camera("wrist", SIZE),))
    episode(bags / "other", 3, body=other)
    now_s[0] = (bags / "running").stat().st_mtime
    assert episodes.convert() == ["a", "b"] and episodes.convert() == []
    assert "of another robot" in episodes.refused()["other"]
    loaded = [episodes.load(name) for name in episodes.names()]
    assert [(e.name, e.outcome, e.segments.num_steps) for e in loaded] == [
        ("a", "success", 4),
        ("b", "failure", 1),
    ]
    now_s[0] += 2 * ENDED_S  # its recorder was killed
    assert episodes.convert() == ["running"]
    # A file that was damaged is converted again; another encoder's are others.
    (episodes.directory / "a.safetensors").write_bytes(b"nothing")
    assert episodes.load("a") is None and episodes.convert() == ["a"]
    bundle.model.proprio_encoder.patch_embed.weight.data += 1
    assert Episodes(bags, tmp_path / "out", bundle).names() == []


def test_a_round_learns_gates_and_publishes_and_the_next_goes_on(checkpoint, tmp_path):
    bags, output = tmp_path / "bags", tmp_path / "out"
    for seed in range(3):
        episode(bags / f"e{seed}", seed, success=seed != 1)
    rounds = Rounds(bags, str(checkpoint), output, QUICK)
    assert rounds.notes == []
    report = rounds.work()
    assert report.reason == "" and report.directory.name == "v0001"
    assert (report.episodes, report.failures, report.model_steps) == (3, 1, 12)
    assert report.after.corrections < report.before.corrections
    assert "round 1: 3 episodes (1 failed), online; error on held-out ones" in report.line()
    assert rounds.work() is None
    # Another learner goes on where this one was.
    for seed in range(3, 6):
        episode(bags / f"e{seed}", seed)
    again = Rounds(bags, str(checkpoint), output, QUICK)
    second = again.work()
    assert second.number == 2 and second.episodes == 6
    newest = resolve_checkpoint(output)
    card = read_card(newest / CARD)
    assert newest.name in ("v0001", "v0002") and load_core_set(newest, card) is not None
    assert card["info"]["learnt"]["parent"]["checkpoint"] == str(checkpoint)
    with pytest.raises(ConfigError, match="learns from another checkpoint"):
        Rounds(bags, "wall-base", output, QUICK)


def test_a_killed_round_is_made_again_with_the_same_result(checkpoint, tmp_path, monkeypatch):
    bags = tmp_path / "bags"
    for seed in range(3):
        episode(bags / f"e{seed}", seed)
    whole = Rounds(bags, str(checkpoint), tmp_path / "whole", QUICK).work()
    killed = Rounds(bags, str(checkpoint), tmp_path / "killed", QUICK)
    for place in ("fit", "save_bundle", "write_json"):

        def dies(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(rounds_module, place, dies)
            killed.work()
    report = Rounds(bags, str(checkpoint), tmp_path / "killed", QUICK).work()
    # What was published before the state was written is a version like any other.
    ours, its = (load_bundle(r.directory).model.state_dict() for r in (report, whole))
    assert all(torch.equal(ours[key], its[key]) for key in its)


def test_what_fails_the_gate_is_kept_aside_with_the_reason(checkpoint, tmp_path):
    bags = tmp_path / "bags"
    for seed in range(3):
        episode(bags / f"e{seed}", seed)
    rash = replace(QUICK, learning_rate=3.0, method="all")
    report = Rounds(bags, str(checkpoint), tmp_path / "out", rash).work()
    assert "its error on held-out episodes is" in report.reason
    assert report.directory == tmp_path / "out" / "failed" / "v0001"
    told = json.loads((report.directory / CARD).read_text())["info"]["learnt"]
    assert told["reason"] == report.reason and versions(tmp_path / "out" / "versions") == []


def test_the_gate_names_what_is_wrong():
    bundle = bundle_of_dots()
    before, better = Errors(1.0, 0.1), Errors(0.5, 0.2)

    def judged(after=better, probe="", given=bundle):
        return reason_against(given, before, after, lambda: probe, 5.0)

    assert judged() == ""
    assert "held-out episodes is 1 of what moved" in judged(Errors(1.0, 0.1))
    assert "nan of what moved" in judged(Errors(float("nan"), 0.1))
    assert "it forgets: its error on the core set is 0.6" in judged(Errors(0.5, 0.6))
    assert judged(probe="plans do not descend") == "plans do not descend"
    with torch.no_grad():
        bundle.model.predictor.proj_out.weight[0] = torch.nan
    assert "not finite" in judged()


def test_probe_plans_must_descend_and_errors_are_shares_of_what_moved(checkpoint):
    core = load_core_set(checkpoint, read_card(checkpoint / CARD))
    segments = of_stretches(core.visual, core.proprio, core.actions)
    bundle = load_bundle(checkpoint)
    assert probe_plans(bundle, segments) == ""
    with torch.no_grad():
        bundle.model.predictor.proj_out.weight.zero_()
        bundle.model.predictor.proj_out.bias.zero_()
    assert error(bundle.model, segments) == pytest.approx(1.0)  # it expects that nothing moves
    assert "do not descend" in probe_plans(bundle, segments)


def test_the_command_learns_what_is_there_and_ends(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("wm_planner.cli.learn.go_on_in_background", lambda: None)
    monkeypatch.setattr("wm_planner.cli.learn.Teller.__enter__", lambda self: self)
    for seed in range(3):
        episode(tmp_path / "bags" / f"e{seed}", seed)
    (tmp_path / "bags" / "broken").mkdir()
    (tmp_path / "bags" / "broken" / "metadata.yaml").write_text("nothing")
    options = [f"--set={key}" for key in ("num_updates=4", "batch_size=8", "every=3")]
    words = ["learn", str(tmp_path / "bags"), "--checkpoint", str(checkpoint), "--once"]
    assert main([*words, "--output", str(tmp_path / "out"), *options]) == 0
    told = capsys.readouterr().out
    assert "episode broken is not learnt from: " in told and "round 1: 3 episodes" in told
    assert main([*words, "--output", str(tmp_path / "out"), "--set", "evry=3"]) == 2
    assert "did you mean 'every'" in capsys.readouterr().err.lower()


def test_a_rejected_version_is_not_what_the_next_is_compared_with(checkpoint, tmp_path):
    bags = tmp_path / "bags"
    for seed in range(3):
        episode(bags / f"e{seed}", seed)
    rounds = Rounds(bags, str(checkpoint), tmp_path / "out", QUICK)
    report = rounds.work()
    assert rounds.in_use() == report.directory
    reject(report.directory, "its error was larger")
    assert rounds.in_use() == checkpoint


def test_the_figure_and_the_film_show_success_over_episodes(tmp_path, capsys):
    for seed, success in enumerate((False, True, True)):
        episode(tmp_path / "bags" / f"e{seed}", seed, success=success)
    words = ["plot", "learning", str(tmp_path / "bags"), "--output", str(tmp_path / "learnt.png")]
    assert main([*words, "--film", str(tmp_path / "learnt.mp4")]) == 0
    assert "2/3" in capsys.readouterr().out
    assert json.loads((tmp_path / "learnt.json").read_text())["successes"] == [False, True, True]
    pictures = imageio.mimread(tmp_path / "learnt.mp4", memtest=False)
    assert len(pictures) == 3 * (5 + HELD)
    left = [picture[:, : picture.shape[1] // 4].astype(int) for picture in pictures]
    assert abs(left[0] - left[4]).max() > 100  # the dot has moved
    right = [picture[:, -picture.shape[1] // 3 :].astype(int) for picture in pictures]
    assert abs(right[0] - right[4]).max() < 30  # while an episode runs, nothing is known of it
    assert abs(right[4] - right[5]).max() > 100
    assert main([*words, "--film", str(tmp_path / "learnt.avi")]) == 2
    assert "learnt.avi" in capsys.readouterr().err


def furnished(images):
    """A table with things that stand still; the dot goes over them."""
    places = np.random.default_rng(7).integers(2, SIZE - 7, (8, 2))
    things = np.full((SIZE, SIZE, 3), 230, np.uint8)
    for number, (y, x) in enumerate(places):
        things[y : y + 5, x : x + 5] = (40 * number % 200, 90, 200 - 20 * number)
    is_dot = (images == (255, 0, 0)).all(axis=-1, keepdims=True)
    return np.where(is_dot, images, things)


def dark(images):
    return (furnished(images) * 0.7).astype(np.uint8)


@pytest.fixture(scope="module")
def furnished_checkpoint(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("furnished")
    rng = np.random.default_rng(0)
    trajectories = [dot_trajectory(rng, 6) for _ in range(40)]
    seen = ({**each, "images": furnished(each["images"])} for each in trajectories)
    store = write_store(directory / "store", 40, seen, {"task": "wall", "frame_skip": 5})
    bundle = bundle_of_dots()
    core = core_set(bundle, store)
    known = of_stretches(core.visual, core.proprio, core.actions)
    learner = ReplayLearner(
        bundle.model, known, None, 1.0, replace(QUICK, num_updates=60), Machine(bar=False)
    )
    fit(learner, {}, directory / "fit", Machine(bar=False))
    bundle.model.eval()
    return save_bundle(bundle, directory / "base", core)


def test_pictures_under_another_light_are_put_back_before_anything_is_learnt(
    furnished_checkpoint, tmp_path
):
    checkpoint = furnished_checkpoint
    for seed in range(6):
        episode(tmp_path / "bags" / f"e{seed}", seed, change=dark)
    rounds = Rounds(tmp_path / "bags", str(checkpoint), tmp_path / "out", QUICK)
    report = rounds.work()
    assert report.reason == "" and report.method.startswith("registration")
    new = load_bundle(report.directory)
    assert new.model.config.encoder["kind"] == "registered"
    whole = furnished(dot_trajectory(np.random.default_rng(9), 4)["images"])
    seen, wanted, before = (
        bundle.model.encode_images(bundle.preprocess.images(pictures)[None])
        for bundle, pictures in (
            (new, (whole * 0.7).astype(np.uint8)),
            (load_bundle(checkpoint), whole),
            (load_bundle(checkpoint), (whole * 0.7).astype(np.uint8)),
        )
    )
    assert (seen - wanted).square().mean() < 0.1 * (before - wanted).square().mean()
    # The next learner begins with the plain checkpoint again, and finds the same.
    for seed in range(6, 9):
        episode(tmp_path / "bags" / f"e{seed}", seed, change=dark)
    again = Rounds(tmp_path / "bags", str(report.directory), tmp_path / "next", QUICK)
    assert again.work().method.startswith("registration")


def test_as_much_of_a_change_is_kept_as_passes_the_gate(checkpoint, tmp_path):
    """Finetuned on a robot with a motor three times as strong, and replayed nothing."""
    store = dot_store(tmp_path / "store", count=40, steps=6)
    bundle = bundle_of_dots()
    core = core_set(bundle, store)
    old = of_stretches(core.visual, core.proprio, core.actions)
    new = replace(old, actions=old.actions / 3)

    def trained(bundle, segments, updates):
        config = replace(QUICK, num_updates=updates)
        learner = ReplayLearner(bundle.model, segments, None, 1.0, config, Machine(bar=False))
        fit(learner, {}, tmp_path / str(updates), Machine(bar=False))
        bundle.model.eval().requires_grad_(False)
        return bundle

    base = trained(bundle, old, 150)
    finetuned = trained(copy.deepcopy(base), new, 120)
    weights = finetuned.model.state_dict()
    measured = []

    def measure(bundle):
        measured.append(errors(bundle.model, new, old))
        return measured[-1]

    # All of it where that passes the gate, or else the largest share that does.
    whole, _ = mixed(base, finetuned, measure, lambda each: True)
    same = whole.model.state_dict()
    assert all(torch.equal(value, same[key]) for key, value in weights.items())
    most = 0.5 * (errors(base.model, new, old).core_set + measured[0].core_set)
    less, found = mixed(base, finetuned, measure, lambda each: each.core_set < most)
    assert found.core_set < most < measured[-2].core_set and errors(less.model, new, old) == found
    assert found.corrections < errors(base.model, new, old).corrections
    measured.clear()
    _, none = mixed(base, finetuned, measure, lambda each: False)
    assert none.corrections == min(each.corrections for each in measured) and len(measured) == 5


def test_a_registration_that_still_fits_is_kept_and_what_is_not_used_goes(
    furnished_checkpoint, tmp_path
):
    for seed in range(6):
        episode(tmp_path / "bags" / f"e{seed}", seed, change=dark)
    rounds = Rounds(tmp_path / "bags", str(furnished_checkpoint), tmp_path / "out", QUICK)
    first = load_bundle(rounds.work().directory)
    for seed in range(6, 9):
        episode(tmp_path / "bags" / f"e{seed}", seed, change=dark)
    other = tmp_path / "out" / "episodes" / "0123456789ab" / "e0.safetensors"
    other.parent.mkdir()
    other.write_bytes(b"of another encoder")
    second = load_bundle(rounds.work().directory)
    mine, its = (bundle.model.encoder.state_dict() for bundle in (first, second))
    assert all(torch.equal(value, its[key]) for key, value in mine.items())
    kinds = {p.name for p in (tmp_path / "out" / "episodes").iterdir()}
    assert len(kinds) == 2 and rounds.episodes.directory.name in kinds


def test_a_finetuned_model_must_be_worth_what_it_forgets(
    furnished_checkpoint, tmp_path, monkeypatch
):
    for seed in range(6):
        episode(tmp_path / "bags" / f"e{seed}", seed, change=dark)
    monkeypatch.setattr(rounds_module, "WORTH", 0.0)
    rounds = Rounds(tmp_path / "bags", str(furnished_checkpoint), tmp_path / "out", QUICK)
    report = rounds.work()
    assert report.method == "registration" and report.reason == ""
    before, after = (load_bundle(x) for x in (furnished_checkpoint, report.directory))
    after = without_registration(after).model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.model.state_dict().items())


def test_what_earlier_versions_converted_is_kept_though_its_bags_are_gone(
    furnished_checkpoint, tmp_path
):
    for seed in range(6):
        episode(tmp_path / "bags" / f"e{seed}", seed)
    rounds = Rounds(tmp_path / "bags", str(furnished_checkpoint), tmp_path / "out", QUICK)
    rounds.episodes.convert()
    for file in rounds.episodes.directory.glob("*.safetensors"):
        kept = {key: value for key, value in load_file(file).items() if key != "pictures"}
        save_file(kept, file)
    for seed in range(4):
        shutil.rmtree(tmp_path / "bags" / f"e{seed}")
    report = rounds.work()
    assert report.episodes == 6 and len(rounds.episodes.names()) == 6


def test_a_camera_that_changes_between_two_episodes_is_seen_at_the_next_round(
    furnished_checkpoint, tmp_path
):
    for seed in range(12):
        episode(tmp_path / "bags" / f"e{seed:02}", seed, change=furnished)
    settings = replace(QUICK, every=10)
    rounds = Rounds(tmp_path / "bags", str(furnished_checkpoint), tmp_path / "out", settings)
    assert not rounds.work().method.startswith("registration")
    for seed in range(12, 22):
        episode(tmp_path / "bags" / f"e{seed:02}", seed, change=dark)
    report = rounds.work()
    assert report.method.startswith("registration") and report.episodes == 22
    # Where most bags are gone, what was learnt from them is worth more.
    for seed in range(22, 32):
        episode(tmp_path / "bags" / f"e{seed:02}", seed, change=lambda x: dark(x) // 2)
    for seed in range(20):
        shutil.rmtree(tmp_path / "bags" / f"e{seed:02}")
    assert rounds.work().episodes >= 22


def test_only_what_was_converted_is_ever_removed(furnished_checkpoint, tmp_path):
    """Bags below the directory of converted episodes, and a file of somebody else's."""
    bags = tmp_path / "out" / "episodes"
    for seed in range(3):
        episode(bags / f"e{seed}", seed)
    strange = bags / "0123456789ab" / "notes.txt"
    strange.parent.mkdir()
    strange.write_text("mine")
    assert Rounds(bags, str(furnished_checkpoint), tmp_path / "out", QUICK).work() is not None
    assert strange.read_text() == "mine" and all((bags / f"e{seed}").is_dir() for seed in range(3))


def test_calibrate_keeps_where_the_camera_of_a_registered_checkpoint_was(
    furnished_checkpoint, tmp_path, capsys
):
    for seed in range(6):
        episode(tmp_path / "bags" / f"e{seed}", seed, change=dark)
    rounds = Rounds(tmp_path / "bags", str(furnished_checkpoint), tmp_path / "out", QUICK)
    version = rounds.work().directory
    rng = np.random.default_rng(3)
    dim = [dot_trajectory(rng, 6) for _ in range(8)]
    seen = ({**each, "images": dark(each["images"])} for each in dim)
    store = write_store(tmp_path / "dim", 8, seen, {"task": "wall", "frame_skip": 5})
    assert main(["calibrate", str(version), "--data", str(store.directory), "--core-set"]) == 0
    before, after = (
        load_core_set(each, read_card(each / CARD)).shown
        for each in (furnished_checkpoint, version)
    )
    assert torch.equal(before.mean, after.mean) and torch.equal(before.highest, after.highest)
