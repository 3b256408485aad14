"""The network with early exits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.tokens import Around, Tokens


ExitLayers = Literal["decoder", "all"]
"""Where a U-ViT may exit: in the decoder (ASE), or after any block (DeeDiff). In a DiT both are
the same."""


@runtime_checkable
class Backbone(Protocol):
    """A diffusion transformer with early exits; also a ``torch.nn.Module``."""

    num_exit_blocks: int
    """Blocks that a schedule may skip: 28 in DiT-XL/2, the 6 decoder blocks in U-ViT-S/4."""
    in_shape: tuple[int, int, int]
    """Shape (C, H, W) of one input."""
    num_classes: int | None
    """Number of class labels, or None for an unconditional model."""

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None, *, exit_depth: int | Tensor) -> Any:
        """Predict the noise, or another target set by ``diffusion.prediction``.

        Args:
            x: Noisy inputs, (N, C, H, W).
            t: Network times as in the model's official code, (N,): timesteps 0..999 for a DiT,
                999 s for a U-ViT on continuous time s in [0, 1], and what ``diffusion.time``
                says for flow matching.
            y: Class labels, (N,) int64, or None for an unconditional model. The label
                ``num_classes`` means "no class" (classifier-free guidance). A model with another
                such label has the attribute ``null_label`` with its number, and one without it
                has ``null_label = None``.
            exit_depth: Blocks to run: one int for the whole batch, or (N,) integers.

        Returns:
            The prediction, (N, C, H, W); (N, 2C, H, W) when variances are learned.
        """
        ...


@runtime_checkable
class StagedBackbone(Backbone, Protocol):
    """A backbone that can be run block by block; DiT and U-ViT.

    ``open``, every ``run`` in order and ``close`` equal one call at full depth.
    """

    patch_size: int
    num_extras: int
    """Tokens before the patches: label and time in a U-ViT, none in a DiT."""

    @property
    def num_blocks(self) -> int:
        """Blocks in all: 28 in DiT-XL/2, 13 in U-ViT-S/4."""
        ...

    @property
    def width(self) -> int:
        """Width D of a token."""
        ...

    def open(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tokens:
        """Embed a batch, with the arguments of a call."""
        ...

    def run(self, tokens: Tokens, block: int, around: Around | None = None) -> Tokens:
        """Run one block; blocks count from 0."""
        ...

    def close(self, tokens: Tokens, num_run: int, exits: ExitLayers = "decoder") -> Tensor:
        """Predict from the tokens after ``num_run`` blocks.

        Args:
            tokens: What the blocks so far made.
            num_run: Blocks run so far.
            exits: ``decoder`` merges the long skips that are left, as ASE does, and needs the
                encoder to have run. ``all`` goes straight to the head, as DeeDiff does.

        Returns:
            The prediction, (N, C, H, W), or (N, 2C, H, W) with learned variances.

        Raises:
            ValueError: If a U-ViT exits in its encoder with ``decoder``.
        """
        ...
