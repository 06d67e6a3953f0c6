"""The graph on two hosts: robot and controller on one, camera node and planner on the other.

A host is a network namespace; the cable between them is `faults.cable`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from faults.cable import DEVICE
from faults.fault import NETWORK, REMOTE
from faults.stage import CAMERA, CONTROLLER, PLANNER, RECORDER, Stage

MTU = 1500


def hosts_of(domain: int) -> tuple[str, str]:
    """Namespaces of the robot's and of the planner's host."""
    return f"wmf{domain}robot", f"wmf{domain}plan"


def make_hosts(domain: int) -> None:
    """Make both hosts, without a cable.

    Raises:
        OSError: they cannot be made.
    """
    for host in hosts_of(domain):
        for words in (["netns", "add", host], ["-n", host, "link", "set", "lo", "up"]):
            done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def remove_hosts(domain: int) -> None:
    """Remove both."""
    for host in hosts_of(domain):
        with suppress(OSError):
            subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


class NetworkStage(Stage):
    """This process is on the robot's host: start it there."""

    kind = NETWORK
    away = (CAMERA, PLANNER, RECORDER)  # on the planner's host
    wire: ClassVar[dict[str, str]] = {
        "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    }

    def __init__(self, directory: Path, domain: int, seed: int, slack_s: float = 0.0) -> None:
        super().__init__(directory, domain, seed, slack_s)
        self.hosts = hosts_of(domain)

    def __enter__(self) -> NetworkStage:
        self._cable = subprocess.Popen(
            [sys.executable, "-m", "faults.cable", *self.hosts, str(self.seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._cable.stdout is not None
        self._cable.stdout.readline()
        for number, host in enumerate(self.hosts, start=1):
            for words in (
                ["addr", "add", f"10.77.0.{number}/24", "dev", DEVICE],
                ["link", "set", DEVICE, "mtu", str(MTU), "up", "multicast", "on"],
            ):
                subprocess.run(["ip", "-n", host, *words], check=True)
        super().__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        self._cable.kill()
        self._cable.wait()

    def specs(self) -> list[Any]:
        """The nodes, and the stand-in planner as a process of its own."""
        self.processes.commands[PLANNER] = [sys.executable, "-m", "faults.stand_in"]
        self.processes.inside[PLANNER] = self.inside(PLANNER)
        self.processes.start(PLANNER)
        return super().specs()

    def make_nodes(self) -> list[Any]:
        """The robot alone."""
        self.arm = self.make_arm()
        self.joints, self.pictures, self.plans = self.arm.joints, self.arm.pictures, None
        return [self.arm]

    def inside(self, name: str) -> list[str]:
        """The host of a node; the clock that is stepped is that of the planner's."""
        if name in self.away:
            return ["ip", "netns", "exec", self.hosts[1]]
        return ["ip", "netns", "exec", self.hosts[0], "env", "-u", "LD_PRELOAD"]

    def cable(self, **directions: Mapping[str, float]) -> None:
        """Set the quality of 'to_planner' and of 'to_robot'; what is not named is good."""
        told = {
            "a_to_b": directions.get("to_planner", {}),
            "b_to_a": directions.get("to_robot", {}),
        }
        assert self._cable.stdin is not None
        self._cable.stdin.write(json.dumps(told) + "\n")
        self._cable.stdin.flush()

    def link(self, host: int, up: bool) -> None:
        """Set a host's end of the cable up or down."""
        words = ["ip", "-n", self.hosts[host], "link", "set", DEVICE, "up" if up else "down"]
        subprocess.run(words, check=False, capture_output=True)


class RemoteStage(NetworkStage):
    """The controller is on the planner's host, too; the guard alone is beside the robot."""

    kind = REMOTE
    away = (CAMERA, PLANNER, RECORDER, CONTROLLER)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Commands that the network has lost are no steps of the controller's: it cannot know.
        self.bounds = replace(self.bounds, max_step=np.full_like(self.bounds.low, np.inf))
