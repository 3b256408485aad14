"""Number formats of a training step: float32, TF32 products, or bfloat16 autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, cast

import torch

Precision = Literal["fp32", "tf32", "bf16"]
"""Values of ``recipe.precision``."""


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """Set the precision of float32 products on CUDA inside the context.

    torch runs convolutions in TF32 by default, so ``fp32`` must be set too. Other devices always
    multiply in float32.

    Args:
        precision: ``tf32`` rounds factors to 10 bits of mantissa; the others do not.
    """
    backends = cast(Any, torch.backends)  # NOTE: the type stubs lack some switches
    switches = (backends.cuda.matmul, backends.cudnn.conv)
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of the forward pass; loss and weights stay float32.

    Args:
        precision: ``bf16`` runs the network's products in bfloat16.
        device: Device of the network.
    """
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
