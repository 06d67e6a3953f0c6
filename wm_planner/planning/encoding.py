"""Observations as the model sees them, encoded where the planner does not wait for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wm_planner.models.model import EmbodiedModel
from wm_planner.models.world_model import Latent
from wm_planner.types import Observation


@dataclass(frozen=True)
class EncodedObservation:
    """An encoded observation of B robots.

    Attributes:
        now: (B, T, ...) latent.
        past_actions: (B, T - 1, A) standardised, or None.
        stamp_ns: capture time of the newest frame.
        proprio: (B, P) of the newest frame, physical units.
        ready: on a GPU, what comes after the encoding in the stream that does it.
    """

    now: Latent
    past_actions: Tensor | None
    stamp_ns: int
    proprio: np.ndarray
    ready: torch.cuda.Event | None = None

    def wait(self) -> None:
        """Let what is issued from here on, in the current stream, come after the encoding."""
        if self.ready is None:
            return
        stream = torch.cuda.current_stream(self.now.visual.device)
        stream.wait_event(self.ready)
        for tensor in (self.now.visual, self.now.proprio, self.past_actions):
            if tensor is not None:
                tensor.record_stream(stream)  # or its memory may be taken before it is read


class ObservationEncoder:
    """Encodes observations; on a GPU in a stream beside the one that plans.

    Args:
        bundle: whose encoder.
    """

    def __init__(self, bundle: EmbodiedModel) -> None:
        self._bundle = bundle
        self._side = None
        if bundle.device.type == "cuda":
            self._side = torch.cuda.Stream(bundle.device)

    @property
    def is_concurrent(self) -> bool:
        """Whether another thread may encode while one plans, and gain by it.

        On a CPU both would take the same cores, and the libraries chosen for the planner's products
        hold for the whole process.
        """
        return self._side is not None

    def __call__(self, observation: Observation, num_robots: int = 1) -> EncodedObservation:
        """Encode; the frames of several robots lie one robot after the other, as do its actions."""
        if self._side is None:
            return self._encode(observation, num_robots)
        with torch.cuda.stream(self._side):
            encoded = self._encode(observation, num_robots)
            return replace(encoded, ready=self._side.record_event())

    def _encode(self, observation: Observation, num_robots: int) -> EncodedObservation:
        past = None
        if observation.actions is not None:
            normalise = self._bundle.preprocess.normalise_actions
            past = normalise(observation.actions).to(self._bundle.device)
            past = past.unflatten(0, (num_robots, -1))
        latent = self._bundle.encode_observation(observation)
        shape = num_robots, -1
        now = Latent(latent.visual[0].unflatten(0, shape), latent.proprio[0].unflatten(0, shape))
        count = now.visual.shape[1]
        newest = observation.proprio[count - 1 :: count]
        return EncodedObservation(now, past, observation.stamp_ns, newest)
