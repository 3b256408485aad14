"""Trains a backbone from scratch at full depth, for the two commands.

AdamW with a trapezoid learning rate and an EMA. One generator draws data, times, noise and label
dropout in this order, so equal commands give equal weights.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from schedsearch.diffusion.losses import mse, weighted
from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.files.atomic import replacing
from schedsearch.protocols import Backbone, NoiseProcess, TrainingData
from trainers.batches import BatchDraws
from trainers.ema import averaged_net, start_ema
from trainers.precision import Precision, autocast, float32_products

MAX_GRAD_NORM = 1.0
"""Largest global gradient norm; longer gradients are clipped."""

REPORT_EVERY = 200
"""Steps between two lines of progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Settings of a training from scratch."""

    steps: int
    batch_size: int
    lr: float
    """Peak learning rate."""
    adam_betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup_steps: int = 100
    decay_share: float = 0.4
    """Share of the steps, at the end, in which the learning rate decays to 0."""
    ema_decay: float = 0.999
    label_dropout: float = 0.1
    """Share of labels replaced by "no class", if the network has that label."""
    precision: Precision = "fp32"
    seed: int = 0


def lr_factor(
    step: int, num_steps: int, warmup_steps: int = 100, decay_share: float = 0.4
) -> float:
    """Return the learning rate of step ``step`` (from 0) over its peak, a trapezoid."""
    rise = (step + 1) / max(1, warmup_steps)
    return min(1.0, rise, (num_steps - step) / max(1.0, decay_share * num_steps))


class Pretraining:
    """State of one training from scratch, with everything needed to resume it.

    Args:
        net: Network with its initial weights, on the device to train on.
        data: Images and labels.
        process: Forward process and prediction target.
        plan: Settings of the training.

    Raises:
        ConfigError: If label dropout is on, but the network has no "no class" label.
    """

    def __init__(
        self, net: nn.Module, data: TrainingData, process: NoiseProcess, plan: Plan
    ) -> None:
        backbone = cast(Backbone, net)
        self.net, self.process, self.plan = net.train(), process, plan
        self.step = 0
        self.seconds = 0.0
        """Training time so far, over all starts."""
        self.losses: deque[float] = deque(maxlen=max(1, plan.steps // 10, REPORT_EVERY))
        """The most recent losses."""
        self._depth = backbone.num_exit_blocks
        self._device = next(net.parameters()).device
        self.draws = BatchDraws(backbone, data, process, plan.label_dropout, self._device)
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.optimizer = torch.optim.AdamW(
            net.parameters(), plan.lr, betas=plan.adam_betas, weight_decay=plan.weight_decay
        )
        self.ema = start_ema(net, plan.ema_decay)

    def train_step(self) -> float:
        """Run one optimizer step and return its loss.

        Raises:
            TrialError: If the loss or its gradient is not finite.
        """
        # Compute the gradient.
        plan = self.plan
        batch, _ = self.draws.draw(plan.batch_size, self.generator)
        x_t = self.process.q_sample(batch.x0, batch.t, batch.noise)
        time = self.process.network_time(batch.t)
        with float32_products(plan.precision):
            with autocast(plan.precision, self._device):
                output = self.net(x_t, time, batch.labels, exit_depth=self._depth)
            target = self.process.target(batch.x0, batch.t, batch.noise)
            loss = weighted(mse(output.float(), target), self.process, batch.t).mean()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), MAX_GRAD_NORM)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrialError(
                f"The loss is {value} and its gradient has norm {float(norm)} at step "
                f"{self.step + 1} of {plan.steps}; lower --lr.",
                stage="pretraining",
            )
        # Update the weights.
        factor = lr_factor(self.step, plan.steps, plan.warmup_steps, plan.decay_share)
        for group in self.optimizer.param_groups:
            group["lr"] = plan.lr * factor
        self.optimizer.step()
        self.ema.update_parameters(self.net)
        self.step += 1
        self.losses.append(value)
        return value

    def mean_loss(self, steps: int) -> float:
        """Return the mean loss of the last ``steps`` steps, or of all stored ones."""
        recent = list(self.losses)[-steps:]
        return sum(recent) / max(1, len(recent))

    def averaged(self) -> nn.Module:
        """Return the EMA network, in eval mode."""
        return averaged_net(self.ema)

    def state(self) -> dict[str, Any]:
        """Return the state for :meth:`load_state`.

        ``ema`` and ``model`` have the names of a checkpoint, so the state file can be loaded as
        one during training.
        """
        return {
            "ema": self.ema.module.state_dict(),
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": list(self.losses),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the output of :meth:`state`."""
        self.ema.module.load_state_dict(state["ema"])
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]
        self.losses.extend(state["losses"])


def train(
    run: Pretraining,
    state_file: Path,
    settings: dict[str, Any],
    *,
    save_seconds: float,
    note: Callable[[str], None],
) -> None:
    """Train to the end of the plan, from ``state_file`` if it exists.

    On the CPU a resumed training equals an undisturbed one, bit for bit.

    Args:
        run: The training, at its start.
        state_file: File of the saved state; written atomically.
        settings: Plain values that must agree with those of the saved state.
        save_seconds: Time between two saved states, and so the largest loss of progress.
        note: Receives lines of progress.

    Raises:
        ConfigError: If the state is damaged or belongs to other settings.
        TrialError: If the loss is not finite.
    """
    # Resume.
    plan = run.plan
    if state_file.is_file():
        run.load_state(_read_state(state_file, settings))
        note(f"resuming after step {run.step} of {plan.steps} from {state_file}")
    # Train.
    saved = last_line = time.monotonic()
    seconds_before = run.seconds - saved
    line_step = run.step
    while run.step < plan.steps:
        run.train_step()
        if run.step % REPORT_EVERY == 0 or run.step == plan.steps:
            now = time.monotonic()
            run.seconds = seconds_before + now
            seconds_per_step = (now - last_line) / (run.step - line_step)
            note(_progress_line(run, seconds_per_step))
            last_line, line_step = now, run.step
        if time.monotonic() - saved >= save_seconds and run.step < plan.steps:
            saved = time.monotonic()
            run.seconds = seconds_before + saved
            # NOTE: A Python file, because torch's own writer hides the error for a full disk.
            with replacing(state_file) as temporary, temporary.open("wb") as handle:
                torch.save({**run.state(), "settings": settings}, handle)


def _progress_line(run: Pretraining, seconds_per_step: float) -> str:
    left = (run.plan.steps - run.step) * seconds_per_step
    return (
        f"step {run.step}/{run.plan.steps}  loss {run.mean_loss(REPORT_EVERY):.4f}  "
        f"{run.plan.batch_size / seconds_per_step:.0f} images/s  "
        f"{run.seconds:.0f} s, about {left / 60:.0f} min left"
    )


def _read_state(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found: dict[str, Any] = state["settings"]
    except Exception as error:  # NOTE: torch raises many types for a damaged file
        raise ConfigError(
            f"The saved state {path} cannot be read ({error}); remove it to start again."
        ) from error
    differing = [
        f"{name} was {found.get(name)!r} and is {settings.get(name)!r}"
        for name in sorted({*found, *settings})
        if found.get(name) != settings.get(name)
    ]
    if differing:
        raise ConfigError(
            f"The saved state {path} belongs to another training: {'; '.join(differing)}. "
            "Repeat its command to resume, or remove it to start again."
        )
    return state
