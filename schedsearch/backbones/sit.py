"""SiT: a DiT that is trained by flow matching (SiT, Sec. 3)."""

from __future__ import annotations

from torch import Tensor

from schedsearch.backbones.dit import DiT
from schedsearch.tokens import Tokens


class SiT(DiT):
    """A DiT with times from noise (0) to data (1) that predicts a velocity.

    Released weights keep the layer of a DiT that learns variances, but the variances are never
    trained. They are computed and cut off, as in the official code.

    Args:
        input_size: As all arguments but the last in :class:`schedsearch.backbones.dit.DiT`.
        patch_size: See there.
        in_channels: See there.
        hidden_size: See there.
        depth: See there.
        num_heads: See there.
        mlp_ratio: See there.
        class_dropout_prob: See there.
        num_classes: See there.
        learn_sigma: Whether the last layer has rows for variances, as in released weights.

    Attributes:
        learn_sigma: Always False, because the output holds no variance.

    Raises:
        ValueError: If the sizes do not fit together.
    """

    def __init__(
        self,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int = 1000,
        learn_sigma: bool = True,
    ) -> None:
        super().__init__(
            input_size,
            patch_size,
            in_channels,
            hidden_size,
            depth,
            num_heads,
            mlp_ratio,
            class_dropout_prob,
            num_classes,
            learn_sigma,
        )
        self.learn_sigma = False

    def predict(self, tokens: Tensor, c: Tensor) -> Tensor:
        """Map tokens (N, T, D) and condition (N, D) to a velocity, (N, C, H, W)."""
        return super().predict(tokens, c)[:, : self.in_shape[0]]

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth: int | Tensor
    ) -> Tensor:
        """Predict the velocity, running ``exit_depth`` blocks.

        Args:
            x: Noisy inputs ``t x_0 + (1 - t) eps``, (N, C, H, W).
            t: Times in [0, 1], 0 at the noise, (N,).
            y: Labels, (N,) int64; None for an unconditional model.
            exit_depth: Blocks to run, 1..depth: an int, or (N,) integers.

        Returns:
            The velocity, ``x_0 - eps`` in the official code, (N, C, H, W).

        Raises:
            ValueError: If a depth lies outside 1..depth, labels are missing, or an
                unconditional model gets some.
        """
        return super().forward(x, t, y, exit_depth=exit_depth)

    def open(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tokens:
        """Embed a batch at times in [0, 1]."""
        # NOTE: Times are fed unscaled, as in the official code, and must not be integers.
        return super().open(x, t if t.is_floating_point() else t.float(), y)
