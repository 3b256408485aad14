"""Smaller networks cut out of a DiT or U-ViT: fewer blocks, heads or MLP units.

The result is an ordinary network of the same class, so everything else works with it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from timm.layers import Attention, Mlp
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT, DiTBlock
from schedsearch.backbones.sit import SiT
from schedsearch.backbones.uvit import Attention as UvitAttention
from schedsearch.backbones.uvit import UViT, UViTBlock
from schedsearch.exceptions import ConfigError


def keep_blocks(net: nn.Module, keep: Sequence[int]) -> DiT | UViT:
    """Copy a network with some of its blocks.

    Args:
        net: A DiT, SiT or U-ViT; not changed.
        keep: Indices of the blocks that stay, increasing. In a U-ViT they count encoder blocks,
            and each decoder block stays with the encoder block whose long skip it merges.

    Raises:
        ConfigError: If the network is neither, or the indices do not increase within it.
    """
    if type(net) not in (DiT, SiT, UViT):
        raise ConfigError(f"Blocks can be cut out of a DiT or U-ViT, not a {type(net).__name__}.")
    made = cast(DiT | UViT, copy.deepcopy(net))
    total = made.num_exit_blocks
    if not keep or list(keep) != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= total:
        raise ConfigError(
            f"Blocks to keep must be increasing indices in 0..{total - 1}, got {list(keep)}."
        )
    if isinstance(made, DiT):
        made.blocks = nn.ModuleList(made.blocks[i] for i in keep)
    else:
        made.in_blocks = nn.ModuleList(made.in_blocks[i] for i in keep)
        made.out_blocks = nn.ModuleList(made.out_blocks[total - 1 - i] for i in reversed(keep))
    made.num_exit_blocks = len(keep)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthScores:
    """Importance of every head and MLP unit of every block."""

    heads: Tensor
    """(L, heads)."""
    hidden: Tensor
    """(L, hidden units)."""


def blocks_of(net: DiT | UViT) -> list[DiTBlock | UViTBlock]:
    """All L blocks of a network in the order in which they run."""
    if isinstance(net, DiT):
        return cast(list[DiTBlock | UViTBlock], list(net.blocks))
    return cast(list[DiTBlock | UViTBlock], [*net.in_blocks, net.mid_block, *net.out_blocks])


def width_scores(net: DiT | UViT, losses: Iterable[Tensor]) -> WidthScores:
    """Score heads and MLP units (Diff-Pruning, Fang et al. 2023, Eq. 9).

    ``I_g = sum_t |sum over the parameters of group g of theta dL_t / dtheta|``.

    Args:
        net: The network; its gradients are used up.
        losses: Losses at timesteps t, each with its graph; taken one by one.
    """
    blocks = blocks_of(net)
    heads = torch.zeros(len(blocks), cast(int, blocks[0].attn.num_heads))
    hidden = torch.zeros(len(blocks), cast(nn.Linear, blocks[0].mlp.fc1).out_features)
    for loss in losses:
        net.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for index, block in enumerate(blocks):
            heads[index] += _head_sums(block).abs().cpu()
            hidden[index] += _unit_sums(block).abs().cpu()
    net.zero_grad(set_to_none=True)
    return WidthScores(heads=heads, hidden=hidden)


def narrow(
    net: nn.Module, num_heads: int, num_hidden: int, scores: WidthScores | None
) -> DiT | UViT:
    """Copy a network with fewer heads and MLP units in every block.

    Args:
        net: A DiT, SiT or U-ViT; not changed.
        num_heads: Heads that stay in a block.
        num_hidden: MLP units that stay in a block.
        scores: The highest stay; None keeps the first ones, for weights that are loaded next.

    Raises:
        ConfigError: If the network is neither, or has fewer heads or units.
    """
    if type(net) not in (DiT, SiT, UViT):
        raise ConfigError(f"Pruning by width needs a DiT or U-ViT, not a {type(net).__name__}.")
    first = blocks_of(cast(DiT | UViT, net))[0]
    most_heads = cast(int, first.attn.num_heads)
    most_hidden = cast(nn.Linear, first.mlp.fc1).out_features
    if not (1 <= num_heads <= most_heads and 1 <= num_hidden <= most_hidden):
        raise ConfigError(
            f"A narrower network keeps 1..{most_heads} heads and 1..{most_hidden} MLP units, but "
            f"{num_heads} and {num_hidden} are asked for."
        )
    made = cast(DiT | UViT, copy.deepcopy(net))
    for index, block in enumerate(blocks_of(made)):
        heads, units = torch.arange(num_heads), torch.arange(num_hidden)
        if scores is not None:
            heads = scores.heads[index].topk(num_heads).indices.sort().values
            units = scores.hidden[index].topk(num_hidden).indices.sort().values
        block.attn = _with_heads(block.attn, heads)
        block.mlp = _with_units(block.mlp, units)
    return made.train(net.training)  # NOTE: new modules start in training mode


def _with_heads(attn: nn.Module, heads: Tensor) -> nn.Module:
    """An attention with some of the heads of another."""
    qkv, proj = cast(nn.Linear, attn.qkv), cast(nn.Linear, attn.proj)
    num_heads, width = cast(int, attn.num_heads), qkv.in_features
    size = qkv.out_features // (3 * num_heads)
    like: dict[str, Any] = {"device": qkv.weight.device, "dtype": qkv.weight.dtype}
    has_bias = qkv.bias is not None
    if isinstance(attn, UvitAttention):
        made = copy.deepcopy(attn)
        made.num_heads = len(heads)
        made.qkv = nn.Linear(width, 3 * len(heads) * size, bias=has_bias, **like)
        made.proj = nn.Linear(len(heads) * size, width, **like)
    else:
        made = Attention(width, len(heads), attn_head_dim=size, qkv_bias=has_bias, **like)
    with torch.no_grad():
        made.qkv.weight.copy_(qkv.weight.view(3, num_heads, size, width)[:, heads].flatten(0, 2))
        if has_bias:
            made.qkv.bias.copy_(qkv.bias.view(3, num_heads, size)[:, heads].flatten())
        made.proj.weight.copy_(proj.weight.view(width, num_heads, size)[:, heads].flatten(1))
        made.proj.bias.copy_(proj.bias)
    return cast(nn.Module, made)


def _with_units(mlp: nn.Module, units: Tensor) -> nn.Module:
    """An MLP with some of the hidden units of another."""
    fc1, fc2 = cast(nn.Linear, mlp.fc1), cast(nn.Linear, mlp.fc2)
    like = {"device": fc1.weight.device, "dtype": fc1.weight.dtype}
    # NOTE: DiT's GELU is the tanh approximation, U-ViT's is exact.
    act = partial(nn.GELU, approximate=cast(nn.GELU, mlp.act).approximate)
    made = Mlp(fc1.in_features, len(units), act_layer=act, **like)
    with torch.no_grad():
        made.fc1.weight.copy_(fc1.weight[units])
        made.fc1.bias.copy_(fc1.bias[units])
        made.fc2.weight.copy_(fc2.weight[:, units])
        made.fc2.bias.copy_(fc2.bias)
    return cast(nn.Module, made)


def _effect(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.detach() * parameter.grad


def _unit_sums(block: DiTBlock | UViTBlock) -> Tensor:
    """Sum of parameter times gradient of every MLP unit, (hidden,)."""
    fc1, fc2 = cast(nn.Linear, block.mlp.fc1), cast(nn.Linear, block.mlp.fc2)
    return _effect(fc1.weight).sum(1) + _effect(fc1.bias) + _effect(fc2.weight).sum(0)


def _head_sums(block: DiTBlock | UViTBlock) -> Tensor:
    """Sum of parameter times gradient of every head, (heads,)."""
    qkv, proj = cast(nn.Linear, block.attn.qkv), cast(nn.Linear, block.attn.proj)
    num_heads = cast(int, block.attn.num_heads)
    rows = _effect(qkv.weight).sum(1)
    if qkv.bias is not None:
        rows = rows + _effect(qkv.bias)
    inputs = rows.view(3, num_heads, -1).sum((0, 2))
    return inputs + _effect(proj.weight).sum(0).view(num_heads, -1).sum(1)
