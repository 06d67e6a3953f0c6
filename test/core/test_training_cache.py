"""Encoded frames on disk: found again, completed after a kill, never taken for others."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.data.store import TrajectoryStore  # noqa: E402
from wm_planner.errors import DatasetError  # noqa: E402
from wm_planner.training import feature_cache  # noqa: E402
from wm_planner.training.feature_cache import default_cache, describe, key_of  # noqa: E402
from wm_planner.training.latents import LatentTrajectories, encode_store  # noqa: E402
from wm_planner.training.machine import Group, Machine  # noqa: E402

from .training_world import dot_store, tiny_bundle  # noqa: E402


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A store of 45 frames in chunks of 10, its bundle, and the images that were encoded."""
    monkeypatch.setattr(feature_cache, "MAX_CHUNK", 10)
    bundle = tiny_bundle()
    encode, counts = bundle.model.encode_images, []

    def counted(images):
        counts.append(images.shape[1])
        return encode(images)

    bundle.model.encode_images = counted
    store = dot_store(tmp_path / "data", count=9, steps=4)
    machine = Machine(cache=default_cache(tmp_path / "data"))
    return SimpleNamespace(store=store, bundle=bundle, counts=counts, machine=machine)


def encode(world, machine=None, store=None) -> LatentTrajectories:
    bundle = world.bundle
    return encode_store(
        store or world.store, bundle.model, bundle.preprocess, machine or world.machine
    )


def test_a_second_run_finds_what_the_first_wrote(world, caplog):
    with caplog.at_level(logging.INFO):
        first = encode(world)
        assert world.counts == [10, 10, 10, 10, 5] and "encoding 5 of 5 parts" in caplog.text
        second = encode(world)
    assert len(world.counts) == 5 and "encoded frames found" in caplog.text
    assert (world.store.directory.parent / "data.latents").is_dir()
    in_memory = encode(world, Machine())
    assert first.visual.dtype == torch.float16
    for a, b, c in zip(
        *((x.visual, x.proprio, x.actions) for x in (first, second, in_memory)), strict=True
    ):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_an_interrupted_run_is_completed(world):
    encode_images, world.bundle.model.encode_images = world.bundle.model.encode_images, None

    def dies(images):
        if len(world.counts) == 3:
            raise KeyboardInterrupt
        return encode_images(images)

    world.bundle.model.encode_images = dies
    with pytest.raises(KeyboardInterrupt):
        encode(world)
    world.bundle.model.encode_images = encode_images
    found = encode(world)
    assert world.counts == [10, 10, 10, 10, 5], "each once"
    assert torch.equal(found.visual, encode(world, Machine()).visual)


def test_what_the_tokens_depend_on_is_their_key(world, tmp_path):
    store, bundle, root = world.store, world.bundle, tmp_path / "cache"
    root.mkdir()

    def key(store=store, bundle=bundle, dtype="fp16"):
        return key_of(describe(store, bundle.model, bundle.preprocess, dtype, root))

    base = key()
    assert key() == base
    other_stats = replace(bundle.preprocess, action_std=(0.1, 0.1))
    assert key(bundle=SimpleNamespace(model=bundle.model, preprocess=other_stats)) == base
    assert key(dtype="fp32") != base
    with torch.no_grad():
        next(bundle.model.encoder.parameters()).view(-1)[0] += 1e-3
    changed = key()
    assert changed != base
    images = np.load(store.directory / "images.npy")
    images[0, 0, 0, 0, 0] ^= 1
    np.save(store.directory / "images.npy", images)
    assert key(TrajectoryStore.open(store.directory)) not in (base, changed)


def test_fp32_is_what_the_encoder_says(world):
    exact = encode(world, replace(world.machine, cache_dtype="fp32")).visual
    model, preprocess = world.bundle.model, world.bundle.preprocess
    expected = model.encode_images(preprocess.images(np.array(world.store.images[4]))[None])[0]
    assert exact.dtype == torch.float32
    torch.testing.assert_close(exact[4], expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(exact.half().float(), exact)


def test_processes_share_the_work(world, monkeypatch):
    """The second of two processes encodes every other part; nothing is done twice."""
    monkeypatch.setattr(Group, "wait", lambda self: None)
    content = describe(
        world.store,
        world.bundle.model,
        world.bundle.preprocess,
        "fp16",
        _made(world.machine.cache),
    )
    monkeypatch.setattr(Group, "gather", lambda self, value: [content])
    feature_cache._create(world.machine.cache / key_of(content), content, world.store)
    encode(world, replace(world.machine, group=Group(1, 2)))
    assert world.counts == [10, 10]
    encode(world, replace(world.machine, group=Group(0, 1)))
    assert world.counts == [10, 10, 10, 10, 5]


def _made(directory):
    directory.mkdir(parents=True)
    return directory


def test_a_damaged_cache_says_what_to_delete(world):
    encode(world)
    (file,) = world.machine.cache.glob("*/visual.npy")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DatasetError, match=f"delete .*{file.parent.name}"):
        encode(world)


def test_a_place_that_cannot_be_written_is_named(world, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="--cache"):
        encode(world, Machine(cache=tmp_path / "file" / "cache"))


def test_the_card_of_a_cache_tells_where_it_is_from(world):
    encode(world)
    (file,) = world.machine.cache.glob("*/meta.json")
    meta = json.loads(file.read_text())
    assert meta["shape"] == [9, 5, 16, 8] and meta["data"] == str(world.store.directory)


@pytest.mark.parametrize(("side", "count"), [(32, 512), (96, 512), (224, 94), (8192, 1)])
def test_large_frames_are_encoded_in_smaller_chunks(side, count):
    assert feature_cache.chunk_size(np.broadcast_to(np.uint8(0), (9, side, side, 3))) == count


def test_splits_and_shares_are_of_one_draw():
    """Entries tell their trajectory; parts have no trajectory in common, shares no window."""
    ids = torch.arange(20.0)
    data = LatentTrajectories(
        ids[:, None, None, None].expand(20, 6, 1, 1),
        ids[:, None, None].expand(20, 6, 1),
        ids[:, None, None].expand(20, 5, 1),
    )
    train, held_out = data.split(0.25, seed=3)
    assert (len(train), len(held_out)) == (15, 5)
    whole = train.windows(64, 2, torch.Generator().manual_seed(0))
    seen = set(whole[0].flatten().tolist())
    assert seen.isdisjoint(held_out.windows(64, 2, torch.Generator())[0].flatten().tolist())
    for rank in range(2):
        part = train.windows(64, 2, torch.Generator().manual_seed(0), Group(rank, 2).share(64))
        assert all(
            torch.equal(a[32 * rank : 32 * rank + 32], b) for a, b in zip(whole, part, strict=True)
        )
    again, rest = train.split(0.2, seed=0)
    assert (len(again), len(rest)) == (12, 3)
