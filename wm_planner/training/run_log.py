"""What a training run leaves behind: configuration, commit and metrics, one line each."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from wm_planner.errors import ConfigError


def current_commit() -> str:
    """Commit of the source tree, with '-dirty' where files differ, or 'unknown'."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() or "unknown"


class RunLog:
    """Writes ``config.json`` once and ``metrics.jsonl`` line by line into a run directory.

    Raises:
        ConfigError: the directory already holds a run.
    """

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        self.directory = Path(directory)
        if (self.directory / "config.json").exists():
            raise ConfigError(f"{directory}: holds a run already; choose another --output")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.provenance = {"command": " ".join(sys.argv), "commit": current_commit()}
        text = json.dumps({**config, **self.provenance}, indent=2)
        (self.directory / "config.json").write_text(text)
        self._file = (self.directory / "metrics.jsonl").open("w")
        self._start = time.monotonic()

    @property
    def minutes(self) -> float:
        """Minutes since the run began."""
        return (time.monotonic() - self._start) / 60

    def write(self, step: int, **values: float) -> None:
        """Append one line of metrics."""
        record = {"step": step, "minutes": round(self.minutes, 3), **values}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the metrics file."""
        self._file.close()
