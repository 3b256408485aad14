"""The variational bound, which trains a learned variance (Improved DDPM, Sec. 3.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from schedsearch.diffusion.process import DDPMProcess
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import NoiseProcess

HALF_BIN = 1.0 / 255.0
"""Half the distance between two grey levels of an image in [-1, 1]."""

EDGE = 0.999
"""Beyond this value, data is the darkest or brightest level, with a one-sided bin."""

MIN_PROBABILITY = 1e-12
"""Smallest probability of a bin (Improved DDPM's code)."""


class VariationalBound:
    """One term of the bound per sample, in bits per dimension (Improved DDPM, Eq. 4-7).

    t > 0: KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)). t = 0: -log p(x_0 | x_1) over the bins
    of 8-bit images. The mean is detached, because it learns from L_simple only (Sec. 3.1). The
    variance half v of the output sets the variance (Eq. 15; beta~_1 replaces beta~_0 = 0)::

        log variance = f log beta_t + (1 - f) log beta~_t,   f = (v + 1) / 2

    Args:
        process: Discrete process with any prediction target.

    Raises:
        ConfigError: If the process is continuous, so that it has no steps.
    """

    def __init__(self, process: NoiseProcess) -> None:
        if not isinstance(process, DDPMProcess):
            raise ConfigError(
                "recipe.loss hybrid bounds the steps of a discrete process, but the process is "
                f"{process.kind}; set recipe.loss to mse."
            )
        self._process = process
        bars, betas = process.alpha_bars, process.betas
        previous = torch.cat([bars.new_ones(1), bars[:-1]])
        posterior = betas * (1.0 - previous) / (1.0 - bars)  # DDPM, Eq. 7
        posterior[0] = posterior[1]
        # Columns: log beta, log beta~, and the weight of x_0 in the posterior mean (Eq. 7).
        table = torch.stack(
            [betas.log(), posterior.log(), betas * previous.sqrt() / (1.0 - bars)], dim=1
        )
        # NOTE: One copy per device, so that a training step copies nothing to the device.
        self._tables = {torch.device("cpu"): table}

    def __call__(self, output: Tensor, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Compute one term of the bound per sample.

        Args:
            output: Output of the network, (N, 2C, H, W): the prediction, then the variance.
            x0: Data, (N, C, H, W), in [-1, 1] for images.
            t: Timesteps, (N,), integers.
            noise: Noise in the inputs, (N, C, H, W).

        Returns:
            Bits per dimension, (N,).

        Raises:
            ConfigError: If the output has no variance half.
        """
        channels = x0.shape[1]
        if output.shape[1] != 2 * channels:
            raise ConfigError(
                f"recipe.loss hybrid needs a network with {2 * channels} output channels, the "
                f"second half for the variance, but it has {output.shape[1]}; set recipe.loss "
                "to mse."
            )
        prediction, v = output[:, :channels], output[:, channels:]
        table = self._tables.get(t.device)
        if table is None:
            table = self._tables[t.device] = self._tables[torch.device("cpu")].to(t.device)
        log_beta, log_posterior, x0_weight = table[t].to(output.dtype).T[..., None, None, None]
        log_variance = log_posterior + 0.5 * (v + 1.0) * (log_beta - log_posterior)
        # NOTE: The error of x_0 is scaled from the prediction error. Computed through x_t it
        # would be a small difference of large numbers.
        error = (prediction - self._process.target(x0, t, noise)).detach()
        x0_error = self._x0_per_prediction(t, output.dtype) * error
        kl = _gaussian_kl(x0_weight * x0_error, log_posterior, log_variance)
        # NOTE: At t = 0 the mean of the step is the predicted x_0 itself.
        nll = _binned_gaussian_nll(x0, x0_error, log_variance)
        nats = torch.where(t == 0, nll.flatten(1).mean(1), kl.flatten(1).mean(1))
        return nats / math.log(2.0)

    def _x0_per_prediction(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the factor from prediction error to x_0 error, (N, 1, 1, 1)."""
        alpha, sigma = self._process.scales(t)
        kind = self._process.prediction
        if kind == "eps":
            factor = sigma / alpha  # x_0 = (x_t - sigma eps) / alpha
        elif kind == "v":
            factor = sigma  # x_0 = alpha x_t - sigma v
        else:
            factor = -torch.ones_like(sigma)
        return factor.to(dtype).view(-1, 1, 1, 1)


def _gaussian_kl(
    mean_difference: Tensor, log_variance_q: Tensor, log_variance_p: Tensor
) -> Tensor:
    """Compute KL(q || p) of Gaussians per dimension, in nats."""
    ratio = log_variance_q - log_variance_p
    return 0.5 * (
        ratio.exp() - 1.0 - ratio + mean_difference.square() * torch.exp(-log_variance_p)
    )


def _binned_gaussian_nll(x0: Tensor, difference: Tensor, log_variance: Tensor) -> Tensor:
    """Compute the negative log probability of each grey level's bin, in nats.

    Args:
        x0: Data, the centre of its bin.
        difference: x_0 minus the mean of the Gaussian.
        log_variance: Log variance of the Gaussian.
    """
    inverse_std = torch.exp(-0.5 * log_variance)
    # NOTE: Both ends are mirrored into the lower tail, where float32 resolves probabilities.
    distance = difference.abs()
    inside = _normal_cdf((HALF_BIN - distance) * inverse_std) - _normal_cdf(
        (-HALF_BIN - distance) * inverse_std
    )
    towards_edge = torch.where(x0 < 0, difference, -difference)
    open_bin = _normal_cdf((towards_edge + HALF_BIN) * inverse_std)
    probability = torch.where(x0.abs() > EDGE, open_bin, inside)
    return -torch.log(probability.clamp(min=MIN_PROBABILITY))


def _normal_cdf(z: Tensor) -> Tensor:
    # NOTE: erfc, because torch's ndtr is 0 below -5.5 in float32, and the tanh approximation
    # of Improved DDPM's code has errors up to 2e-4.
    cdf: Tensor = 0.5 * torch.special.erfc(z * -math.sqrt(0.5))
    return cdf
