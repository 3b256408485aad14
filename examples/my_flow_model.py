"""Your own flow-matching transformer, with conventions that the tool does not know.

``Painter`` stands for a network that you have already: it predicts the clean image, is fed the
noise level sigma in [0, 1], and its row 0 of labels means "no class". ``EarlyExitPainter`` is all
that a search needs around it::

    backbone: {family: my_flow_model:EarlyExitPainter, ...}
    diffusion: {process: flow, time: sigma, prediction: x0}

What to answer for a network of yours:

* What is it fed at noise level sigma (0 is data, 1 is noise)? ``time: sigma``, ``sigma1000`` for
  1000 sigma (diffusers), ``sit`` for 1 - sigma (SiT).
* What does it predict? ``prediction: velocity`` is noise minus data; with ``time: sit`` it is data
  minus noise, as in SiT's code. ``x0`` is the clean image, called x1 in SiT's paper, and ``eps``
  the noise. The loss is that of the velocity for all three.
* Which label means "no class"? The attribute ``null_label`` says it; without the attribute it is
  ``num_classes``, and ``null_label = None`` means that there is none. Labels of the data are
  0 to ``num_classes`` - 1, so ``null_label`` must be another number, such as -1. ``forward``
  translates.
* Where can it stop? ``exit_depth`` blocks run, then the output layer that is there.

Shapes: N batch, T tokens, D width, C/H/W image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Attention and an MLP; the condition scales and shifts their inputs."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.condition = nn.Linear(width, 4 * width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Transform tokens (N, T, D) under the condition (N, D)."""
        scale1, shift1, scale2, shift2 = self.condition(c)[:, None].chunk(4, dim=-1)
        q, k, v = self.qkv(self.norm(h) * (1 + scale1) + shift1).chunk(3, dim=-1)
        heads = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
        mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        h = h + self.join(mixed)
        out: Tensor = h + self.mlp(self.norm(h) * (1 + scale2) + shift2)
        return out


class Painter(nn.Module):
    """A transformer over patches that predicts the clean image.

    Args:
        size: Height and width of an image.
        patch: Side of a patch.
        width: Width D of a token.
        depth: Number of blocks.
        num_labels: Rows of the label table; row 0 means "no class".
    """

    def __init__(self, size: int, patch: int, width: int, depth: int, num_labels: int) -> None:
        super().__init__()
        self.patch, self.side = patch, size // patch
        self.read = nn.Linear(patch**2, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.side**2, width))
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(num_labels, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.write = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, patch**2))

    def embed(self, x: Tensor, sigma: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (N, T, D) and the condition (N, D)."""
        frequencies = torch.exp(torch.linspace(0, math.log(1000), 16, device=x.device))
        angles = sigma.to(x.dtype)[:, None] * frequencies
        c = self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.label(label)
        pixels = x.reshape(len(x), self.side, self.patch, self.side, self.patch)
        patches = pixels.transpose(2, 3).reshape(len(x), self.side**2, self.patch**2)
        return self.read(patches) + self.position, c

    def paint(self, h: Tensor) -> Tensor:
        """Turn tokens into an image, (N, 1, H, W)."""
        size = self.side * self.patch
        patches = self.write(h).reshape(len(h), self.side, self.side, self.patch, self.patch)
        image: Tensor = patches.transpose(2, 3).reshape(len(h), 1, size, size)
        return image


class EarlyExitPainter(nn.Module):
    """The painter as a ``schedsearch.protocols.Backbone``; it needs no schedsearch import.

    Args:
        size: Height and width of an image.
        patch: Side of a patch.
        width: Width of a token.
        depth: Number of blocks.
        num_classes: Classes of the data, without "no class".
    """

    null_label = -1

    def __init__(
        self, size: int = 8, patch: int = 2, width: int = 48, depth: int = 6, num_classes: int = 10
    ) -> None:
        super().__init__()
        self.num_exit_blocks = depth
        self.in_shape = (1, size, size)
        self.num_classes = num_classes
        self.net = Painter(size, patch, width, depth, num_classes + 1)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth: int | Tensor
    ) -> Tensor:
        """Predict the clean image.

        Args:
            x: Noisy images, (N, 1, H, W).
            t: Noise levels sigma in [0, 1], (N,), as ``diffusion.time: sigma`` says.
            y: Labels, (N,) int64: classes of the data, or ``null_label``.
            exit_depth: Blocks to run, 1..depth: an int, or (N,) integers.

        Returns:
            The clean image, (N, 1, H, W), as ``diffusion.prediction: x0`` says.
        """
        if y is None:
            y = torch.full((len(x),), self.null_label, device=x.device)
        h, c = self.net.embed(x, t, y + 1)  # class k is row k + 1, "no class" row 0
        if isinstance(exit_depth, int):  # sampling: one depth for the batch
            for block in self.net.blocks[:exit_depth]:
                h = block(h, c)
        else:  # training: one depth per sample
            depth = exit_depth.to(x.device)[:, None, None]
            for run, block in enumerate(self.net.blocks):
                h = torch.where(depth > run, block(h, c), h)
        return self.net.paint(h)
