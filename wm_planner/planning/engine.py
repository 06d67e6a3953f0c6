"""What a planner rolls out with, chosen once for model, device and precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch import Tensor

from wm_planner.errors import ConfigError
from wm_planner.models.fast.library import fastest_library, has_bfloat16, library
from wm_planner.models.fast.predictor import FrozenPredictor, FrozenWindow
from wm_planner.models.fast.rollout import ends_of, markov_rollout
from wm_planner.models.model import Model
from wm_planner.models.world_model import Latent, WorldModel
from wm_planner.planning.config import PlannerConfig


class Engine:
    """Rollouts of a model through the form of its predictor that is made for planning.

    With execution 'plain', and of somebody else's model, they are the model's own.

    Args:
        model: in evaluation mode. Its weights may change between two plans.
        config: 'execution', 'precision' and 'rollout' are used.

    Raises:
        ConfigError: bfloat16 where the processor has none, or with plain execution.
    """

    def __init__(self, model: Model, config: PlannerConfig) -> None:
        self._model, self._config = model, config
        self.device = model.device
        # The model, where its predictor has a form that is made for planning.
        self._ours = None
        if isinstance(model, WorldModel) and config.execution != "plain":
            self._ours = model
        if config.precision != "float32":
            self._check_precision()
        self.captures = self._ours is not None and self.device.type == "cuda"
        self.library = "usual"
        self.refresh()
        if self._ours is not None and self.device.type == "cpu":
            sizes = self._ours.config
            self.library = fastest_library(
                sizes.predictor.heads,
                sizes.num_patches * sizes.num_hist,
                sizes.predictor.dim_head,
            )

    def refresh(self) -> bool:
        """Take the weights anew if they changed; True when they did."""
        if self._ours is None:
            return False
        predictor = self._ours.predictor
        versions = [(p.data_ptr(), p._version) for p in predictor.parameters()]
        if versions == getattr(self, "_versions", None):
            return False
        self._versions = versions
        self._frozen = FrozenPredictor(predictor, self._config.precision)
        self._ends = ends_of(self._frozen, self._ours.config.action_emb_dim)
        return True

    def products(self) -> AbstractContextManager[None]:
        """The context to plan in."""
        return library(self.library)

    def encoding(self) -> AbstractContextManager[None]:
        """The context to encode in: convolutions are oneDNN's, whatever the predictor wants."""
        return library("onednn" if self.library == "onednn" else "usual")

    def rollout(self, latent: Latent, actions: Tensor, past_actions: Tensor | None) -> Latent:
        """See `WorldModel.rollout`."""
        mode, ours = self._config.rollout, self._ours
        if ours is None:
            return self._model.rollout(latent, actions, past_actions, mode)
        if mode == "markov":
            now = latent.frames(slice(-1, None))
            return markov_rollout(self._ends, now, ours.action_encoder(actions))
        return ours.rollout(latent, actions, past_actions, mode, FrozenWindow(self._frozen))

    def predict(self, z_BPD: Tensor) -> Tensor:
        """One prediction of `WorldModel` from one frame: (B, P, D) -> (B, P, D)."""
        if self._ours is None:
            assert isinstance(self._model, WorldModel)
            return self._model.predict(z_BPD[:, None])[:, 0]
        return self._frozen.predict(z_BPD)[0]

    def _check_precision(self) -> None:
        name = self._config.precision
        if self._ours is None:
            raise ConfigError(f"precision '{name}': execution 'plain' computes in float32 only")
        if not has_bfloat16(self.device):
            raise ConfigError(
                f"precision '{name}': this processor has no instructions for it; use float32"
            )
