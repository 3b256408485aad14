"""The denoiser that a solver calls: network, method, labels and guidance."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Backbone, Method, Solver, Wants
from schedsearch.schedules.exit_schedule import ScheduledCall


def null_label_of(net: nn.Module | Backbone) -> int | None:
    """Return the label that means "no class", or None if the model has none.

    It is ``num_classes``, unless the model has the attribute ``null_label``: another number, or
    None for a model without this label.
    """
    label = getattr(net, "null_label", net.num_classes)
    return None if label is None else int(cast(int, label))


def learns_variance(net: nn.Module | Backbone) -> bool:
    """Whether the model also predicts variances (attribute ``learn_sigma``)."""
    return bool(getattr(net, "learn_sigma", False))


def guide(prediction: Tensor, cfg_scale: float, cfg_channels: int | None = None) -> Tensor:
    """Combine predictions with and without labels, or differences of predictions.

    Args:
        prediction: Rows with labels, then the same rows without, (2N, C, H, W).
        cfg_scale: Scale of classifier-free guidance.
        cfg_channels: Guide only the first channels; None guides all.

    Returns:
        The guided prediction, (N, C, H, W).
    """
    with_label, without = prediction.chunk(2)
    guided = without + cfg_scale * (with_label - without)
    if cfg_channels is None:
        return guided
    return torch.cat([guided[:, :cfg_channels], with_label[:, cfg_channels:]], dim=1)


class GuidedDenoiser:
    """Denoiser of one sampling run: it starts the method and counts the steps.

    Args:
        net: Backbone.
        method: Calls the network, such as an exit schedule.
        solver: Gives the times of the calls, converts times and predictions, and says whether
            it wants the learned variance behind the noise. The variance is not guided.
        labels: Classes of the batch, (N,) int64; None for an unconditional model.
        cfg_scale: Scale s of classifier-free guidance,
            ``eps = eps_null + s (eps_label - eps_null)`` (Ho and Salimans 2022, Eq. 6, with
            s = 1 + w). At 1 guidance is off, which halves the cost.
        cfg_channels: Guide only the first channels (3 of 4 in DiT's code). The others keep the
            prediction with labels. None guides all.
        wants: What to predict, ``eps`` or ``velocity``; None takes what the solver wants.

    Raises:
        ConfigError: If guidance needs labels, a "no class" label or channels that the model
            lacks, or the method cannot follow guidance in an interval.
    """

    def __init__(
        self,
        net: nn.Module | Backbone,
        method: Method,
        solver: Solver,
        labels: Tensor | None,
        *,
        cfg_scale: float = 1.0,
        cfg_channels: int | None = None,
        wants: Wants | None = None,
    ) -> None:
        backbone = cast(Backbone, net)
        self._labels = self._both = labels
        self._solver = solver
        self._wants = wants or solver.wants
        self._cfg_scale = cfg_scale
        self._cfg_channels = cfg_channels
        self._step = 0
        first = next(net.parameters(), None) if isinstance(net, nn.Module) else None
        self._dtype = None if first is None else first.dtype
        if cfg_channels is not None and cfg_channels > (channels := backbone.in_shape[0]):
            raise ConfigError(
                f"cfg_channels must be at most the network's {channels} channels, got "
                f"{cfg_channels}; leave it out to guide all of them."
            )
        if cfg_scale != 1.0:
            null = null_label_of(net)
            if labels is None or null is None:
                raise ConfigError(
                    f"cfg_scale={cfg_scale:g} needs labels and a network with a 'no class' label "
                    "(DiT: class_dropout_prob > 0, U-ViT: null_class); set cfg_scale to 1."
                )
            self._both = torch.cat([labels, torch.full_like(labels, null)])
        self.call = method.begin(backbone, solver.times, guided=cfg_scale != 1.0)
        """The run of the method; it may say afterwards what it did."""
        if solver.cfg_interval is not None and not isinstance(self.call, ScheduledCall):
            raise ConfigError(
                "solver.cfg_interval changes the batch from call to call, which only exit "
                "schedules can follow; set it to null, or leave out other methods."
            )

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Predict what the solver wants for ``x``, (N, C, H, W), at clock time ``t``."""
        guided = self._is_guided(t)
        inputs = x if self._dtype is None else x.to(self._dtype)
        if guided:
            inputs = torch.cat([inputs, inputs])
        # NOTE: Filled on the device to avoid a copy; float32 holds every timestep exactly.
        clock = torch.full((len(inputs),), t, dtype=torch.float32, device=x.device)
        time = self._solver.process.network_time(clock)
        labels = self._both if guided else self._labels
        output = self.call(inputs, time, labels, clock=t, step=self._step).to(x.dtype)
        self._step += 1
        channels = x.shape[1]
        prediction, variance = output[:, :channels], output[:, channels:]
        if guided:
            # NOTE: Guiding v or x0 equals guiding eps: the conversions are affine.
            prediction = guide(prediction, self._cfg_scale, self._cfg_channels)
            variance = variance[: len(x)]
        if self._wants == "velocity":
            return self._solver.process.velocity_from(prediction, x, t)
        eps = self._solver.process.eps_from(prediction, x, t)
        if self._solver.wants_variance and variance.shape[1]:
            return torch.cat([eps, variance], dim=1)
        return eps

    def _is_guided(self, t: float) -> bool:
        """Whether guidance is on at a clock time."""
        if self._cfg_scale == 1.0 or self._solver.cfg_interval is None:
            return self._cfg_scale != 1.0
        low, high = self._solver.cfg_interval
        return low <= t <= high
