"""Predictions of one batch at several exits, sharing the blocks they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.layers import unpatchify
from schedsearch.backbones.uvit import UViT
from schedsearch.protocols import Backbone


def predict_at_exits(
    net: Backbone | nn.Module, x: Tensor, t: Tensor, y: Tensor | None, depths: Sequence[int]
) -> Iterator[Tensor]:
    """Predict at each exit depth; equal to one call per depth.

    A DiT or U-ViT runs every block once for all exits: 28 blocks instead of 406 for a DiT-XL.
    Any other network is called once per depth.

    Args:
        net: The network.
        x: Noisy inputs, (N, C, H, W).
        t: Network times, (N,).
        y: Labels, (N,) int64, or None.
        depths: Exit depths in increasing order.

    Yields:
        One prediction per depth: (N, C, H, W), or (N, 2C, H, W) with learned variances.

    Raises:
        ValueError: If the depths do not increase, or the network lacks one of them.
    """
    exits = set(depths)
    if not depths or list(depths) != sorted(exits):
        raise ValueError(f"predict_at_exits needs increasing depths, got {tuple(depths)}.")
    # NOTE: Exact types, because a subclass may override forward.
    if type(net) is DiT and exits.issubset(range(1, net.num_exit_blocks + 1)):
        yield from _dit(net, x, t, y, exits)
    elif type(net) is UViT and exits.issubset(range(net.num_exit_blocks + 1)):
        yield from _uvit(net, x, t, y, exits)
    else:
        for depth in depths:
            yield cast(Backbone, net)(x, t, y, exit_depth=depth)


def _dit(net: DiT, x: Tensor, t: Tensor, y: Tensor | None, depths: set[int]) -> Iterator[Tensor]:
    """Apply the final layer after each exit block (ASE, Sec. 3.2)."""
    tokens = net.x_embedder(x) + net.pos_embed  # (N, T, D)
    c = net.t_embedder(t) + net.y_embedder(net._labels(y, x))  # (N, D)
    for depth, block in enumerate(net.blocks[: max(depths)], start=1):
        tokens = block(tokens, c)
        if depth in depths:
            yield unpatchify(net.final_layer(tokens, c), net.patch_size, net.out_channels)


def _uvit(net: UViT, x: Tensor, t: Tensor, y: Tensor | None, depths: set[int]) -> Iterator[Tensor]:
    """Run decoder blocks up to each exit; later blocks only merge their long skips."""
    tokens = net._tokens(x, t, y)  # (N, T, D)
    skips: list[Tensor] = []
    for block in (*net.in_blocks, net.mid_block):
        tokens = block(tokens)
        skips.append(tokens)
    skips = skips[-2::-1]  # encoder outputs, reversed into the order of the decoder
    for depth in range(max(depths) + 1):
        if depth in depths:
            exited = tokens
            for block, skip in zip(net.out_blocks[depth:], skips[depth:], strict=True):
                exited = block(exited, skip, 0)
            pixels = net.decoder_pred(net.norm(exited))[:, net.num_extras :]
            image: Tensor = net.final_layer(unpatchify(pixels, net.patch_size, net.in_shape[0]))
            yield image
        if depth < max(depths):
            tokens = net.out_blocks[depth](tokens, skips[depth])
