"""U-ViT with early exits in its decoder (ASE, Sec. 3.2).

Exit rule: the encoder and the middle block always run. Exit depth b runs the first b decoder
blocks; each later one runs only the layer that merges its long skip. Parameter names are the
official ones, so released weights load strictly. Text tokens are not supported.

Shapes: N batch, T tokens (label, time, patches), D width, C/H/W image, P patch side.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from timm.layers import Mlp, PatchEmbed
from torch import Tensor, nn
from torch.nn import functional as F

from schedsearch.backbones.exits import Exits
from schedsearch.backbones.layers import check_labels, run_block, time_features, unpatchify
from schedsearch.config.backbone_arguments import UvitArguments, check_arguments
from schedsearch.protocols import ExitLayers
from schedsearch.tokens import Around, Tokens


class Attention(nn.Module):
    """Self-attention with an optional scale."""

    def __init__(self, width: int, num_heads: int, qkv_bias: bool, scale: float | None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens, (N, T, D) -> (N, T, D)."""
        n, num_tokens, _ = x.shape
        # NOTE: A network pruned by width has fewer heads of the same size.
        qkv = self.qkv(x).reshape(n, num_tokens, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, T, D / heads)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class UViTBlock(nn.Module):
    """Pre-norm transformer block; a decoder block first merges its long skip."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_ratio: float,
        *,
        qkv_bias: bool,
        qk_scale: float | None,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, num_heads, qkv_bias, qk_scale)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio), act_layer=nn.GELU)
        self.skip_linear = nn.Linear(2 * width, width) if skip else None

    def forward(
        self,
        x: Tensor,
        skip: Tensor | None = None,
        num_alive: int | None = None,
        around: Around | None = None,
    ) -> Tensor:
        """Transform tokens.

        Args:
            x: Tokens, (N, T, D).
            skip: Tokens of the encoder, (N, T, D), for a block with ``skip_linear``.
            num_alive: Samples at the front of the batch that run the whole block. The others
                run only ``skip_linear``. None runs all.
            around: Wraps attention and MLP; None runs them as they are.
        """
        if self.skip_linear is not None:
            assert skip is not None
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        if num_alive is None or num_alive == len(x):
            return self._transform(x, around)
        if num_alive == 0:
            return x
        return torch.cat([self._transform(x[:num_alive], around), x[num_alive:]])

    def _transform(self, x: Tensor, around: Around | None) -> Tensor:
        h = self.norm1(x)
        x = x + (self.attn(h) if around is None else around.attention(self.attn, h))
        h = self.norm2(x)
        mlp: Tensor = self.mlp(h) if around is None else around.mlp(self.mlp, h)
        return x + mlp


class UViT(nn.Module):
    """U-shaped vision transformer (Bao et al. 2023) with exits per batch or per sample.

    Arguments have their official names and defaults. Only ``null_class`` is new: in the official
    code the sampling script decides which label means "no class".

    Args:
        img_size: Height and width of the input.
        patch_size: Side of a patch; divides ``img_size``.
        in_chans: Channels of the input: 4 for latents, 1 or 3 for pixels.
        embed_dim: Width D of a token; a multiple of ``num_heads``.
        depth: Blocks of encoder and decoder together, half each, at least 2. The middle block
            is not counted. An odd number is rounded down, as in the official code.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP, as a multiple of D.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Scale of the attention; None takes ``(D / num_heads) ** -0.5``.
        mlp_time_embed: Apply an MLP to the time features before they become the time token.
        num_classes: Rows of the label table; 0 or less builds an unconditional model.
        use_checkpoint: Initial value of the attribute ``gradient_checkpointing``.
        conv: Add a final 3 x 3 convolution.
        skip: Use long skips. Without them a decoder block after the exit does nothing.
        null_class: The last row of the label table means "no class", as in the ImageNet models
            with 1001 rows. If False, every row is a class.

    Attributes:
        num_classes: Number of real classes, without the "no class" row; None for an
            unconditional model.
        null_label: The label that means "no class", or None without such a row.
        num_exit_blocks: Number of decoder blocks, ``depth // 2``.
        gradient_checkpointing: Recompute the blocks in the backward pass of training.

    Raises:
        ValueError: If the sizes do not fit together.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        mlp_time_embed: bool = False,
        num_classes: int = -1,
        use_checkpoint: bool = False,
        conv: bool = True,
        skip: bool = True,
        null_class: bool = False,
    ) -> None:
        check_arguments(UvitArguments, locals())
        super().__init__()
        # Attributes of the protocol.
        self.num_exit_blocks = depth // 2
        self.in_shape = (in_chans, img_size, img_size)
        self.num_classes = num_classes - null_class if num_classes > 0 else None
        self.null_label = self.num_classes if null_class else None
        self.learn_sigma = False
        self.patch_size = patch_size
        self.gradient_checkpointing = use_checkpoint

        def block(skip: bool = False) -> UViTBlock:
            return UViTBlock(
                embed_dim, num_heads, mlp_ratio, qkv_bias=qkv_bias, qk_scale=qk_scale, skip=skip
            )

        # Embedding layers.
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        self.time_embed = (
            nn.Sequential(
                nn.Linear(embed_dim, 4 * embed_dim),
                nn.SiLU(),
                nn.Linear(4 * embed_dim, embed_dim),
            )
            if mlp_time_embed
            else nn.Identity()
        )
        if num_classes > 0:
            self.label_emb = nn.Embedding(num_classes, embed_dim)
        self.num_extras = 2 if num_classes > 0 else 1  # label and time
        num_tokens = self.num_extras + (img_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, num_tokens, embed_dim))
        # Blocks and output layers.
        self.in_blocks = nn.ModuleList(block() for _ in range(depth // 2))
        self.mid_block = block()
        self.out_blocks = nn.ModuleList(block(skip) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(embed_dim)
        self.decoder_pred = nn.Linear(embed_dim, patch_size**2 * in_chans)
        self.final_layer = nn.Conv2d(in_chans, in_chans, 3, padding=1) if conv else nn.Identity()
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """Initialise linear layers and positions with std 0.02, as the official code does."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth: int | Tensor
    ) -> Tensor:
        """Predict the noise, running ``exit_depth`` decoder blocks.

        With one depth per sample, a decoder block runs only on the samples that have not exited.
        The result equals running each sample alone.

        Args:
            x: Noisy inputs, (N, C, H, W).
            t: Network times, (N,), integers or floats: 999 s for continuous time s in [0, 1].
            y: Labels, (N,) int64; None for an unconditional model.
            exit_depth: Decoder blocks to run, 0..depth // 2: an int, or (N,) integers.

        Returns:
            The prediction, (N, C, H, W).

        Raises:
            ValueError: If a depth lies outside 0..depth // 2, labels are missing, or an
                unconditional model gets labels.
        """
        recompute = self.gradient_checkpointing and self.training
        exits = Exits.of(exit_depth, len(x), range(self.num_exit_blocks + 1), x.device)
        # NOTE: Sort before the encoder, so that the long skips are sorted too.
        x, t = exits.sort(x), exits.sort(t)
        tokens = self.open(x, t, None if y is None else exits.sort(y)).h  # (N, T, D)
        skips: list[Tensor] = []
        for block in self.in_blocks:
            tokens = run_block(block, tokens, recompute=recompute)
            skips.append(tokens)
        tokens = run_block(self.mid_block, tokens, recompute=recompute)
        for i, block in enumerate(self.out_blocks):
            tokens = run_block(block, tokens, skips.pop(), exits.num_alive(i), recompute=recompute)
        return exits.restore(self._image(tokens))

    # ---- block by block -------------------------------------------------------------------

    @property
    def num_blocks(self) -> int:
        """Number of blocks of encoder, middle and decoder."""
        return 2 * self.num_exit_blocks + 1

    @property
    def width(self) -> int:
        """Width D of a token."""
        return self.pos_embed.shape[-1]

    def open(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tokens:
        """Embed a batch: the tokens before the first block."""
        check_labels(y, self.num_classes, self.null_label)
        # NOTE: In the dtype of the weights, because autocast would round the time.
        features = time_features(t, self.width).to(self.pos_embed.dtype)
        time = self.time_embed(features)  # (N, D)
        tokens = [time[:, None], self.patch_embed(x)]
        if y is not None:
            tokens.insert(0, self.label_emb(y)[:, None])
        return Tokens(h=torch.cat(tokens, dim=1) + self.pos_embed, time=time)

    def run(self, tokens: Tokens, block: int, around: Around | None = None) -> Tokens:
        """Run one block; encoder, middle and decoder blocks count from 0 together."""
        recompute = self.gradient_checkpointing and self.training
        decoder = block - self.num_exit_blocks - 1
        if decoder >= 0:
            *skips, skip = tokens.skips
            inputs = (tokens.h, skip, None, around)
            h = run_block(self.out_blocks[decoder], *inputs, recompute=recompute)
            return replace(tokens, h=h, skips=tuple(skips))
        module = self.mid_block if decoder == -1 else self.in_blocks[block]
        h = run_block(module, tokens.h, None, None, around, recompute=recompute)
        return replace(tokens, h=h, skips=tokens.skips if decoder == -1 else (*tokens.skips, h))

    def close(self, tokens: Tokens, num_run: int, exits: ExitLayers = "decoder") -> Tensor:
        """Predict from the tokens after ``num_run`` blocks; see :class:`StagedBackbone`."""
        h = tokens.h
        if exits == "decoder":
            first = num_run - self.num_exit_blocks - 1
            if first < 0:
                raise ValueError(
                    f"A U-ViT with exits in its decoder runs at least {self.num_exit_blocks + 1} "
                    f"blocks, got {num_run}. Use exits: all to leave its encoder."
                )
            for block, skip in zip(self.out_blocks[first:], reversed(tokens.skips), strict=True):
                h = block(h, skip, 0)
        return self._image(h)

    def _image(self, tokens: Tensor) -> Tensor:
        """Apply the head: tokens (N, T, D) to images (N, C, H, W)."""
        pixels = self.decoder_pred(self.norm(tokens))[:, self.num_extras :]
        image: Tensor = self.final_layer(unpatchify(pixels, self.patch_size, self.in_shape[0]))
        return image
