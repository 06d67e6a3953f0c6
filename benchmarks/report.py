"""How a benchmark tells what it has measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wm_planner.files import write_json


def report(result: dict[str, Any], file: Path | None) -> None:
    """Print a result as JSON, and write it into a file where one is named."""
    if file is not None:
        write_json(file, result)
    print(json.dumps(result, indent=1))
