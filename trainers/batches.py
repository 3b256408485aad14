"""Seeded training batches, drawn in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.backbones.guidance import null_label_of
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Backbone, NoiseProcess, TrainingData


@dataclass(frozen=True, slots=True)
class Batch:
    """One training batch of N samples, on the device of the network."""

    x0: Tensor
    """Data, (N, C, H, W)."""
    labels: Tensor | None
    """Classes, (N,), some replaced by "no class"; None for an unconditional network."""
    t: Tensor
    """Clock times, (N,)."""
    noise: Tensor
    """Standard normal noise, (N, C, H, W)."""

    def parts(self, num: int) -> Iterator[tuple[slice, Batch]]:
        """Split the batch into ``num`` nearly equal parts; yield rows and part."""
        size = len(self.x0)
        for part in range(num):
            rows = slice(part * size // num, (part + 1) * size // num)
            labels = None if self.labels is None else self.labels[rows]
            yield rows, Batch(self.x0[rows], labels, self.t[rows], self.noise[rows])


class BatchDraws:
    """Draws batches: data, times, noise and label dropout, in this order.

    Everything is drawn on the CPU, so that every device sees the same batches. Label dropout is
    for classifier-free guidance (Ho and Salimans 2022, Alg. 1).

    Args:
        net: Network to train, with its classes and its "no class" label.
        data: Images and labels.
        process: Draws the times.
        label_dropout: Share of labels replaced by "no class".
        device: Device of the batches.

    Raises:
        ConfigError: If label dropout is on, but the network has no "no class" label.
    """

    def __init__(
        self,
        net: Backbone,
        data: TrainingData,
        process: NoiseProcess,
        label_dropout: float,
        device: torch.device,
    ) -> None:
        self._num_classes = net.num_classes
        self._data, self._process, self._device = data, process, device
        self._dropout = label_dropout
        self._null_label = None if label_dropout == 0 else null_label_of(net)
        if self._num_classes is not None and label_dropout > 0 and self._null_label is None:
            raise ConfigError(
                f"recipe.label_dropout is {label_dropout}, but the backbone has no 'no class' "
                "label (a DiT with class_dropout_prob 0, a U-ViT without null_class); set "
                "label_dropout to 0."
            )

    def draw(self, size: int, generator: torch.Generator) -> tuple[Batch, Tensor]:
        """Draw a batch, and return its times on the CPU too.

        Raises:
            ConfigError: If the network has classes but the data has no labels.
        """
        x0, labels = self._data.batch(size, generator)
        t = self._process.draw_times(len(x0), generator)
        noise = torch.randn(x0.shape, generator=generator)
        dropped = torch.rand(len(x0), generator=generator) < self._dropout
        if self._num_classes is None:
            labels = None
        elif labels is None:
            raise ConfigError(
                f"The backbone has {self._num_classes} classes, but the data has no labels; "
                "put the images into one folder per class, or use an unconditional backbone."
            )
        elif self._null_label is not None:
            labels = torch.where(dropped, self._null_label, labels)
        device = self._device
        on_device = None if labels is None else labels.to(device)
        return Batch(x0.to(device), on_device, t.to(device), noise.to(device)), t
