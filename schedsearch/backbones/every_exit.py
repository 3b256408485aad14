"""Predictions of one batch at several exits, sharing the blocks they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.sit import SiT
from schedsearch.backbones.uvit import UViT
from schedsearch.backbones.wrapped import WrappedBackbone
from schedsearch.protocols import Backbone, ExitLayers, StagedBackbone
from schedsearch.tokens import Tokens


def predict_at_exits(
    net: Backbone | nn.Module, x: Tensor, t: Tensor, y: Tensor | None, depths: Sequence[int]
) -> Iterator[Tensor]:
    """Predict at each exit depth; equal to one call per depth.

    A DiT, SiT or U-ViT, also with further parameters, runs every block once for all exits: 28
    blocks instead of 406 for a DiT-XL. Any other network is called once per depth.

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
    if type(net.net if isinstance(net, WrappedBackbone) else net) in (DiT, SiT, UViT):
        yield from _staged(cast(StagedBackbone, net), x, t, y, exits)
    else:
        for depth in depths:
            yield cast(Backbone, net)(x, t, y, exit_depth=depth)


def exit_points(net: StagedBackbone, exits: ExitLayers = "decoder") -> range:
    """Return after how many blocks a network may exit; the last is all of them.

    A U-ViT of depth 12 has 7 exits in its decoder, the middle block included, or 13 in all.
    """
    always = net.num_blocks - net.num_exit_blocks  # encoder and middle block of a U-ViT
    return range(max(1, always) if exits == "decoder" else 1, net.num_blocks + 1)


def run_exits(
    net: StagedBackbone,
    x: Tensor,
    t: Tensor,
    y: Tensor | None,
    points: Iterable[int],
    exits: ExitLayers = "decoder",
) -> Iterator[tuple[Tensor, Tokens]]:
    """Run every block once, with the output layer after each exit (ASE, Sec. 3.2).

    Args:
        net: The network.
        x: Noisy inputs, (N, C, H, W).
        t: Network times, (N,).
        y: Labels, (N,) int64, or None.
        points: Numbers of blocks after which to predict, from :func:`exit_points`.
        exits: Where a U-ViT may exit.

    Yields:
        Per exit, in order, the prediction and the tokens that it was made from.
    """
    wanted = set(points)
    tokens = net.open(x, t, y)
    for block in range(max(wanted)):
        tokens = net.run(tokens, block)
        if block + 1 in wanted:
            yield net.close(tokens, block + 1, exits), tokens


def _staged(
    net: StagedBackbone, x: Tensor, t: Tensor, y: Tensor | None, depths: set[int]
) -> Iterator[Tensor]:
    points = exit_points(net)
    always = net.num_blocks - net.num_exit_blocks
    allowed = range(points[0] - always, points[-1] - always + 1)
    if not depths.issubset(allowed):
        raise ValueError(
            f"exit_depth must lie in {allowed[0]}..{allowed[-1]} for this model, got "
            f"{sorted(depths)}."
        )
    for prediction, _ in run_exits(net, x, t, y, [always + depth for depth in depths]):
        yield prediction
