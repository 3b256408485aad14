"""Training losses, one value per sample so that a recipe can weight them by time."""

from __future__ import annotations

from torch import Tensor

from schedsearch.diffusion.variational import VariationalBound
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import NoiseProcess


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


class TrainingLoss:
    """The loss that ``recipe.loss`` names, as terms that are added up.

    ``mse`` is the squared error of what the process says is predicted. ``hybrid`` is L_hybrid =
    L_simple + lambda L_vlb (Improved DDPM, Eq. 16), whose second term trains a learned variance
    alone. L_vlb is a sum over the T timesteps; its term at one timestep drawn uniformly
    estimates L_vlb / T, so adding that term as it is, in bits per dimension, means lambda =
    1 / T = 0.001, the paper's value. The released DiT does exactly that: ``create_diffusion``
    leaves the loss at plain MSE, which adds the term without a factor. (Improved DDPM's own
    variant multiplies by T / 1000, which is 1 here.)

    Args:
        kind: ``auto``, ``mse`` or ``hybrid``; ``auto`` is ``hybrid`` exactly when the network
            learns variances.
        process: Adds the noise and says what is predicted.
        learns_variance: Whether the network has a variance half.

    Raises:
        ConfigError: If ``hybrid`` is asked of a network or a process without learned variance.
    """

    def __init__(self, kind: str, process: NoiseProcess, *, learns_variance: bool) -> None:
        if kind == "hybrid" and not learns_variance:
            raise ConfigError(
                "recipe.loss hybrid trains a learned variance, but the backbone has none "
                "(learn_sigma is false); set recipe.loss to mse or auto."
            )
        self._process = process
        hybrid = learns_variance and kind in ("auto", "hybrid")
        self._bound = VariationalBound(process) if hybrid else None

    def __call__(self, output: Tensor, x0: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """The terms of the loss.

        Args:
            output: Output of the network for the noisy inputs, (N, C, H, W) or (N, 2C, H, W).
            x0: Data, (N, C, H, W).
            t: Times on the clock, (N,).
            noise: Noise that made the inputs, (N, C, H, W).

        Returns:
            ``mse`` and, with a learned variance, ``vlb``, (N,) each; the loss is their sum.
        """
        terms = {"mse": mse(output, self._process.target(x0, t, noise))}
        if self._bound is not None:
            terms["vlb"] = self._bound(output, x0, t, noise)
        return terms
