"""What a training run leaves in its directory: settings, metrics, and its whole state.

``config.json`` holds settings and commit, ``metrics.jsonl`` a line per report. ``state.pt`` lets a
resumed run be the run that was not interrupted; it holds tensors, numbers and text only, so that
reading one executes nothing in it.
"""

from __future__ import annotations

import io
import json
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from wm_planner.config import flat
from wm_planner.errors import CheckpointError, ConfigError, WriteError
from wm_planner.files import (
    allocate,
    append_line,
    read_json,
    write_bytes,
    write_json,
    write_text,
    writing,
)
from wm_planner.provenance import provenance
from wm_planner.training.machine import Group

logger = logging.getLogger(__name__)
CONFIG, METRICS = "config.json", "metrics.jsonl"
_OF_A_START = ("command", "commit", "machine", "resumed")  # may differ when a run goes on
STATE, RESERVE = "state.pt", ".reserve"
_REST = 2**20  # bytes of a state beside weights and moments: generators, names, the zip
SCHEMA = 1


def check_free(directory: Path) -> None:
    """Raises:
    ConfigError: the directory holds a run.
    """
    if (directory / CONFIG).exists():
        raise ConfigError(
            f"{directory}: holds a run already; choose another --output, or go on with it by "
            "--resume"
        )


class RunLog:
    """Writes ``config.json`` once and ``metrics.jsonl`` line by line into a run directory.

    Args:
        directory: of the run.
        config: everything that the result depends on.
        resume: go on with the run there; without one, begin.
        tensorboard: write the metrics for TensorBoard too, into ``tensorboard/``.

    Raises:
        ConfigError: the directory holds a run already, or `resume` and one of other settings.
    """

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        resume: bool = False,
        tensorboard: bool = False,
    ) -> None:
        self.directory = Path(directory)
        file = self.directory / CONFIG
        content = json.loads(json.dumps({**config, **provenance()}))
        if not resume:
            check_free(self.directory)
        if file.exists():
            before = read_json(file)
            check_same(before, content, self.directory)
            again = {key: content[key] for key in _OF_A_START if key in content}
            content = {**before, "resumed": [*before.get("resumed", []), again]}
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(file, content)
        self._metrics = self.directory / METRICS
        self._lost = 0  # lines of metrics that could not be written
        self._start = time.monotonic()
        self._tensorboard = tensorboard
        self._board: Any = None

    @property
    def minutes(self) -> float:
        """Minutes of training; those before an interruption count, the pause does not."""
        return (time.monotonic() - self._start) / 60

    def rewind(self, step: int, minutes: float) -> None:
        """Forget what a killed run wrote of updates from `step` on, which are made again."""
        text = self._metrics.read_text() if self._metrics.exists() else ""
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        write_text(self._metrics, "".join(x for x in lines if json.loads(x)["step"] < step))
        self._start = time.monotonic() - minutes * 60
        if self._tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                logger.info("no TensorBoard events: tensorboard is missing (extra 'train')")
            else:
                self._board = SummaryWriter(str(self.directory / "tensorboard"), purge_step=step)

    def write(self, step: int, **values: float) -> None:
        """Append one line of metrics; one that cannot be written does not end the training."""
        record = {"step": step, "minutes": round(self.minutes, 3), **values}
        try:
            append_line(self._metrics, json.dumps(record))
            if self._board is not None:
                with writing(self.directory / "tensorboard"):
                    for name, value in values.items():
                        self._board.add_scalar(name, value, step)
        except WriteError as error:
            self._lost += 1
            if self._lost == 1:
                logger.warning("%s; metrics from update %d on are lost", error, step)

    def close(self) -> None:
        """Close the files."""
        if self._board is not None:
            with suppress(OSError):  # a full disk: the weights matter more
                self._board.close()


def check_same(before: dict[str, Any], now: dict[str, Any], directory: Path) -> None:
    """Raises:
    ConfigError: a run that is gone on with has other settings; the message names the first one.
    """
    old, new = (flat({k: v for k, v in c.items() if k not in _OF_A_START}) for c in (before, now))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            raise ConfigError(
                f"{directory}: the run there has {key} {old.get(key)}, now it is "
                f"{new.get(key)}; resume with the same settings, or choose another --output"
            )


def random_state(device: torch.device) -> dict[str, Tensor]:
    """This process's global generators, which dropout uses."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Undo what happened since `random_state`; another kind of device begins its own."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


class Reserve:
    """Room on the disk for the last state of a run, taken at its beginning.

    So a disk that others fill up meanwhile does not cost what was trained.

    Args:
        directory: of the run.
        module: that is trained.

    Raises:
        WriteError: there is no room; better now than after hours.
    """

    def __init__(self, directory: Path, module: nn.Module) -> None:
        self._file = directory / RESERVE
        weights = sum(value.nbytes for value in module.state_dict().values())
        moments = 2 * sum(p.nbytes for p in module.parameters() if p.requires_grad)
        with writing(self._file):
            self._file.touch()
        try:
            allocate(self._file, weights + moments + _REST)
        except WriteError:
            self.release()
            raise

    def release(self) -> None:
        """Give the room back, for the state."""
        self._file.unlink(missing_ok=True)


def save_state(directory: Path, state: dict[str, Any]) -> Path:
    """Write ``state.pt``, aside first: a reader finds the last one or this one, whole.

    Raises:
        WriteError: it cannot be written; the last one stays.
    """
    file, stream = directory / STATE, io.BytesIO()
    torch.save({"schema": SCHEMA, **state}, stream)
    write_bytes(file, stream.getbuffer())
    return file


def load_state(directory: Path, group: Group) -> dict[str, Any] | None:
    """What `save_state` wrote; None when it never did.

    Raises:
        CheckpointError: it cannot be read, or another number of processes wrote it.
    """
    file = directory / STATE
    if not file.is_file():
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever damaged bytes lead it to
        said = str(error).partition("\n")[0]
        raise CheckpointError(f"{file}: cannot be read: {said}") from error
    schema = state.get("schema") if isinstance(state, dict) else type(state).__name__
    if schema != SCHEMA or not isinstance(state.get("random"), list):
        raise CheckpointError(f"{file}: schema {schema}; this version reads schema {SCHEMA}")
    if len(state["random"]) != group.size:
        raise CheckpointError(
            f"{file}: of {len(state['random'])} processes; resume with as many, not {group.size}"
        )
    return state


def save_batch(directory: Path, step: int, rank: int, batch: tuple[Tensor, ...]) -> Path:
    """Keep a batch that gave no finite loss; `safetensors.torch.load_file` reads it."""
    file = directory / f"bad_batch_update{step}_process{rank}.safetensors"
    tensors = {f"input{i}": x.detach().cpu().contiguous() for i, x in enumerate(batch)}
    write_bytes(file, save(tensors))
    return file
