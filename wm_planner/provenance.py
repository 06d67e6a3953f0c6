"""Where a result comes from: the command, and the commit of the source tree."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path


def provenance() -> dict[str, str]:
    """Command and commit of this process."""
    return {"command": command_line(), "commit": current_commit()}


def command_line() -> str:
    """The command of this process, quoted for a shell; without what launched it (torchrun)."""
    return shlex.join(["wm-planner", *sys.argv[1:]])


def current_commit() -> str:
    """Commit of the source tree, with '-dirty' where files differ, or 'unknown'."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() or "unknown"
