"""What a training run leaves behind: configuration, commit and metrics, one line each."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from wm_planner.errors import ConfigError
from wm_planner.files import read_json, write_json, written_aside
from wm_planner.provenance import provenance

logger = logging.getLogger(__name__)
CONFIG, METRICS = "config.json", "metrics.jsonl"
_OF_A_START = ("command", "commit", "machine", "resumed")  # may differ when a run goes on


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
        self.provenance = provenance()
        self._directory_config(config, resume)
        self._file = (self.directory / METRICS).open("a")
        self._start = time.monotonic()
        self._tensorboard = tensorboard
        self._board: Any = None

    @property
    def minutes(self) -> float:
        """Minutes of training; those before an interruption count, the pause does not."""
        return (time.monotonic() - self._start) / 60

    def rewind(self, step: int, minutes: float) -> None:
        """Forget what a killed run wrote of updates from `step` on, which are made again."""
        file = self.directory / METRICS
        lines = file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step]
        self._file.close()
        file.write_text("".join(kept))
        self._file = file.open("a")
        self._start = time.monotonic() - minutes * 60
        if self._tensorboard:
            self._board = _open_board(self.directory / "tensorboard", step)

    def write(self, step: int, **values: float) -> None:
        """Append one line of metrics."""
        record = {"step": step, "minutes": round(self.minutes, 3), **values}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _directory_config(self, config: dict[str, Any], resume: bool) -> None:
        file = self.directory / CONFIG
        content = json.loads(json.dumps({**config, **self.provenance}))
        if not resume:
            check_free(self.directory)
        if file.exists():
            before = read_json(file)
            check_same(before, content, self.directory)
            again = {key: content[key] for key in _OF_A_START if key in content}
            content = {**before, "resumed": [*before.get("resumed", []), again]}
        self.directory.mkdir(parents=True, exist_ok=True)
        with written_aside(file) as part:
            write_json(part, content)


def check_same(before: dict[str, Any], now: dict[str, Any], directory: Path) -> None:
    """Raises:
    ConfigError: a run that is gone on with has other settings; the message names the first one.
    """
    old, new = (_flat({k: v for k, v in c.items() if k not in _OF_A_START}) for c in (before, now))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            raise ConfigError(
                f"{directory}: the run there has {key} {old.get(key)}, now it is "
                f"{new.get(key)}; resume with the same settings, or choose another --output"
            )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{'a.b': 1} of {'a': {'b': 1}}."""
    if not isinstance(value, dict):
        return {prefix: value}
    result: dict[str, Any] = {}
    for key, item in value.items():
        result |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return result


def _open_board(directory: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("no TensorBoard events: tensorboard is missing (extra 'train')")
        return None
    return SummaryWriter(str(directory), purge_step=step)
