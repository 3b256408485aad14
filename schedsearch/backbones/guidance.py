"""The denoiser that a solver calls: backbone, process, schedule, labels and guidance."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Backbone, NoiseProcess
from schedsearch.schedules.exit_schedule import ExitSchedule


def null_label_of(net: nn.Module | Backbone) -> int | None:
    """Return the label that means "no class", or None if the model has none.

    The protocol fixes it to ``num_classes``. A model without this label sets the attribute
    ``null_label = None``.
    """
    label = getattr(net, "null_label", net.num_classes)
    return None if label is None else int(cast(int, label))


def learns_variance(net: nn.Module | Backbone) -> bool:
    """Whether the model also predicts variances (attribute ``learn_sigma``)."""
    return bool(getattr(net, "learn_sigma", False))


class ScheduledDenoiser:
    """Denoiser that runs the number of blocks its schedule gives for each time.

    Args:
        net: Backbone.
        schedule: Blocks to run per interval.
        labels: Classes of the batch, (N,) int64; None for an unconditional model.
        process: Converts clock times to network times, and predictions to noise.
        cfg_scale: Scale s of classifier-free guidance,
            ``eps = eps_null + s (eps_label - eps_null)`` (Ho and Salimans 2022, Eq. 6, with
            s = 1 + w). At 1 guidance is off, which halves the cost.
        cfg_channels: Guide only the first channels (3 of 4 in DiT's code). The others keep the
            prediction with labels. None guides all.
        keep_variance: Return the learned variance too, behind the noise. It is not guided.

    Raises:
        ConfigError: If guidance needs labels, a "no class" label or channels that the model
            lacks.
    """

    def __init__(
        self,
        net: nn.Module | Backbone,
        schedule: ExitSchedule,
        labels: Tensor | None,
        process: NoiseProcess,
        *,
        cfg_scale: float = 1.0,
        cfg_channels: int | None = None,
        keep_variance: bool = False,
    ) -> None:
        self._net = cast(Backbone, net)
        self._schedule = schedule
        self._labels = labels
        self._process = process
        self._cfg_scale = cfg_scale
        self._cfg_channels = cfg_channels
        self._keep_variance = keep_variance
        first = next(net.parameters(), None) if isinstance(net, nn.Module) else None
        self._dtype = None if first is None else first.dtype
        if cfg_channels is not None and cfg_channels > (channels := self._net.in_shape[0]):
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
            self._labels = torch.cat([labels, torch.full_like(labels, null)])

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Predict the noise of ``x``, (N, C, H, W), at clock time ``t``."""
        guided = self._cfg_scale != 1.0
        inputs = x if self._dtype is None else x.to(self._dtype)
        if guided:
            inputs = torch.cat([inputs, inputs])
        # NOTE: Filled on the device to avoid a copy; float32 holds every timestep exactly.
        clock = torch.full((len(inputs),), t, dtype=torch.float32, device=x.device)
        output: Tensor = self._net(
            inputs,
            self._process.network_time(clock),
            self._labels,
            exit_depth=self._schedule.depth_at(t),
        ).to(x.dtype)
        channels = x.shape[1]
        prediction, variance = output[:, :channels], output[:, channels:]
        if guided:
            prediction, variance = self._guide(prediction), variance[: len(x)]
        eps = self._process.eps_from(prediction, x, t)
        if self._keep_variance and variance.shape[1]:
            return torch.cat([eps, variance], dim=1)
        return eps

    def _guide(self, prediction: Tensor) -> Tensor:
        """Combine the predictions with and without labels.

        Guiding v or x0 equals guiding eps, because the conversion to eps is affine.

        Args:
            prediction: Predictions with labels, then without, (2N, C, H, W).

        Returns:
            The guided prediction, (N, C, H, W).
        """
        with_label, without = prediction.chunk(2)
        guided = without + self._cfg_scale * (with_label - without)
        if self._cfg_channels is None:
            return guided
        return torch.cat(
            [guided[:, : self._cfg_channels], with_label[:, self._cfg_channels :]], dim=1
        )
