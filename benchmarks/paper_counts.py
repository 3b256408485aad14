"""Counts that need no run: parameters, FLOPs, and FLOPs that a schedule saves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from benchmarks.paper_numbers import (
    COSTS,
    DIT_SCHEDULES,
    DIT_XL,
    SIZES,
    U_VIT_CELEBA,
    U_VIT_SCHEDULES,
    Cost,
    Size,
)
from benchmarks.result_tables import Row, Table
from schedsearch.backbones.registry import build_backbone
from schedsearch.backbones.uvit import UViT
from schedsearch.evaluation.flops import FlopTable, count_flops, count_parameters
from schedsearch.schedules.hand_made import HAND_MADE, preset_for
from schedsearch.settings import BackboneSettings


def on_meta(settings: BackboneSettings) -> nn.Module:
    """A backbone without memory for its weights."""
    with torch.device("meta"):
        return build_backbone(settings)


def parameters_table(sizes: Sequence[Size] = SIZES) -> Table:
    """Parameters beside the papers'."""
    rows = []
    for size in sizes:
        counted = count_parameters(on_meta(size.backbone)) / 1e6
        rows.append(
            {
                "model": size.name,
                "source": size.source,
                "paper_m": size.parameters_m,
                "counted_m": counted,
                "deviation": counted / size.parameters_m - 1,
            }
        )
    return Table(
        title="Parameters (millions)",
        note="Learned position embeddings count as parameters, fixed ones do not. U-ViT-S is the "
        "CIFAR-10 model, M the ImageNet-64 one, L and H the ImageNet-256 ones. S-deep is counted "
        "without the text tokens of the paper's model.",
        columns={
            "model": "",
            "source": "",
            "paper_m": ".0f",
            "counted_m": ".2f",
            "deviation": "+.1%",
        },
        rows=rows,
    )


def flops_table(costs: Sequence[Cost] = COSTS) -> Table:
    """The papers' "GFLOPs" beside each way to count them."""
    rows = []
    for cost in costs:
        net = on_meta(cost.backbone)
        full_depth = cast(int, net.num_exit_blocks)
        call = count_flops(net, [full_depth]).calls[full_depth]
        ways = {
            "flops": call.total / 1e9,
            "macs": call.macs / 1e9,
            "without_attention": call.weights / 1e9,
        }
        if isinstance(net, UViT):
            ways["with_heads"] = (call.weights + extra_heads_flops(net)) / 1e9
        closest = min(ways, key=lambda way: abs(ways[way] / cost.giga - 1))
        rows.append(
            {"model": cost.name, "source": cost.source, "paper": cost.giga, "with_heads": None}
            | ways
            | {"closest": closest, "deviation": ways[closest] / cost.giga - 1}
        )
    return Table(
        title='"GFLOPs" of one network call for one image',
        note="`flops` counts 2 per multiply-accumulate, for products with weights and between "
        "activations. `macs` is half of it. `without_attention` leaves out the products between "
        "activations. `with_heads` adds an output head behind every block to that, as we read "
        "DeeDiff (Eq. 9). `closest` is the column nearest to the paper's number.",
        columns={
            "model": "",
            "source": "",
            "paper": ".2f",
            "flops": ".2f",
            "macs": ".2f",
            "without_attention": ".2f",
            "with_heads": ".2f",
            "closest": "",
            "deviation": "+.2%",
        },
        rows=rows,
    )


def extra_heads_flops(net: UViT) -> int:
    """FLOPs of an output head behind every block but the last."""
    num_blocks = len(net.in_blocks) + 1 + len(net.out_blocks)
    tokens = net.pos_embed.shape[1]
    head = tokens * net.decoder_pred.weight.numel()
    if isinstance(net.final_layer, nn.Conv2d):
        head += net.final_layer.weight.numel() * net.in_shape[1] * net.in_shape[2]
    return 2 * (num_blocks - 1) * head


def savings_table(
    backbone: BackboneSettings, schedules: Sequence[str], *, model: str, ideal: str
) -> Table:
    """FLOPs that the hand-made schedules save beside the accelerations of ASE.

    Args:
        backbone: The model.
        schedules: Presets of its family.
        model: Its name for people.
        ideal: ``blocks`` shows the share of dropped blocks beside the FLOPs; ``flops`` does
            not, for a model in which most blocks are never dropped.
    """
    net = on_meta(backbone)
    full_depth = cast(int, net.num_exit_blocks)
    depths = {depth for name in schedules for depth in preset_for(name, full_depth).depths}
    table = count_flops(net, sorted(depths))
    rows = [savings_row(table, name, ideal) for name in schedules]
    columns = {"schedule": "", "depths": "", "paper": ".2%", "flops_saved": ".2%"}
    if ideal == "blocks":
        columns["blocks_saved"] = ".2%"
    columns["deviation_points"] = "+.2f"
    return Table(
        title=f"FLOPs saved on {model}",
        note="All ten intervals have equal weight, as with uniform solver steps. The paper's "
        "figure is measured time (ASE, Tables 1 and 2, A100). `deviation_points` is our figure "
        "minus the paper's, in percentage points.",
        columns=columns,
        rows=rows,
    )


def savings_row(table: FlopTable, name: str, ideal: str) -> Row:
    """One schedule's saving beside the paper's acceleration."""
    schedule = preset_for(name, table.full_depth)
    paper = HAND_MADE[name].reported_acceleration
    saved = table.saving(schedule)
    row: Row = {
        "schedule": name,
        "depths": str(schedule),
        "paper": paper,
        "flops_saved": saved,
        "deviation_points": 100 * (saved - paper),
    }
    if ideal == "blocks":
        mean_depth = sum(schedule.depths) / len(schedule.depths)
        row["blocks_saved"] = 1 - mean_depth / table.full_depth
    return row


def dit_savings() -> Table:
    """D2, D3, D4 and D7 on DiT-XL/2."""
    return savings_table(DIT_XL, DIT_SCHEDULES, model="DiT-XL/2", ideal="blocks")


def u_vit_savings() -> Table:
    """D1, D2, D3 and D6 on the U-ViT-S/4 of CelebA-64."""
    return savings_table(U_VIT_CELEBA, U_VIT_SCHEDULES, model="U-ViT-S/4 CelebA-64", ideal="flops")
