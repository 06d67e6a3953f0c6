"""Asynchronous images, proprioception and actions to one Observation per model step.

The same class serves the planner live and reads recordings, and what it returns for an image
depends on stamps alone, so that a model is trained on what it will be served.

Legend: T = frames, P = proprioception entries, a = raw action size, A = frame_skip * a.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from wm_planner.data.alignment import interpolate, nearest
from wm_planner.errors import ConfigError
from wm_planner.types import Observation

Value = TypeVar("Value")

# Samples are kept this much longer than the history needs: how late a camera may deliver.
LATENCY_NS = 1_000_000_000


class Stream(Generic[Value]):
    """Samples of one topic, sorted by stamp, each stamp once."""

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []
        self.values: list[Value] = []

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample."""
        return self.stamps_ns[-1] if self.stamps_ns else None

    def insert(self, stamp_ns: int, value: Value) -> None:
        """Add a sample; one published again at the same stamp changes nothing."""
        index = bisect_left(self.stamps_ns, stamp_ns)
        if index < len(self.stamps_ns) and self.stamps_ns[index] == stamp_ns:
            return
        self.stamps_ns.insert(index, stamp_ns)
        self.values.insert(index, value)

    def nearest(self, stamp_ns: int, tolerance_ns: int) -> Value | None:
        """The value nearest to `stamp_ns` (the earlier of two), or None."""
        index = nearest(self.stamps_ns, stamp_ns, tolerance_ns)
        return None if index is None else self.values[index]

    def drop_before(self, stamp_ns: int) -> None:
        """Forget samples older than `stamp_ns`."""
        index = bisect_left(self.stamps_ns, stamp_ns)
        del self.stamps_ns[:index]
        del self.values[:index]


@dataclass(eq=False)
class FrameAssembler:
    """Builds an Observation from the newest image whose partners are known. Use one thread.

    An image is ready when a proprioception sample at or after its stamp has arrived (and, where
    actions are needed for history, the last action before it): then, as each topic arrives in
    order, nothing nearer can still come. An image older than the newest stamp of any topic by
    more than `tolerance_ns` no longer waits.

    Of several cameras the first that is not optional gives the stamps. An image of it is ready
    when the others have delivered one at or after its stamp; each gives its nearest within
    `tolerance_ns`, side by side in one picture. Without one of a camera that is not optional there
    is no observation; an optional one is black then, and is not waited for once it is silent.

    Frame k of the history is the image nearest to stamp - k * model_dt_ns; history ends at the
    first frame that is missing within `tolerance_ns`. Stamps that jump backwards by more than the
    history and a second (simulator reset) clear everything. Call `clear` between episodes.

    Proprioception is interpolated between the samples around an image, where those are at most
    `joint_gap_ns` apart; else the nearest within `tolerance_ns` is taken.

    Args:
        history_len: greatest T.
        model_dt_ns: time between frames.
        tolerance_ns: greatest distance of a sample from where it belongs; below model_dt_ns / 2.
        frame_skip: raw actions per model step; None: the model needs no past actions.
        optional: for each camera, whether an observation may lack it.
        joint_gap_ns: see above.
        angles: (P,) which entries are angles that wrap, radians; False: none.

    Raises:
        ConfigError: a value cannot be used.
    """

    history_len: int
    model_dt_ns: int
    tolerance_ns: int
    frame_skip: int | None = None
    optional: Sequence[bool] = (False,)
    joint_gap_ns: int = 0
    angles: np.ndarray | bool = False

    def __post_init__(self) -> None:
        if self.history_len < 1:
            raise ConfigError(f"history_len must be at least 1, got {self.history_len}")
        if self.model_dt_ns <= 0:
            raise ConfigError(f"model_dt_ns must be positive, got {self.model_dt_ns}")
        if not 0 <= self.tolerance_ns < self.model_dt_ns / 2:
            raise ConfigError(
                f"tolerance_ns must lie in 0 .. model_dt_ns / 2 = {self.model_dt_ns / 2:.0f}, "
                f"got {self.tolerance_ns}"
            )
        if self.frame_skip is not None and self.frame_skip < 1:
            raise ConfigError(f"frame_skip must be at least 1, got {self.frame_skip}")
        if all(self.optional):
            raise ConfigError("at least one camera must not be optional")
        self.reference = list(self.optional).index(False)
        self.clear()

    def clear(self) -> None:
        """Forget all samples; the next Observation has T = 1."""
        self._cameras: list[Stream[np.ndarray]] = [Stream() for _ in self.optional]
        self._images = self._cameras[self.reference]
        self._proprio: Stream[np.ndarray] = Stream()
        self._actions: Stream[np.ndarray] = Stream()
        self._newest_ns: int | None = None
        self._taken_ns: int | None = None

    def push_image(self, stamp_ns: int, image: np.ndarray, camera: int = 0) -> None:
        """Add one (H, W, 3) uint8 RGB image of a camera, by its number."""
        self._advance(stamp_ns)
        self._cameras[camera].insert(stamp_ns, image)

    def push_proprio(self, stamp_ns: int, proprio: np.ndarray) -> None:
        """Add one (P,) sample, physical units."""
        self._advance(stamp_ns)
        self._proprio.insert(stamp_ns, np.asarray(proprio, dtype=np.float32))

    def push_action(self, stamp_ns: int, action: np.ndarray) -> None:
        """Add one raw (a,) action, physical units, by the time it was sent."""
        self._advance(stamp_ns)
        self._actions.insert(stamp_ns, np.asarray(action, dtype=np.float32))

    def take(self) -> Observation | None:
        """The Observation of the newest ready image; each image is given once, never an older."""
        for stamp_ns in reversed(self._images.stamps_ns):
            if self._taken_ns is not None and stamp_ns <= self._taken_ns:
                return None
            frame = self._frame(stamp_ns) if self._ready(stamp_ns) else None
            if frame is not None:
                self._taken_ns = stamp_ns
                return self._build(stamp_ns, frame)
        return None

    def _ready(self, stamp_ns: int) -> bool:
        assert self._newest_ns is not None
        if self._newest_ns > stamp_ns + self.tolerance_ns:
            return True
        if self._proprio.newest_ns is None or self._proprio.newest_ns < stamp_ns:
            return False
        for stream, optional in zip(self._cameras, self.optional, strict=True):
            newest_ns = stream.newest_ns
            silent = newest_ns is None or newest_ns < stamp_ns - LATENCY_NS
            if (newest_ns is None or newest_ns < stamp_ns) and not (optional and silent):
                return False
        if self.frame_skip is None or self.history_len == 1:
            return True
        if self._images.nearest(stamp_ns - self.model_dt_ns, self.tolerance_ns) is None:
            return True
        last_slot_ns = stamp_ns - self.model_dt_ns // self.frame_skip
        return self._actions.newest_ns is not None and self._actions.newest_ns >= last_slot_ns

    def _frame(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Picture and (P,) proprioception at an image of the first camera; None: not known."""
        felt = self._felt(stamp_ns)
        pictures = [stream.nearest(stamp_ns, self.tolerance_ns) for stream in self._cameras]
        pairs = zip(pictures, self.optional, strict=True)
        if felt is None or any(p is None and not optional for p, optional in pairs):
            return None
        size = next(picture for picture in pictures if picture is not None).shape[0]
        return mosaic(pictures, size), felt

    def _felt(self, stamp_ns: int) -> np.ndarray | None:
        right = bisect_left(self._proprio.stamps_ns, stamp_ns)
        around = slice(max(0, right - 1), right + 1)
        own = np.array(self._proprio.stamps_ns[around], np.int64)
        if self.joint_gap_ns and len(own) == 2:
            values = np.array(self._proprio.values[around], np.float64)
            at = np.array([stamp_ns])
            (felt,) = interpolate(own, values, at, self.joint_gap_ns, 0, self.angles)
            if np.isfinite(felt).all():
                return np.asarray(felt, np.float32)
        return self._proprio.nearest(stamp_ns, self.tolerance_ns)

    def _build(self, stamp_ns: int, newest: tuple[np.ndarray, np.ndarray]) -> Observation:
        frames = [newest]
        actions: list[np.ndarray] = []
        for k in range(1, self.history_len):
            start_ns = stamp_ns - k * self.model_dt_ns
            earlier = nearest(self._images.stamps_ns, start_ns, self.tolerance_ns)
            frame = None if earlier is None else self._frame(self._images.stamps_ns[earlier])
            if frame is None:
                break
            if self.frame_skip is not None:
                action = self._model_action(start_ns)
                if action is None:
                    break
                actions.insert(0, action)
            frames.insert(0, frame)
        return Observation(
            images=np.stack([picture for picture, _ in frames]),
            proprio=np.stack([felt for _, felt in frames]),
            stamp_ns=stamp_ns,
            actions=np.stack(actions) if actions else None,
        )

    def _model_action(self, start_ns: int) -> np.ndarray | None:
        """(A,) raw actions sent during one model step; a single lost one takes its neighbour."""
        assert self.frame_skip is not None
        control_dt_ns = self.model_dt_ns // self.frame_skip
        rows = [
            self._actions.nearest(start_ns + i * control_dt_ns, control_dt_ns)
            for i in range(self.frame_skip)
        ]
        known = [row for row in rows if row is not None]
        return np.concatenate(known) if len(known) == len(rows) else None

    def _advance(self, stamp_ns: int) -> None:
        span_ns = self.history_len * self.model_dt_ns + LATENCY_NS
        if self._newest_ns is not None and stamp_ns < self._newest_ns - span_ns:
            self.clear()
        if self._newest_ns is None or stamp_ns > self._newest_ns:
            self._newest_ns = stamp_ns
            for stream in (*self._cameras, self._proprio, self._actions):
                stream.drop_before(stamp_ns - span_ns)


def mosaic(pictures: Sequence[np.ndarray | None], size: int) -> np.ndarray:
    """(S, C * S, 3) uint8: the pictures of C cameras side by side; black where there is none.

    Args:
        pictures: (S, S, 3) uint8 RGB each, left to right.
        size: S.
    """
    if len(pictures) == 1 and pictures[0] is not None:
        return pictures[0]
    black = np.zeros((size, size, 3), np.uint8)
    return np.concatenate([black if p is None else p for p in pictures], axis=1)
