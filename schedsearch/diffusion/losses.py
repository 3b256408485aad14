"""Training losses per sample, so that a recipe can weight them by time."""

from __future__ import annotations

from torch import Tensor

from schedsearch.diffusion.variational import VariationalBound
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import NoiseProcess


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error; for noise predictions it is L_simple (DDPM, Eq. 14).

    Args:
        prediction: Output of the network, (N, C, H, W). With a variance half it is
            (N, 2C, H, W), and this loss ignores that half.
        target: Prediction target, (N, C, H, W), from ``NoiseProcess.target``.

    Returns:
        Loss per sample, (N,).
    """
    error = prediction[:, : target.shape[1]] - target
    return error.square().flatten(1).mean(1)


def weighted(error: Tensor, process: NoiseProcess, t: Tensor) -> Tensor:
    """Weight squared errors, (N,), as the process says; flow matching trains the velocity."""
    weights = process.loss_weights(t)
    return error if weights is None else error * weights


class TrainingLoss:
    """The loss set by ``recipe.loss``, as a sum of terms.

    ``mse`` is the squared error of the prediction; with flow matching that of the velocity.
    ``hybrid`` is L_hybrid = L_simple + lambda L_vlb (Improved DDPM, Eq. 16); its second term
    trains only the variance. One uniformly drawn term of L_vlb estimates L_vlb / T. Adding it
    without a factor therefore gives the paper's
    lambda = 1 / T = 0.001. The released DiT does the same.

    Args:
        kind: ``auto``, ``mse`` or ``hybrid``. ``auto`` is ``hybrid`` exactly if the network
            learns variances.
        process: Forward process and prediction target.
        learns_variance: Whether the network has a variance half.

    Raises:
        ConfigError: If ``hybrid`` meets a network without learned variance, or a process
            without timesteps.
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
        """Compute the terms of the loss.

        Args:
            output: Network output for the noisy inputs, (N, C, H, W) or (N, 2C, H, W).
            x0: Data, (N, C, H, W).
            t: Clock times, (N,).
            noise: Noise in the inputs, (N, C, H, W).

        Returns:
            ``mse`` and, with a learned variance, ``vlb``, (N,) each; the loss is their sum.
        """
        error = mse(output, self._process.target(x0, t, noise))
        terms = {"mse": weighted(error, self._process, t)}
        if self._bound is not None:
            terms["vlb"] = self._bound(output, x0, t, noise)
        return terms
