"""Your own backbone: an MLP-Mixer with early exits.

A search space names it as ``family: my_model:PatchMixer``. It meets
``schedsearch.protocols.Backbone``: a ``torch.nn.Module`` with ``num_exit_blocks``, ``in_shape``
and ``num_classes`` whose forward takes ``exit_depth``. It needs no schedsearch import.

Shapes: N batch, T tokens, D width, C/H/W image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class MixerBlock(nn.Module):
    """Mixes tokens, then channels; time and class give a scale and a shift."""

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.condition = nn.Linear(width, 2 * width)
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.tokens = nn.Sequential(
            nn.Linear(num_tokens, 2 * num_tokens), nn.GELU(), nn.Linear(2 * num_tokens, num_tokens)
        )
        self.norm2 = nn.LayerNorm(width)
        self.channels = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Transform tokens (N, T, D) under the condition (N, D)."""
        scale, shift = self.condition(c)[:, None].chunk(2, dim=-1)
        mixed = self.tokens((self.norm1(x) * (1 + scale) + shift).transpose(1, 2))
        x = x + mixed.transpose(1, 2)
        out: Tensor = x + self.channels(self.norm2(x))
        return out


class PatchMixer(nn.Module):
    """Mixer over patches that can stop after any block.

    Args:
        size: Height and width of an image.
        patch: Side of a patch.
        width: Width D of a token.
        depth: Number of blocks.
        num_classes: Number of classes; the label ``num_classes`` means "no class".
    """

    def __init__(
        self, size: int = 8, patch: int = 2, width: int = 48, depth: int = 6, num_classes: int = 10
    ) -> None:
        super().__init__()
        # Attributes of the protocol.
        self.num_exit_blocks = depth
        self.in_shape = (1, size, size)
        self.num_classes = num_classes

        # Layers.
        self.patch, self.side = patch, size // patch
        num_tokens = self.side**2
        self.read = nn.Linear(patch**2, width)
        self.position = nn.Parameter(0.02 * torch.randn(num_tokens, width))
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(num_classes + 1, width)
        self.blocks = nn.ModuleList(MixerBlock(num_tokens, width) for _ in range(depth))
        self.write = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, patch**2))

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth: int | Tensor
    ) -> Tensor:
        """Predict the noise.

        Args:
            x: Noisy images, (N, 1, H, W).
            t: Timesteps 0..999, (N,).
            y: Labels, (N,) int64; None means "no class".
            exit_depth: Blocks to run, 1..depth: an int, or (N,) integers.

        Returns:
            The noise, (N, 1, H, W).
        """
        num, patch, side = len(x), self.patch, self.side
        if y is None:
            y = torch.full((num,), self.num_classes, device=x.device)
        frequencies = torch.exp(-math.log(1e4) * torch.arange(16, device=x.device) / 16)
        angles = t.to(x.dtype)[:, None] * frequencies
        c = self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.label(y)  # (N, D)

        pixels = x.reshape(num, side, patch, side, patch).transpose(2, 3)
        tokens = self.read(pixels.reshape(num, side**2, patch**2)) + self.position  # (N, T, D)
        if isinstance(exit_depth, int):  # sampling: one depth for the batch
            for block in self.blocks[:exit_depth]:
                tokens = block(tokens, c)
        else:  # training: one depth per sample
            depth = exit_depth.to(x.device)[:, None, None]
            for run, block in enumerate(self.blocks):
                tokens = torch.where(depth > run, block(tokens, c), tokens)
        noise: Tensor = self.write(tokens).reshape(num, side, side, patch, patch).transpose(2, 3)
        return noise.reshape(num, 1, side * patch, side * patch)
