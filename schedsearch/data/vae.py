"""The decoder of a latent diffusion model: latents to pixels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.files.strict_json import load_json

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
CONFIG_FILE = "config.json"
DECODED_AT_ONCE = 8
"""Latents per decoder call; its activations are far larger than those of the network."""


class LatentDecoder:
    """Decoder of a diffusers ``AutoencoderKL`` for latents times its ``scaling_factor``.

    Stable Diffusion's factor, used by DiT and U-ViT, is 0.18215.

    Args:
        vae: The ``AutoencoderKL`` with its weights.
        sha256: Digest of weights and config.
        device: Device of the decoder.
    """

    def __init__(self, vae: Any, sha256: str, device: torch.device | str) -> None:
        self._vae = vae.to(device)
        self._device = torch.device(device)
        self.scaling_factor = float(vae.config.scaling_factor)
        self.latent_channels = int(vae.config.latent_channels)
        self.sha256 = sha256

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Self:
        """Load the weights; nothing is downloaded, and only safetensors are read.

        Args:
            folder: Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``.
            device: Device of the decoder.

        Raises:
            ConfigError: If the folder is incomplete, or the model shifts its latents.
            CheckpointError: If the weights do not fit.
        """
        config = _read_config(folder)
        weights = folder / WEIGHTS_FILE
        if not weights.is_file():
            raise ConfigError(
                f"data.vae {folder} lacks {WEIGHTS_FILE}. Other formats are not read; save the "
                "model with safetensors (save_pretrained does)."
            )
        for name in ("shift_factor", "latents_mean", "latents_std"):
            if config.get(name) is not None:
                raise ConfigError(
                    f"data.vae {folder} has a {name}, which DiT and U-ViT do not use. Name the "
                    "autoencoder that made the latents; for DiT and U-ViT, Stable Diffusion's."
                )
        vae = _read_vae(folder)
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        digest.update(json.dumps(config, sort_keys=True).encode())
        return cls(vae, digest.hexdigest(), device)

    def __call__(self, latents: Tensor) -> Tensor:
        """Decode scaled latents, (n, C, h, w) on any device.

        Returns:
            Pixels, (n, 3, H, W) float32 on the CPU, nominally in [-1, 1], not clamped.
        """
        with torch.no_grad():
            parts = torch.split(latents, DECODED_AT_ONCE)
            return torch.cat([self._decode(part) for part in parts])

    def _decode(self, latents: Tensor) -> Tensor:
        unscaled = latents.to(self._device, torch.float32) / self.scaling_factor
        pixels: Tensor = self._vae.decode(unscaled).sample
        return pixels.cpu()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = load_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"data.vae {folder} has no readable {CONFIG_FILE} ({error}). Name the folder of the "
            "autoencoder itself; in a pipeline that is its subfolder vae."
        ) from error
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if kind != "AutoencoderKL":
        raise ConfigError(f"data.vae {folder} must be an AutoencoderKL, but is {kind}.")
    return dict(config)


def _read_vae(folder: Path) -> Any:
    from diffusers import AutoencoderKL
    from safetensors import SafetensorError

    try:
        vae, report = AutoencoderKL.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,  # NOTE: True needs the package accelerate
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"data.vae {folder} cannot be loaded: {error}") from error
    # NOTE: diffusers fills missing weights with random numbers without an error.
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if found := report.get(what):
            raise CheckpointError(
                f"data.vae {folder}: {WEIGHTS_FILE} does not fit {CONFIG_FILE}: {len(found)} "
                f"{what.replace('_', ' ')}, first {sorted(map(str, found))[0]}. Fetch both again."
            )
    return vae.eval().requires_grad_(False)
