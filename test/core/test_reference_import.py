"""Released checkpoints: the published numbers come out."""

from __future__ import annotations

import shutil
import zipfile

import numpy as np
import pytest
import torch
import yaml

from wm_planner.cli import main as cli
from wm_planner.errors import CheckpointError, WmPlannerError
from wm_planner.models.checkpoint import load_bundle
from wm_planner.models.pickled_modules import PickledFile
from wm_planner.models.reference import find_config, locate
from wm_planner.models.world_model import Latent

from .reference_checkpoint import CONFIG, TINY, checkpoint_with, import_tiny
from .reference_fixture import DATA


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The encoder's file; like those of the release, the checkpoint has none."""
    below = "weights/encoder.base_model."
    with np.load(DATA / "reference_pusht_tiny.npz") as file:
        names = [name for name in file.files if name.startswith(below)]
        state = {name.removeprefix(below): torch.as_tensor(file[name]) for name in names}
    path = tmp_path_factory.mktemp("weights") / "dinov2.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def run_dir(tmp_path):
    """A run as it is released."""
    (tmp_path / "pusht" / "checkpoints").mkdir(parents=True)
    shutil.copy(TINY, tmp_path / "pusht" / "checkpoints" / "model_latest.pth")
    (tmp_path / "pusht" / "hydra.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path / "pusht"


@pytest.fixture
def convert(encoder, capsys):
    """`wm-planner import` of a path: exit code, report or None, and error."""

    def command(path, output, *arguments):
        given = ["--output", str(output), "--encoder", str(encoder)]
        if "--encoder-variant" not in arguments:
            given += ["--encoder-variant", "32,2,2"]
        code = cli.main(["import", str(path), *given, *arguments])
        out, err = capsys.readouterr()
        return code, yaml.safe_load(out), err

    return command


def outputs(bundle, arrays):
    """What the expected outputs are named after, computed with our model."""
    model, latent = bundle.model, arrays["latent"]
    decoded = model.decode(latent[..., :32])
    return {
        "predict": model.predict(latent),
        "action_embedding": model.action_encoder(arrays["action"]),
        "proprio_embedding": model.proprio_encoder(arrays["proprio"]),
        "decoded": decoded.flatten(0, 1),
    }


@torch.no_grad()
def assert_published_numbers(bundle):
    with np.load(DATA / "reference_checkpoint_tiny_expected.npz") as file:
        arrays = {name: torch.as_tensor(file[name]) for name in file.files}
    for name, value in outputs(bundle, arrays).items():
        torch.testing.assert_close(value, arrays[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("config", [CONFIG, {}], ids=["hydra.yaml", "tensors alone"])
def test_published_numbers(encoder, config):
    bundle, report = import_tiny(encoder, config=config)
    assert_published_numbers(bundle)
    assert not bundle.model.training
    assert report.mapped == {
        "predictor": 69_912,
        "action_encoder": 110,
        "proprio_encoder": 50,
        "decoder": 54_243,
    }
    assert set(report.dropped) == {
        "predictor: attention masks",
        "decoder: codebook",
        "predictor_optimizer",
    }
    assert str(encoder) in report.missing["encoder"] and "decoder" not in report.missing


def test_command_and_saved_checkpoint(run_dir, convert, tmp_path, capsys):
    code, report, err = convert(run_dir, tmp_path / "out")
    assert (code, err) == (0, "")
    assert report["task"] == "pusht" and report["mapped"]["predictor"] == 69_912
    assert report["config"] == str(run_dir / "hydra.yaml")
    assert "models.vit.ViTPredictor" in report["named_and_not_called"]
    bundle = load_bundle(tmp_path / "out", task="pusht")
    assert_published_numbers(bundle)
    assert bundle.preprocess.action_std == (0.2019, 0.2002) and bundle.info["epoch"] == 3
    pictures = bundle.decode(Latent(torch.zeros(1, 2, 16, 32), torch.zeros(1, 2, 10)))
    assert pictures.shape == (1, 2, 64, 64, 3)

    assert cli.main(["info", str(tmp_path / "out")]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["weights"]["predictor"] == {"parameters": 69_912, "mib": 0.27}
    assert shown["weights"]["total"]["parameters"] == sum(
        value.numel() for value in bundle.model.state_dict().values()
    )
    assert shown["embodiment"]["frame_skip"] == 5
    assert shown["embodiment"]["action"]["high"] == [1, 1]
    assert shown["normalisation"]["action_std"] == [0.2019, 0.2002]
    assert shown["model"]["num_hist"] == 3 and shown["planner"] == {}
    assert shown["provenance"]["imported_from"] == "model_latest.pth"
    (tmp_path / "out" / "model.safetensors").write_bytes(b"cut")
    assert cli.main(["info", str(tmp_path / "out")]) == 2
    assert "model.safetensors: truncated or damaged" in capsys.readouterr().err


def test_latest_or_highest_numbered_file(run_dir):
    folder = run_dir / "checkpoints"
    assert locate(run_dir) == folder / "model_latest.pth" == locate(folder)
    for epoch in (9, 10):
        shutil.copy(TINY, folder / f"model_{epoch}.pth")
    (folder / "model_latest.pth").unlink()
    assert locate(run_dir) == folder / "model_10.pth"
    assert find_config(folder / "model_10.pth") == run_dir / "hydra.yaml"
    with pytest.raises(CheckpointError, match="neither model_latest.pth nor"):
        locate(run_dir.parent)


def test_a_payload_beside_good_modules_is_dropped_and_named(tmp_path, convert):
    marker = tmp_path / "it_ran"
    with zipfile.ZipFile(TINY) as archive:
        good = archive.read("reference_checkpoint_tiny/data.pkl")
    # Before the end of the dictionary: one more entry.
    extra = f"Vextra\ncposix\nsystem\n(Vtouch {marker}\ntRs.".encode()
    file = checkpoint_with(tmp_path / "evil.pth", good.removesuffix(b".") + extra)
    code, report, _ = convert(file, tmp_path / "out", "--task", "pusht")
    assert code == 0 and not marker.exists()
    assert "posix.system" in report["named_and_not_called"] and "extra" in report["dropped"]
    assert_published_numbers(load_bundle(tmp_path / "out"))


def module(state):
    """A module of torch's own with parameters of these names."""
    built = torch.nn.Module()
    for name, value in state.items():
        *path, last = name.split(".")
        owner = built
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner._modules[part]
        owner.register_parameter(last, torch.nn.Parameter(value))
    return built


def saved_with(tmp_path, change=lambda name, state: None, finish=lambda content: None):
    """A checkpoint without masks, as torch saves it: `change` edits weights, `finish` modules."""
    released = PickledFile(TINY)
    content = {}
    for name in ("predictor", "action_encoder", "proprio_encoder"):
        state = released.read(released.entries[name].tensors)
        for key in [key for key in state if state[key].ndim == 4]:
            del state[key]
        change(name, state)
        content[name] = module(state)
    finish(content)
    file = tmp_path / "model.pth"
    torch.save(content, file)
    return file


def test_without_masks_and_decoder(tmp_path, encoder):
    file = saved_with(tmp_path)
    bundle, report = import_tiny(encoder, file)
    assert bundle.model.config.num_hist == 3 and bundle.model.decoder is None
    assert set(report.missing) == {"encoder", "decoder"}
    assert bundle.info["saved_in_training_mode"] is True and not bundle.model.training
    with pytest.raises(CheckpointError, match="no attention mask.*--config"):
        import_tiny(encoder, file, {"predictor": {"heads": 2}})


def test_masks_of_the_older_release_are_plain_attributes(tmp_path, encoder):
    def finish(content):
        attention = content["predictor"].get_submodule("transformer.layers.0.0")
        frames = torch.arange(48) // 16
        attention.bias = (frames[:, None] >= frames).float()[None, None]
        attention.heads = 2

    bundle, _ = import_tiny(encoder, saved_with(tmp_path, finish=finish), {})
    assert (bundle.model.config.num_hist, bundle.model.config.num_patches) == (3, 16)


@pytest.mark.parametrize("heads", [2, None])
def test_trained_encoder_comes_from_the_checkpoint(tmp_path, encoder, heads):
    state = torch.load(encoder, weights_only=True)

    def finish(content):
        content["encoder"] = module({f"base_model.{k}": v for k, v in state.items()})
        if heads:
            content["encoder"].base_model.num_heads = heads

    file = saved_with(tmp_path, finish=finish)
    if heads is None:
        with pytest.raises(CheckpointError, match="give --encoder-variant"):
            import_tiny("official", file, variant=None)
        return
    bundle, report = import_tiny("official", file, variant=None)
    expected, _ = import_tiny(encoder)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(bundle.model.encoder(images), expected.model.encoder(images))
    assert report.mapped["encoder"] > 0 and "encoder" not in report.missing


def forget_a_weight(name, state):
    state.pop("transformer.norm.weight", None)


def spoil(name, state):
    state[next(iter(state))].view(-1)[0] = float("nan")


def widen_action(name, state):
    if name == "action_encoder":
        state["patch_embed.weight"] = torch.zeros(10, 12, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (forget_a_weight, r"predictor: .*transformer\.norm\.weight"),
        (spoil, "'pos_embedding' holds NaN"),
        (widen_action, r"\(12, 4\) entries, task 'pusht' has \(10, 4\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, encoder, change, message):
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        import_tiny(encoder, saved_with(tmp_path, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hist": 1}, "num_hist is 1.*make it 3"),
        ({"frameskip": 1}, "frameskip is 1.*make it 5"),
        ({"concat_dim": 0}, "concat_dim is 0.*make it 1"),
        ({"num_action_repeat": 2}, "num_action_repeat is 2"),
        ({"img_size": 224}, "img_size is 224; 16 patches"),
        ({"predictor": {"depth": 6}}, "predictor.depth is 6.*make it 2"),
        ({"encoder": {"feature_key": "x_norm_clstoken"}}, "encoder.feature_key is"),
        ({"encoder": {"_target_": "models.r3m.load_r3m"}}, "only DINOv2"),
    ],
)
def test_contradictions_are_named(encoder, change, message):
    with pytest.raises(CheckpointError, match=f"my.yaml: .*{message}"):
        import_tiny(encoder, config=CONFIG | change, source="my.yaml")


@pytest.mark.parametrize(
    ("variant", "message"),
    [(None, "tokens of 32 entries; give --encoder-variant"), ("s", "tokens of 384 entries")],
)
def test_encoder_must_have_the_token_size(encoder, variant, message):
    with pytest.raises(CheckpointError, match=message):
        import_tiny(encoder, variant=variant)


def test_task_and_statistics(run_dir, convert, tmp_path):
    def error(*arguments, **changes):
        (run_dir / "hydra.yaml").write_text(yaml.safe_dump(CONFIG | changes))
        code, _, err = convert(run_dir, tmp_path / "out", *arguments)
        assert code == 2 and not (tmp_path / "out").exists()
        return err

    maze = {"env": {"name": "point_maze"}}
    assert "not --task 'wall'" in error("--task", "wall")
    assert "env.name is 'reacher'" in error(env={"name": "reacher"})
    assert "so give --task" in error(env={})
    assert "no constants were published for task 'point_maze'" in error(**maze)
    assert "expected s, b, l or" in error("--encoder-variant", "3,x")
    file = tmp_path / "stats.yaml"
    file.write_text("action_mean: [0, 0, 0]\naction_std: [1, 1, 1]\n")
    assert "key 'proprio_mean' is missing" in error("--statistics", str(file))
    file.write_text(file.read_text() + "proprio_mean: [0]\nproprio_std: [2]\n")
    assert "3 action and 1 proprioception" in error("--statistics", str(file))


@pytest.mark.parametrize("given", ["file", "data set", "none"])
def test_statistics_of_a_task_without_constants(given, run_dir, convert, tmp_path, monkeypatch):
    dataset = {"n_rollout": 7, "normalize_action": given != "none"}
    changes = {"env": {"name": "point_maze", "dataset": dataset}}
    (run_dir / "hydra.yaml").write_text(yaml.safe_dump(CONFIG | changes))
    stats = {"action_mean": (0.1, 0.2), "action_std": (0.3, 0.4)}
    stats |= {"proprio_mean": (1.0, 2.0, 3.0, 4.0), "proprio_std": (5.0, 6.0, 7.0, 8.0)}
    arguments = []
    if given == "file":
        (tmp_path / "stats.yaml").write_text(yaml.safe_dump({k: list(v) for k, v in stats.items()}))
        arguments = ["--statistics", str(tmp_path / "stats.yaml")]
    elif given == "data set":
        opened = {}

        class Opened:
            name, stats_rule = "point_maze", "computed"

            def __init__(self, path, limit):
                opened.update(path=path, limit=limit)

            def stats(self):
                return {**stats, "state_mean": (0.0,)}

        monkeypatch.setattr("wm_planner.data.layouts.open_dataset", Opened)
        arguments = ["--statistics", str(tmp_path)]
    code, _, err = convert(run_dir, tmp_path / "out", *arguments)
    assert (code, err) == (0, "")
    preprocess = load_bundle(tmp_path / "out").preprocess
    expected = (0.1, 0.2) if given != "none" else (0.0, 0.0)
    assert preprocess.action_mean == expected and len(preprocess.proprio_std) == 4
    if given == "data set":
        assert opened == {"path": tmp_path, "limit": 7}
    with pytest.raises(WmPlannerError, match="was trained for 'point_maze'"):
        load_bundle(tmp_path / "out", task="pusht")
