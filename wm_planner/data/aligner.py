"""Frames of a recording, and which of them are a model step apart; see `alignment`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from wm_planner.data.alignment import Tolerances, choose_frames, interpolate, nearest
from wm_planner.data.held_commands import HeldCommands, raw_actions
from wm_planner.embodiment import Embodiment


class Aligner:
    """Frames, and which of them are a model step apart; see `alignment`.

    Args:
        body: the robot.
        limits: tolerances.
        cameras: (K,) stamps of each camera's pictures, in the order of the messages.
        joints: (K,) stamps and (K, 1) values of each entry of the proprioception.
        held: commands.
        disobeyed: (begin, end) of the times in which the robot executed none of them.
    """

    def __init__(
        self,
        body: Embodiment,
        limits: Tolerances,
        cameras: dict[str, np.ndarray],
        joints: list[tuple[np.ndarray, np.ndarray]],
        held: HeldCommands,
        disobeyed: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.disobeyed = disobeyed
        self.body, self.limits, self.held, self.joints = body, limits, held, joints
        self.cameras = {
            name: np.unique(stamps, return_index=True) for name, stamps in cameras.items()
        }
        self.required = [c.name for c in body.cameras if not c.optional]
        self.reference = self.required[0]
        self.pieces: list[list[int]] = []
        self._prepare()

    def _prepare(self) -> None:
        """Frames whose partners and joints are known."""
        stamps = self.cameras[self.reference][0]
        gap_ns, end_ns = self.limits.joint_gap_ns, self.body.dt_ns // 2
        felt = np.concatenate(
            [
                interpolate(own, values, stamps, gap_ns, end_ns, entry in self.body.angles)
                for entry, (own, values) in zip(self.body.proprio, self.joints, strict=True)
            ],
            axis=1,
        )
        good = np.isfinite(felt).all(axis=1)
        for name in self.required[1:]:
            others = self.cameras[name][0]
            partner = [nearest(others, int(s), self.limits.image_ns) for s in stamps]
            good &= np.array([index is not None for index in partner])
        self.frames = np.flatnonzero(good)  # indices of the reference camera's pictures
        self.stamps_ns = stamps[self.frames]
        self.proprio = felt[self.frames]

    def step_ns(self, camera: str) -> int:
        """How far a picture of a camera may be from where a model step should end."""
        return self.limits.step_of(self.cameras[camera][0], self.body.dt_ns)

    def forget(self, bad: Iterable[tuple[str, int]]) -> None:
        """Pictures that cannot be decoded, by camera and number of the message."""
        for name, number in bad:
            stamps, numbers = self.cameras[name]
            keep = numbers != number
            self.cameras[name] = stamps[keep], numbers[keep]
        self._prepare()

    def choose(self) -> None:
        """Find `pieces`: lists of indices of frames, a model step apart."""

        def is_step(start: int, end: int) -> bool:
            return bool(np.isfinite(self._actions(start, end)).all())

        self.pieces = choose_frames(
            self.stamps_ns, self.body.model_dt_ns, self.step_ns(self.reference), is_step
        )

    def numbers(self, frame: int) -> dict[str, int]:
        """Number of the message on its topic, of each camera that has a picture of this frame."""
        at_ns = int(self.stamps_ns[frame])
        return {
            name: int(numbers[index])
            for name, (stamps, numbers) in self.cameras.items()
            if (index := nearest(stamps, at_ns, self.limits.image_ns)) is not None
        }

    def wanted(self) -> set[tuple[str, int]]:
        """Pictures of all pieces, by camera and number of the message."""
        frames = {frame for chain in self.pieces for frame in chain}
        return {pair for frame in frames for pair in self.numbers(frame).items()}

    def actions(self, chain: Sequence[int]) -> np.ndarray:
        """(T - 1, frame_skip * A) float32."""
        steps = [self._actions(a, b) for a, b in itertools.pairwise(chain)]
        return np.stack(steps).reshape(len(steps), -1).astype(np.float32)

    def _actions(self, start: int, end: int) -> np.ndarray:
        first, last = int(self.stamps_ns[start]), int(self.stamps_ns[end])
        return raw_actions(self.held, self.body, first, last)
