"""What it takes to plan with a model: three methods, and the body that it imagines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from wm_planner.embodiment import Embodiment
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import Latent
from wm_planner.types import Goal, Observation

if TYPE_CHECKING:
    from wm_planner.models.upper import Upper


class Model(Protocol):
    """A world model that every solver can plan with; `WorldModel` is one.

    Shapes: B robots, T frames, H model steps, A model action size, S side of a picture, C cameras,
    p entries of proprioception. All inputs are standardised by the model's `Preprocess`.

    A model that looks at several frames has an attribute `num_hist`, how many at most. One that can
    say what proprioception it expects has a method `read_proprio`, from embedded (..., Dp) to
    standardised (..., p); the cost 'keep_out' needs it.
    """

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def encode(self, images: Tensor, proprio: Tensor) -> Latent:
        """Latents (B, T, ...) of pictures (B, T, 3, S, C * S) in [-1, 1] and (B, T, p)."""

    def rollout(
        self, latent: Latent, actions: Tensor, past_actions: Tensor | None, mode: str
    ) -> Latent:
        """What (B, H, A) actions do: H + 1 frames, the first is now.

        Differentiable in the actions, if gradients are to plan with it; the visual tokens
        (B, H + 1, P, Dv) are compared with the goal's, and so is the proprioception (B, H + 1, Dp).

        Args:
            latent: (B, T, ...), the last frame is now.
            actions: the first one is taken now.
            past_actions: (B, T - 1, A) that led through the given frames, or None.
            mode: 'markov' or 'history', the planner's setting 'rollout'.
        """


@dataclass
class EmbodiedModel:
    """A model, and the robot that it imagines.

    Attributes:
        model: in evaluation mode, without weight gradients.
        preprocess: image path and normalisation.
        embodiment: of the robot.
        upper: predicts macro-steps in the same latent, see `models.upper`; None: nothing does.
    """

    model: Model
    preprocess: Preprocess
    embodiment: Embodiment
    upper: Upper | None = field(default=None, kw_only=True)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def num_hist(self) -> int:
        """Frames that the model looks at, at most."""
        return getattr(self.model, "num_hist", 1)

    @torch.no_grad()
    def encode_observation(self, observation: Observation) -> Latent:
        """Latent (B=1, T, ...) of an observation."""
        pixels = torch.as_tensor(observation.images)
        if self.device.type == "cuda":
            # As bytes, a quarter of the floats, out of pinned memory: nobody waits for the copy.
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        images = self.preprocess.images(pixels)[None].to(self.device)
        proprio = self.preprocess.normalise_proprio(observation.proprio)[None].to(self.device)
        return self.model.encode(images, proprio)

    @torch.no_grad()
    def encode_goal(self, goal: Goal) -> Latent:
        """Latent (B=1, T=1, ...) of a goal; unknown proprioception is taken as the mean."""
        images = self.preprocess.images(goal.image)[None, None].to(self.device)
        if goal.proprio is None:
            proprio = torch.zeros(1, 1, len(self.preprocess.proprio_mean))
        else:
            proprio = self.preprocess.normalise_proprio(goal.proprio)[None, None]
        return self.model.encode(images, proprio.to(self.device))
