"""DINOv2 against numbers of the published implementation, and the files it can be read from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from wm_planner.errors import CheckpointError
from wm_planner.models import dinov2
from wm_planner.models.dinov2 import DinoV2Encoder
from wm_planner.models.encoder import build_encoder

from .reference_fixture import DATA, load_reference

TINY = (32, 2, 2)
TASKS = ("pusht", "wall")


def released(task: str = "wall") -> dict[str, Tensor]:
    """Encoder weights of the fixture, under the names of the official release."""
    below = "weights/encoder.base_model."
    with np.load(DATA / f"reference_{task}_tiny.npz") as file:
        names = [name for name in file.files if name.startswith(below)]
        return {name.removeprefix(below): torch.as_tensor(file[name]) for name in names}


def hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of the Dinov2Model files on Hugging Face, written out by hand."""
    top = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    named = {new: state[old] for old, new in top.items()}
    for block in range(TINY[1]):
        old, new = f"blocks.{block}.", f"encoder.layer.{block}."
        for end in ("weight", "bias"):
            parts = state[f"{old}attn.qkv.{end}"].split(TINY[0])
            for part, value in zip(("query", "key", "value"), parts, strict=True):
                named[f"{new}attention.attention.{part}.{end}"] = value.clone()
            named[f"{new}attention.output.dense.{end}"] = state[f"{old}attn.proj.{end}"]
            for same in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                named[f"{new}{same}.{end}"] = state[f"{old}{same}.{end}"]
        for scale in "12":
            named[f"{new}layer_scale{scale}.lambda1"] = state[f"{old}ls{scale}.gamma"]
    return named


@pytest.mark.parametrize("task", TASKS)
@torch.no_grad()
def test_encoding_of_images(task: str) -> None:
    model, arrays, _ = load_reference(DATA / f"reference_{task}_tiny.npz")
    latent = model.encode(arrays["in/visual"], arrays["in/proprio"])
    full = model.assemble(latent, arrays["in/action"])
    for ours, name in ((latent.visual, "visual"), (latent.proprio, "proprio"), (full, "full")):
        torch.testing.assert_close(ours, arrays[f"out/encode_{name}"], rtol=0, atol=1e-4)
    loss = model.loss(arrays["in/visual"], arrays["in/proprio"], arrays["in/action"])["loss"]
    torch.testing.assert_close(loss, arrays["out/z_loss"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "spoil", ["resize without antialias", "resize to the input size", "table without offset"]
)
@torch.no_grad()
def test_the_numbers_tell_near_misses_apart(spoil: str, monkeypatch) -> None:
    """Each is an easy mistake, and none of them is within the tolerance."""
    interpolate = F.interpolate

    def wrong(x: Tensor, size=None, **options) -> Tensor:
        if options["mode"] == "bilinear" and spoil == "resize without antialias":
            options["antialias"] = False
        if options["mode"] == "bilinear" and spoil == "resize to the input size":
            x = interpolate(x[..., 5:, 5:], x.shape[-2:], mode="bilinear", antialias=True)
        return interpolate(x, size, **options)

    monkeypatch.setattr(dinov2.F, "interpolate", wrong)
    if spoil == "table without offset":
        monkeypatch.setattr(dinov2, "POSITION_OFFSET", 0.0)
    model, arrays, _ = load_reference(DATA / "reference_wall_tiny.npz")
    visual = model.encode_images(arrays["in/visual"])
    assert float((visual - arrays["out/encode_visual"]).abs().max()) > 1e-3


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("layout", [lambda state: state, hugging_face], ids=["release", "hub"])
@torch.no_grad()
def test_weights_are_read_from_every_kind_of_file(layout, ending: str, tmp_path) -> None:
    file = tmp_path / f"weights.{ending}"
    (torch.save if ending == "pth" else save_file)(layout(released()), file)
    encoder = build_encoder(
        {"kind": "dinov2", "variant": list(TINY), "weights": str(file)}, 80, 25, 32
    )
    _, arrays, _ = load_reference(DATA / "reference_wall_tiny.npz")
    tokens = encoder(arrays["in/visual"].flatten(0, 1))
    expected = arrays["out/encode_visual"].flatten(0, 1)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-4)


def test_a_saved_state_is_read_again() -> None:
    one, two = DinoV2Encoder(80, TINY), DinoV2Encoder(80, TINY)
    state = one.state_dict()
    two.load_state_dict(state)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in state.items())


def test_frozen_and_of_the_published_sizes() -> None:
    encoder = DinoV2Encoder(224)
    assert (encoder.image_size, encoder.num_patches, encoder.dim) == (224, 196, 384)
    assert not any(p.requires_grad for p in encoder.parameters()) and not encoder.training
    # Published 22,056,576, with a table of 37 * 37 + 1 places instead of 14 * 14 + 1.
    count = sum(p.numel() for p in encoder.parameters())
    assert count + (37 * 37 - 14 * 14) * 384 == 22_056_576


@pytest.mark.parametrize("variant", ["s", "b"])
def test_missing_weights_say_which_file_to_put_where(variant: str, tmp_path) -> None:
    file = tmp_path / "dinov2.pth"
    with pytest.raises(CheckpointError) as error:
        dinov2._read(file, variant)
    for part in (str(file), f"dinov2_vit{variant}14_pretrain.pth", "https://"):
        assert part in str(error.value)


def test_bad_files_are_named(tmp_path) -> None:
    def load(name: str, write) -> None:
        write(tmp_path / name)
        DinoV2Encoder(80, TINY, tmp_path / name)

    with pytest.raises(CheckpointError, match=r"a\.pth: cannot be read"):
        load("a.pth", lambda file: file.write_bytes(b"broken"))
    with pytest.raises(CheckpointError, match=r"b\.safetensors: cannot be read"):
        load("b.safetensors", lambda file: file.write_bytes(b"broken"))
    with pytest.raises(CheckpointError, match=r"c\.npz: unknown ending '\.npz'"):
        load("c.npz", lambda file: file.write_bytes(b""))
    with pytest.raises(CheckpointError, match=r"d\.pth: holds no mapping"):
        load("d.pth", lambda file: torch.save([1, 2], file))
    with pytest.raises(CheckpointError, match=r"(?s)e\.pth: is no DINOv2 .*register_tokens"):
        extra = {"register_tokens": torch.zeros(1, 4, 32)}
        load("e.pth", lambda file: torch.save(released() | extra, file))


def test_nothing_in_a_weights_file_is_executed(tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    torch.save({"cls_token": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        DinoV2Encoder(80, TINY, tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("image_size", "variant", "message"),
    [
        (224, "m", "unknown DINOv2 variant 'm'"),
        (224, (32, 2), r"\(dim, depth, heads\), got \(32, 2\)"),
        (15, TINY, "image_size must be at least 16, got 15"),
    ],
)
def test_bad_sizes_are_named(image_size: int, variant, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DinoV2Encoder(image_size, variant)
