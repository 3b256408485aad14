"""The short fine-tune of ASE: each sample exits by its timestep (ASE, Sec. 3.3)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from schedsearch.backbones.guidance import learns_variance
from schedsearch.diffusion.losses import TrainingLoss
from schedsearch.protocols import Backbone, ExitRule, NoiseProcess, Progress, TrainingData
from schedsearch.settings import RecipeSettings
from trainers.batches import Batch
from trainers.finetune_loop import FinetuneLoop, Objective
from trainers.options import freeze_time_embedder
from trainers.precision import autocast


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
        if recipe.freeze_time_embedder:
            freeze_time_embedder(net)
        objective = ScheduledExits(net, exits, process, recipe)
        loop = FinetuneLoop(net, objective, data, process, recipe, seed, exits.edges)
        return cast(Backbone, loop.train(progress))


class ScheduledExits(Objective):
    """The loss at one exit per sample.

    Args:
        net: Network to train.
        exits: Chooses each sample's exit depth.
        process: Forward process and prediction target.
        recipe: Gives the loss and the precision.
    """

    def __init__(
        self, net: nn.Module, exits: ExitRule, process: NoiseProcess, recipe: RecipeSettings
    ) -> None:
        self._exits, self._process, self._precision = exits, process, recipe.precision
        self._loss = TrainingLoss(recipe.loss, process, learns_variance=learns_variance(net))
        self._depths = torch.zeros(0)

    def start_step(self, step: int, clock: Tensor, generator: torch.Generator) -> None:
        """Draw the exit depths of the batch."""
        # NOTE: Depths are drawn last and stay on the CPU, where sorting needs no wait.
        self._depths = self._exits(clock, generator)

    def losses(self, net: nn.Module, part: Batch, rows: slice) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of every sample at its exit; see :class:`Objective`."""
        x_t = self._process.q_sample(part.x0, part.t, part.noise)
        time = self._process.network_time(part.t)
        with autocast(self._precision, x_t.device):
            output = net(x_t, time, part.labels, exit_depth=self._depths[rows])
        terms = self._loss(output.float(), part.x0, part.t, part.noise)
        return torch.stack(list(terms.values())).sum(0), terms
