"""Training losses, one value per sample so that a recipe can weight them by time."""

from __future__ import annotations

from torch import Tensor


def eps_mse(prediction: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, L_simple (DDPM, Eq. 14).

    Args:
        prediction: Output of the network, (N, C, H, W), or (N, 2C, H, W) with a variance half,
            which this loss does not train.
        noise: The noise that was added, (N, C, H, W).

    Returns:
        Loss per sample, (N,).
    """
    error = prediction[:, : noise.shape[1]] - noise
    return error.square().flatten(1).mean(1)
