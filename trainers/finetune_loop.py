"""The loop of every fine-tune: optimizer, EMA, batches, divergence check, resumption."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn

from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.protocols import Backbone, NoiseProcess, Progress, TrainingData
from schedsearch.schedules.edges import Edges
from schedsearch.settings import RecipeSettings
from trainers.batches import Batch, BatchDraws
from trainers.ema import averaged_net, resolve_decay, share_left, start_ema
from trainers.lambda_weighting import LambdaWeighting
from trainers.options import checkpointing
from trainers.precision import float32_products

STAGE = "fine-tune"


class Objective(ABC):
    """What a fine-tune minimises; the loop weights its samples by lambda(t)."""

    def start_step(self, step: int, clock: Tensor, generator: torch.Generator) -> None:
        """Prepare an optimizer step.

        Args:
            step: The step, counted from 1.
            clock: Clock times of the whole batch, (N,), on the CPU.
            generator: The loop's generator; what is drawn from it changes later batches.
        """
        return

    @abstractmethod
    def losses(self, net: nn.Module, part: Batch, rows: slice) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the losses of some samples of the step's batch.

        Args:
            net: The network, in training mode.
            part: The samples, (n, ...).
            rows: Their place in the batch.

        Returns:
            The loss to minimise, (n,), and terms to report, (n,) each. ``mse`` and, if there is
            one, ``vlb`` make up the unweighted loss that may end lambda(t).
        """


class FinetuneLoop:
    """State of one fine-tune, with everything needed to resume it.

    Args:
        net: Network to train, on its device.
        objective: What to minimise.
        data: Images and labels.
        process: Forward process and prediction target.
        recipe: Settings of the fine-tune.
        seed: Seed of the generator.
        edges: Edges of the schedule's intervals, for lambda(t); None for equal ones.

    Raises:
        ConfigError: If the recipe does not fit the network or the batch.
    """

    def __init__(
        self,
        net: nn.Module,
        objective: Objective,
        data: TrainingData,
        process: NoiseProcess,
        recipe: RecipeSettings,
        seed: int,
        edges: Edges | None = None,
    ) -> None:
        if recipe.accumulate > recipe.batch_size:
            raise ConfigError(
                f"recipe.accumulate {recipe.accumulate} cuts a batch of {recipe.batch_size} "
                "into empty parts; make it at most recipe.batch_size."
            )
        self.net, self.objective, self.recipe = net.train(), objective, recipe
        self.step = 0
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        device = self.parameters[0].device
        self.draws = BatchDraws(cast(Backbone, net), data, process, recipe.label_dropout, device)
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            recipe.lr,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,  # NOTE: faster than one kernel per tensor
        )
        self.decay = resolve_decay(recipe.ema_decay, recipe.num_steps)
        self.ema = start_ema(net, self.decay)
        self.weighting = LambdaWeighting(recipe.lambda_weighting, recipe.num_steps, edges)
        # NOTE: Always on the CPU, so that every device sees the same batches.
        self.generator = torch.Generator().manual_seed(seed)

    def train(self, progress: Progress) -> nn.Module:
        """Train to the end, from the saved state if there is one.

        Returns:
            The EMA network, in eval mode.

        Raises:
            TrialError: If the loss or its gradient is not finite; the message gives the step.
        """
        # Resume or start.
        recipe, state = self.recipe, progress.restore()
        if state is not None:
            self.load_state(state)
            progress.note(f"resumed after step {self.step} of {recipe.num_steps}")
        elif (left := share_left(self.decay, recipe.num_steps)) > 0.5:
            progress.note(
                f"warning: with ema_decay={self.decay:g}, {100 * left:.0f} % of the EMA are still "
                f"the pretrained weights after {recipe.num_steps} steps; 'auto' leaves 10 %"
            )
        # Train.
        with (
            float32_products(recipe.precision),
            checkpointing(self.net, enabled=recipe.gradient_checkpointing),
        ):
            while self.step < recipe.num_steps:
                values = self.train_step()
                progress.report(self.step, values.pop("loss"), **values)
                unweighted = values["mse"] + values.get("vlb", 0.0)
                if (line := self.weighting.observe(self.step, unweighted)) is not None:
                    progress.note(line)
                progress.save(self.step, self.state)
        return averaged_net(self.ema)

    def train_step(self) -> dict[str, float]:
        """Run one optimizer step and return the values to report."""
        # Draw a batch.
        step = self.step + 1
        batch, clock = self.draws.draw(self.recipe.batch_size, self.generator)
        self.objective.start_step(step, clock, self.generator)
        # Accumulate the gradient.
        self.optimizer.zero_grad(set_to_none=True)
        sums = [
            self._backward(part, rows, step) for rows, part in batch.parts(self.recipe.accumulate)
        ]
        totals = {name: sum(part[name] for part in sums) for name in sums[0]}
        max_norm = math.inf if self.recipe.grad_clip is None else self.recipe.grad_clip
        totals["grad_norm"] = torch.nn.utils.clip_grad_norm_(self.parameters, max_norm)
        # Check for divergence.
        # NOTE: The only wait for the device per step, before the weights change.
        report = torch.stack([cast(Tensor, value) for value in totals.values()]).tolist()
        values = dict(zip(totals, report, strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrialError(
                    f"{name} is {value} at step {step} of {self.recipe.num_steps}; "
                    "lower recipe.lr or set recipe.grad_clip.",
                    stage=STAGE,
                    network=self.last_finite(),
                )
        # Update the weights.
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.ema.update_parameters(self.net)
        self.step = step
        return values

    def last_finite(self) -> nn.Module | None:
        """Return the EMA network before a failed step, or None if not finite."""
        values = (*self.ema.module.parameters(), *self.ema.module.buffers())
        if all(bool(torch.isfinite(value).all()) for value in values):
            return averaged_net(self.ema)
        return None

    def _backward(self, part: Batch, rows: slice, step: int) -> dict[str, Tensor]:
        """Add the gradient of some rows, and return their share of the losses."""
        per_sample, terms = self.objective.losses(self.net, part, rows)
        # NOTE: Divided by the whole batch, so that the gradients of the parts add up.
        size = self.recipe.batch_size
        loss = (per_sample * self.weighting.weights(part.t, step)).sum() / size
        loss.backward()  # type: ignore[no-untyped-call]
        shares = {name: term.detach().sum() / size for name, term in terms.items()}
        return {"loss": loss.detach(), **shares}

    def state(self) -> dict[str, Any]:
        """Return a copy of the state for :meth:`load_state`, with tensors on the CPU."""
        state = {
            "step": self.step,
            "model": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "lambda": self.weighting.state_dict(),
        }
        return {name: _on_cpu(part) for name, part in state.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the output of :meth:`state`."""
        self.step = state["step"]
        self.net.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.weighting.load_state_dict(state["lambda"])


def learning_rate(recipe: RecipeSettings, step: int) -> float:
    """Return the learning rate after ``step`` steps; cosine decays to 0 at the end."""
    if recipe.lr_schedule == "constant":
        return recipe.lr
    return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * step / recipe.num_steps))


def _on_cpu(value: Any) -> Any:
    """Copy deeply with tensors on the CPU, so that later steps change nothing."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]
    return copy.deepcopy(value)
