"""Encoded frames on disk: written once, mapped into memory by every run that follows.

Below the cache's directory, one directory per content: its name is a checksum of encoder weights,
image size and pictures, so that a changed encoder or data set is never taken for another.
Statistics of proprioception and actions do not matter to it. In it, ``visual.npy``
(N, T + 1, P, Dv), ``done.npy`` (one byte per chunk of frames) and ``meta.json``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wm_planner.data.store import TrajectoryStore, create_array
from wm_planner.errors import DatasetError
from wm_planner.files import allocate, read_json, write_json, written_aside
from wm_planner.models.catalog import file_sha256
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import WorldModel
from wm_planner.training.machine import CACHE_DTYPES, Machine

logger = logging.getLogger(__name__)
MAX_CHUNK = 512  # frames that are encoded together, fewer of large ones: that many of 96 pixels
CPU_BATCH = 32  # of them at once on a CPU, whose own cache does not hold what 512 need
_NUMPY = {"fp16": np.float16, "fp32": np.float32}
_VISUAL, _DONE, _META, _SUMS = "visual.npy", "done.npy", "meta.json", "checksums.json"


def default_cache(data: Path) -> Path:
    """Beside the data: DATA.latents."""
    data = Path(data).resolve()
    return data.with_name(data.name + ".latents")


def cached_latents(
    store: TrajectoryStore, model: WorldModel, preprocess: Preprocess, machine: Machine
) -> Tensor:
    """(N, T + 1, P, Dv) tokens of the store's frames, mapped from the machine's cache.

    Frames that no earlier run encoded are encoded now, shared by the processes of the run; an
    interrupted run's are kept.

    Raises:
        DatasetError: the cache cannot be written or is damaged.
        WriteError: the disk has no room for it.
    """
    root = machine.cache
    assert root is not None
    content = None
    try:
        if machine.writes:
            root.mkdir(parents=True, exist_ok=True)
            content = describe(store, model, preprocess, machine.cache_dtype, root)
            _create(root / key_of(content), content, store)
        content = machine.group.gather(content)[0]
        directory = root / key_of(content)
        _encode_missing(directory, store, model, preprocess, machine)
        return torch.from_numpy(_open(directory / _VISUAL, "c"))
    except OSError as error:
        raise DatasetError(
            f"{root}: cannot keep encoded frames: {error}; choose another directory by --cache"
        ) from error


@torch.no_grad()
def encode_chunk(
    images: np.ndarray, model: WorldModel, preprocess: Preprocess, machine: Machine
) -> Tensor:
    """(n, S, S, 3) uint8 -> (n, P, Dv) tokens of the cache's type, on the CPU."""
    at_once = CPU_BATCH if machine.device.type == "cpu" else len(images)
    tokens = [
        model.encode_images(preprocess.images(part)[None].to(machine.device))[0].cpu()
        for part in torch.from_numpy(np.array(images)).split(at_once)
    ]
    return torch.cat(tokens).to(CACHE_DTYPES[machine.cache_dtype])


def chunk_size(images: np.ndarray) -> int:
    """How many of the (..., S, S, 3) images are encoded together."""
    return max(1, min(MAX_CHUNK, MAX_CHUNK * 96**2 // (images.shape[-2] * images.shape[-3])))


def chunks_of(
    images: np.ndarray, machine: Machine, numbers: Iterable[int] | None = None
) -> Iterable[slice]:
    """The chunks of (n, S, S, 3) images, or those of these numbers, with a progress bar."""
    count, size = len(images), chunk_size(images)
    numbers = range(-(-count // size)) if numbers is None else numbers
    bar = tqdm(list(numbers), desc="encode", unit="batch", disable=not machine.writes)
    return (slice(i * size, min((i + 1) * size, count)) for i in bar)


def describe(
    store: TrajectoryStore, model: WorldModel, preprocess: Preprocess, dtype: str, root: Path
) -> dict[str, Any]:
    """Everything that the tokens depend on, and their shape."""
    config = model.config
    return {
        "encoder": config.encoder.get("kind"),
        "encoder_sha256": weights_sha256(model.encoder),
        "image_size": preprocess.image_size,
        "images_sha256": _images_sha256(store, root),
        "shape": [*store.images.shape[:2], config.num_patches, config.visual_dim],
        "dtype": dtype,
    }


def key_of(content: dict[str, Any]) -> str:
    """Name of the directory that holds `content`."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def weights_sha256(module: torch.nn.Module) -> str:
    """Checksum of names, types and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _images_sha256(store: TrajectoryStore, root: Path) -> str:
    """Checksum of ``images.npy``, remembered for as long as size and time of change stay."""
    file, sums = (store.directory / "images.npy").resolve(), root / _SUMS
    stat = file.stat()
    known = read_json(sums) if sums.is_file() else {}
    entry = known.get(str(file))
    if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
        entry = [stat.st_size, stat.st_mtime_ns, file_sha256(file)]
        write_json(sums, {**known, str(file): entry})
    return entry[2]


def _create(directory: Path, content: dict[str, Any], store: TrajectoryStore) -> None:
    """Empty arrays, renamed into place, unless they are there."""
    if directory.is_dir():
        return
    with written_aside(directory) as part:
        part.mkdir()
        shape, dtype = tuple(content["shape"]), _NUMPY[content["dtype"]]
        count = -(-shape[0] * shape[1] // chunk_size(store.images))
        for name, kind, size in ((_VISUAL, dtype, shape), (_DONE, np.uint8, (count,))):
            create_array(part / name, kind, size).flush()
        meta = {**content, "data": str(store.directory)}
        write_json(part / _META, meta)


def _encode_missing(
    directory: Path,
    store: TrajectoryStore,
    model: WorldModel,
    preprocess: Preprocess,
    machine: Machine,
) -> None:
    visual, done = (_open(directory / name, "r+") for name in (_VISUAL, _DONE))
    missing = np.flatnonzero(done == 0).tolist()
    size = visual.nbytes / 2**20
    if machine.writes and not missing:
        logger.info("%s: %.0f MiB of encoded frames found", directory, size)
    elif machine.writes:
        logger.info(
            "%s: encoding %d of %d parts, %.0f MiB in all", directory, len(missing), len(done), size
        )
    if machine.writes and missing:
        for name in (_VISUAL, _DONE):  # an earlier version's have no room taken for them
            allocate(directory / name, (directory / name).stat().st_size)
    machine.group.wait()  # all have seen the same parts missing
    tokens = visual.reshape(-1, *visual.shape[2:])
    images = store.images.reshape(-1, *store.images.shape[2:])
    mine = missing[machine.group.rank :: machine.group.size]
    for part in chunks_of(images, machine, mine) if mine else ():
        tokens[part] = encode_chunk(images[part], model, preprocess, machine).numpy()
        visual.flush()
        done[part.start // chunk_size(images)] = 1
        done.flush()
    machine.group.wait()


def _open(file: Path, mode: str) -> np.memmap:
    try:
        np.load(file, mmap_mode="r", allow_pickle=False)  # "r+" would fill up a file cut short
        return np.load(file, mmap_mode=mode, allow_pickle=False)  # type: ignore[arg-type]
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{file}: cannot be read: {error}; delete {file.parent}, and it is made again"
        ) from error
