"""Counts the multiply-accumulates of code that really runs, whatever it skips or adds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.inference_mode(False)
@torch.no_grad()
def count_run(run: Callable[[], object], num_images: int) -> int:
    """Count the multiply-accumulates of a sampling run, per image.

    Output layers, certainty modules and the matching of tokens are included; what a cache skips
    is not. Only matrix products and convolutions count, as in the papers.

    Args:
        run: Samples ``num_images`` images.
        num_images: Images of the run.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() // (2 * num_images)
