"""Contracts between the tool, the models and the trainers.

Lowest layer of the package, so that a trainer or a foreign model needs nothing else. Shapes:
N batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from schedsearch.settings import RecipeSettings


@runtime_checkable
class Backbone(Protocol):
    """A diffusion transformer with early exits; also a ``torch.nn.Module``."""

    num_exit_blocks: int
    """Blocks that a schedule may skip: 28 in DiT-XL/2, the 6 decoder blocks in U-ViT-S/4."""
    in_shape: tuple[int, int, int]
    """Shape (C, H, W) of one input."""
    num_classes: int | None
    """Number of class labels, or None for an unconditional model."""

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None, *, exit_depth: int | Tensor) -> Any:
        """Predict the noise.

        Args:
            x: Noisy inputs, (N, C, H, W).
            t: Timesteps on the model's own clock, (N,).
            y: Class labels, (N,) int64, or None for an unconditional model. The label
                ``num_classes`` means "no class" (classifier-free guidance).
            exit_depth: Blocks to run: one int for the whole batch, or (N,) integers.

        Returns:
            The prediction, (N, C, H, W); (N, 2C, H, W) when variances are learned.
        """
        ...


class Denoiser(Protocol):
    """A backbone with its schedule, labels and guidance bound: all that a solver sees."""

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Predict the noise of ``x``, (N, C, H, W), at one time ``t`` for the whole batch."""
        ...


class Solver(Protocol):
    """Integrates the reverse process."""

    num_steps: int

    @property
    def times(self) -> tuple[float, ...]:
        """Times on the model's clock where the denoiser is called, noise -> data."""
        ...

    def sample(self, denoiser: Denoiser, noise: Tensor) -> Tensor:
        """Return samples for ``noise``, both (N, C, H, W)."""
        ...


class NoiseProcess(Protocol):
    """The forward process as a trainer sees it."""

    num_timesteps: int

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noisy inputs at integer timesteps ``t``, (N,): data (N, C, H, W) -> same shape."""
        ...


class TrainingData(Protocol):
    """Images to train on, in memory or read on demand."""

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw images, (N, C, H, W) float32 in [-1, 1], and labels, (N,) int64 or None."""
        ...


class ExitRule(Protocol):
    """Chooses where each sample of a training batch exits.

    One schedule, uniform depths or random schedules: a shared fine-tune is the same trainer
    with another rule.
    """

    def __call__(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Exit depths, (N,) int64, for times ``t``, (N,), on the schedules' clock."""
        ...


class Progress(Protocol):
    """How a trainer reports, saves and resumes.

    ``save`` and ``restore`` make continuing equal to not having stopped, bit for bit on CPU.
    """

    def report(self, step: int, loss: float, **values: float) -> None:
        """Record the training loss after optimizer step ``step`` (counted from 1)."""
        ...

    def note(self, message: str) -> None:
        """Write a line to the trial's log."""
        ...

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keep the state after ``step`` if it is time to; ``state`` is called only then."""
        ...

    def restore(self) -> dict[str, Any] | None:
        """The newest state that was kept, tensors on CPU, or None to start afresh."""
        ...


class Trainer(Protocol):
    """Fine-tunes a backbone and returns its EMA copy; never measures itself.

    Named in a search space by import string; created without arguments.
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
        """Run ``recipe`` from the weights of ``backbone``, which may be changed in place.

        Returns:
            The model to sample from, in eval mode, of the same class as ``backbone``.

        Raises:
            TrialError: If the loss is not finite; the message holds the step.
        """
        ...
