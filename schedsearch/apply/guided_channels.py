"""Guidance of the first latent channels alone, which diffusers' DiTPipeline lacks."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from schedsearch.exceptions import ConfigError


def guide_channels(transformer: nn.Module, num_channels: int) -> None:
    """Guide only the first latent channels, as DiT's code does with 3 of 4.

    diffusers' ``DiTPipeline`` guides all channels. A hook gives the prediction without a class
    the other channels of the prediction with one, and so guidance leaves these as they are.
    Apply it after every ``from_pretrained``.

    Args:
        transformer: A ``DiTTransformer2DModel``, changed in place.
        num_channels: Channels to guide (``solver.cfg_channels``).

    Raises:
        ConfigError: If it is another model, or has fewer channels.
    """
    config: Any = getattr(transformer, "config", None)
    if not hasattr(config, "num_embeds_ada_norm"):
        raise ConfigError(
            f"Channels are guided in a DiTTransformer2DModel, got {type(transformer).__name__}. "
            "Give pipe.transformer."
        )
    if not 1 <= num_channels <= config.in_channels:
        raise ConfigError(
            f"num_channels must be in [1, {config.in_channels}], the model's channels, got "
            f"{num_channels}."
        )
    hook = partial(_copy_unguided, num_channels=num_channels)
    transformer.register_forward_hook(hook, with_kwargs=True)


def _copy_unguided(
    transformer: Any, args: Any, kwargs: dict[str, Any], output: Any, *, num_channels: int
) -> Any:
    sample: Tensor = output[0]  # (2N, C or 2C, H, W): N rows with a class, N without
    labels = kwargs.get("class_labels", args[2] if len(args) > 2 else None)
    half, odd = divmod(len(sample), 2)
    if labels is None or odd:
        return output
    # NOTE: Decided on the device; reading the labels would make the host wait.
    null = transformer.config.num_embeds_ada_norm
    is_guided = ((labels[:half] != null) & (labels[half:] == null)).view(-1, 1, 1, 1)
    rest = slice(num_channels, transformer.config.in_channels)
    changed = sample.clone()
    changed[half:, rest] = torch.where(is_guided, sample[:half, rest], sample[half:, rest])
    return (changed,) if isinstance(output, tuple) else type(output)(changed)
