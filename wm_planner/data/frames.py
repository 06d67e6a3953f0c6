"""Asynchronous images, proprioception and actions to one Observation per model step.

The same class serves the planner live and reads recordings, and what it returns for an image
depends on stamps alone, so that a model is trained on what it will be served.

Legend: T = frames, P = proprioception entries, a = raw action size, A = frame_skip * a.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from wm_planner.data.alignment import interpolate
from wm_planner.data.messages import joint_values
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

    def nearest(self, stamp_ns: int, tolerance_ns: int) -> int | None:
        """Index of the sample nearest to `stamp_ns` (the earlier of two), or None."""
        index = bisect_left(self.stamps_ns, stamp_ns)
        near = [i for i in (index - 1, index) if 0 <= i < len(self.stamps_ns)]
        best = min(near, key=lambda i: abs(self.stamps_ns[i] - stamp_ns), default=None)
        if best is None or abs(self.stamps_ns[best] - stamp_ns) > tolerance_ns:
            return None
        return best

    def drop_before(self, stamp_ns: int) -> None:
        """Forget samples older than `stamp_ns`."""
        index = bisect_left(self.stamps_ns, stamp_ns)
        del self.stamps_ns[:index]
        del self.values[:index]


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
        angles: (P,) which entries are angles that wrap, radians; None: none.

    Raises:
        ConfigError: a value cannot be used.
    """

    def __init__(
        self,
        history_len: int,
        model_dt_ns: int,
        tolerance_ns: int,
        frame_skip: int | None = None,
        optional: Sequence[bool] = (False,),
        joint_gap_ns: int = 0,
        angles: np.ndarray | None = None,
    ) -> None:
        if history_len < 1:
            raise ConfigError(f"history_len must be at least 1, got {history_len}")
        if model_dt_ns <= 0:
            raise ConfigError(f"model_dt_ns must be positive, got {model_dt_ns}")
        if not 0 <= tolerance_ns < model_dt_ns / 2:
            raise ConfigError(
                f"tolerance_ns must lie in 0 .. model_dt_ns / 2 = {model_dt_ns / 2:.0f}, "
                f"got {tolerance_ns}"
            )
        if frame_skip is not None and frame_skip < 1:
            raise ConfigError(f"frame_skip must be at least 1, got {frame_skip}")
        if all(optional):
            raise ConfigError("at least one camera must not be optional")
        self.history_len = history_len
        self.model_dt_ns = model_dt_ns
        self.tolerance_ns = tolerance_ns
        self.frame_skip = frame_skip
        self.optional = tuple(optional)
        self.reference = self.optional.index(False)
        self.joint_gap_ns = joint_gap_ns
        self.angles = False if angles is None else angles
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

    def take(self, settled: bool = False) -> Observation | None:
        """The Observation of the newest ready image; each image is given once, never an older.

        Args:
            settled: nothing more will arrive for the images pushed so far (reading a recording).
        """
        for stamp_ns in reversed(self._images.stamps_ns):
            if self._taken_ns is not None and stamp_ns <= self._taken_ns:
                return None
            if not (settled or self._ready(stamp_ns)):
                continue
            frame = self._frame(stamp_ns)
            if frame is None:
                continue
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
        pictures: list[np.ndarray | None] = []
        for stream, optional in zip(self._cameras, self.optional, strict=True):
            index = stream.nearest(stamp_ns, self.tolerance_ns)
            if index is None and not optional:
                return None
            pictures.append(None if index is None else stream.values[index])
        if felt is None:
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
        index = self._proprio.nearest(stamp_ns, self.tolerance_ns)
        return None if index is None else self._proprio.values[index]

    def _build(self, stamp_ns: int, newest: tuple[np.ndarray, np.ndarray]) -> Observation:
        frames = [newest]
        actions: list[np.ndarray] = []
        for k in range(1, self.history_len):
            earlier = self._images.nearest(stamp_ns - k * self.model_dt_ns, self.tolerance_ns)
            if earlier is None:
                break
            frame = self._frame(self._images.stamps_ns[earlier])
            if frame is None:
                break
            if self.frame_skip is not None:
                action = self._model_action(stamp_ns - k * self.model_dt_ns)
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
        rows = []
        for i in range(self.frame_skip):
            index = self._actions.nearest(start_ns + i * control_dt_ns, control_dt_ns)
            if index is None:
                return None
            rows.append(self._actions.values[index])
        return np.concatenate(rows)

    def _advance(self, stamp_ns: int) -> None:
        span_ns = self.history_len * self.model_dt_ns + LATENCY_NS
        if self._newest_ns is not None and stamp_ns < self._newest_ns - span_ns:
            self.clear()
        if self._newest_ns is None or stamp_ns > self._newest_ns:
            self._newest_ns = stamp_ns
            for stream in (*self._cameras, self._proprio, self._actions):
                stream.drop_before(stamp_ns - span_ns)


class JointCollector:
    """Proprioception of a robot whose joints may come in several messages on one topic.

    Args:
        entries: '<joint>/<position|velocity|effort>', P of them.
        gap_ns: greatest age of a value when the last one comes.
    """

    def __init__(self, entries: Sequence[str], gap_ns: int) -> None:
        self.entries, self.gap_ns = tuple(entries), gap_ns
        self._values = np.full(len(self.entries), np.nan)
        self._stamps_ns = np.zeros(len(self.entries), np.int64)

    @property
    def missing(self) -> list[str]:
        """Entries of which no message has said anything so far."""
        return [e for e, value in zip(self.entries, self._values, strict=True) if np.isnan(value)]

    def add(self, message: Any, stamp_ns: int) -> np.ndarray | None:
        """(P,) float32 once all entries are known; None until then, and of another device.

        Args:
            message: sensor_msgs/JointState.
            stamp_ns: of the message.
        """
        values = joint_values(message, self.entries)
        known = np.isfinite(values)
        if not known.any():
            return None
        self._values = np.where(known, values, self._values)
        self._stamps_ns = np.where(known, stamp_ns, self._stamps_ns)
        if np.isnan(self._values).any() or np.any(stamp_ns - self._stamps_ns > self.gap_ns):
            return None
        return self._values.astype(np.float32)


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


def replay(
    assembler: FrameAssembler,
    images: Iterable[tuple[int, np.ndarray]],
    proprio: Iterable[tuple[int, np.ndarray]],
    actions: Iterable[tuple[int, np.ndarray]] = (),
) -> Iterator[Observation]:
    """Observations of recorded (stamp_ns, value) streams, one per image, oldest first.

    Live, images that became ready together give only the newest; here each is given.
    """
    felt = deque(sorted(proprio, key=lambda sample: sample[0]))
    sent = deque(sorted(actions, key=lambda sample: sample[0]))
    for stamp_ns, image in sorted(images, key=lambda sample: sample[0]):
        reach_ns = max(assembler.tolerance_ns, assembler.joint_gap_ns)
        while felt and felt[0][0] <= stamp_ns + reach_ns:
            assembler.push_proprio(*felt.popleft())
        while sent and sent[0][0] <= stamp_ns:
            assembler.push_action(*sent.popleft())
        assembler.push_image(stamp_ns, image)
        observation = assembler.take(settled=True)
        if observation is not None:
            yield observation
