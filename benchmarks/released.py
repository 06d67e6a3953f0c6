"""The released procedure, written plainly from its description.

What makes it slow is kept: the camera image is encoded again at every iteration, every weight
requires a gradient and gets one, the mask is a float tensor of ones and zeros that is compared at
every call, attention is two products around a softmax, and a history window is predicted whole.
Weights are those of a `WorldModel`, so that both compute the same numbers.

Shapes: B problems, T frames, P patches, D token size, H horizon, A model action size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from wm_planner.models.world_model import WorldModel

_LAST = -1


class PlainAttention(nn.Module):
    """Attention by explicit products; takes the weights of `predictor.Attention`."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.heads = source.heads
        self.norm, self.to_qkv, self.to_out = (
            copy.deepcopy(part) for part in (source.norm, source.to_qkv, source.to_out)
        )
        self.dropout = nn.Dropout(source.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, count, _ = x.shape
        parts = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (p.reshape(batch, count, self.heads, -1).transpose(1, 2) for p in parts)
        logits = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        logits = logits.masked_fill(mask[:, :, :count, :count] == 0, float("-inf"))
        out = torch.matmul(self.dropout(logits.softmax(dim=-1)), v)
        return self.to_out(out.transpose(1, 2).reshape(batch, count, -1))


class PlainPredictor(nn.Module):
    """Pre-norm blocks on all tokens of a window; takes the weights of `ViTPredictor`."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.residual = source.residual
        self.pos_embedding = nn.Parameter(source.pos_embedding.detach().clone())
        self.proj_in, self.proj_out = copy.deepcopy(source.proj_in), copy.deepcopy(source.proj_out)
        self.norm = copy.deepcopy(source.transformer.norm)
        self.blocks = nn.ModuleList(
            nn.ModuleList([PlainAttention(attention), copy.deepcopy(feed_forward)])
            for attention, feed_forward in source.transformer.layers
        )
        frame = torch.arange(self.pos_embedding.shape[1]) // source.num_patches
        mask = frame[None, :] <= frame[:, None]
        self.register_buffer("mask", mask.float()[None, None])

    def forward(self, z: Tensor) -> Tensor:
        batch, frames, patches, dim = z.shape
        x = self.proj_in(z.reshape(batch, frames * patches, dim))
        x = x + self.pos_embedding[:, : frames * patches]
        for attention, feed_forward in self.blocks:
            x = x + attention(x, self.mask)
            x = x + feed_forward(x)
        x = self.proj_out(self.norm(x)).reshape(batch, frames, patches, dim)
        return z + x if self.residual else x


class ReleasedModel(nn.Module):
    """World model whose weights all require a gradient; dropout is off."""

    def __init__(self, source: WorldModel) -> None:
        super().__init__()
        self.config = source.config
        self.encoder = copy.deepcopy(source.encoder)
        self.predictor = PlainPredictor(source.predictor)
        self.action_encoder = copy.deepcopy(source.action_encoder)
        self.proprio_encoder = copy.deepcopy(source.proprio_encoder)
        self.eval().requires_grad_(True)
        self.encoder.requires_grad_(False)

    def encode(self, images: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 3, S, S) and (B, T, p) -> visual (B, T, P, Dv) and proprioception (B, T, Dp)."""
        lead = images.shape[:2]
        return self.encoder(images.flatten(0, 1)).unflatten(0, lead), self.proprio_encoder(proprio)

    def _join(self, visual: Tensor, proprio: Tensor, action: Tensor) -> Tensor:
        tile = [part.unsqueeze(2).expand(-1, -1, visual.shape[2], -1) for part in (proprio, action)]
        return torch.cat([visual, *tile], dim=-1)

    def training_loss(
        self, images: Tensor, proprio: Tensor, actions: Tensor, decoder: nn.Module | None = None
    ) -> Tensor:
        """Teacher forcing on windows of K + 1 frames, encoded anew; `decoder` learns beside."""
        z = self._join(*self.encode(images, proprio), self.action_encoder(actions))
        prediction = self.predictor(z[:, :-1])
        error = (prediction - z[:, 1:].detach())[..., : -self.config.action_emb_dim]
        loss = error.square().mean()
        if decoder is None:
            return loss
        drawn, _ = (
            decoder(tokens.detach()[..., : self.config.visual_dim].flatten(0, 1))
            for tokens in (z, prediction)  # the second for the log alone
        )
        return loss + (drawn - images.flatten(0, 1)).square().mean()

    def rollout(self, images: Tensor, proprio: Tensor, actions: Tensor, mode: str) -> list[Tensor]:
        """Visual (B, H + 1, P, Dv) and proprioception (B, H + 1, Dp) from one encoded frame."""
        visual, embedded_proprio = self.encode(images, proprio)
        embedded = self.action_encoder(actions)
        z = self._join(visual, embedded_proprio, embedded[:, :1])
        window, cut, inner = z, self.config.visual_dim, self.config.action_emb_dim
        frames = [(visual, embedded_proprio)]
        for step in range(1, actions.shape[1] + 1):
            new = self.predictor(window[:, -self.config.num_hist :])[:, _LAST:]
            frames.append((new[..., :cut], new[:, :, 0, cut:-inner]))
            if step == actions.shape[1]:
                break
            action = embedded[:, step : step + 1]
            if mode == "markov":
                window = self._join(*frames[-1], action)
            else:
                tiled = action.unsqueeze(2).expand(-1, -1, new.shape[2], -1)
                window = torch.cat([window, torch.cat([new[..., :-inner], tiled], dim=-1)], dim=1)
        return [torch.cat(part, dim=1) for part in zip(*frames, strict=True)]


def weighted_cost(
    rollout: list[Tensor], goal: tuple[Tensor, Tensor], base: float, alpha: float
) -> Tensor:
    """(B,) the goal loss over all frames, weights base^t."""
    visual, proprio = rollout
    weights = base ** torch.arange(float(visual.shape[1]), device=visual.device)
    weights = weights / weights.sum()
    error = (visual - goal[0]).square().mean(dim=(2, 3))
    error = error + alpha * (proprio - goal[1]).square().mean(dim=2)
    return (weights * error).mean(dim=1)


class GradientDescent:
    """The released planner: adam on the actions, noise after every step, nothing else.

    Args:
        model: the model.
        images, proprio: (B, 1, 3, S, S) and (B, 1, p), what is seen now.
        goal: encoded goal.
        actions: (B, H, A) starting point.
        mode: 'markov' or 'history'.
        alpha: weight of the proprioception error.
    """

    def __init__(
        self,
        model: ReleasedModel,
        images: Tensor,
        proprio: Tensor,
        goal: tuple[Tensor, Tensor],
        actions: Tensor,
        mode: str,
        alpha: float = 1.0,
    ) -> None:
        self.actions = actions.detach().clone().requires_grad_(True)
        self._optimizer = torch.optim.Adam([self.actions], lr=0.2)
        self._cost: Callable[[], Tensor] = lambda: weighted_cost(
            model.rollout(images, proprio, self.actions, mode), goal, 0.5, alpha
        )

    def step(self, noise_std: float = 0.003) -> Tensor:
        """One iteration; (B,) costs before it. The gradient stays in `actions.grad`."""
        self._optimizer.zero_grad()
        costs = self._cost()
        (costs.mean() * len(costs)).backward()
        self._optimizer.step()
        with torch.no_grad():
            self.actions += noise_std * torch.randn_like(self.actions)
        return costs.detach()


@torch.no_grad()
def cross_entropy(
    model: ReleasedModel,
    images: Tensor,
    proprio: Tensor,
    goal: tuple[Tensor, Tensor],
    start: Tensor,
    mode: str,
    samples: int,
    elites: int,
    iterations: int,
) -> Tensor:
    """(H, A) mean of the last refit, for one problem; every rollout encodes its own image."""
    mean, std = start, torch.ones_like(start)
    for _ in range(iterations):
        drawn = mean + std * torch.randn(samples, *mean.shape, device=mean.device)
        drawn[0] = mean
        rollout = model.rollout(
            images.expand(samples, -1, -1, -1, -1), proprio.expand(samples, -1, -1), drawn, mode
        )
        best = drawn[weighted_cost(rollout, goal, 0.5, 1.0).argsort()[:elites]]
        mean, std = best.mean(dim=0), best.std(dim=0)
    return mean
