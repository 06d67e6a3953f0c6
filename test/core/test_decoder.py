"""The published decoder: its size, its numbers, and the codes it can round to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wm_planner.errors import ConfigError
from wm_planner.models.decoder import build_decoder
from wm_planner.models.pickled_modules import PickledFile
from wm_planner.models.vqvae import VQVAE

from .reference_fixture import DATA

TINY = {"channels": 32, "num_blocks": 1, "block_channels": 16}


def test_full_size():
    with torch.device("meta"):  # shapes without arithmetic
        decoder = VQVAE(224, 196, 384)
        assert decoder(torch.zeros(2, 196, 384)).shape == (2, 3, 224, 224)
    assert sum(p.numel() for p in decoder.parameters()) == 10_140_163
    shapes = {name: tuple(p.shape) for name, p in decoder.named_parameters()}
    assert shapes["upsample_b.blocks.8.weight"] == (192, 384, 4, 4)
    assert shapes["dec.blocks.8.weight"] == (192, 3, 4, 4)
    assert shapes["dec.blocks.4.conv.1.weight"] == (128, 384, 3, 3)


@pytest.mark.parametrize("num_codes", [0, 64])
@torch.no_grad()
def test_released_weights_draw_the_published_picture(num_codes):
    released = PickledFile(DATA / "reference_checkpoint_tiny.pth")
    weights = released.read(released.entries["decoder"].tensors)
    wanted = {n: v for n, v in weights.items() if not n.startswith("quantize_b")}
    decoder = VQVAE(64, 16, 32, **TINY, num_codes=num_codes)
    if num_codes:
        wanted["quantize_b.embed"] = weights["quantize_b.embed"]
    decoder.load_state_dict(wanted)
    with np.load(DATA / "reference_checkpoint_tiny_expected.npz") as file:
        tokens = torch.as_tensor(file["latent"])[..., :32].flatten(0, 1)
        expected = torch.as_tensor(file["decoded"])
    near = torch.allclose(decoder(tokens), expected, rtol=0, atol=1e-4)
    assert near is (num_codes == 0), "the released ones were trained without rounding"


def test_tokens_are_rounded_to_the_nearest_code():
    codebook = VQVAE(16, 1, 2, num_codes=3).quantize_b
    codebook.embed.copy_(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]))
    tokens = torch.tensor([[[0.4, 0.0], [0.6, 0.1]], [[0.0, 1.1], [-3.0, -3.0]]])
    expected = [[[0.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]]
    assert codebook(tokens).tolist() == expected


def test_every_frame_and_patch_has_its_place():
    """A changed token changes the picture there, and not at the other end of it."""
    torch.manual_seed(0)
    decoder = VQVAE(128, 64, 4, **TINY).double().requires_grad_(False)
    tokens = torch.randn(2, 64, 4, dtype=torch.float64)
    changed = tokens.clone()
    changed[0, 0] += 1.0
    difference = (decoder(changed) - decoder(tokens)).abs().sum(1)
    assert difference[0, :16, :16].min() > 1e-6
    assert difference[0, 96:, 96:].max() == 0 and difference[1].max() == 0


def test_kinds():
    assert len(build_decoder("vqvae", 16, 1, 8).dec.blocks) == 9
    tiny = build_decoder("vqvae:channels=32,num_blocks=1,block_channels=16", 64, 16, 32)
    assert tiny(torch.zeros(1, 16, 32)).shape == (1, 3, 64, 64)
    for num_patches in (9, 15):
        with pytest.raises(ConfigError, match="vqvae"):
            build_decoder("vqvae", 64, num_patches, 32)
    for kind, message in (
        ("vqvea", "unknown decoder 'vqvea'. Did you mean 'vqvae'"),
        ("vqvae:colour=1", "'vqvae:colour=1' cannot be built .*'colour'"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_decoder(kind, 64, 16, 32)
