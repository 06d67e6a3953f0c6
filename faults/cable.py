"""A cable between two network namespaces, whose faults are set while it runs.

Each end is a TAP device. Run as a module it is a process of its own, which reads one JSON object a
line on stdin: ``{"a_to_b": {"loss": 0.3, "delay_s": 0.1, ...}, "b_to_a": {...}}``.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

CLONE_NEWNET, TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x40000000, 0x400454CA, 0x0002, 0x1000
DEVICE = "wire0"


@dataclass(frozen=True)
class Quality:
    """Of one direction.

    Attributes:
        loss, twice, damaged: share of packets that are lost, come twice, or have a byte changed.
        delay_s, jitter_s: delay, and how much more of it at most, drawn for each packet, so that
            they overtake each other.
        bytes_per_s: greatest rate; what is above it waits, and is lost after a second; 0: any.
    """

    loss: float = 0.0
    twice: float = 0.0
    damaged: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0


def open_tap(namespace: str) -> int:
    """File descriptor of a new TAP device in a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"namespace {namespace}")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", DEVICE.encode(), IFF_TAP | IFF_NO_PI)
        fcntl.ioctl(device, TUNSETIFF, request)
    finally:
        libc.setns(here, CLONE_NEWNET)
        os.close(here)
        os.close(there)
    return device


class Direction:
    """Packets of one direction: those that are on their way."""

    def __init__(self, into: int, rng: random.Random) -> None:
        self.quality = Quality()
        self._into, self._rng = into, rng
        self._waiting: list[tuple[float, int, bytes]] = []
        self._count, self._free_s = 0, 0.0

    def take(self, packet: bytes, now_s: float) -> None:
        """A packet enters."""
        quality, rng = self.quality, self._rng
        if rng.random() < quality.loss:
            return
        if rng.random() < quality.damaged:
            place = rng.randrange(len(packet))
            packet = packet[:place] + bytes([packet[place] ^ 0xFF]) + packet[place + 1 :]
        leaves_s = now_s
        if quality.bytes_per_s:
            if self._free_s > now_s + 1.0:
                return
            leaves_s = self._free_s = max(self._free_s, now_s) + len(packet) / quality.bytes_per_s
        for _ in range(2 if rng.random() < quality.twice else 1):
            at_s = leaves_s + quality.delay_s + rng.random() * quality.jitter_s
            self._count += 1
            heapq.heappush(self._waiting, (at_s, self._count, packet))

    def give(self, now_s: float) -> float:
        """Let out what is due; seconds until the next one is."""
        while self._waiting and self._waiting[0][0] <= now_s:
            try:
                os.write(self._into, heapq.heappop(self._waiting)[2])
            except OSError:
                continue  # the device is down: lost
        return self._waiting[0][0] - now_s if self._waiting else 1.0


def main(arguments: Sequence[str]) -> int:
    """Entry point: the two namespaces, and a seed."""
    first, second = (open_tap(name) for name in arguments[:2])
    rng = random.Random(int(arguments[2]))
    directions = {"a_to_b": Direction(second, rng), "b_to_a": Direction(first, rng)}
    sources = {first: directions["a_to_b"], second: directions["b_to_a"]}
    print("ready", flush=True)
    while True:
        now_s = time.monotonic()
        wait_s = min(direction.give(now_s) for direction in directions.values())
        readable, _, _ = select.select([first, second, sys.stdin], [], [], max(0.0, wait_s))
        now_s = time.monotonic()
        for place in readable:
            if place is sys.stdin:
                line = sys.stdin.readline()
                if not line:
                    return 0
                for name, values in json.loads(line).items():
                    directions[name].quality = Quality(**values)
                continue
            try:
                sources[place].take(os.read(place, 65536), now_s)
            except OSError:
                continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
