"""Shifts as the command line names them."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from wm_planner.config import from_dict
from wm_planner.errors import ConfigError
from wm_planner.tasks.shifts import Shifts


def parse_shifts(settings: Iterable[str], source: str = "--shift") -> Shifts:
    """Shifts from 'name=value' strings.

    Raises:
        ConfigError: an unknown name, with the nearest one, or a value that cannot be used.
    """
    values = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"{source}: '{setting}' is not of the form name=value")
        try:
            values[name.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{source}: '{setting}': the value is not valid YAML") from error
    return from_dict(Shifts, values, source)
