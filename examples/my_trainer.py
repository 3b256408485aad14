"""Your own trainer: a plain loop with Min-SNR weighting instead of lambda(t).

A search space names it as ``trainer: my_trainer:MinSnrTrainer``. It reads ``gamma`` from
``recipe.extra``, which the tool passes on unread. The weight is ``min(SNR, gamma) / SNR`` for
noise prediction ("Efficient Diffusion Training via Min-SNR Weighting Strategy", Hang et al. 2023,
Sec. 3.4).
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from schedsearch.exceptions import TrialError
from schedsearch.protocols import Backbone, ExitRule, NoiseProcess, Progress, TrainingData
from schedsearch.settings import RecipeSettings
from trainers.ema import averaged_net, resolve_decay, start_ema


class MinSnrTrainer:
    """Meets ``schedsearch.protocols.Trainer``: it fine-tunes and does not measure.

    It saves no state (``progress.save``), so an interrupted trial restarts from the beginning.
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
        """Fine-tune by ``recipe`` and return the EMA network."""
        # Set up.
        gamma = float(recipe.extra.get("gamma", 5.0))
        net: Any = cast(nn.Module, backbone).train()
        optimizer = torch.optim.AdamW(net.parameters(), recipe.lr, betas=recipe.betas)
        ema = start_ema(net, resolve_decay(recipe.ema_decay, recipe.num_steps))
        # NOTE: One generator for everything random, so that trials with equal seeds are paired.
        generator = torch.Generator().manual_seed(seed)
        progress.note(f"Min-SNR weighting with gamma={gamma:g}")
        # Train.
        for step in range(1, recipe.num_steps + 1):
            x0, labels = data.batch(recipe.batch_size, generator)
            t = process.draw_times(len(x0), generator)
            noise = torch.randn(x0.shape, generator=generator)
            depth = exits(t, generator)
            x_t, fed = process.q_sample(x0, t, noise), process.network_time(t)
            prediction = net(x_t, fed, labels, exit_depth=depth)
            per_sample = (prediction - noise).square().mean(dim=(1, 2, 3))
            loss = (per_sample * min_snr_weights(process, t, gamma)).mean()
            if not math.isfinite(loss.item()):
                raise TrialError(f"the loss is {loss.item()} at step {step}", stage="fine-tune")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update_parameters(net)
            progress.report(step, loss.item())
        return cast(Backbone, averaged_net(ema))


def min_snr_weights(process: NoiseProcess, t: Tensor, gamma: float) -> Tensor:
    """Return min(SNR, gamma) / SNR, (N,), with SNR = alpha^2 / sigma^2."""
    alpha, sigma = process.scales(t)
    snr = ((alpha / sigma) ** 2).float()
    return snr.clamp(max=gamma) / snr
