"""Tiny modules with the class names, attributes and order of calls of official code.

Only what a schedule sees is the same: who is called with what, and in which order.
"""

from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 8
DEPTH = 6


class TimeEmbedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(1, WIDTH)

    def forward(self, t: Tensor) -> Tensor:
        return torch.sin(self.mlp(t.float()[:, None]))


class LabelEmbedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(11, WIDTH)

    def forward(self, labels: Tensor, train: bool) -> Tensor:
        return self.embedding_table(labels)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(x + c[:, None]))


class FinalLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.linear(x + c[:, None])


class DiT(nn.Module):
    """Tokens (N, T, 4), t, y -> (N, T, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.x_embedder = nn.Linear(4, WIDTH)
        self.t_embedder = TimeEmbedder()
        self.y_embedder = LabelEmbedder()
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.final_layer = FinalLayer()

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        x = self.x_embedder(x)
        c = self.t_embedder(t) + self.y_embedder(y, self.training)
        for block in self.blocks:
            x = block(x, c)
        return self.final_layer(x, c)

    def forward_with_cfg(self, x: Tensor, t: Tensor, y: Tensor, cfg_scale: float) -> Tensor:
        half = x[: len(x) // 2]
        output = self.forward(torch.cat([half, half]), t, y)
        guided, free = output.chunk(2)
        half = free + cfg_scale * (guided - free)
        return torch.cat([half, half])


class SiT(DiT):
    """The official SiT: called like DiT, t = 0 at the noise."""


class RepaSiT(DiT):
    """REPA's, whose class is called SiT too; t = 0 at the data."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_depth = 2
        self.projectors = nn.ModuleList([nn.Linear(WIDTH, 3)])

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Any:
        x = self.x_embedder(x)
        c = self.t_embedder(t) + self.y_embedder(y, self.training)
        for i, block in enumerate(self.blocks):
            x = block(x, c)
            if i + 1 == self.encoder_depth:
                projected = [projector(x) for projector in self.projectors]
        return self.final_layer(x, c), projected


RepaSiT.__name__ = "SiT"


class SkipBlock(nn.Module):
    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.skip_linear = nn.Linear(2 * WIDTH, WIDTH) if skip else None

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if self.skip_linear is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        return x + torch.tanh(self.linear(x))


class UViT(nn.Module):
    """Tokens (N, T, 4), timesteps, y -> (N, T, 4)."""

    def __init__(self, skip: bool = True) -> None:
        super().__init__()
        self.patch_embed = nn.Linear(4, WIDTH)
        self.time_embed = nn.Linear(1, WIDTH)
        self.label_emb = nn.Embedding(11, WIDTH)
        self.in_blocks = nn.ModuleList(SkipBlock(False) for _ in range(DEPTH))
        self.mid_block = SkipBlock(False)
        self.out_blocks = nn.ModuleList(SkipBlock(skip) for _ in range(DEPTH))
        self.decoder_pred = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.patch_embed(x) + self.time_embed(timesteps.float()[:, None] / 999)[:, None]
        if y is not None:
            x = x + self.label_emb(y)[:, None]
        skips = []
        for block in self.in_blocks:
            x = block(x)
            skips.append(x)
        x = self.mid_block(x)
        for block in self.out_blocks:
            x = block(x, skips.pop())
        return self.decoder_pred(x)
