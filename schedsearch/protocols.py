"""Contracts between the tool, the models and the trainers.

This is the lowest layer of the package, so a custom trainer or model imports nothing else.
Shapes: N batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from schedsearch.settings import Prediction, Process, RecipeSettings
    from schedsearch.tokens import Around, Tokens

ExitLayers = Literal["decoder", "all"]
"""Where a U-ViT may exit: ``decoder`` as in ASE, or after any block as in DeeDiff. In a DiT both
are the same."""


Wants = Literal["eps", "velocity"]
"""What a solver wants from a denoiser: the noise, or the velocity ``noise - data``."""


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
        """Predict the noise, or another target set by ``diffusion.prediction``.

        Args:
            x: Noisy inputs, (N, C, H, W).
            t: Network times as in the model's official code, (N,): timesteps 0..999 for a DiT,
                999 s for a U-ViT on continuous time s in [0, 1], and what ``diffusion.time``
                says for flow matching.
            y: Class labels, (N,) int64, or None for an unconditional model. The label
                ``num_classes`` means "no class" (classifier-free guidance). A model with another
                such label has the attribute ``null_label`` with its number, and one without it
                has ``null_label = None``.
            exit_depth: Blocks to run: one int for the whole batch, or (N,) integers.

        Returns:
            The prediction, (N, C, H, W); (N, 2C, H, W) when variances are learned.
        """
        ...


@runtime_checkable
class StagedBackbone(Backbone, Protocol):
    """A backbone that can be run block by block; DiT and U-ViT.

    ``open``, every ``run`` in order and ``close`` equal one call at full depth.
    """

    patch_size: int
    num_extras: int
    """Tokens in front of the patches: label and time of a U-ViT, none in a DiT."""

    @property
    def num_blocks(self) -> int:
        """Blocks in all: 28 in DiT-XL/2, 13 in U-ViT-S/4."""
        ...

    @property
    def width(self) -> int:
        """Width D of a token."""
        ...

    def open(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tokens:
        """Embed a batch, with the arguments of a call."""
        ...

    def run(self, tokens: Tokens, block: int, around: Around | None = None) -> Tokens:
        """Run one block; blocks count from 0."""
        ...

    def close(self, tokens: Tokens, num_run: int, exits: ExitLayers = "decoder") -> Tensor:
        """Predict from the tokens after ``num_run`` blocks.

        Args:
            tokens: What the blocks so far made.
            num_run: Blocks run so far.
            exits: ``decoder`` merges the long skips that are left, as ASE does, and needs the
                encoder to have run. ``all`` goes straight to the head, as DeeDiff does.

        Returns:
            The prediction, (N, C, H, W), or (N, 2C, H, W) with learned variances.

        Raises:
            ValueError: If a U-ViT exits in its encoder with ``decoder``.
        """
        ...


class NetworkCall(Protocol):
    """Calls the network for one sampling run; it may remember what earlier steps computed."""

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict as the network does, or cheaper.

        Args:
            x: Noisy inputs, (N, C, H, W). With guidance, rows with labels, then the same rows
                without.
            t: Network times, (N,), all equal.
            y: Labels, (N,), or None.
            clock: The same time on the clock [0, 1000].
            step: Index of the call in the run, from 0.
        """
        ...


class Method(Protocol):
    """A way to sample with less compute; an exit schedule is one.

    It never changes and holds no state of a run. What a run remembers lives in the call that
    :meth:`begin` returns.
    """

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> NetworkCall:
        """Start one sampling run.

        Args:
            net: The network, in eval mode.
            times: Clock times of the run's network calls, from noise to data.
            guided: Whether the batch holds every sample twice, with and without its label.

        Raises:
            ConfigError: If the method does not fit the network or the number of steps.
        """
        ...


@runtime_checkable
class ObservedCall(NetworkCall, Protocol):
    """A call that keeps account of what it ran."""

    blocks: list[Tensor]
    """Blocks run by every sample, one tensor (N,) per step; half a block counts 0.5."""

    peak_bytes: int
    """Most bytes kept from one step to the next."""


class Denoiser(Protocol):
    """A network call with labels and guidance bound, as a solver calls it."""

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Predict for ``x``, (N, C, H, W), at one clock time for the whole batch.

        Returns:
            What ``Solver.wants`` names, (N, C, H, W), whatever the network predicts: the noise,
            or the velocity ``noise - data``. (N, 2C, H, W), noise then learned variance, if the
            solver wants it.
        """
        ...


class StepNoise(Protocol):
    """Fresh noise for the steps of a stochastic solver, the same for every schedule."""

    def __call__(self) -> Tensor:
        """Draw standard normal noise with the shape, dtype and device of the batch."""
        ...


class Solver(Protocol):
    """Integrates the reverse process from noise to data."""

    num_steps: int

    @property
    def process(self) -> NoiseProcess:
        """The forward process that the solver reverses."""
        ...

    @property
    def times(self) -> tuple[float, ...]:
        """Clock times in [0, 1000] of the denoiser calls, from noise to data."""
        ...

    calls_per_step: int
    """Calls of a step: 2 for Heun's method, whose second call is at its end; else 1."""

    @property
    def wants(self) -> Wants:
        """What the denoiser should return."""
        ...

    @property
    def cfg_interval(self) -> tuple[float, float] | None:
        """Clock times, low and high, between which guidance is on; None is always."""
        ...

    @property
    def wants_variance(self) -> bool:
        """Whether the denoiser should return a learned variance too."""
        ...

    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Yield the state after each network call; the last one is the sample."""
        ...

    def sample(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Tensor:
        """Return samples for ``noise``, both (N, C, H, W).

        Args:
            denoiser: Predicts what ``wants`` names.
            noise: Standard normal starting noise.
            step_noise: Noise of the steps; deterministic solvers ignore it.

        Raises:
            ValueError: If a stochastic solver gets no ``step_noise``.
        """
        ...


class NoiseProcess(Protocol):
    """The forward process and the network's prediction target, on the clock [0, 1000]."""

    prediction: Prediction
    kind: Process

    def draw_times(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw training times, (num,), on the CPU."""
        ...

    def network_time(self, t: Tensor) -> Tensor:
        """Convert clock times ``t``, (N,), to the network's time input."""
        ...

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) of ``x_t = alpha x_0 + sigma eps``, float64, shaped like ``t``."""
        ...

    def alpha_bar(self, t: float) -> float:
        """Return the data's share of the variance at time ``t``."""
        ...

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Add noise to data, (N, C, H, W), at times ``t``, (N,)."""
        ...

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the prediction target, (N, C, H, W)."""
        ...

    def loss_weights(self, t: Tensor) -> Tensor | None:
        """Weights of the squared prediction error in training, (N,); None is 1 everywhere."""
        ...

    def eps_from(self, output: Tensor, x: Tensor, t: float) -> Tensor:
        """Convert a prediction to noise, at one time for the whole batch."""
        ...

    def velocity_from(self, output: Tensor, x: Tensor, t: float) -> Tensor:
        """Convert a prediction to the velocity ``noise - data``; flow matching only."""
        ...


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
