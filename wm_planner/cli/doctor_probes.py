"""What `wm-planner doctor` finds out in processes of their own; a line of JSON for each finding."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wm_planner.cli.doctor import Finding, Level, told
from wm_planner.errors import WmPlannerError
from wm_planner.extras import way_out

DRIVERS = (Path("/dev/nvidia0"), Path("/dev/nvhost-gpu"))  # of a graphics card, of a Jetson


def learning(checkpoint: str) -> Iterator[Finding]:
    """Torch, the graphics card by it, and a checkpoint."""
    try:
        import torch
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        level = Level.WARN if missing else Level.FAIL
        text = f"cannot be imported ({error}): {way_out('torch')}"
        yield Finding("torch", level, text)
        yield Finding("GPU", level, "torch finds it, and there is none")
        yield whole_checkpoint(checkpoint)
        return
    yield computes(torch)
    yield graphics_card(torch)
    yield loaded_checkpoint(checkpoint)


def computes(torch: Any) -> Finding:
    """Whether torch computes on the processor."""
    found = (torch.ones(64, 64) @ torch.ones(64, 64)).sum().item()
    if found != 64.0**3:
        text = f"{torch.__version__} computes a product as {found}: install another build"
        return Finding("torch", Level.FAIL, text)
    return Finding("torch", Level.OK, f"{torch.__version__}, {torch.get_num_threads()} threads")


def graphics_card(torch: Any) -> Finding:
    """Whether torch computes on a graphics card."""
    if not torch.cuda.is_available():
        if not any(driver.exists() for driver in DRIVERS):
            return Finding("GPU", Level.OK, "none here; all commands default to --device cpu")
        if torch.version.cuda is None:
            text = f"torch {torch.__version__} is a build without CUDA: install one with it"
        else:
            text = f"torch is built for CUDA {torch.version.cuda}: update the driver (nvidia-smi)"
        return Finding("GPU", Level.WARN, f"there is one, and torch does not see it; {text}")
    card = torch.cuda.get_device_properties(0)
    try:
        torch.ones(8, 8, device="cuda").sum().item()
    except RuntimeError as error:
        line = next(iter(str(error).splitlines()), "")
        text = f"{card.name} does not compute: {line}; update the driver, or torch"
        return Finding("GPU", Level.FAIL, text)
    return Finding("GPU", Level.OK, f"{card.name}, {card.total_memory / 2**30:.0f} GiB")


def loaded_checkpoint(name: str) -> Finding:
    """Whether a checkpoint can be planned with."""
    from wm_planner.models.checkpoint import load_bundle

    try:
        bundle = load_bundle(name)
    except WmPlannerError as error:
        return Finding("checkpoint", Level.FAIL, str(error))
    return Finding("checkpoint", Level.OK, f"{name} loads, for '{bundle.embodiment.name}'")


def whole_checkpoint(name: str) -> Finding:
    """Whether a checkpoint's files are whole, where nothing can load it."""
    from wm_planner.models.catalog import CARD, WEIGHTS, check_whole, read_card, resolve_checkpoint

    try:
        directory = resolve_checkpoint(name)
        check_whole(directory / WEIGHTS, read_card(directory / CARD)["sha256"])
    except WmPlannerError as error:
        return Finding("checkpoint", Level.FAIL, str(error))
    return Finding("checkpoint", Level.WARN, f"{name} is whole; only torch can load it")


def source(uri: str) -> Finding:
    """Take a picture of a device, a file or a stream."""
    try:
        from wm_planner.runtime.image_source import open_source
    except ModuleNotFoundError as error:
        text = f"{uri}: needs '{error.name}': {way_out(error.name or '')}"
        return Finding("camera", Level.WARN, text)
    try:
        opened = open_source(f"device:{uri}" if uri.startswith("/dev/") else uri)
        image = opened.read()
        opened.close()
    except WmPlannerError as error:
        return Finding("camera", Level.FAIL, str(error))
    if image is None:
        return Finding("camera", Level.FAIL, f"{uri}: ended before its first picture")
    return Finding("camera", Level.OK, f"{uri}: {image.shape[1]} x {image.shape[0]} pixels")


def main() -> int:
    """Run the probe that the command line names: learning, source, or one of ROS."""
    name, *arguments = sys.argv[1:]
    if name == "learning":
        found = learning(*arguments)
    elif name == "source":
        found = iter([source(*arguments)])
    else:
        from wm_planner.cli import doctor_ros

        found = doctor_ros.PROBES[name](*arguments)
    for finding in found:
        print(told(finding), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
