"""Time of a fine-tune step with one exit depth per sample."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from benchmarks.paper_timings import place, random_backbone
from benchmarks.result_tables import Table
from schedsearch.evaluation.clocks import build_clock
from schedsearch.evaluation.flops import count_flops
from schedsearch.evaluation.latency_rounds import Work, time_rounds
from schedsearch.protocols import Backbone
from schedsearch.schedules.hand_made import FULL, preset_for
from schedsearch.settings import BackboneSettings


def training_table(
    backbone: BackboneSettings,
    schedules: Sequence[str],
    device: torch.device,
    *,
    model: str,
    batch: int,
    repeats: int,
) -> Table:
    """Time of a step with one exit per sample beside one that runs every block.

    Args:
        backbone: The model; a learned variance is not trained.
        schedules: Presets of its family.
        device: Where to run.
        model: Name on the page.
        batch: Images per step, with times spread evenly over the clock.
        repeats: Rounds; each runs every step once.
    """
    module = random_backbone(backbone, device).train()
    net = cast(Backbone, module)
    optimizer = torch.optim.AdamW(module.parameters(), 1e-5, fused=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *net.in_shape, generator=generator).to(device)
    noise = torch.randn(x.shape, generator=generator).to(device)
    t = ((torch.arange(batch) + 0.5) * 1000 / batch)[torch.randperm(batch, generator=generator)]
    y = None if net.num_classes is None else (t.long() % net.num_classes).to(device)
    t_device = t.to(device)

    def step(exit_depth: int | Tensor) -> Work:
        def run() -> Iterator[object]:
            with torch.autocast(device.type, torch.bfloat16):
                output = net(x, t_device, y, exit_depth=exit_depth)
            loss = (output[:, : x.shape[1]].float() - noise).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            yield optimizer.step()

        return run

    # Depths stay on the CPU, as in the trainer.
    depths = {n: preset_for(n, net.num_exit_blocks).depths_at(t) for n in schedules}
    work = {FULL: step(net.num_exit_blocks)} | {n: step(d) for n, d in depths.items()}
    times = time_rounds(work, build_clock(device), repeats)
    flops = count_flops(module, sorted({int(d) for found in depths.values() for d in found}))
    full = flops.calls[flops.full_depth].total
    rows = []
    for name, found in depths.items():
        ratios = [a / b for a, b in zip(times[name], times[FULL], strict=True)]
        total = statistics.fmean(flops.calls[int(depth)].total for depth in found)
        rows.append(
            {
                "schedule": name,
                "every_block_ms": statistics.median(times[FULL]),
                "ours_ms": statistics.median(times[name]),
                "ratio": statistics.median(ratios),
                "ideal": total / full,
            }
        )
    return Table(
        title=f"Fine-tune step on {model}, batch {batch}",
        note=f"{place(device)}; bf16 autocast, MSE, AdamW, forward pass to optimizer step, "
        f"median of {repeats} interleaved rounds. `ideal` is the share of FLOPs. The optimizer's "
        "time does not shrink with the schedule.",
        columns={
            "schedule": "",
            "every_block_ms": ".1f",
            "ours_ms": ".1f",
            "ratio": ".3f",
            "ideal": ".3f",
        },
        rows=rows,
    )
