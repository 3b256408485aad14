"""Devices by the names that the command line takes."""

from __future__ import annotations

import torch

from schedsearch.exceptions import ConfigError


def require_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        ConfigError: If it is CUDA and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device is cuda, but torch finds no CUDA device. Use --device cpu.")
    return torch.device(name)
