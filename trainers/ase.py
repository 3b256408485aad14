"""The short fine-tune of ASE: each sample exits by its timestep (ASE, Sec. 3.3)."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from schedsearch.backbones.guidance import learns_variance
from schedsearch.diffusion.losses import TrainingLoss
from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.protocols import Backbone, ExitRule, NoiseProcess, Progress, TrainingData
from schedsearch.settings import RecipeSettings
from trainers.batches import Batch, BatchDraws
from trainers.ema import averaged_net, resolve_decay, share_left, start_ema
from trainers.lambda_weighting import LambdaWeighting
from trainers.options import checkpointing, freeze_time_embedder
from trainers.precision import autocast, float32_products

STAGE = "fine-tune"


class AseTrainer:
    """Fine-tunes a backbone for an exit rule and returns its EMA copy.

    It uses the loss of the recipe times lambda(t), AdamW, a constant EMA decay and label
    dropout. One generator draws data, timesteps, noise, dropout and exits in a fixed order. So
    trials with equal seeds see equal batches, and their comparison is paired.
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
        """Fine-tune ``backbone`` in place by ``recipe``.

        Args:
            backbone: Network to start from, on the device to train on.
            exits: Chooses each sample's exit depth.
            data: Images and labels.
            process: Forward process and prediction target.
            recipe: Settings of the fine-tune; with 0 steps the backbone is returned unchanged.
            progress: Reports, saves and resumes.
            seed: Seed of the generator.

        Returns:
            The EMA network, in eval mode.

        Raises:
            TrialError: If the loss or its gradient is not finite; the message gives the step.
            ConfigError: If the recipe needs something that the backbone lacks.
        """
        net = cast(nn.Module, backbone)
        if recipe.num_steps == 0:
            return cast(Backbone, net.eval())
        # Resume or start.
        run = _Run(net, exits, data, process, recipe, seed)
        state = progress.restore()
        if state is not None:
            run.load_state(state)
            progress.note(f"resumed after step {run.step} of {recipe.num_steps}")
        elif (left := share_left(run.decay, recipe.num_steps)) > 0.5:
            progress.note(
                f"warning: with ema_decay={run.decay:g}, {100 * left:.0f} % of the EMA are still "
                f"the pretrained weights after {recipe.num_steps} steps; 'auto' leaves 10 %"
            )
        # Train.
        with (
            float32_products(recipe.precision),
            checkpointing(net, enabled=recipe.gradient_checkpointing),
        ):
            while run.step < recipe.num_steps:
                values = run.train_step()
                progress.report(run.step, values.pop("loss"), **values)
                unweighted = values["mse"] + values.get("vlb", 0.0)
                if (line := run.weighting.observe(run.step, unweighted)) is not None:
                    progress.note(line)
                progress.save(run.step, run.state)
        return cast(Backbone, averaged_net(run.ema))


class _Run:
    """State of one fine-tune, with everything needed to resume it."""

    def __init__(
        self,
        net: nn.Module,
        exits: ExitRule,
        data: TrainingData,
        process: NoiseProcess,
        recipe: RecipeSettings,
        seed: int,
    ) -> None:
        if recipe.accumulate > recipe.batch_size:
            raise ConfigError(
                f"recipe.accumulate {recipe.accumulate} cuts a batch of {recipe.batch_size} "
                "into empty parts; make it at most recipe.batch_size."
            )
        self.net, self.exits, self.process, self.recipe = net.train(), exits, process, recipe
        self.step = 0
        if recipe.freeze_time_embedder:
            freeze_time_embedder(net)
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.draws = BatchDraws(
            cast(Backbone, net), data, process, recipe.label_dropout, self.device
        )
        self.loss = TrainingLoss(recipe.loss, process, learns_variance=learns_variance(net))
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            recipe.lr,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,  # NOTE: faster than one kernel per tensor
        )
        self.decay = resolve_decay(recipe.ema_decay, recipe.num_steps)
        self.ema = start_ema(net, self.decay)
        self.weighting = LambdaWeighting(recipe.lambda_weighting, recipe.num_steps)
        # NOTE: Always on the CPU, so that every device sees the same batches.
        self.generator = torch.Generator().manual_seed(seed)

    def train_step(self) -> dict[str, float]:
        """Run one optimizer step and return the values to report."""
        # Draw a batch.
        step = self.step + 1
        batch, clock = self.draws.draw(self.recipe.batch_size, self.generator)
        # NOTE: Depths are drawn last and stay on the CPU, where sorting needs no wait.
        depths = self.exits(clock, self.generator)
        # Accumulate the gradient.
        self.optimizer.zero_grad(set_to_none=True)
        sums = [
            self._backward(part, depths[rows], step)
            for rows, part in batch.parts(self.recipe.accumulate)
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
                )
        # Update the weights.
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.ema.update_parameters(self.net)
        self.step = step
        return values

    def _backward(self, part: Batch, depths: Tensor, step: int) -> dict[str, Tensor]:
        """Add the gradient of some rows, and return their share of the losses."""
        x_t = self.process.q_sample(part.x0, part.t, part.noise)
        time = self.process.network_time(part.t)
        with autocast(self.recipe.precision, self.device):
            output = self.net(x_t, time, part.labels, exit_depth=depths)
        terms = self.loss(output.float(), part.x0, part.t, part.noise)
        per_sample = torch.stack(list(terms.values())).sum(0)
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
