"""Recorded episodes as latents, converted when their bag is complete, once for each encoder.

Below the directory there is one folder for each encoder, and in it one file per episode, written
aside and renamed: whatever is there is whole. A bag that cannot be used has a file that says why.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wm_planner.data.bags import bags_in
from wm_planner.data.layouts import BAG_METADATA
from wm_planner.data.recording import read_recording
from wm_planner.errors import DatasetError, WmPlannerError
from wm_planner.files import read_json, write_bytes, write_json
from wm_planner.models.bundle import Bundle
from wm_planner.training.feature_cache import encode_chunk
from wm_planner.training.machine import Machine
from wm_planner.training.segments import Segments, joined

ENDED_S = 60.0  # a bag without an end is complete when nothing was written to it for so long
_ENDING, _REFUSED = ".safetensors", ".refused.json"
_VIEW = re.compile("[0-9a-f]{12}")
_PICTURES = 8  # of each episode, evenly from all: they show how the cameras stand


@dataclass(frozen=True)
class Episode:
    """One converted episode.

    Attributes:
        name: of its bag.
        outcome: 'success', 'failure', or '' where nobody said.
        segments: stretches without a hole.
        pictures: (F, S, C * S, 3) uint8, a few of its frames; None in what was converted earlier.
        operator_steps: model steps in which an operator drove for the most part.
    """

    name: str
    outcome: str
    segments: Segments
    pictures: Tensor | None = None
    operator_steps: int = 0


class Episodes:
    """The episodes of a directory of bags, converted when they are complete.

    Args:
        bags: directory that receives the bags; it may not be there yet.
        directory: receives the converted episodes.
        bundle: whose encoder.
        now_s: seconds since the epoch, as those of files.
    """

    def __init__(
        self,
        bags: Path,
        directory: Path,
        bundle: Bundle,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._bags, self._bundle, self._now_s = bags, bundle, now_s
        self.directory = directory / view_of(bundle)

    def convert(self, most: int | None = None) -> list[str]:
        """Convert the complete bags that were not; the names of those that can be learnt from.

        Args:
            most: stop after so many; None: all.

        Raises:
            WriteError: the disk has no room.
        """
        done = []
        for bag in bags_in(self._bags) if self._bags.is_dir() else []:
            file, refused = (self.directory / f"{bag.name}{end}" for end in (_ENDING, _REFUSED))
            if file.exists() or refused.exists() or not self._is_complete(bag):
                continue
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                write_bytes(file, self._converted(bag))
            except DatasetError as error:
                write_json(refused, {"bag": str(bag), "reason": str(error)})
                continue
            done.append(bag.name)
            if len(done) == most:
                break
        return done

    def names(self) -> list[str]:
        """Of all that are converted, the oldest conversion first."""
        files = self.directory.glob(f"[!.]*{_ENDING}")
        return [f.name.removesuffix(_ENDING) for f in sorted(files, key=_age)]

    def refused(self) -> dict[str, str]:
        """Why bags cannot be used, by their names."""
        files = sorted(self.directory.glob(f"*{_REFUSED}"))
        return {f.name.removesuffix(_REFUSED): read_json(f)["reason"] for f in files}

    def load(self, name: str) -> Episode | None:
        """A converted episode; None where its file is damaged, which is then converted again."""
        file = self.directory / f"{name}{_ENDING}"
        try:
            with safe_open(file, "pt") as content:
                tensors = {key: content.get_tensor(key) for key in content.keys()}
                told = content.metadata() or {}
            steps = int(told.get("operator_steps", 0))
            pictures = tensors.pop("pictures", None)
            return Episode(name, told.get("outcome", ""), Segments(**tensors), pictures, steps)
        except (OSError, SafetensorError, TypeError, ValueError):
            file.unlink(missing_ok=True)
            return None

    def _is_complete(self, bag: Path) -> bool:
        if bag.is_file() or (bag / BAG_METADATA).is_file():
            return True
        newest = max((f.stat().st_mtime for f in bag.iterdir()), default=self._now_s())
        return self._now_s() - newest > ENDED_S  # its recorder was killed

    def _converted(self, bag: Path) -> bytes:
        """The content of an episode's file.

        Raises:
            DatasetError: the bag cannot be used.
        """
        bundle, machine = self._bundle, Machine(self._bundle.device)
        try:
            recording = read_recording(bag)
            difference = bundle.embodiment.difference(recording.embodiment)
        except WmPlannerError as error:
            raise DatasetError(str(error)) from error
        if difference is not None:
            raise DatasetError(f"{bag}: of another robot than the checkpoint: {difference}")
        parts = []
        for piece in recording.pieces:
            steps = len(piece.actions)
            if not steps:
                continue
            actions = bundle.preprocess.normalise_actions(piece.actions)
            parts.append(
                Segments(
                    encode_chunk(piece.images, bundle.model, bundle.preprocess, machine),
                    bundle.preprocess.normalise_proprio(piece.proprio),
                    torch.cat([actions, torch.zeros_like(actions[:1])]),
                    torch.tensor([steps]),
                )
            )
        if not parts:
            raise DatasetError(f"{bag}: no model step is whole")
        tensors = {k: v.contiguous() for k, v in vars(joined(parts)).items()}
        frames = [
            image for piece in recording.pieces if len(piece.actions) for image in piece.images
        ]
        chosen = np.linspace(0, len(frames) - 1, min(_PICTURES, len(frames))).round().astype(int)
        tensors["pictures"] = torch.from_numpy(np.stack([frames[i] for i in chosen]))
        driven = sum(int((piece.operator > 0.5).sum()) for piece in recording.pieces)
        return save(tensors, {"outcome": recording.outcome, "operator_steps": str(driven)})


def view_of(bundle: Bundle) -> str:
    """Checksum of what makes latents of observations: episodes are converted anew for another."""
    digest = hashlib.sha256(repr(bundle.preprocess).encode())
    for part in ("encoder", "proprio_encoder"):
        values: dict[str, Tensor] = getattr(bundle.model, part).state_dict()
        for name, value in sorted(values.items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def remove_others(directory: Path, views: set[str]) -> None:
    """Remove what was converted for encoders of other checksums, and nothing else.

    Args:
        directory: of `Episodes`.
        views: see `view_of`.
    """
    for view in directory.iterdir():
        if view.name in views or not _VIEW.fullmatch(view.name):
            continue
        for file in [*view.glob(f"*{_ENDING}"), *view.glob(f"*{_REFUSED}")]:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            view.rmdir()


def _age(file: Path) -> tuple[Any, ...]:
    return file.stat().st_mtime_ns, file.name
