"""Contracts between the tool, the models and the trainers.

Lowest layer of the package, so that a trainer or a foreign model needs nothing else. Shapes:
N batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from schedsearch.settings import Prediction, RecipeSettings


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
        """Predict the noise, or what else the study's ``diffusion.prediction`` says.

        Args:
            x: Noisy inputs, (N, C, H, W).
            t: What the model's official code feeds it, (N,): timesteps 0..999 for a DiT,
                999 s for a U-ViT on continuous time s in [0, 1].
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
        """Predict the noise of ``x``, (N, C, H, W), at one clock time for the whole batch.

        Returns:
            The noise, (N, C, H, W), whatever the network predicts; (N, 2C, H, W) with the
            learned variance behind it, for a solver that wants it.
        """
        ...


class StepNoise(Protocol):
    """Fresh noise for the steps of a stochastic solver, the same for every schedule."""

    def __call__(self) -> Tensor:
        """Standard normal noise in the shape, dtype and device of the batch."""
        ...


class Solver(Protocol):
    """Integrates the reverse process."""

    num_steps: int

    @property
    def process(self) -> NoiseProcess:
        """The process whose reverse is integrated."""
        ...

    @property
    def times(self) -> tuple[float, ...]:
        """Times on the clock [0, 1000] where the denoiser is called, noise -> data."""
        ...

    @property
    def wants_variance(self) -> bool:
        """Whether the denoiser should hand on a learned variance."""
        ...

    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Yield what each network call leads to; the last is what :meth:`sample` returns."""
        ...

    def sample(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Tensor:
        """Return samples for ``noise``, both (N, C, H, W).

        Args:
            denoiser: Predicts the noise.
            noise: Standard normal start.
            step_noise: Noise of the steps; a deterministic solver needs none.

        Raises:
            ValueError: If a stochastic solver gets no ``step_noise``.
        """
        ...


class NoiseProcess(Protocol):
    """The forward process and what the network predicts of it, on the clock [0, 1000]."""

    prediction: Prediction

    def draw_times(self, num: int, generator: torch.Generator) -> Tensor:
        """Times to train at, (num,), on the CPU."""
        ...

    def network_time(self, t: Tensor) -> Tensor:
        """What the network is fed at times ``t``, (N,)."""
        ...

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) of ``x_t = alpha x_0 + sigma eps``, float64, in the shape of ``t``."""
        ...

    def alpha_bar(self, t: float) -> float:
        """Share of the variance that is still data at time ``t``."""
        ...

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noisy inputs at times ``t``, (N,): data (N, C, H, W) -> same shape."""
        ...

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the network should predict, (N, C, H, W)."""
        ...

    def eps_from(self, output: Tensor, x: Tensor, t: float) -> Tensor:
        """The noise that a prediction implies at one time for the whole batch."""
        ...


class TrainingData(Protocol):
    """Images or latents to train on, in memory or read on demand."""

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw a batch to train on.

        Returns:
            Images, (N, C, H, W) float32 in [-1, 1], or scaled latents; and labels, (N,) int64
            or None.
        """
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
