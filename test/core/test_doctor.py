"""`wm-planner doctor`, with a fault planted for each check."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from wm_planner.cli import doctor, doctor_checks, doctor_probes, main
from wm_planner.cli.doctor import Finding, Level
from wm_planner.models.catalog import SHIPPED

NAME = "wall-base"


def level(finding: Finding) -> str:
    """Of a finding, whose text is one line and says something."""
    assert finding.text and "\n" not in finding.text
    return finding.level.value


def test_python_is_named():
    assert level(doctor_checks.python()) == "OK"


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(doctor_checks, "_installed", lambda name: name != "h5py")
    found = doctor_checks.extras()
    assert level(found) == "WARN"
    assert "not train (lacks h5py): pip install 'wm_planner[train]'" in found.text
    assert "complete: model, sim, record, viz, view, ros, controls" in found.text


def test_without_torch_a_checkpoint_is_still_checked(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = {finding.topic: finding for finding in doctor_probes.learning(NAME)}
    assert [level(found[topic]) for topic in ("torch", "GPU", "checkpoint")] == ["WARN"] * 3
    assert "pip install 'wm_planner[model]'" in found["torch"].text


def test_damaged_checkpoint_fails(tmp_path):
    shutil.copytree(SHIPPED / NAME, tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    for check in (doctor_probes.whole_checkpoint, doctor_probes.loaded_checkpoint):
        found = check(str(tmp_path / "copy"))
        assert level(found) == "FAIL" and "copy the checkpoint again" in found.text


def test_shipped_checkpoint_loads():
    assert level(doctor_probes.loaded_checkpoint(NAME)) == "OK"


def torch_of(available: bool, cuda: str | None, error: str = "") -> SimpleNamespace:
    """What is asked of torch about a graphics card."""

    def ones(*_: int, device: str) -> SimpleNamespace:
        if error:
            raise RuntimeError(error)
        return SimpleNamespace(sum=lambda: SimpleNamespace(item=lambda: 64.0))

    card = SimpleNamespace(name="A card", total_memory=2**33)
    return SimpleNamespace(
        __version__="2.13.0",
        ones=ones,
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(is_available=lambda: available, get_device_properties=lambda _: card),
    )


@pytest.mark.parametrize(
    ("available", "cuda", "error", "driver", "expected", "words"),
    [
        (True, "13.0", "", True, "OK", "A card, 8 GiB"),
        (True, "13.0", "no kernel image\nmore", True, "FAIL", "does not compute: no kernel image;"),
        (False, None, "", True, "WARN", "a build without CUDA"),
        (False, "13.0", "", True, "WARN", "update the driver"),
        (False, None, "", False, "OK", "none here"),
    ],
)
def test_graphics_card(monkeypatch, tmp_path, available, cuda, error, driver, expected, words):
    monkeypatch.setattr(doctor_probes, "DRIVERS", (tmp_path if driver else tmp_path / "none",))
    found = doctor_probes.graphics_card(torch_of(available, cuda, error))
    assert level(found) == expected and words in found.text


def test_a_renderer_that_is_none_fails():
    pytest.importorskip("mujoco")
    from wm_planner.cli.preflight import child_environment

    found = doctor_checks.drawing(child_environment({"MUJOCO_GL": "glass", "PATH": ""}))
    assert level(found) == "FAIL" and "MUJOCO_GL=glass" in found.text


def test_disk(tmp_path, monkeypatch):
    assert level(doctor_checks.disk(tmp_path / "not" / "there")) in ("OK", "WARN")
    usage = SimpleNamespace(free=10**7)
    monkeypatch.setattr(doctor_checks.shutil, "disk_usage", lambda _: usage)
    found = doctor_checks.disk(tmp_path)
    assert level(found) == "FAIL" and "0.0 GB are free" in found.text
    usage.free = 10**9
    assert level(doctor_checks.disk(tmp_path)) == "WARN"
    file = tmp_path / "file"
    file.touch()
    assert level(doctor_checks.disk(file / "below")) == "FAIL"


def test_clock():
    times = {"system": 100.0, "steady": 5.0}
    error: list[float | None] = [0.004]
    watch = doctor_checks.ClockWatch(
        lambda: times["system"], lambda: times["steady"], lambda: error[0]
    )
    times.update(system=101.0, steady=6.0)
    assert level(watch.finding()) == "OK"
    error[0] = None
    assert level(watch.finding()) == "WARN"
    times["system"] -= 0.5
    found = watch.finding()
    assert level(found) == "FAIL" and "stepped by -0.500 s" in found.text


def test_kernel_tells_an_error_or_nothing():
    error_s = doctor_checks.kernel_error_s()
    assert error_s is None or 0 <= error_s < 100


def test_camera(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_checks, "CAMERAS", tmp_path)
    found = doctor_checks.camera(None, {})
    assert level(found) == "WARN" and "--camera" in found.text
    asked = []
    monkeypatch.setattr(doctor_checks, "probe", lambda *args: asked.append(args[1]) or [found])
    (tmp_path / "video1").touch()
    for source in (None, "/camera/image_raw", "rtsp://camera", "/dev/video7"):
        doctor_checks.camera(source, {})
    video = str(tmp_path / "video1")
    assert asked == [
        ["source", video],
        ["topic", "/camera/image_raw"],
        ["source", "rtsp://camera"],
        ["source", "/dev/video7"],
    ]
    garbage = tmp_path / "clip.mp4"
    garbage.write_bytes(b"no video")
    found = doctor_probes.source(str(garbage))
    assert level(found) == "FAIL" and "clip.mp4" in found.text


def test_a_probe_that_crashes_or_hangs_is_a_finding(monkeypatch, tmp_path):
    (tmp_path / "probes.py").write_text(
        "import json, os, signal, sys\n"
        "print('a library speaks')\n"
        "print(json.dumps({'topic': 'torch', 'level': 'OK', 'text': 'fine'}), flush=True)\n"
        "if sys.argv[1] == 'hang': signal.pause()\n"
        "print('CUDA is unwell', file=sys.stderr, flush=True)\n"
        "os.abort()\n"
    )
    monkeypatch.setattr(doctor, "PROBES", "probes")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    torch, gpu = doctor.probe(["torch", "GPU"], ["crash"], environment)
    assert (level(torch), level(gpu)) == ("OK", "FAIL")
    assert "ended with code -6" in gpu.text and "CUDA is unwell" in gpu.text
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.01)
    (gpu,) = doctor.probe(["GPU"], ["hang"], environment)
    assert level(gpu) == "FAIL" and "no answer within" in gpu.text


@pytest.mark.parametrize(("worst", "code"), [("OK", 0), ("WARN", 0), ("FAIL", 1)])
def test_exit_code_and_lines(monkeypatch, capsys, worst, code):
    found = [Finding("Python", Level.OK, "3"), Finding("GL", Level(worst), "drew")]
    monkeypatch.setattr(doctor, "findings", lambda args: iter(found))
    assert main.main(["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].split()[:2] == [worst, "GL"]


def test_domain_must_be_one(capsys):
    assert main.main(["doctor", "--domain", "500"]) == 2
    assert "ROS_DOMAIN_ID=500" in capsys.readouterr().err


def test_told_is_parsed():
    finding = Finding("DDS", Level.WARN, "ä 'quoted'")
    noise = "\n".join(
        ["{}", "[1]", "nothing", json.dumps({"topic": "x", "level": "?", "text": ""})]
    )
    assert doctor.parsed(f"{noise}\n{doctor.told(finding)}\n") == [finding]


def test_arguments_have_defaults():
    values = Namespace()
    main.build_parser(["doctor"]).parse_args(["doctor"], values)
    assert values.output == Path("runs") and values.camera is None and values.domain is None
