"""Training losses, one value per sample so that a recipe can weight them by time."""

from __future__ import annotations

from torch import Tensor


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of a prediction; of the noise it is L_simple (DDPM, Eq. 14).

    Args:
        prediction: Output of the network, (N, C, H, W), or (N, 2C, H, W) with a variance half,
            which this loss does not train.
        target: What it should be, (N, C, H, W), from ``NoiseProcess.target``.

    Returns:
        Loss per sample, (N,).
    """
    error = prediction[:, : target.shape[1]] - target
    return error.square().flatten(1).mean(1)
