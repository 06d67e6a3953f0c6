"""Training steps on files: as released, and as this package makes them.

Released: every item reads a trajectory's whole file of images and cuts a window out of it; the
frozen encoder sees every frame of every window again in every step; the decoder is trained beside,
and also draws the predictions, for the log. What would make it slower still is left out: the item's
images are made ready for the model after the cut, and the data loader's processes cost nothing.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.released import ReleasedModel
from benchmarks.subjects import Subject
from wm_planner.data.build import build_store
from wm_planner.data.dataset import Windows
from wm_planner.data.dino_wm import PublishedDataset, PushT
from wm_planner.models.decoder import build_decoder
from wm_planner.training.latents import encode_store
from wm_planner.training.loop import _Fit
from wm_planner.training.machine import Machine
from wm_planner.training.model import ModelLearner, TransitionTraining

_ENDLESS = 1_000_000  # updates of a schedule that is never run to its end


class ReleasedTraining:
    """Steps of the released training on windows of K + 1 frames.

    Args:
        subject: whose weights and preprocessing are taken.
        dataset: in the published layout.
        batch: windows of a step.
        with_decoder: train the published decoder beside (of a small model its own).
    """

    def __init__(
        self, subject: Subject, dataset: PublishedDataset, batch: int, with_decoder: bool
    ) -> None:
        bundle = subject.bundle
        self._preprocess, self._device = bundle.preprocess, bundle.device
        config = bundle.model.config
        self._windows = Windows(dataset, config.num_hist, 1, bundle.preprocess.frame_skip)
        self._batch, self._rng = batch, np.random.default_rng(0)
        self.model = ReleasedModel(bundle.model).to(bundle.device)
        self.model.predictor.train()
        embeddings = (self.model.action_encoder, self.model.proprio_encoder)
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(self.model.predictor.parameters(), lr=5e-4),
            torch.optim.AdamW([p for part in embeddings for p in part.parameters()], lr=5e-4),
        ]
        self.decoder: nn.Module | None = None
        if with_decoder:
            self.decoder = copy.deepcopy(bundle.model.decoder) or build_decoder(
                "vqvae", config.image_size, config.num_patches, config.visual_dim
            )
            assert self.decoder is not None
            self.decoder.to(bundle.device).train().requires_grad_(True)
            self._optimizers.append(torch.optim.Adam(self.decoder.parameters(), lr=3e-4))

    def item(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (K + 1, 3, S, S), proprioception and actions of a window; all of K + 1 rows."""
        windows, data = self._windows, self._windows.dataset
        index, start = windows.locate(number)
        rows = slice(start, start + windows.num_frames * windows.stride, windows.stride)
        actions = data.actions(index)[rows.start : rows.stop]
        return (
            self._preprocess.images(_whole_file(data, index)[rows]),
            self._preprocess.normalise_proprio(data.proprio(index)[rows]),
            self._preprocess.normalise_actions(actions.reshape(windows.num_frames, -1)),
        )

    def step(self) -> Tensor:
        """One update; the loss before it."""
        numbers = self._rng.integers(len(self._windows), size=self._batch)
        items = zip(*(self.item(int(number)) for number in numbers), strict=True)
        images, *rest = (torch.stack(part).to(self._device) for part in items)
        loss = self.model.training_loss(images, *rest, self.decoder)
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self._optimizers:
            optimizer.step()
        return loss.detach()


class OurTraining:
    """Updates of the training loop on windows of K + 1 frames, from frames that are encoded before.

    Args:
        subject, dataset, batch: as of `ReleasedTraining`.
        directory: for the store, the encoded frames and the run.
        bf16: see `Machine`.
    """

    def __init__(
        self,
        subject: Subject,
        dataset: PublishedDataset,
        batch: int,
        directory: Path,
        bf16: bool = False,
    ) -> None:
        model, preprocess = copy.deepcopy(subject.bundle.model), subject.bundle.preprocess
        skip = preprocess.frame_skip
        store = build_store(
            dataset, directory / "store", int(dataset.lengths.min()) // skip - 1, skip, {}
        )
        machine = Machine(device=subject.device, bf16=bf16, cache=directory / "latents")
        config = TransitionTraining(
            _ENDLESS, 0.0, model.config.num_hist, batch, schedule="constant"
        )
        data = encode_store(store, model, preprocess, machine)
        self._fit = _Fit(ModelLearner(model, data, config, machine), {}, directory / "run", machine)

    def step(self) -> Tensor:
        """One update; the loss before it."""
        return self._fit._update(0)["loss"].detach()


def _whole_file(data: object, index: int) -> np.ndarray | Tensor:
    """(T, H, W, 3) all that the file of a trajectory's images holds."""
    assert isinstance(data, PublishedDataset)
    if isinstance(data, PushT):
        return data.frames(index)
    images = torch.load(data.path / data.image_file.format(index), weights_only=True)
    return images if images.shape[-1] == 3 else images.movedim(1, -1)
