"""Exponential moving average of weights, starting at the pretrained weights."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

HALF_LIFE_SHARE = 0.3
"""Half-life of the decay ``auto``, as a share of the steps (our choice)."""


def resolve_decay(decay: float | str, num_steps: int) -> float:
    """Return the constant EMA decay of a fine-tune.

    ``auto`` is ``0.5 ** (1 / (0.3 num_steps))``, which leaves 10 % of the pretrained weights for
    any number of steps. The paper's "high EMA rate" (ASE, Sec. 3.3; 0.9999 in the reference code)
    is meant for 40K steps and more.

    Args:
        decay: A number in [0, 1), or ``"auto"``.
        num_steps: Optimizer steps of the fine-tune.
    """
    if decay != "auto":
        return float(decay)
    return float(0.5 ** (1.0 / (HALF_LIFE_SHARE * max(num_steps, 1))))


def share_left(decay: float, num_steps: int) -> float:
    """Return the share of the initial weights in the average after ``num_steps`` updates."""
    return float(decay**num_steps)


def start_ema(net: nn.Module, decay: float) -> AveragedModel:
    """Start an average at the weights of ``net``.

    Every later update is ``ema = decay * ema + (1 - decay) * weights``. Buffers are copied.
    """
    # NOTE: AveragedModel's first update copies the weights and ignores the decay. So one update
    # happens here, before the first optimizer step.
    multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    ema = AveragedModel(net, multi_avg_fn=multi_avg_fn)
    ema.update_parameters(net)
    return ema


def averaged_net(ema: AveragedModel) -> nn.Module:
    """Return the averaged network in eval mode, without gradients."""
    net: nn.Module = ema.module
    for parameter in net.parameters():
        parameter.grad = None
    return net.eval()
