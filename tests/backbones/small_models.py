"""A small network of each family, without the zeros of its initialisation, and a batch for it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.layers import unpatchify
from schedsearch.backbones.uvit import UViT

DEPTH = 5
"""Blocks of the small DiT."""

DECODER = 4
"""Decoder blocks of the small U-ViT, half of its blocks."""


DIT_CONFIG = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 2,
    "hidden_size": 32,
    "depth": DEPTH,
    "num_heads": 4,
    "num_classes": 7,
}


def make_dit(**overrides: object) -> DiT:
    """A small DiT; under the zeros of adaLN-zero its blocks would do nothing."""
    torch.manual_seed(0)
    net = DiT(**{**DIT_CONFIG, "learn_sigma": True, **overrides})
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


def make_uvit(**overrides: object) -> UViT:
    """A small U-ViT with random weights everywhere, norms and biases included."""
    config = {
        "img_size": 8,
        "patch_size": 2,
        "in_chans": 3,
        "embed_dim": 24,
        "depth": 2 * DECODER,
        "num_heads": 4,
    }
    torch.manual_seed(0)
    net = UViT(**{**config, **overrides})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.normal_(std=0.15)
            if "norm" in name and name.endswith("weight"):
                parameter += 1
    return net


def make_inputs(net: DiT | UViT, n: int = 9) -> tuple[Tensor, Tensor, Tensor | None]:
    """Images, times in 0..999 with fractions, and labels ("no class" included) or None."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *net.in_shape, generator=generator)
    t = 999 * torch.rand(n, generator=generator)
    y = None
    if net.num_classes is not None:
        rows = net.num_classes + (net.null_label is not None)
        y = torch.randint(rows, (n,), generator=generator)
    return x, t, y


def _every_exit_of_dit(net: DiT, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
    """All blocks for all samples: the images after each, (depth, N, C, H, W)."""
    tokens = net.x_embedder(x) + net.pos_embed
    c = net.t_embedder(t) + net.y_embedder(y)
    images = []
    for block in net.blocks:
        tokens = block(tokens, c)
        pixels = net.final_layer(tokens, c)
        images.append(unpatchify(pixels, net.patch_size, net.out_channels))
    return torch.stack(images)


def _every_exit_of_uvit(net: UViT, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
    """The whole batch at each depth with plain loops, (1 + decoder, N, C, H, W)."""
    images = []
    for depth in range(net.num_exit_blocks + 1):
        tokens, skips = net.open(x, t, y).h, []
        for block in net.in_blocks:
            tokens = block(tokens)
            skips.append(tokens)
        tokens = net.mid_block(tokens)
        for n, block in enumerate(net.out_blocks):
            tokens = block.skip_linear(torch.cat([tokens, skips[-1 - n]], -1))
            if n < depth:
                tokens = tokens + block.attn(block.norm1(tokens))
                tokens = tokens + block.mlp(block.norm2(tokens))
        pixels = net.decoder_pred(net.norm(tokens))[:, net.num_extras :]
        side, P = net.in_shape[1] // net.patch_size, net.patch_size
        grid = pixels.reshape(len(x), side, side, P, P, -1).permute(0, 5, 1, 3, 2, 4)
        images.append(net.final_layer(grid.reshape(x.shape)))
    return torch.stack(images)


@dataclass(frozen=True)
class Family:
    """What a rule that holds for every family has to know of one.

    Args:
        name: The family's name.
        make: Makes the small network; keyword arguments replace its own.
        exits: Exit depths of the small network.
        blocks: Attribute with the blocks that an exit may leave out.
        always: A submodule that runs once in every call.
        every_exit: The plain way to all exits, (exits, N, C, H, W).
        training_size: Arguments of a network as large as the ones trained here.
        schedule: A hand-made schedule for that size, data end first.
    """

    name: str
    make: Callable[..., DiT | UViT]
    exits: range
    blocks: str
    always: str
    every_exit: Callable[..., Tensor]
    training_size: dict[str, object]
    schedule: tuple[int, ...]

    def run_every_block_and_pick(
        self, net: DiT | UViT, x: Tensor, t: Tensor, y: Tensor | None, exit_depth: Tensor
    ) -> Tensor:
        """All exits for all samples, then each sample's own."""
        images = self.every_exit(net, x, t, y)
        return images[exit_depth - self.exits[0], torch.arange(len(x))]


FAMILIES = (
    Family(
        name="dit",
        make=make_dit,
        exits=range(1, DEPTH + 1),
        blocks="blocks",
        always="blocks.0",
        every_exit=_every_exit_of_dit,
        training_size={
            "hidden_size": 64,
            "depth": 10,
            "in_channels": 1,
            "num_classes": 10,
            "learn_sigma": False,
        },
        schedule=(10, 10, 9, 9, 7, 7, 6, 6, 4, 4),
    ),
    Family(
        name="uvit",
        make=lambda **overrides: make_uvit(**{"num_classes": 5, **overrides}),
        exits=range(DECODER + 1),
        blocks="out_blocks",
        always="mid_block",
        every_exit=_every_exit_of_uvit,
        training_size={"embed_dim": 64, "depth": 12, "num_classes": -1},
        schedule=(6, 6, 4, 4, 2, 2, 2, 2, 1, 1),  # D1-U-ViT
    ),
)
