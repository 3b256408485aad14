"""Checks the arguments of the sampling functions before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, cast

import torch

from schedsearch.evaluation.sampling import require_finite
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import shown

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.protocols import Backbone


def check_device(device: torch.device | str) -> None:
    """Refuse a device that torch cannot use here.

    Raises:
        ConfigError: If it is neither the CPU nor a GPU that is there.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device must be cpu or cuda, got {shown(device)}.") from error
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be cpu or cuda, got {shown(device)}.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device is {found}, but torch finds {torch.cuda.device_count()} GPUs.")


def check_counts(**counts: object) -> None:
    """Refuse counts below 1, and seeds below 0.

    Raises:
        ValueError: With the name of the argument.
    """
    for name, value in counts.items():
        low = 0 if name == "seed" else 1
        if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
            raise ValueError(f"{name} must be an integer >= {low}, got {value!r}.")


def check_scale(cfg_scale: object) -> None:
    """Refuse a scale of guidance that is no finite number.

    Raises:
        ValueError: With the value.
    """
    plain = isinstance(cfg_scale, Real) and not isinstance(cfg_scale, bool)
    if not plain or not math.isfinite(cast(float, cfg_scale)):
        raise ValueError(f"cfg_scale must be a finite number, got {cfg_scale!r}.")


def check_objects(net: object, schedule: object, diffusion: object) -> None:
    """Refuse what is no network, no method, or no section.

    Raises:
        ValueError: With the name of the argument.
    """
    if not isinstance(diffusion, Mapping | None):
        raise ValueError(f"diffusion must be a section as a dict, got {shown(diffusion)}.")
    if not hasattr(net, "in_shape") or not hasattr(net, "num_exit_blocks"):
        raise ValueError(
            f"net must be a network of schedsearch.load_backbone, got a {type(net).__name__}."
        )
    if not hasattr(schedule, "begin") or isinstance(schedule, type):
        raise ValueError(
            f"schedule must be an ExitSchedule or a method of schedsearch.load_method, got "
            f"{shown(schedule)}."
        )


def check_noise(noise: Tensor, net: Backbone) -> None:
    """Refuse starting noise that is not finite or does not fit the network.

    Raises:
        ValueError: With dtype or shape.
    """
    wanted = f"a float tensor (N, {', '.join(map(str, net.in_shape))}) with N >= 1"
    _check_dense(noise, "noise", wanted)
    if noise.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        raise ValueError(f"noise must be {wanted}, got {noise.dtype}.")
    if tuple(noise.shape[1:]) != tuple(net.in_shape) or not len(noise):
        raise ValueError(f"noise must be {wanted}, got the shape {tuple(noise.shape)}.")
    require_finite(noise, "images of noise")


def checked_labels(labels: Tensor, num: int, net: Backbone) -> Tensor:
    """Labels as int64, (num,).

    Raises:
        ValueError: If they are not one class of the network per image.
    """
    if net.num_classes is None:
        raise ValueError("labels must be None, because the network is unconditional.")
    wanted = "a tensor of integers, (N,)"
    _check_dense(labels, "labels", wanted)
    if not _is_integer(labels):
        raise ValueError(f"labels must be {wanted}, got {labels.dtype}.")
    if labels.shape != (num,):
        raise ValueError(
            f"{num} images need labels of shape ({num},), got {tuple(labels.shape)}. Set num, or "
            "pass one label per image."
        )
    labels = labels.long()  # NOTE: torch compares no uint16 and uint64
    if not bool(((labels >= 0) & (labels < net.num_classes)).all()):
        raise ValueError(
            f"labels must lie in [0, {net.num_classes - 1}], got {int(labels.min())} to "
            f"{int(labels.max())}."
        )
    return labels


def _check_dense(value: object, name: str, wanted: str) -> None:
    if not isinstance(value, torch.Tensor):
        kind = f"{getattr(value, 'dtype', '')} {type(value).__name__}".strip()
        raise ValueError(f"{name} must be {wanted}, got a {kind}; use torch.as_tensor.")
    if value.is_meta or value.layout != torch.strided:
        raise ValueError(f"{name} must be {wanted}, got {value.layout} on {value.device}.")


def _is_integer(labels: Tensor) -> bool:
    return not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
