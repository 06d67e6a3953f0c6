"""Quality of service, by meaning."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(reliable: bool, latched: bool, depth: int) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


# Only the newest sample matters, and a driver may publish best effort: a reliable subscription
# would never match it.
SENSOR = _profile(reliable=False, latched=False, depth=1)
# A simulator that waits for its answer must not lose a message; also what is published, so that
# subscribers of both kinds match.
RELIABLE = _profile(reliable=True, latched=False, depth=50)
# Plans and commands: none may be lost, none may queue up behind newer ones for long.
COMMAND = _profile(reliable=True, latched=False, depth=10)
# What a bag may lack none of, published small: the recorder may fall behind for seconds.
RECORD = _profile(reliable=True, latched=False, depth=1000)
# Goals: whoever comes later still gets the newest one.
LATCHED = _profile(reliable=True, latched=True, depth=1)
# Episode events: a late recorder or viewer gets the whole story.
EVENTS = _profile(reliable=True, latched=True, depth=100)


def sensor(lockstep: bool) -> QoSProfile:
    """Profile of sensor subscriptions."""
    return RELIABLE if lockstep else SENSOR


def recorded(reliable: bool) -> QoSProfile:
    """Profile of the recorder's subscriptions; reliable ones do not hear a best-effort driver."""
    return RECORD if reliable else _profile(reliable=False, latched=False, depth=RECORD.depth)
