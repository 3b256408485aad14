"""What a smaller network keeps of the pretrained one, chosen on calibration images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.pruning import blocks_of, keep_blocks, narrow, width_scores
from schedsearch.backbones.uvit import UViT
from schedsearch.diffusion.losses import mse
from schedsearch.evaluation.error_table import measure_error_table
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.exceptions import ConfigError
from schedsearch.methods.block_choice import (
    InfluenceRecorder,
    InfluenceRun,
    by_influence,
    greedy,
    uniform,
)
from schedsearch.settings.rivals import PrunedRival, SmallRival

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.protocols import Backbone, Method, NetworkCall
    from schedsearch.workers.workbench import Workbench

CALIBRATION_SEED = 5000
"""Seed of calibration images; quality and latency use others."""

LOSS_SHARE = 0.05
"""Width pruning reads timesteps until the loss falls below this share of its largest value."""

TIME_STRIDE = 10
"""Timesteps between two losses of width pruning."""


def record_runs(
    bench: Workbench, net: Backbone, method: Method, num_samples: int
) -> list[NetworkCall]:
    """Sample calibration images with a method, and return its runs, one per batch."""
    runs: list[NetworkCall] = []
    observe_runs(bench, net, method, num_samples, runs.append)
    return runs


def observe_runs(
    bench: Workbench,
    net: Backbone,
    method: Method,
    num_samples: int,
    observe: Callable[[NetworkCall], None],
) -> None:
    """Sample calibration images with a method; ``observe`` gets the run of every batch."""
    solver = bench.settings.solver
    generate(
        net,
        method,
        bench.solver,
        starting_noise(
            CALIBRATION_SEED + bench.settings.evaluation.seed, num_samples, net.in_shape
        ),
        balanced_labels(num_samples, net.num_classes),
        bench.settings.evaluation.batch_size,
        cfg_scale=solver.cfg_scale,
        cfg_channels=solver.cfg_channels,
        seed=CALIBRATION_SEED,
        observe=observe,
    )


def chosen_blocks(bench: Workbench, entry: PrunedRival | SmallRival, count: int) -> list[int]:
    """Indices of the blocks that stay; see :func:`schedsearch.backbones.pruning.keep_blocks`.

    Raises:
        ConfigError: If the network has no more blocks than that.
    """
    num_blocks = bench.backbone.num_exit_blocks
    if count >= num_blocks:
        raise ConfigError(
            f"A smaller network has fewer than the {num_blocks} blocks of the backbone, got "
            f"{count}."
        )
    if isinstance(entry, SmallRival) or entry.choose == "uniform":
        return uniform(num_blocks, count)
    if entry.choose == "bi":
        runs = record_runs(bench, bench.backbone, InfluenceRecorder(), entry.calibration_samples)
        scores = [cast(InfluenceRun, run).scores for run in runs]
        means = [sum(column) / len(column) for column in zip(*scores, strict=True)]
        return by_influence(means, count)

    def loss(keep: Sequence[int]) -> float:
        net = keep_blocks(bench.pretrained, keep).to(bench.device)
        table = measure_error_table(
            cast("Backbone", net),
            bench.source,
            bench.process,
            replace(bench.settings.space.build(), min_depth=len(keep), max_depth=len(keep)),
            num_images=entry.calibration_samples,
            batch_size=bench.settings.evaluation.batch_size,
            seed=CALIBRATION_SEED,
            exits="pruned",
            num_steps=0,
        )
        return sum(row[0] for row in table.losses)

    return greedy(num_blocks, count, loss)


def narrowed(bench: Workbench, share: float) -> tuple[Backbone, Mapping[str, Any]]:
    """The network with a share of its heads and MLP units, and what they are.

    Raises:
        ConfigError: If the network is neither DiT nor U-ViT.
    """
    net = bench.fresh_backbone()
    if not isinstance(net, DiT | UViT):
        raise ConfigError(f"Pruning by width needs a DiT or U-ViT, not a {type(net).__name__}.")
    block = cast(Any, blocks_of(net)[0])
    heads = max(1, round(share * block.attn.num_heads))
    hidden = max(1, round(share * block.mlp.fc1.out_features))
    scores = width_scores(net, _losses(bench, net))
    made = narrow(net, heads, hidden, scores)
    return cast("Backbone", made), {"heads": heads, "hidden": hidden}


def _losses(bench: Workbench, net: DiT | UViT) -> Iterator[Tensor]:
    """Losses at rising timesteps, until they become small."""
    generator = torch.Generator().manual_seed(CALIBRATION_SEED)
    x0, labels = bench.source.batch(64, generator)
    noise = torch.randn(x0.shape, generator=generator).to(bench.device)
    x0 = x0.to(bench.device)
    y = labels.to(bench.device) if labels is not None and net.num_classes else None
    largest = 0.0
    for step in range(0, 1000, TIME_STRIDE):
        t = torch.full((len(x0),), step, device=bench.device)
        x_t, target = bench.process.q_sample(x0, t, noise), bench.process.target(x0, t, noise)
        output = net(x_t, bench.process.network_time(t), y, exit_depth=net.num_exit_blocks)
        loss = mse(output, target).mean()
        value = float(loss.detach())
        if value < LOSS_SHARE * largest:
            return
        largest = max(largest, value)
        yield loss
