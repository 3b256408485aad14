"""DiT with early exits: it can stop after any block (ASE, Sec. 3.2).

Exit rule: the final layer follows directly after block b; there are no extra heads. Layers come
from timm, parameter names from the official code, so released weights load strictly.

Shapes: N batch, T tokens, D width, C/H/W image, P patch side.
"""

from __future__ import annotations

import torch
from timm.layers import Attention, Mlp, PatchEmbed
from torch import Tensor, nn

from schedsearch.backbones.exits import Exits
from schedsearch.backbones.layers import (
    check_labels,
    run_block,
    sincos_position_embedding,
    time_features,
    unpatchify,
)
from schedsearch.config.backbone_arguments import DitArguments, check_arguments
from schedsearch.protocols import ExitLayers
from schedsearch.tokens import Around, Tokens

NORM_EPS = 1e-6
"""Epsilon of every LayerNorm (official code)."""

TIME_FREQUENCIES = 256
"""Number of sinusoidal time features (official code)."""


class TimeEmbedder(nn.Module):
    """Sinusoidal features of a timestep, then two linear layers: (N,) -> (N, D)."""

    def __init__(self, width: int, num_features: int = TIME_FREQUENCIES) -> None:
        super().__init__()
        self.num_features = num_features
        self.mlp = nn.Sequential(
            nn.Linear(num_features, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        """Embed timesteps on the clock 0..999, (N,), integers or floats."""
        features = time_features(t, self.num_features)  # (N, F)
        embedded: Tensor = self.mlp(features.to(next(self.mlp.parameters()).dtype))
        return embedded


class LabelEmbedder(nn.Module):
    """One row per class, and a last row for "no class" with label dropout."""

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_rows, width)

    def forward(self, y: Tensor) -> Tensor:
        """Embed labels, (N,) -> (N, D)."""
        rows: Tensor = self.embedding_table(y)
        return rows


class DiTBlock(nn.Module):
    """Transformer block conditioned by adaLN-zero (DiT, Sec. 3.2)."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=NORM_EPS)
        self.attn = Attention(width, num_heads=num_heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=NORM_EPS)
        self.mlp = Mlp(
            width, int(width * mlp_ratio), act_layer=lambda: nn.GELU(approximate="tanh")
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor, around: Around | None = None) -> Tensor:
        """Transform tokens (N, T, D) under the condition (N, D).

        ``around`` wraps attention and MLP; None runs them as they are.
        """
        modulation: Tensor = self.adaLN_modulation(c)[:, None]  # (N, 1, 6D)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6, -1)
        h = self.norm1(x) * (1 + scale_msa) + shift_msa
        x = x + gate_msa * (self.attn(h) if around is None else around.attention(self.attn, h))
        h = self.norm2(x) * (1 + scale_mlp) + shift_mlp
        mlp: Tensor = self.mlp(h) if around is None else around.mlp(self.mlp, h)
        return x + gate_mlp * mlp


class FinalLayer(nn.Module):
    """adaLN and a linear layer to pixels; all exits share it."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=NORM_EPS)
        self.linear = nn.Linear(width, num_outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Map tokens (N, T, D) and condition (N, D) to pixels (N, T, P*P*C)."""
        shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, -1)
        pixels: Tensor = self.linear(self.norm_final(x) * (1 + scale) + shift)
        return pixels


class DiT(nn.Module):
    """Diffusion transformer with one exit depth per call or per sample.

    Arguments have their official names. The trainer applies label dropout; the label
    ``num_classes`` means "no class".

    Args:
        input_size: Height and width of the input.
        patch_size: Side of a patch; divides ``input_size``.
        in_channels: Channels of the input: 4 for latents, 1 or 3 for pixels.
        hidden_size: Width D of a token; a multiple of 4 and of ``num_heads``.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP, as a multiple of D.
        class_dropout_prob: Above 0 the label table has a row for "no class". The value itself
            is not used.
        num_classes: Number of classes; 0 builds an unconditional model.
        learn_sigma: Predict noise and variance, in 2C output channels.

    Attributes:
        num_classes: Number of classes, or None for an unconditional model.
        null_label: The label that means "no class", or None without such a row.
        num_exit_blocks: Number of blocks, equal to ``depth``.
        gradient_checkpointing: Recompute the blocks in the backward pass of training.

    Raises:
        ValueError: If the sizes do not fit together.
    """

    pos_embed: Tensor
    num_extras = 0  # tokens that are no patches

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
        check_arguments(DitArguments, locals())
        super().__init__()
        self.num_exit_blocks = depth
        self.in_shape = (in_channels, input_size, input_size)
        self.num_classes = num_classes or None
        self.null_label = num_classes if class_dropout_prob > 0 or num_classes == 0 else None
        self.patch_size = patch_size
        self.learn_sigma = learn_sigma
        self.gradient_checkpointing = False
        self.out_channels = in_channels * 2 if learn_sigma else in_channels

        num_rows = num_classes + (self.null_label is not None)
        self.x_embedder = PatchEmbed(input_size, patch_size, in_channels, hidden_size, bias=True)
        self.t_embedder = TimeEmbedder(hidden_size)
        self.y_embedder = LabelEmbedder(num_rows, hidden_size)
        grid = input_size // patch_size
        self.register_buffer("pos_embed", sincos_position_embedding(hidden_size, grid)[None])
        self.blocks = nn.ModuleList(
            DiTBlock(hidden_size, num_heads, mlp_ratio) for _ in range(depth)
        )
        self.final_layer = FinalLayer(hidden_size, patch_size**2 * self.out_channels)
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """Initialise as the official code does: Xavier, and zeros for adaLN-zero (Sec. 3.2)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        # NOTE: The patch embedding is a linear layer stored as a convolution, hence the flatten.
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.flatten(1))
        nn.init.zeros_(self.x_embedder.proj.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for layer in (self.t_embedder.mlp[0], self.t_embedder.mlp[2]):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if "adaLN_modulation" in name or name.startswith("final_layer."):
                nn.init.zeros_(parameter)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth: int | Tensor
    ) -> Tensor:
        """Predict the noise, running ``exit_depth`` blocks.

        With one depth per sample, a block runs only on the samples that have not exited. The
        result equals running each sample alone.

        Args:
            x: Noisy inputs, (N, C, H, W).
            t: Timesteps 0..999, (N,).
            y: Labels, (N,) int64; None for an unconditional model.
            exit_depth: Blocks to run, 1..depth: an int, or (N,) integers.

        Returns:
            The prediction, (N, C, H, W), or (N, 2C, H, W) when variances are learned.

        Raises:
            ValueError: If a depth lies outside 1..depth, labels are missing, or an
                unconditional model gets some.
        """
        exits = Exits.of(exit_depth, len(x), range(1, self.num_exit_blocks + 1), x.device)
        opened = self.open(x, t, y)
        assert opened.condition is not None
        c = opened.condition
        tokens = exits.restore(self._run_blocks(exits.sort(opened.h), exits.sort(c), exits))
        return self.predict(tokens, c)

    def predict(self, tokens: Tensor, c: Tensor) -> Tensor:
        """Map tokens (N, T, D) and condition (N, D) to the prediction."""
        pixels = self.final_layer(tokens, c)
        return unpatchify(pixels, self.patch_size, self.out_channels)

    # ---- block by block -------------------------------------------------------------------

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return self.num_exit_blocks

    @property
    def width(self) -> int:
        """Width D of a token."""
        return self.pos_embed.shape[-1]

    def open(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tokens:
        """Embed a batch: the tokens before the first block."""
        check_labels(y, self.num_classes, self.null_label)
        if y is None:
            y = torch.zeros(len(x), dtype=torch.long, device=x.device)
        time = self.t_embedder(t)  # (N, D)
        return Tokens(
            h=self.x_embedder(x) + self.pos_embed,  # (N, T, D)
            time=time,
            condition=time + self.y_embedder(y),
        )

    def run(self, tokens: Tokens, block: int, around: Around | None = None) -> Tokens:
        """Run one block; blocks count from 0."""
        recompute = self.gradient_checkpointing and self.training
        inputs = (tokens.h, tokens.condition, around)
        return tokens.with_h(run_block(self.blocks[block], *inputs, recompute=recompute))

    def close(self, tokens: Tokens, num_run: int, exits: ExitLayers = "decoder") -> Tensor:
        """Predict from the tokens after ``num_run`` blocks; see :class:`StagedBackbone`."""
        assert tokens.condition is not None
        return self.predict(tokens.h, tokens.condition)

    def _run_blocks(self, tokens: Tensor, c: Tensor, exits: Exits) -> Tensor:
        """Run the blocks on sorted tokens, (N, T, D), removing samples as they exit."""
        recompute = self.gradient_checkpointing and self.training
        exited: list[Tensor] = []
        # NOTE: ``alive`` ends at the deepest exit, so zip skips the blocks that nobody runs.
        for block, num_alive in zip(self.blocks, exits.alive, strict=False):
            if num_alive < len(tokens):
                tokens, leaving = tokens.tensor_split((num_alive,))
                c = c[:num_alive]
                exited.append(leaving)
            tokens = run_block(block, tokens, c, recompute=recompute)
        return torch.cat([tokens, *reversed(exited)]) if exited else tokens
