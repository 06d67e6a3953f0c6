"""Pickles of others: nothing in them is run, and nothing of them is believed unchecked."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch

from wm_planner.errors import CheckpointError
from wm_planner.models.pickled_modules import PickledFile

from .reference_checkpoint import TINY, checkpoint_with, import_tiny


class Call:
    """Pickles as a call, with whatever else a pickle can do to its result."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def payloads(marker):
    """Name -> pickle that creates `marker` when it is loaded as pickles usually are."""
    command = f"touch {marker}"
    system = Call(os.system, (command,))
    opened = Call(eval, (f"open({str(marker)!r}, 'w').close()",))
    text = f"V{command}\n"
    return {
        "reduce": pickle.dumps({"predictor": system}, 2),
        "first value": pickle.dumps(system, 2),
        "protocol 4": pickle.dumps({"epoch": system}, 4),
        "nested": pickle.dumps({"epoch": [OrderedDict(a=(opened,))]}, 2),
        "key": pickle.dumps({1: {opened: 2}}, 2),
        "state": pickle.dumps({1: Call(OrderedDict, (), {"x": system})}, 2),
        "items": pickle.dumps({1: Call(OrderedDict, (), None, None, iter([(1, system)]))}, 2),
        # The result of a call, called: getattr(os, 'system')(command).
        "call of a call": (
            f"(dI1\ncbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vos\ntRVsystem\ntR({text}tRs."
        ).encode(),
        # __setstate__ put on a class, then used: BUILD calls it.
        "build": (
            f"(dI1\nccollections\nOrderedDict\n)R(dV__setstate__\ncos\nsystem\nsb{text}bs."
        ).encode(),
        "instance": f"(dI1\n({text}ios\nsystem\ns.".encode(),
        "import": b"(dI1\ncunwanted_module\nthing\ns.",
    }


@pytest.mark.parametrize("kind", payloads("unused"))
def test_nothing_in_the_file_is_run(kind, tmp_path, monkeypatch):
    marker = tmp_path / "it_ran"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unwanted_module.py").write_text(f"open({str(marker)!r}, 'w').close()\nthing = 1")
    pickled = payloads(marker)[kind]
    with contextlib.suppress(Exception):  # what comes after the damage is of no interest
        pickle.loads(pickled)
    assert marker.exists(), "the payload works where pickles are trusted"
    marker.unlink()
    sys.modules.pop("unwanted_module", None)
    with pytest.raises(CheckpointError, match="evil.pth"):
        import_tiny("official", checkpoint_with(tmp_path / "evil.pth", pickled))
    assert not marker.exists() and "unwanted_module" not in sys.modules


def test_inert_objects_cannot_be_altered_or_called(tmp_path):
    """BUILD on a class and a call of an inert object are refused, whatever they carry."""
    for number, pickled in enumerate((b"cos\nsystem\n}b.", b"cos\nsystem\n)R)R.")):
        file = checkpoint_with(tmp_path / f"{number}.pth", pickled)
        with pytest.raises(CheckpointError, match=f"{number}.pth: damaged.*TypeError"):
            PickledFile(file)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 1},
        {"offset": -1},
        {"shape": (1, 48, 53)},
        {"strides": (2496, 52, 2)},
        {"strides": (2496, 52)},
        {"strides": (0, 0, 0), "shape": (1, 10**6, 10**6)},
        {"shape": (1, 48.0, 52)},
        {"shape": None},
        {"storage": None},
    ],
)
def test_a_tensor_must_lie_within_its_storage(change):
    released = PickledFile(TINY)
    tensor = released.entries["predictor"].tensors["pos_embedding"]
    assert released.read({"x": tensor})["x"].shape == (1, 48, 52)
    with pytest.raises(CheckpointError, match="tensor 'x' is damaged"):
        released.read({"x": dataclasses.replace(tensor, **change)})


def truncated(file):
    file.write_bytes(TINY.read_bytes()[:-100])


def compressed(file):
    with zipfile.ZipFile(TINY) as source, zipfile.ZipFile(file, "w", 8) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))


def other_archive(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("hydra.yaml", "{}")


def flipped(file):
    data = bytearray(TINY.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_shared_modules_do_not_hang(tmp_path):
    nested = torch.nn.Sequential()
    for _ in range(40):
        nested = torch.nn.Sequential(nested, nested)
    file = tmp_path / "model.pth"
    torch.save({"predictor": nested}, file)
    with pytest.raises(CheckpointError, match="model.pth: damaged.*modules within modules"):
        PickledFile(file)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int64", "bool"])
def test_tensors_are_read_as_they_were(tmp_path, dtype):
    value = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype)).T
    module = torch.nn.Module()
    module.register_buffer("x", value)
    torch.save({"predictor": module}, tmp_path / "model.pth")
    pickled = PickledFile(tmp_path / "model.pth")
    read = pickled.read(pickled.entries["predictor"].tensors)["x"]
    assert read.dtype == (torch.float32 if dtype == "bfloat16" else value.dtype)
    assert torch.equal(read, value.to(read.dtype)) and read.is_contiguous()
    read.zero_()  # a copy of its own


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "not a whole file.*download it again"),
        (flipped, "Bad CRC-32"),
        (compressed, "compressed"),
        (other_archive, "without data.pkl; unpack it"),
        (lambda file: file.write_bytes(b"<html>"), "not a whole file"),
        (lambda file: None, "no such file"),
        (
            lambda file: torch.save({"a": 1}, file, _use_new_zipfile_serialization=False),
            "before torch 1.6.*save it again",
        ),
        (lambda file: torch.save({"epoch": 1}, file), "no module 'predictor'.*holds epoch"),
        (lambda file: torch.save([1], file), "no dictionary"),
        (lambda file: torch.save({"predictor": torch.nn.ReLU()}, file), "'action_encoder'"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    file = tmp_path / "model.pth"
    damage(file)
    with pytest.raises(CheckpointError, match=f"(?s)model.pth.*{message}"):
        import_tiny("official", file)
