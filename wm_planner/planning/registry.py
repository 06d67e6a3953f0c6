"""Solvers and cost terms by name: ours and those of other packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from wm_planner.config import suggest
from wm_planner.planning.solver import Solver
from wm_planner.registry import Registry


def _no_solver(_name: str, found: object) -> str:
    if dataclasses.is_dataclass(found) and all(
        hasattr(found, wanted) for wanted in ("solve", "usual_iterations", "descends")
    ):
        return ""
    return (
        "must be a dataclass with solve, usual_iterations and descends (see "
        f"wm_planner.planning.solver.Solver), got {found!r}"
    )


SOLVERS: Registry[type[Solver]] = Registry("wm_planner.solvers", "solver", _no_solver)


def make_solver(name: str, settings: Any, own: Mapping[str, Any], action_size: int = 0) -> Solver:
    """The solver of that name.

    Args:
        name: of the registry.
        settings: attributes that are called like a field of the solver go there.
        own: values of fields that `settings` has no attribute for.
        action_size: entries of one raw action, for solvers that have such a field.

    Raises:
        ConfigError: there is no such solver.
        ValueError: `own` names no field of it, or it cannot take a value.
    """
    kind: Any = SOLVERS[name]
    fields = [field.name for field in dataclasses.fields(kind) if field.init]
    values = {field: getattr(settings, field) for field in fields if hasattr(settings, field)}
    choices = sorted(set(fields) - set(values) - {"action_size"})
    unknown = [key for key in own if key not in choices]
    if unknown:
        first = unknown[0]
        hint = suggest(first, choices) if choices else f" '{name}' has none of its own."
        raise ValueError(f"solver_settings: unknown key '{first}'.{hint}")
    if "action_size" in fields:
        values["action_size"] = action_size
    made: Solver = kind(**{**values, **own})
    return made
