"""Faults of what the recorder hears, and of its disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from std_msgs.msg import String

from faults.fault import FRESH, Fault, Heal
from wm_planner.ros.qos import EVENTS, LATCHED


def _event(title: str, message: str, **values: str) -> Fault:
    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        told = {"stamp_ns": str(stage.stamp_ns()), "episode": "7000"} | values
        pairs = [KeyValue(key=key, value=value) for key, value in told.items() if value != "-"]
        status = DiagnosticStatus(name="episode", message=message, values=pairs)
        publisher = stage.peer.passing_publisher(DiagnosticStatus, "episode", EVENTS)
        publisher.publish(status)
        # It is latched: a recorder that starts anew hears it again, until it is gone.
        return lambda: stage.peer.node.destroy_publisher(publisher)

    return Fault(
        f"episode: {title}", "recorder", f"'{message}' {values}"[:90], inject, FRESH, share=0.5
    )


def _many_events(stage: Any, rng: np.random.Generator) -> None:
    publisher = stage.peer.publisher(DiagnosticStatus, "episode", EVENTS)
    for number in range(300):
        pairs = [KeyValue(key="episode", value=str(number)), KeyValue(key="stamp_ns", value="1")]
        publisher.publish(DiagnosticStatus(name="episode", message="end", values=pairs))


def _name(name: str) -> Any:
    """A name for the next episode, and one begun and ended by the recorder's services."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        publisher = stage.peer.publisher(String, "/finetune_node/episode_name", LATCHED)
        publisher.publish(String(data=name))
        stage.end_episode()
        stage.peer.trigger("/finetune_node/start_episode")

        def heal() -> None:
            stage.peer.trigger("/finetune_node/end_episode")
            stage.begin_episode()

        return heal

    return inject


def _full_disk(stage: Any, rng: np.random.Generator) -> Heal:
    """Nothing is left on the disk of the bags."""
    filler = Path(stage.bags) / "filler"
    with filler.open("wb") as stream:
        try:
            while True:
                os.write(stream.fileno(), bytes(1 << 20))
        except OSError:
            pass
    return filler.unlink


def _no_directory(stage: Any, rng: np.random.Generator) -> Heal:
    """The directory of the bags cannot be written into."""
    os.chmod(stage.bags, 0o000)
    return lambda: os.chmod(stage.bags, 0o755)


FAULTS = (
    _event("another kind", "pause"),
    _event("no kind", ""),
    _event("no stamp", "start", stamp_ns="-"),
    _event("no episode", "start", episode="-"),
    _event("stamp in words", "start", stamp_ns="now"),
    _event("negative stamp", "start", stamp_ns="-5"),
    _event("immense stamp", "start", stamp_ns="9" * 40),
    _event("immense end", "end", stamp_ns="9" * 40),
    _event("immense episode", "start", episode="9" * 5000),
    _event("path for a name", "start", name="../../etc/passwd"),
    _event("dots for a name", "start", name=".."),
    _event("long name", "start", name="n" * 5000),
    _event("end without start", "end", episode="7777"),
    _event("outcome of nonsense", "end", outcome="perhaps"),
    _event("digits of another script", "start", episode="٣²"),
    Fault("episode: 300 at once", "recorder", "300 ends at once", _many_events, FRESH, share=0.5),
    Fault(
        "episode: name with a slash", "recorder", "next name a/b", _name("a/b"), FRESH, share=0.5
    ),
    Fault(
        "episode: name of 300", "recorder", "next name of 300", _name("x" * 300), FRESH, share=0.5
    ),
    Fault("disk: full", "disk", "the disk of the bags is full", _full_disk, FRESH, share=4),
)
