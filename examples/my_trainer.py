"""A trainer of one's own: a plain loop with the Min-SNR weighting instead of lambda(t).

Named in a search space as ``trainer: my_trainer:MinSnrTrainer``; its own number ``gamma`` comes
from ``recipe.extra``, which the tool hands on unread. The weighting is that of "Efficient
Diffusion Training via Min-SNR Weighting Strategy" (Hang et al., 2023, Sec. 3.4) for a network
that predicts the noise: ``min(SNR, gamma) / SNR``.
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
    """Meets ``schedsearch.protocols.Trainer``: fine-tunes, and leaves measuring to the tool.

    It saves no state (``progress.save``), so an interrupted trial starts again.
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
        """Run ``recipe`` and return the EMA network."""
        gamma = float(recipe.extra.get("gamma", 5.0))
        net: Any = cast(nn.Module, backbone).train()
        optimizer = torch.optim.AdamW(net.parameters(), recipe.lr, betas=recipe.betas)
        ema = start_ema(net, resolve_decay(recipe.ema_decay, recipe.num_steps))
        # One generator for everything random makes trials with equal seeds a pair.
        generator = torch.Generator().manual_seed(seed)
        progress.note(f"Min-SNR weighting with gamma={gamma:g}")
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
    """min(SNR, gamma) / SNR at clock times (N,), with SNR = alpha^2 / sigma^2."""
    alpha, sigma = process.scales(t)
    snr = ((alpha / sigma) ** 2).float()
    return snr.clamp(max=gamma) / snr
