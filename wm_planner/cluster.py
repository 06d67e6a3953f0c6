"""Tasks on a Ray cluster. Without an address nothing here is used, and Ray is not needed.

Ray (https://docs.ray.io) runs each task in a process of one of its machines, and runs it again
where a machine is lost. All machines must have the same sources of this package.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wm_planner import __version__
from wm_planner.errors import ConfigError, WmPlannerError

logger = logging.getLogger(__name__)

AHEAD = 4  # tasks handed over per processor of the cluster, so that none waits for the next one
ANSWER_S = 10.0  # that the head's port may take to open a connection


@dataclass(frozen=True)
class Task:
    """One task of a graph.

    Attributes:
        arguments: of the function.
        after: keys of the tasks that must have ended before.
    """

    arguments: tuple[Any, ...]
    after: tuple[Hashable, ...] = ()


class Cluster(AbstractContextManager["Cluster"]):
    """A connection to a cluster; a context manager that ends it, and what still runs.

    Args:
        address: 'auto' for the cluster that this machine belongs to, 'host:port' of its head, or
            'ray://host:port' of a head that clients reach from elsewhere.

    Raises:
        WmPlannerError: no cluster answers there.
        ModuleNotFoundError: Ray is not installed.
    """

    def __init__(self, address: str) -> None:
        # Seconds that Ray asks again and again, for seven minutes else: 'auto' may be a cluster of
        # before, whose head was killed.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
        import ray

        self._ray = ray
        try:
            _check_answers(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise WmPlannerError(
                f"--ray {address}: no cluster answers there ({reason}); start one with "
                "'ray start --head', see docs/scale.md"
            ) from error

    def __enter__(self) -> Cluster:
        # Ray prints there what happens to the cluster, in between what a command prints.
        self._stdout = redirect_stdout(sys.stderr)
        self._stdout.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()  # also cancels what this driver has started
        self._stdout.__exit__(None, None, None)

    @property
    def num_cpus(self) -> int:
        """Processors of the cluster as it is now."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def run(
        self,
        function: Callable[..., Any],
        items: Iterable[tuple[Any, ...]],
        cpus: int = 1,
        gpus: int = 0,
        in_order: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """Call a function once for each of many arguments; a few per processor at a time.

        Args:
            function: of a module of this package.
            items: arguments of each call.
            cpus, gpus: that a call takes.
            in_order: yield in the order of the items, not as they end.

        Yields:
            The item's number and what the function returned.

        Raises:
            WmPlannerError: of a call, or a machine has another version of this package.
        """
        remote = self._remote(cpus, gpus)
        waiting: deque[tuple[int, Any]] = deque()
        most = AHEAD * self.num_cpus
        for number, item in enumerate(items):
            waiting.append((number, remote(_version(), function, item)))
            while len(waiting) >= most:
                yield self._next(waiting, in_order)
        while waiting:
            yield self._next(waiting, in_order)

    def run_graph(
        self, function: Callable[..., Any], tasks: Mapping[Hashable, Task], cpus: int = 1
    ) -> Iterator[Hashable]:
        """Call a function for tasks that wait for each other.

        Args:
            function: of a module of this package; what it returns is not looked at.
            tasks: by key, each after those that it waits for.
            cpus: that a call takes.

        Yields:
            The key of each task, as it ends.

        Raises:
            WmPlannerError: as `run`.
        """
        remote = self._remote(cpus, 0)
        started: dict[Hashable, Any] = {}
        for key, task in tasks.items():
            before = [started[other] for other in task.after]
            started[key] = remote(_version(), function, task.arguments, *before)
        waiting = deque(started.items())
        while waiting:
            yield self._next(waiting, in_order=False)[0]

    def _remote(self, cpus: int, gpus: int) -> Callable[..., Any]:
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(m.get("CPU", 0) >= cpus and m.get("GPU", 0) >= gpus for m in machines):
            logger.warning(
                "no machine of the cluster has %d processors and %d GPUs: the tasks wait for one "
                "that has; see --threads, --device and 'ray status'",
                cpus,
                gpus,
            )
        options = {"num_cpus": cpus, "num_gpus": gpus}
        remote: Callable[..., Any] = self._ray.remote(**options)(call).remote
        return remote

    def _next(self, waiting: deque[Any], in_order: bool) -> tuple[Any, Any]:
        """Take one that has ended out of `waiting`."""
        first = 0
        if not in_order:
            references = [reference for _, reference in waiting]
            (ended,), _ = self._ray.wait(references, num_returns=1)
            first = references.index(ended)
        key, reference = waiting[first]
        del waiting[first]
        try:
            return key, self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, (WmPlannerError, ModuleNotFoundError)):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            reason = str(error).partition("\n")[0]
            raise WmPlannerError(
                f"the cluster has lost a task ({reason}); run the same command again, which goes "
                "on where it was"
            ) from error


def _check_answers(address: str) -> None:
    """Raises:
    OSError: HOST:PORT cannot be reached, which Ray would find out much later.
    ValueError: the port is no number.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()


def call(
    version: str, function: Callable[..., Any], arguments: tuple[Any, ...], *_after: Any
) -> Any:
    """What runs on the cluster: the function, where this machine has the same package.

    Ray begins it when the results `_after` are there.

    Raises:
        ConfigError: it has another one: its results could differ.
    """
    if (here := _version()) != version:
        raise ConfigError(
            f"machine {socket.gethostname()} of the cluster has wm_planner {here}, this command "
            f"{version}; install the same on all machines"
        )
    return function(*arguments)


@cache
def _version() -> str:
    """Version, and a hash of the sources: two trees with changes of their own differ."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(here.rglob("*.py")):
        digest.update(file.relative_to(here).as_posix().encode() + file.read_bytes())
    return f"{__version__} ({digest.hexdigest()[:12]})"
