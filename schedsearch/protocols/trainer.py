"""The trainer, and what a fine-tune hands it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from schedsearch.protocols.backbone import Backbone
    from schedsearch.protocols.process import NoiseProcess
    from schedsearch.settings import RecipeSettings


class TrainingData(Protocol):
    """Images or latents to train on, in memory or read on demand."""

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw a training batch.

        Returns:
            Images, (N, C, H, W) float32 in [-1, 1], or scaled latents; and labels, (N,) int64
            or None.
        """
        ...


class ExitRule(Protocol):
    """Chooses the exit depth of each sample in a training batch.

    Rules exist for one schedule and for random schedules. A shared fine-tune uses the same
    trainer with the second.
    """

    @property
    def edges(self) -> tuple[float, ...] | None:
        """Edges of the schedules' intervals on the clock; None for equal ones."""
        ...

    def __call__(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Return exit depths, (N,) int64, for clock times ``t``, (N,)."""
        ...


class Progress(Protocol):
    """Lets a trainer report, save and resume.

    On the CPU a resumed fine-tune equals an undisturbed one, bit for bit.
    """

    def report(self, step: int, loss: float, **values: float) -> None:
        """Record the training loss after optimizer step ``step``, counted from 1."""
        ...

    def note(self, message: str) -> None:
        """Write a line to the trial's log."""
        ...

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Save the state after ``step`` if a save is due; only then call ``state``."""
        ...

    def restore(self) -> dict[str, Any] | None:
        """Return the newest saved state with tensors on the CPU, or None."""
        ...


class Trainer(Protocol):
    """Fine-tunes a backbone and returns its EMA copy; it never measures quality.

    A search space names the class by import string. It is created without arguments.
    """

    def finetune(
        self,
        backbone: Backbone,
        exits: ExitRule,
        data: TrainingData,
        process: NoiseProcess,
        recipe: RecipeSettings,
        progress: Progress,
        seed: int,
    ) -> Backbone:
        """Fine-tune ``backbone`` by ``recipe``; its weights may be changed in place.

        Returns:
            The model to sample from, in eval mode, of the same class as ``backbone``.

        Raises:
            TrialError: If the loss is not finite; the message gives the step.
        """
        ...
