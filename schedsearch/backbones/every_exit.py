"""Predictions of one batch at several exits, with the blocks that they share run once."""

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
    """What a network predicts at each exit depth, as calls with that depth would.

    Our own networks run every block once for all exits: 28 blocks instead of 406 for the exits
    of a DiT-XL. Any other network is called once per depth.

    Args:
        net: The network, fed what its process says.
        x: Noisy inputs, (N, C, H, W).
        t: Times as the network is fed them, (N,).
        y: Labels, (N,) int64, or None.
        depths: Exit depths, rising.

    Yields:
        The predictions, (N, C, H, W) or with a variance half (N, 2C, H, W), in the order of
        ``depths``.

    Raises:
        ValueError: If the depths do not rise, or the network does not have one of them.
    """
    exits = set(depths)
    if not depths or list(depths) != sorted(exits):
        raise ValueError(f"predict_at_exits needs rising depths, got {tuple(depths)}.")
    # Exact types: a class derived from them may have a forward of its own.
    if type(net) is DiT and exits.issubset(range(1, net.num_exit_blocks + 1)):
        yield from _dit(net, x, t, y, exits)
    elif type(net) is UViT and exits.issubset(range(net.num_exit_blocks + 1)):
        yield from _uvit(net, x, t, y, exits)
    else:
        for depth in depths:
            yield cast(Backbone, net)(x, t, y, exit_depth=depth)


def _dit(net: DiT, x: Tensor, t: Tensor, y: Tensor | None, depths: set[int]) -> Iterator[Tensor]:
    """The final layer after each block that is an exit (ASE, Sec. 3.2)."""
    tokens = net.x_embedder(x) + net.pos_embed  # (N, T, D)
    c = net.t_embedder(t) + net.y_embedder(net._labels(y, x))  # (N, D)
    for depth, block in enumerate(net.blocks[: max(depths)], start=1):
        tokens = block(tokens, c)
        if depth in depths:
            yield unpatchify(net.final_layer(tokens, c), net.patch_size, net.out_channels)


def _uvit(net: UViT, x: Tensor, t: Tensor, y: Tensor | None, depths: set[int]) -> Iterator[Tensor]:
    """After the whole decoder blocks the others take in their long skips, nothing else."""
    tokens = net._tokens(x, t, y)  # (N, T, D)
    skips: list[Tensor] = []
    for block in (*net.in_blocks, net.mid_block):
        tokens = block(tokens)
        skips.append(tokens)
    skips = skips[-2::-1]  # those of the encoder, in the order in which the decoder needs them
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
