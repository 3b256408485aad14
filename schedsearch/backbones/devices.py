"""Looks up the device that a command line names."""

from __future__ import annotations

import torch

from schedsearch.exceptions import ConfigError


def require_device(name: str) -> torch.device:
    """Return the device with this name.

    Raises:
        ConfigError: If the name is ``cuda`` and torch finds no CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device is cuda, but torch finds no CUDA device. Use --device cpu.")
    return torch.device(name)
