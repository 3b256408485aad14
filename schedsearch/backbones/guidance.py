"""Binds a backbone to a schedule, labels and guidance: what a solver calls."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from schedsearch.protocols import Backbone
from schedsearch.schedule import ExitSchedule


def null_label_of(net: nn.Module | Backbone) -> int | None:
    """The label that means "no class", or None when the model has no such row.

    By contract it is ``num_classes``; a model that was built without it says so with the
    attribute ``null_label = None``.
    """
    label = getattr(net, "null_label", net.num_classes)
    return None if label is None else int(cast(int, label))


class ScheduledDenoiser:
    """Denoiser that runs as many blocks as its schedule says for the time it is asked at.

    Args:
        net: Backbone on the clock 0..999 that schedules use.
        schedule: Blocks to run per interval.
        labels: Classes of the batch, (N,) int64; None for an unconditional model.
        cfg_scale: Scale s of classifier-free guidance,
            ``eps = eps_null + s (eps_label - eps_null)`` (Ho and Salimans 2022, Eq. 6, with
            s = 1 + w); at 1 the model is called without guidance, at half the cost.

    Raises:
        ValueError: If guidance is asked of a model without labels or "no class".
    """

    def __init__(
        self,
        net: nn.Module | Backbone,
        schedule: ExitSchedule,
        labels: Tensor | None,
        cfg_scale: float = 1.0,
    ) -> None:
        self._net = cast(Backbone, net)
        self._schedule = schedule
        self._labels = labels
        self._cfg_scale = cfg_scale
        first = next(net.parameters(), None) if isinstance(net, nn.Module) else None
        self._dtype = None if first is None else first.dtype
        if cfg_scale != 1.0:
            null = null_label_of(net)
            if labels is None or null is None:
                raise ValueError(
                    f"cfg_scale={cfg_scale:g} needs labels and a model with a 'no class' label "
                    "(class_dropout_prob > 0); set cfg_scale to 1 for this model."
                )
            self._labels = torch.cat([labels, torch.full_like(labels, null)])

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Predict the noise of ``x``, (N, C, H, W), at time ``t``; a variance half is dropped."""
        guided = self._cfg_scale != 1.0
        inputs = x if self._dtype is None else x.to(self._dtype)
        if guided:
            inputs = torch.cat([inputs, inputs])
        times = torch.full((len(inputs),), t, device=x.device)
        output: Tensor = self._net(
            inputs, times, self._labels, exit_depth=self._schedule.depth_at(t)
        )
        eps = output[:, : x.shape[1]].to(x.dtype)
        if guided:
            with_label, without = eps.chunk(2)
            eps = without + self._cfg_scale * (with_label - without)
        return eps
