"""Exponential moving average of weights, with the first update under control."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

HALF_LIFE_SHARE = 0.3
"""Half-life of the automatic decay, as a share of the fine-tune's steps (our choice)."""


def resolve_decay(decay: float | str, num_steps: int) -> float:
    """The constant decay of a fine-tune.

    The paper uses "a high EMA rate" (0.9999 in the reference code) over 40K steps and more
    (ASE, Sec. 3.3). After 100 steps that would leave 99 % of the pretrained weights, so
    ``auto`` ties the half-life to the length: ``0.5 ** (1 / (0.3 num_steps))``, which leaves
    10 % of the pretrained weights at the end, however long the fine-tune is.

    Args:
        decay: A number in [0, 1), or ``"auto"``.
        num_steps: Optimizer steps of the fine-tune.
    """
    if decay != "auto":
        return float(decay)
    return float(0.5 ** (1.0 / (HALF_LIFE_SHARE * max(num_steps, 1))))


def share_left(decay: float, num_steps: int) -> float:
    """Weight of the starting point in the average after ``num_steps`` updates."""
    return float(decay**num_steps)


def start_ema(net: nn.Module, decay: float) -> AveragedModel:
    """An average that starts at the weights of ``net``.

    ``AveragedModel`` copies at its first update whatever the decay, so it is primed by one
    update here, before the first optimizer step; from then on
    ``ema = decay * ema + (1 - decay) * weights``. Buffers are copied.
    """
    multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    ema = AveragedModel(net, multi_avg_fn=multi_avg_fn)
    ema.update_parameters(net)
    return ema


def averaged_net(ema: AveragedModel) -> nn.Module:
    """The averaged network in eval mode, without gradients."""
    net: nn.Module = ema.module
    for parameter in net.parameters():
        parameter.grad = None
    return net.eval()
