"""Parameter files as ROS reads them, which is not quite how YAML is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from wm_planner.files import write_text


class _Quoted(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no annotations
    """Quotes all text: ROS reads a bare `y`, a good name of a joint, as true."""

    def ignore_aliases(self, data: Any) -> bool:
        return True  # ROS reads none


_Quoted.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def write_parameters(name: str, parameters: Mapping[str, Any], directory: Path) -> Path:
    """Write NAME.yaml, which ROS reads for one process, whatever its node is called."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{name}.yaml"
    content = {"/**": {"ros__parameters": dict(parameters)}}
    write_text(file, yaml.dump(content, Dumper=_Quoted))
    return file
