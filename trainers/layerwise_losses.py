"""Losses over all exits of a network: BERxiT, CALM and DeeDiff.

Every error is that of what the process predicts: noise, v or data; with flow matching that of the
velocity. Shapes: N batch, C/H/W image,
L exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from schedsearch.backbones.every_exit import exit_points, run_exits
from schedsearch.backbones.guidance import learns_variance
from schedsearch.diffusion.losses import TrainingLoss
from schedsearch.methods.exits.uncertainty_module import Variant
from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from schedsearch.protocols import NoiseProcess, StagedBackbone
from schedsearch.settings import RecipeSettings
from trainers.batches import Batch
from trainers.finetune_loop import Objective
from trainers.layerwise_options import LayerWeights, LayerwiseOptions
from trainers.precision import autocast


def layer_weights(kind: LayerWeights, num_exits: int) -> list[float]:
    """Return the weights of the exits' squared errors, from the first exit to full depth.

    ``mean`` is 1 / L (BERxiT) and ``linear`` is i / sum(1..L) (CALM). ``ual`` is full depth
    alone, because the other exits have a loss of their own there.
    """
    if kind == "mean":
        return [1 / num_exits] * num_exits
    if kind == "linear":
        return [i / (num_exits * (num_exits + 1) / 2) for i in range(1, num_exits + 1)]
    return [0.0] * (num_exits - 1) + [1.0]


def module_target(error: Tensor, variant: Variant) -> Tensor:
    """Return what the module shall predict: tanh |error| (DeeDiff, Eq. 9), without gradient.

    In variant ``code`` it is the certainty, 1 - tanh |error|.

    Args:
        error: Prediction minus target, (N, C, H, W).
        variant: DeeDiff by its paper or its code.
    """
    uncertainty = error.detach().abs().tanh()
    return uncertainty if variant == "paper" else 1 - uncertainty


def module_loss(maps: Sequence[Tensor], errors: Sequence[Tensor], variant: Variant) -> Tensor:
    """Squared error of the module, L_u (DeeDiff, Eq. 10): a sum over exits.

    In variant ``code`` it is a mean over exits.

    Args:
        maps: Outputs of the module per exit, (N, C, H, W) each.
        errors: Errors per exit, (N, C, H, W) each.
        variant: DeeDiff by its paper or its code.

    Returns:
        Loss per sample, (N,).
    """
    parts = [
        (found - module_target(error, variant)).square().flatten(1).mean(1)
        for found, error in zip(maps, errors, strict=True)
    ]
    total = torch.stack(parts).sum(0)
    return total if variant == "paper" else total / len(parts)


def layer_loss(maps: Sequence[Tensor], errors: Sequence[Tensor], variant: Variant) -> Tensor:
    """Uncertainty-aware layer-wise loss, L_UAL (DeeDiff, Eq. 12).

    ``paper`` sums mean((1 - u_i) error_i^2) over all exits but full depth. Its u_i has no
    gradient here, because the loss would fall with a larger u_i. ``code`` weights the squared
    errors of all exits by the batch mean of their certainty, divided by the sum over exits, with
    gradient.

    Args:
        maps: Outputs of the module per exit, (N, C, H, W) each.
        errors: Errors per exit, (N, C, H, W) each.
        variant: DeeDiff by its paper or its code.

    Returns:
        Loss per sample, (N,).
    """
    squares = [error.square() for error in errors]
    if variant == "paper":
        weighted = [
            ((1 - u.detach()) * square).flatten(1).mean(1)
            for u, square in zip(maps[:-1], squares[:-1], strict=True)
        ]
        return torch.stack(weighted).sum(0) if weighted else squares[0].new_zeros(len(squares[0]))
    certainty = torch.stack([found.mean() for found in maps])  # (L,)
    layers = torch.stack([square.flatten(1).mean(1) for square in squares])  # (L, N)
    return (certainty / certainty.sum()) @ layers


class LayerwiseLoss(Objective):
    """The losses of all exits of a batch, from one pass through the blocks.

    Only full depth uses the loss of the recipe. With learned variances the other exits train the
    prediction alone, in their first C channels.

    Args:
        net: Network to train, with an uncertainty module if the options say so.
        process: Forward process and prediction target.
        recipe: Gives the loss of full depth and the precision.
        options: What to minimise.
    """

    def __init__(
        self,
        net: nn.Module,
        process: NoiseProcess,
        recipe: RecipeSettings,
        options: LayerwiseOptions,
    ) -> None:
        self._process, self._precision, self._options = process, recipe.precision, options
        self._points = exit_points(cast(StagedBackbone, net), options.exits)
        self._loss = TrainingLoss(recipe.loss, process, learns_variance=learns_variance(net))
        self._only_full_depth = False

    def start_step(self, step: int, clock: Tensor, generator: torch.Generator) -> None:
        """Choose between full depth alone and all exits; draws nothing."""
        self._only_full_depth = self._options.alternate and step % 2 == 1

    def losses(self, net: nn.Module, part: Batch, rows: slice) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the losses of all exits; see :class:`Objective`."""
        # Run the blocks.
        options = self._options
        fits_module = options.uem != "none" and options.lambda_ > 0
        weights_layers = options.weights != "ual" or options.beta > 0
        x_t = self._process.q_sample(part.x0, part.t, part.noise)
        time = self._process.network_time(part.t)
        if self._only_full_depth or not (fits_module or weights_layers):
            # NOTE: A depth per sample, as ASE's trainer asks for: the same bits.
            depths = torch.full((len(x_t),), cast(StagedBackbone, net).num_exit_blocks)
            with autocast(self._precision, x_t.device):
                output = net(x_t, time, part.labels, exit_depth=depths)
            terms = self._loss(output.float(), part.x0, part.t, part.noise)
            return torch.stack(list(terms.values())).sum(0), terms
        stages = cast(StagedBackbone, net)
        with autocast(self._precision, x_t.device):
            passes = list(run_exits(stages, x_t, time, part.labels, self._points, options.exits))
        terms = self._loss(passes[-1][0].float(), part.x0, part.t, part.noise)
        # Add up the losses.
        target = self._process.target(part.x0, part.t, part.noise)
        errors = [output[:, : target.shape[1]].float() - target for output, _ in passes]
        if (scale := self._process.loss_weights(part.t)) is not None:
            errors = [error * scale.sqrt().view(-1, 1, 1, 1) for error in errors]
        weights = layer_weights(options.weights, len(passes))
        maps: list[Tensor] = []
        if options.uem != "none":
            uem = cast(WithUncertainty, net).uem
            maps = [uem(tokens, exit_index) for exit_index, (_, tokens) in enumerate(passes)]
        if options.weights != "ual":
            layers = torch.stack([error.square().flatten(1).mean(1) for error in errors])[:-1]
            terms["layers"] = layers.new_tensor(weights[:-1]) @ layers
            total = weights[-1] * terms["mse"] + terms["layers"]
        else:
            total = terms["mse"]
            if options.beta > 0:
                terms["layers"] = layer_loss(maps, errors, options.variant)
                total = total + options.beta * terms["layers"]
        if "vlb" in terms:
            total = total + terms["vlb"]
        if fits_module:
            terms["uncertainty"] = module_loss(maps, errors, options.variant)
            total = total + options.lambda_ * terms["uncertainty"]
        return total, terms
