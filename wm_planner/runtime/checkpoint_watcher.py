"""Notice a newly published bundle, load it aside, hand it over between two plans."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from wm_planner.errors import CheckpointError
from wm_planner.runtime.worker import LatestWorker

Bundle = TypeVar("Bundle")


class CheckpointWatcher(Generic[Bundle]):
    """Follows a pointer to the latest bundle.

    `poll` is cheap and belongs on a timer; loading runs on a thread. A bundle that cannot be
    loaded or does not fit is kept out, the reason is in `failure`, and it is not tried again
    until the pointer changes.

    Args:
        pointer: 'latest': a symlink to a bundle directory, or a text file that names one
            (relative to the pointer's directory). It need not exist yet.
        load: reads a bundle directory; anything it raises becomes `failure`.
        check: raises when the bundle does not fit the running graph; a warm-up plan goes here.
        current: the directory in use at start, which is not loaded again.
    """

    def __init__(
        self,
        pointer: Path | str,
        load: Callable[[Path], Bundle],
        check: Callable[[Bundle], object],
        current: Path | str | None = None,
    ) -> None:
        self.pointer = Path(pointer)
        self._load = load
        self._check = check
        self._seen = None if current is None else Path(current).resolve()
        self._lock = threading.Lock()
        self._ready: tuple[Path, Bundle] | None = None
        self._pointer_failure: str | None = None
        self._failure: str | None = None
        self._worker: LatestWorker[Path, tuple[Path, Bundle]] = LatestWorker(
            self._prepare, self._keep, self._fail, name="checkpoint_watcher"
        )

    @property
    def failure(self) -> str | None:
        """Why the newest published bundle is not in use, or None."""
        with self._lock:
            return self._pointer_failure or self._failure

    @property
    def busy(self) -> bool:
        """True while a bundle is being loaded."""
        return self._worker.busy

    def poll(self) -> None:
        """Look at the pointer; start loading when it names another directory than last time."""
        target, failure = None, None
        try:
            target = read_pointer(self.pointer)
        except (CheckpointError, OSError) as error:
            failure = str(error)
        with self._lock:
            self._pointer_failure = failure
        if target is None or target == self._seen:
            return
        self._seen = target
        self._worker.reset()
        self._worker.submit(target)

    def take(self) -> tuple[Path, Bundle] | None:
        """The directory and bundle to use from now on, once; None when there is nothing new."""
        with self._lock:
            ready, self._ready = self._ready, None
        return ready

    def wait_idle(self, timeout_s: float) -> bool:
        """Block until nothing is being loaded; False when that took longer."""
        return self._worker.wait_idle(timeout_s)

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the thread; False when a load did not return within `timeout_s`."""
        return self._worker.stop(timeout_s)

    def _prepare(self, path: Path, should_stop: Callable[[], bool]) -> tuple[Path, Bundle]:
        try:
            bundle = self._load(path)
            if not should_stop():
                self._check(bundle)
        except Exception as error:
            raise CheckpointError(f"{path}: not taken over: {error}") from error
        return path, bundle

    def _keep(self, ready: tuple[Path, Bundle]) -> None:
        with self._lock:
            self._ready, self._failure = ready, None

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._failure = str(error)


def read_pointer(pointer: Path) -> Path | None:
    """The bundle directory that `pointer` names, resolved; None when nothing is published yet.

    Raises:
        CheckpointError: the pointer names no directory.
    """
    if pointer.is_symlink() or pointer.is_dir():
        target = pointer.resolve()
    elif pointer.is_file():
        target = (pointer.parent / pointer.read_text().strip()).resolve()
        if target == pointer.parent.resolve():
            raise CheckpointError(f"{pointer}: empty; expected the name of a bundle directory")
    else:
        return None
    if not target.is_dir():
        raise CheckpointError(f"{pointer}: names {target}, which is no directory")
    return target
