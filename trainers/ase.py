"""The short fine-tune of ASE: every sample exits where its own timestep says (ASE, Sec. 3.3)."""

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

    The loss of the recipe times lambda(t), AdamW, a constant EMA decay, label dropout. One
    generator drives data, timesteps, noise, dropout and exits, in an order that no schedule
    changes: two trials with the same seed see the same batches, which makes them comparable as
    a pair.
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
        """Run ``recipe`` from the weights of ``backbone``, which is changed in place.

        Args:
            backbone: Network to start from; it trains on the device where it is.
            exits: Chooses each sample's exit depth.
            data: Images and labels.
            process: Adds the noise.
            recipe: Numbers of the fine-tune; 0 steps give the backbone back as it is.
            progress: Where to report, save and resume.
            seed: Seed of the generator.

        Returns:
            The EMA network, in eval mode.

        Raises:
            TrialError: If the loss or its gradient is not finite; the message holds the step.
            ConfigError: If the recipe asks for something that the backbone does not have.
        """
        net = cast(nn.Module, backbone)
        if recipe.num_steps == 0:
            return cast(Backbone, net.eval())
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
    """State of one fine-tune: everything that must survive an interruption."""

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
            fused=True,  # one pass over the weights instead of a loop over 160 tensors
        )
        self.decay = resolve_decay(recipe.ema_decay, recipe.num_steps)
        self.ema = start_ema(net, self.decay)
        self.weighting = LambdaWeighting(recipe.lambda_weighting, recipe.num_steps)
        # On the CPU whatever the device, so that every device sees the same batches.
        self.generator = torch.Generator().manual_seed(seed)

    def train_step(self) -> dict[str, float]:
        """One optimizer step; returns what to report."""
        step = self.step + 1
        batch, clock = self.draws.draw(self.recipe.batch_size, self.generator)
        # Depths are drawn last and stay on the CPU: sorting them there needs no wait.
        depths = self.exits(clock, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        sums = [
            self._backward(part, depths[rows], step)
            for rows, part in batch.parts(self.recipe.accumulate)
        ]
        totals = {name: sum(part[name] for part in sums) for name in sums[0]}
        max_norm = math.inf if self.recipe.grad_clip is None else self.recipe.grad_clip
        totals["grad_norm"] = torch.nn.utils.clip_grad_norm_(self.parameters, max_norm)
        # One wait for the device per step, before anything non-finite reaches the weights.
        report = torch.stack([cast(Tensor, value) for value in totals.values()]).tolist()
        values = dict(zip(totals, report, strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrialError(
                    f"{name} is {value} at step {step} of {self.recipe.num_steps}; "
                    "lower recipe.lr or set recipe.grad_clip.",
                    stage=STAGE,
                )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.ema.update_parameters(self.net)
        self.step = step
        return values

    def _backward(self, part: Batch, depths: Tensor, step: int) -> dict[str, Tensor]:
        """Add the gradient of some rows of the batch; returns their share of its losses."""
        x_t = self.process.q_sample(part.x0, part.t, part.noise)
        time = self.process.network_time(part.t)
        with autocast(self.recipe.precision, self.device):
            output = self.net(x_t, time, part.labels, exit_depth=depths)
        terms = self.loss(output.float(), part.x0, part.t, part.noise)
        per_sample = torch.stack(list(terms.values())).sum(0)
        # Over the whole batch, so that the gradients of its parts add up to its own.
        size = self.recipe.batch_size
        loss = (per_sample * self.weighting.weights(part.t, step)).sum() / size
        loss.backward()  # type: ignore[no-untyped-call]
        shares = {name: term.detach().sum() / size for name, term in terms.items()}
        return {"loss": loss.detach(), **shares}

    def state(self) -> dict[str, Any]:
        """A copy of everything that :meth:`load_state` needs, tensors on the CPU."""
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
        """Go on from :meth:`state`."""
        self.step = state["step"]
        self.net.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.weighting.load_state_dict(state["lambda"])


def learning_rate(recipe: RecipeSettings, step: int) -> float:
    """Learning rate of the optimizer step after ``step`` others; cosine falls to 0 at the end."""
    if recipe.lr_schedule == "constant":
        return recipe.lr
    return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * step / recipe.num_steps))


def _on_cpu(value: Any) -> Any:
    """A deep copy with every tensor on the CPU, so that later steps cannot change it."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]
    return copy.deepcopy(value)
