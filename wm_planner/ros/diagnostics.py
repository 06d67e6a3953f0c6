"""Building diagnostic messages, and reading their values back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from wm_planner.ros.conversions import to_time

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def status(name: str, level: bytes, message: str, values: Mapping[str, Any]) -> DiagnosticStatus:
    """One status; floats are written so that reading them back gives the same bits."""
    pairs = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    return DiagnosticStatus(
        level=level, name=name, message=message, hardware_id="wm_planner", values=pairs
    )


def array(stamp_ns: int, *statuses: DiagnosticStatus) -> DiagnosticArray:
    """Statuses of one moment."""
    message = DiagnosticArray(status=list(statuses))
    message.header.stamp = to_time(stamp_ns)
    return message


def values_of(message: DiagnosticStatus) -> dict[str, str]:
    """The key-value pairs of a status."""
    return {pair.key: pair.value for pair in message.values}


def values_below(values: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Values whose keys begin with `prefix`, by the rest of their keys."""
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
